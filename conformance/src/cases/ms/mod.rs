//! One Map-Server under test.

mod allowed;
mod answers;
mod changes;
mod common;
mod configured;
mod expiry;
mod hostile;
mod keys;
mod limits;
mod merge;
mod moved;
mod negative;
mod notify;
mod replay;
mod script;
mod state;
mod wrong_key;
