//! Map-Resolvers, and what Map-Servers do about Map-Requests: decided, forwarded, answered, refused.

mod common;
mod flood;
mod forward;
mod hostile;
mod newer;
mod order;
mod questions;
mod refused;

pub(in crate::cases) use common::{Outcome, ask, is_request, question};
