//! The program as a runtime calls it, on roots of every kind.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test's helpers fail as loudly as the test, and say what they skip"
)]

mod glibc;
mod hostile;
mod plain;
mod support;
