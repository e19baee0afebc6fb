//! One Map-Server under test.

mod answers;
mod wrong_key;
