//! One ETR under test; every neighbour is a scripted peer.

mod common;
mod hostile;
mod locators;
mod probes;
mod questions;
mod replies;
