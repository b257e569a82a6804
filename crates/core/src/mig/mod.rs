//! Multi-Instance GPU: what a GPU is partitioned into, what it could be, and how to get there.
//!
//! A GPU is cut into *GPU instances*, each with memory and multiprocessors of its own, and each of
//! those into *compute instances*, which share its memory. A compute instance is a [`MigDevice`],
//! the thing that a container gets; mostly there is one in each GPU instance, over all of it.

mod config;
mod device;
mod layout;
mod plan;
mod profile;
mod target;

pub use config::{MigConfigError, MigConfigFile, MigGpu, MigTargets, builtin_names, targets};
pub use device::{Capabilities, GpuMig, InvalidMigUuid, MigDevice, MigMode, MigUuid};
pub use layout::{
    ComputeInstance, Engines, GpuInstance, Layout, MigStep, MigTable, Placement, ProfileInfo,
};
pub use plan::{HeldInstance, MigPlan, Shortage, Unreachable, plan_mig};
pub use profile::{InvalidMigProfile, MigProfile, ProfileExtra};
pub use target::{InvalidMigTarget, MigTarget};
