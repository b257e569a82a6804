//! What the tests of the NVML session share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, in their helpers too, and each uses its part"
)]

pub(crate) mod fixture;
pub(crate) mod node;
pub(crate) mod python;
