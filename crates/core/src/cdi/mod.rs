//! The Container Device Interface: what a container runtime changes in a container that gets a
//! device, written down in files that it reads.
//!
//! [`cdi_specs`] turns what is on a node ([`Gpu`](crate::gpu::Gpu)s and [`DriverFiles`]) into
//! [`CdiSpec`]s; [`Catalog`] says which names the files of a node make known, as a runtime reads
//! them. The format is that of `cncf-tags/container-device-interface`, the names of devices are
//! those of NVIDIA's `nvidia-ctk`.

mod build;
mod catalog;
mod diff;
mod driver;
mod edits;
mod files;
mod hooks;
mod name;
mod read;
mod shape;
mod spec;
mod validate;
mod version;
mod wanted;

pub use build::cdi_specs;
pub use catalog::{Catalog, CatalogFile, Resolution};
pub use diff::{Comparison, Difference, DriverChange, compare};
pub use driver::driver_version;
pub use files::{DriFiles, DriverFiles, FoundNode, HostFile, Library, Link, NodeNumbers, Platform};
pub use hooks::{HOOK_NAMES, Hooks};
pub use name::{CdiKind, CdiName, InvalidCdiName};
pub use read::{Mistake, SpecText};
pub use spec::{CdiDevice, CdiSpec, ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice};
pub use validate::{HostPath, Problem, host_paths, problems};
pub use version::{CdiVersion, UnknownVersion, minimum_version};
pub use wanted::{
    Contents, EXPLICIT_LIBRARIES, FEATURE_FLAGS, GpuNames, NameStrategy, SpecOptions, Wanted,
};

/// The vendor in the names of the devices that a device plugin hands out.
pub const PLUGIN_VENDOR: &str = "k8s.device-plugin.nvidia.com";
/// The vendor in the names that people use by hand, `--device nvidia.com/gpu=0`.
pub const HAND_VENDOR: &str = "nvidia.com";
/// The vendor in the name of the device that gives a container everything.
pub const MANAGEMENT_VENDOR: &str = "management.nvidia.com";
/// The directories in which runtimes look for specs; a device of a later one replaces that of an
/// earlier one.
pub const SPEC_DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
