//! CDI specs: what of the driver is on this host, and the files that tell container runtimes.
//!
//! [`discover`] looks, `core::cdi` decides what follows, [`SpecStore`] writes it down.

mod configs;
mod dri;
pub mod hook;
mod keep;
mod libraries;
mod nodes;
mod places;
mod shared;
mod store;
mod tegra;
#[cfg(test)]
mod tests;
mod tree;
mod wsl;

use mizzen_core::cdi::{DriverFiles, Platform};
use mizzen_core::gpu::Gpu;

pub use keep::{directories, keep};
pub use places::Places;
pub use store::{Kept, Outcome, SpecStore, read_catalog, read_spec, to_json};

pub(crate) use keep::store;
use libraries::Found;
pub(crate) use libraries::version_of_kernel;

/// What is looked for besides what always is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// The version of the running driver; without it, that of the libraries that there are.
    pub version: Option<&'a str>,
    /// The GPUs whose graphics nodes are looked for.
    pub gpus: &'a [Gpu],
    /// Whether libraries without the driver's version in their names are wanted, such as
    /// `libOpenCL.so` (the feature flag `enable-explicit-driver-libraries`).
    pub explicit_libraries: bool,
    /// Whether the nodes of IMEX channels are wanted, of which there may be thousands.
    pub imex_channels: bool,
}

/// Looks for everything of the driver that containers may need. What is not there is left out;
/// nothing is an error.
pub fn discover(places: &Places, asked: &Asked<'_>) -> DriverFiles {
    let mut files = DriverFiles {
        nodes: nodes::found(places, asked.imex_channels),
        ..DriverFiles::default()
    };
    if wsl::is_there(&files) {
        wsl::add(places, &mut files);
        return files;
    }
    if let Some(lists) = tegra::lists(places) {
        tegra::add(places, &lists, &mut files);
        return files;
    }
    files.platform = Platform::Linux;
    let Found {
        version,
        libraries,
        directories,
    } = libraries::found(places, asked);
    files.files = configs::found(places, version.as_deref());
    files.sockets = configs::sockets(places);
    files.storage = configs::storage(places);
    files.dri = dri::found(places, asked.gpus, &files.nodes);
    let modules = libraries::xorg_modules(places, version.as_deref(), &directories);
    files.libraries = libraries.into_iter().chain(modules).collect();
    files.version = version;
    files
}
