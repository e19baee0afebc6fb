//! Whole networks: every box is a program.

mod two_sites;
