//! The aligned choice, against an exhaustive oracle and on the machines people have.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers may fail it"
)]

mod explanations;
mod machines;
mod oracle;
mod properties;
mod topologies;
