//! The `mizzen` binary as people use it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test's helpers fail as loudly as the test"
)]

mod agent;
mod cdi;
mod config;
mod doctor;
mod ends;
mod labels;
mod metrics;
mod mig;
mod mistakes;
mod runtime;
mod sim;
mod simulate;
mod simulate_config;
mod simulate_mig;
mod support;
