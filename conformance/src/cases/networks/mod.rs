//! Whole networks: every box is a program.

mod data_format;
mod first_packets;
mod native;
mod two_sites;
