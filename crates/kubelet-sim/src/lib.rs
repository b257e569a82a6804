//! An embedded kubelet: everything a device plugin meets on a node, in one process and without a
//! cluster.
//!
//! [`Kubelet`] serves registration and `PodResources` on unix sockets as a kubelet does, and
//! takes pods as an API server does: it applies the rules for extended resources, schedules on
//! its one node, chooses devices (with the plugin's preference), calls `Allocate` and
//! `PreStartContainer`, and keeps a status. Containers do not really run: what each was given is
//! in the [`Snapshot`]. Behaviour and messages are those of Kubernetes 1.36.

pub mod pod;

mod admission;
mod arbitrary;
mod config;
mod devices;
mod disturbance;
mod event;
mod kubelet;
mod life;
mod names;
mod podresources;
mod quantity;
mod record;
mod registration;
mod rpc;
mod schedule;
mod snapshot;
mod state;
mod topology;

pub use config::Config;
pub use disturbance::Disturbances;
pub use event::{Event, Happening};
pub use kubelet::{CreateError, Kubelet};
pub use quantity::{Quantity, QuantityError};
pub use snapshot::{
    ContainerState, ContainerView, DeviceHealth, DeviceNode, DeviceView, Given, Holder, MountView,
    Phase, PodView, ResourceView, Snapshot,
};
pub use topology::TopologyPolicy;
