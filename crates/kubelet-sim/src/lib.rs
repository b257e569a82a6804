//! An embedded kubelet: everything a device plugin meets on a node, in one process and without a
//! cluster.
//!
//! [`Kubelet`] serves registration and `PodResources` on unix sockets as a kubelet does, and
//! takes pods as an API server does: it applies the rules for extended resources, schedules on
//! its one node, chooses devices (with the plugin's preference), calls `Allocate` and
//! `PreStartContainer`, and keeps a status. Containers do not really run: what each was given is
//! in the [`Snapshot`]. Behaviour and messages are those of Kubernetes 1.36.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use mizzen_kubelet_sim::{Config, Kubelet, pod::parse_manifest};
//!
//! let dir = tempfile::tempdir()?;
//! let kubelet = Kubelet::start(Config::new(dir.path())).await?;
//! let manifest = "
//! apiVersion: v1
//! kind: Pod
//! metadata: {name: train}
//! spec:
//!   containers:
//!   - {name: main, image: cuda, resources: {limits: {nvidia.com/gpu: 1}}}
//! ";
//! for pod in parse_manifest(manifest)? {
//!     kubelet.create(pod)?;
//! }
//! // No plugin has registered at kubelet.registration_socket() yet.
//! let node = kubelet.wait_for(|node| !node.pods[0].message.is_empty()).await;
//! assert!(node.pods[0].message.contains("Insufficient nvidia.com/gpu"));
//! # Ok(())
//! # }
//! ```

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
