//! Changes of partitioned GPUs, against an exhaustive oracle and carried out on simulated ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers may fail it"
)]

mod configs;
mod machine;
mod oracle;
mod plans;
mod properties;
