//! The live state of the node, shared by every process: a memory-mapped file.
//!
//! Each field is an atomic of its own, and everything that spans several fields is published by
//! one last store, so that a writer killed at any instruction leaves a valid state. Writers hold
//! an advisory lock; readers take none.

pub(crate) mod clock;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod instance_load;
mod layout;
pub(crate) mod load;
mod lock;
mod mapping;
mod mig;
mod processes;
mod record;
mod store;
mod structure;

pub(crate) use events::{Event, EventKind};
pub(crate) use layout::Slot;
pub(crate) use processes::SlotProcess;
pub use store::StateError;
pub(crate) use store::{Source, Store, Writer};
pub(crate) use structure::{NodeFacts, SlotGpu};
