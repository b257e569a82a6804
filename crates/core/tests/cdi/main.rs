//! CDI specs of whole nodes: how they look, that they are valid, and that every device that is
//! handed out is in them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod differences;
mod node;
mod resolve;
mod specs;
