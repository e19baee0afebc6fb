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
mod actions;
mod map_cache_net;
mod map_cache_overlap;
mod map_cache_ttl;
mod map_reply_locators;
mod map_reply_nonce;
mod negative_prefix;
mod negative_reply;
mod probing;
mod reachability;
mod smr;
mod status_bits;
