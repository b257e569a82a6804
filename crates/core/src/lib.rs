//! Types and decisions of the Mizzen GPU stack.
//!
//! Everything here is a pure function of plain data: no I/O, no clock, no async. The node
//! process (crate `mizzen-agent`) supplies the data and carries the decisions out.

pub mod driver;
pub mod gpu;
pub mod inventory;
pub mod topology;
