//! One Map-Server under test.

mod wrong_key;
