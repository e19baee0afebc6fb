//! One ITR under test.

mod negative_reply;
