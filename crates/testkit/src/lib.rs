//! What the tests share: a scripted driver and host trees. No mock framework: the fakes are
//! small, behave, and are told what to do.
#![allow(clippy::expect_used, reason = "tests fail by panicking")]

mod driver;
mod host;
mod mig;
mod sample;

pub use driver::{FakeDriver, WELL, gpus};
pub use host::HostTree;
pub use mig::{ChangeTrouble, h100_table};
