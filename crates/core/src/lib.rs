//! Types and decisions of the Mizzen GPU stack.
//!
//! Everything here is a pure function of plain data: no I/O, no clock, no async. The node
//! process (crate `mizzen-agent`) supplies the data and carries the decisions out.

pub mod allocate;
pub mod cdi;
pub mod config;
pub mod device;
mod dns;
pub mod doctor;
pub mod driver;
pub mod gpu;
pub mod health;
pub mod inventory;
pub mod labels;
pub mod metrics;
pub mod mig;
pub mod node_health;
pub mod pool;
pub mod prefer;
pub mod resource;
pub mod runtime;
pub mod sample;
pub mod shell;
pub mod state;
pub mod topology;
pub mod xid;
