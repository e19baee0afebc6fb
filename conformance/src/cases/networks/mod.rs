//! Whole networks: every box is a program.

mod data_format;
mod dual_stack;
mod first_packets;
mod forms;
mod mobility;
mod mobility_steps;
mod msmr_etrs;
mod msmr_holes;
mod msmr_pairs;
mod msmr_proxy;
mod mtu_tables;
mod mtu_tables_ttl;
mod multihoming;
mod native;
mod no_route;
mod on_miss;
mod two_sites;
mod two_sites_sabotages;
