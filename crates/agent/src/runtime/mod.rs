//! Container runtimes of the node: which one the kubelet uses, what its files say, and what it
//! says itself.

mod ask;
mod delivery;
mod find;
mod glob;
#[cfg(test)]
mod tests;

pub use ask::{AskError, ask};
pub(crate) use delivery::Chooser;
pub use find::{FoundRuntime, Wish, find};
