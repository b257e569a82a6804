//! Settings of the MIG manager.

use std::path::{Path, PathBuf};

use super::types::Config;

/// What the MIG manager was told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MigManagerConfig {
    /// `--mig-manager`: whether there is one.
    pub enabled: bool,
    /// `--mig-config-file`: where layouts have names, beside those that are built in.
    pub config_file: Option<PathBuf>,
    /// `--mig-evict`: whether pods must make way.
    pub evict: bool,
    /// `--pod-resources-socket`; `None` where it was not given.
    pub pod_resources_socket: Option<PathBuf>,
    /// `--pod-namespace` and `--pod-name`; `None` where not both were given.
    pub own_pod: Option<OwnPod>,
}

/// The pod that this process runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPod {
    /// Its namespace, a DNS label.
    pub namespace: String,
    /// Its name, a DNS subdomain.
    pub name: String,
}

impl Config {
    /// The kubelet's socket that tells which pods hold which devices: the one given, or the one
    /// beside the directory of the device plugins' sockets.
    pub fn pod_resources_socket(&self) -> PathBuf {
        if let Some(given) = &self.mig_manager.pod_resources_socket {
            return given.clone();
        }
        let root = self.device_plugin_dir().parent().unwrap_or(Path::new("/"));
        root.join("pod-resources/kubelet.sock")
    }
}
