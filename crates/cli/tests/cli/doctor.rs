//! `mizzen doctor`, on a simulated node that is well and on broken ones.

mod broken;
mod document;
mod flags;
mod node;
mod noexec;
mod registration;

pub(crate) use node::{Node, SCENARIO};
