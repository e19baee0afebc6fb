//! One ITR under test.

mod flows;
mod flows_net;
mod locators;
mod locators_fallback;
mod locators_shares;
mod negative_reply;
