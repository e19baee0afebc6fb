//! One ETR under test; every neighbour is a scripted peer.

mod common;
mod locators;
mod replies;
