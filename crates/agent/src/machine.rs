//! What the machine shows of its GPUs without the driver's library: nodes and buses.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mizzen_core::allocate::HostNodes;
use mizzen_core::config::Config;
use mizzen_core::driver::Questions;
use mizzen_core::gpu::PciBusId;
use mizzen_nvml::HostRoot;

/// The directories of the host that concern GPUs, as the settings place them.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    host: HostRoot,
    config: Arc<Config>,
}

/// What changes when GPUs come and go or the driver is replaced, cheap to look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint {
    nodes: BTreeSet<OsString>,
    bound: BTreeSet<OsString>,
    driver: Option<String>,
}

impl Machine {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            host: HostRoot::new(&config.host_root),
            config,
        }
    }

    /// What GPUs are asked besides what they are always asked.
    pub(crate) fn questions(&self) -> Questions {
        self.config.health_rules.questions()
    }

    /// Looks at nodes and driver now.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let is_gpu = |name: &OsString| is_gpu_node(name);
        Fingerprint {
            nodes: entries(&self.dev_dir()).filter(is_gpu).collect(),
            bound: entries(&self.host.join("proc/driver/nvidia/gpus")).collect(),
            driver: fs::read_to_string(self.host.join("proc/driver/nvidia/version")).ok(),
        }
    }

    /// Which device nodes there are besides those of the GPUs.
    pub(crate) fn host_nodes(&self) -> HostNodes {
        let roots = self.dev_roots();
        HostNodes::discover(&self.config, |path| {
            let path = path.strip_prefix("/").unwrap_or(path);
            roots.iter().any(|root| root.join(path).exists())
        })
    }

    /// Which of these PCI addresses there are; `None` where the machine has no list of PCI
    /// devices.
    pub(crate) fn on_bus(&self, known: &BTreeSet<PciBusId>) -> Option<BTreeSet<PciBusId>> {
        let devices = self.host.join("sys/bus/pci/devices");
        let is_there = |pci: &&PciBusId| devices.join(pci.to_string()).exists();
        devices
            .is_dir()
            .then(|| known.iter().filter(is_there).copied().collect())
    }

    /// The directories in which a driver shows that it was installed or loaded.
    pub(crate) fn likely_places(&self) -> Vec<PathBuf> {
        let mut places = vec![self.dev_dir()];
        if let Some(library) = &self.config.nvml_library {
            places.extend(library.parent().map(Path::to_owned));
        }
        for root in driver_roots(&self.config) {
            let lib = [
                "usr/lib64",
                "usr/lib/x86_64-linux-gnu",
                "usr/lib/aarch64-linux-gnu",
            ];
            places.extend(lib.map(|dir| root.join(dir)));
        }
        places.retain(|place| place.is_dir());
        places
    }

    fn dev_dir(&self) -> PathBuf {
        let roots = self.dev_roots();
        let dirs = roots.iter().map(|root| root.join("dev"));
        dirs.into_iter()
            .find(|dir| dir.is_dir())
            .unwrap_or_else(|| self.host.join("dev"))
    }

    /// Where the device root may lie for this process: where the host's root is, or where the
    /// driver's root is mounted.
    fn dev_roots(&self) -> Vec<PathBuf> {
        let mut roots = vec![self.host.join(&self.config.dev_root)];
        if self.config.dev_root == self.config.driver_root
            && self.config.driver_root_ctr_path.is_dir()
        {
            roots.push(self.config.driver_root_ctr_path.clone());
        }
        roots
    }
}

/// Where the driver's root may lie for this process, those that exist.
pub(crate) fn driver_roots(config: &Config) -> Vec<PathBuf> {
    let host = HostRoot::new(&config.host_root);
    let mut roots = vec![
        config.driver_root_ctr_path.clone(),
        host.join(&config.driver_root),
    ];
    roots.retain(|root| root.is_dir());
    roots.dedup();
    roots
}

/// Whether a name in `/dev` is of interest: GPUs' nodes and the driver's own.
pub(crate) fn is_driver_node(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b"nvidia")
}

/// Whether a name is that of the driver's library.
pub(crate) fn is_library(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b"libnvidia-ml.so")
}

fn is_gpu_node(name: &OsString) -> bool {
    let Some(rest) = name.as_encoded_bytes().strip_prefix(b"nvidia") else {
        return false;
    };
    rest == b"ctl" || (!rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
}

/// The names in a directory; none where it cannot be read.
fn entries(dir: &Path) -> impl Iterator<Item = OsString> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name())
}

#[cfg(test)]
mod tests {
    use mizzen_testkit::HostTree;

    use super::*;

    fn machine(tree: &HostTree) -> Machine {
        let host_root = tree.path().to_owned();
        Machine::new(Arc::new(Config {
            host_root,
            ..Config::default()
        }))
    }

    #[test]
    fn the_fingerprint_changes_with_gpus_and_driver_and_with_nothing_else() {
        let tree = HostTree::new();
        tree.file("dev/nvidia0", "").file("dev/nvidiactl", "");
        tree.file("proc/driver/nvidia/version", "NVRM version: 550");
        let machine = machine(&tree);
        let before = machine.fingerprint();

        tree.file("dev/nvidia-uvm", "")
            .file("dev/null", "")
            .file("dev/nvidia-caps/x", "");
        assert_eq!(machine.fingerprint(), before);

        tree.file("dev/nvidia1", "");
        let added = machine.fingerprint();
        assert_ne!(added, before);

        tree.file("proc/driver/nvidia/version", "NVRM version: 570");
        assert_ne!(machine.fingerprint(), added);
    }

    #[test]
    fn control_nodes_are_found_below_the_host_root() {
        let tree = HostTree::new();
        tree.file("dev/nvidiactl", "").file("dev/nvidia-uvm", "");
        let nodes = machine(&tree).host_nodes();
        let found: Vec<_> = nodes.control.into_iter().collect();
        assert_eq!(found, ["/dev/nvidia-uvm", "/dev/nvidiactl"]);
    }

    #[test]
    fn the_bus_tells_which_of_the_known_gpus_are_there() {
        let tree = HostTree::new();
        let machine = machine(&tree);
        let known: BTreeSet<PciBusId> = ["0000:01:00.0", "0000:02:00.0"]
            .map(|text| text.parse().unwrap())
            .into();
        assert_eq!(machine.on_bus(&known), None, "no list of PCI devices");
        tree.file("sys/bus/pci/devices/0000:02:00.0/vendor", "0x10de\n");
        tree.file("sys/bus/pci/devices/0000:03:00.0/vendor", "0x10de\n");
        let found: Vec<String> = machine
            .on_bus(&known)
            .unwrap()
            .into_iter()
            .map(String::from)
            .collect();
        assert_eq!(found, ["0000:02:00.0"]);
    }
}
