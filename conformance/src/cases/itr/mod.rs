//! One ITR under test.

mod echo_nonce;
mod families;
mod flows;
mod flows_net;
mod header;
mod header_traceroute;
mod locators;
mod locators_fallback;
mod locators_shares;
mod mtu;
mod mtu_split;
mod mtu_stateful;
mod negative_reply;
mod probing;
mod reachability;
mod smr;
mod status_bits;
