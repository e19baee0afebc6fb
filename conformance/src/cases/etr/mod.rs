//! One ETR under test; every neighbour is a scripted peer.

mod changes;
mod common;
mod cuts;
mod decap;
mod headers;
mod hostile;
mod intervals;
mod locators;
mod nonces;
mod notify;
mod odd_data;
mod packets;
mod probes;
mod questions;
mod registration;
mod replies;
mod smr;
