//! Container runtimes of the node: which one the kubelet uses, what its files say, and what it
//! says itself.

mod ask;
mod find;
mod glob;
#[cfg(test)]
mod tests;

pub use ask::{AskError, ask};
pub use find::{FoundRuntime, Wish, find};
