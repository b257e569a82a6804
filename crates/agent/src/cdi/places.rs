//! Where driver and device nodes are, for this process and on the host.

use std::path::{Path, PathBuf};

use mizzen_core::config::Config;
use mizzen_nvml::HostRoot;

use super::libraries;
use super::tree::Tree;

/// Where a driver that runs in a container of its own, as the GPU Operator's does, mounts its root
/// on the host.
const DRIVER_CONTAINER: &str = "/run/nvidia/driver";

/// The roots of everything that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Of the driver's files.
    pub(super) driver: Tree,
    /// Of the device nodes.
    pub(super) dev: Tree,
    /// Of `/sys` and `/proc`.
    pub(super) host: HostRoot,
}

impl Places {
    /// Where the settings say, of the possible places the first one that has a driver: the root
    /// that is mounted into this container, that of the host, and with the default root that of a
    /// driver in a container.
    pub fn of_config(config: &Config) -> Self {
        let host = HostRoot::new(&config.host_root);
        let mounted = (&config.driver_root_ctr_path, &config.driver_root);
        let of_host = host.join(&config.driver_root);
        let mut drivers = vec![
            Tree::new(mounted.0, mounted.1),
            Tree::new(of_host, &config.driver_root),
        ];
        if config.driver_root == Path::new("/") {
            let inner: Vec<Tree> = drivers
                .iter()
                .map(|outer| Tree::new(outer.here.join(DRIVER_CONTAINER), DRIVER_CONTAINER))
                .collect();
            drivers.extend(inner);
        }
        drivers.retain(|tree| tree.here.as_path().is_dir());
        let driver = first(&drivers, libraries::has_driver)
            .unwrap_or_else(|| Tree::new(&config.host_root, "/"));
        Self {
            dev: dev_root(config, &host, &driver),
            driver,
            host,
        }
    }

    /// Where the driver's files are for this process.
    pub fn driver_here(&self) -> &Path {
        self.driver.here.as_path()
    }

    /// Where the device nodes' root is for this process.
    pub fn dev_here(&self) -> &Path {
        self.dev.here.as_path()
    }

    /// The root of the driver's files on the host.
    pub fn driver_root(&self) -> &Path {
        &self.driver.on_host
    }
}

/// The first that is as wanted, or the first of all.
fn first(trees: &[Tree], is_wanted: impl Fn(&Tree) -> bool) -> Option<Tree> {
    let found = trees.iter().find(|tree| is_wanted(tree));
    found.or(trees.first()).cloned()
}

fn dev_root(config: &Config, host: &HostRoot, driver: &Tree) -> Tree {
    let mut roots: Vec<(PathBuf, PathBuf)> = Vec::new();
    if config.dev_root == config.driver_root {
        roots.push((config.driver_root_ctr_path.clone(), config.dev_root.clone()));
    }
    roots.push((host.join(&config.dev_root), config.dev_root.clone()));
    if config.dev_root == config.driver_root {
        // The nodes are the host's, also where the driver's files are elsewhere.
        roots.push((host.as_path().to_owned(), "/".into()));
        roots.push((driver.here.as_path().to_owned(), driver.on_host.clone()));
    }
    let mut trees: Vec<Tree> = roots
        .into_iter()
        .map(|(here, on_host)| Tree::new(here, on_host))
        .collect();
    trees.retain(|tree| tree.here.join("dev").is_dir());
    let has_nodes = |tree: &Tree| {
        let nodes = ["dev/nvidiactl", "dev/nvidia0", "dev/dxg"];
        nodes.iter().any(|node| tree.here.join(node).exists())
    };
    first(&trees, has_nodes).unwrap_or_else(|| Tree::new(host.as_path(), "/"))
}
