//! One Map-Server under test.

mod answers;
mod common;
mod negative;
mod wrong_key;
