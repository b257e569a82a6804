//! The shared library as a C program meets it: loaded with dlopen, called through pointers, and
//! given what a careless caller gives.
#![allow(unsafe_code, reason = "C functions are called")]
#![allow(
    clippy::unwrap_used,
    clippy::items_after_statements,
    reason = "the tests' helpers may panic, and a signature stands beside its call"
)]

mod arguments;
mod device_nodes;
mod events;
mod faults;
mod gpm;
mod mig;
mod node;
mod processes;
mod support;
mod symbols;
mod versions;
