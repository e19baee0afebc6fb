//! One ETR under test; every neighbour is a scripted peer.

mod changes;
mod common;
mod cuts;
mod decap;
mod glean;
mod headers;
mod hostile;
mod intervals;
mod locators;
mod map_version_order;
mod map_version_own;
mod map_version_source;
mod map_version_stale;
mod map_versions;
mod mobile;
mod nonces;
mod notify;
mod odd_data;
mod packets;
mod piggyback;
mod probes;
mod questions;
mod registration;
mod replies;
mod smr;
mod xtr_id;
