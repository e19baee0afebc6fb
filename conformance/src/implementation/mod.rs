//! What is tested: programs, described by adapter files. Ours are one implementation among others.

mod adapter;
mod binary;
mod fresh;
mod mix;
mod render;
mod version;

pub use adapter::{
    Adapter, AdapterError, DurationText, Program, Ready, Reload, SignalName, StopBy,
};
pub use binary::{BinaryError, Build, Found, build_from_checkout};
pub use mix::Implementation;
pub use render::{Rendered, render};
