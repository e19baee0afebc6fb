//! The cases, by whom they judge. One file holds the cases of one subject; docs/writing-cases.md says how to add one.

mod common;
mod etr;
mod fences;
mod interworking;
mod itr;
mod mr;
mod ms;
mod networks;
#[cfg(test)]
mod often_wrong;
mod one_xtr;
mod paces;
