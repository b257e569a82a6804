//! What the machine shows of its GPUs without the driver's library: nodes and buses.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mizzen_core::allocate::HostNodes;
use mizzen_core::config::Config;
use mizzen_core::gpu::PciBusId;
use mizzen_nvml::{HostRoot, LIBRARY_DIRECTORIES};

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
        let own = own_driver_roots(&self.config);
        let directories = || {
            let below_root = LIBRARY_DIRECTORIES.iter().filter(|dir| !dir.is_empty());
            below_root.copied()
        };
        for root in &own {
            places.extend(directories().map(|dir| root.join(dir)));
        }
        let has_library = places.iter().any(|dir| dir.join(LIBRARY).exists());
        let is_named = self.config.nvml_library.is_some();
        if has_default_root(&self.config) && !has_library && !is_named {
            for root in &own {
                places.extend(SIGNS_OF_A_CONTAINER.map(|dir| root.join(dir)));
                let driver = root.join(DRIVER_CONTAINER);
                places.extend(directories().map(|dir| driver.join(dir)));
            }
        }
        // Many are links to one another, and the system watches each directory once.
        let mut seen = BTreeSet::new();
        places.retain(|place| {
            let is_new = |place: PathBuf| place.is_dir() && seen.insert(place);
            place.canonicalize().is_ok_and(is_new)
        });
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

/// The driver's library, as it is linked with.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// Where a driver that runs in a container of its own, as the GPU Operator's does, mounts its root
/// on the host.
const DRIVER_CONTAINER: &str = "run/nvidia/driver";
/// Where such a container shows that it comes up. The mount itself tells nobody; the files that
/// the operator writes once the driver is there do.
const SIGNS_OF_A_CONTAINER: [&str; 3] = ["run", "run/nvidia", "run/nvidia/validations"];

/// Where the driver's root may lie for this process, the best first: with the default root, the
/// host's own and then that of a driver's container, whether that exists yet or not.
pub(crate) fn driver_roots(config: &Config) -> Vec<PathBuf> {
    let mut roots = own_driver_roots(config);
    if has_default_root(config) {
        let of_containers: Vec<_> = roots
            .iter()
            .map(|root| root.join(DRIVER_CONTAINER))
            .collect();
        roots.extend(of_containers);
    }
    roots
}

fn has_default_root(config: &Config) -> bool {
    config.driver_root == Path::new("/")
}

/// Where the root that the settings name may lie for this process, those that exist.
fn own_driver_roots(config: &Config) -> Vec<PathBuf> {
    let host = HostRoot::new(&config.host_root);
    let mut roots = vec![
        config.driver_root_ctr_path.clone(),
        host.join(&config.driver_root),
    ];
    roots.retain(|root| root.is_dir());
    roots.dedup();
    roots
}

/// Whether something of this name that comes or goes in one of the
/// [likely places](Machine::likely_places) is a reason to look at the driver again.
pub(crate) fn is_sign(name: &OsString) -> bool {
    is_driver_node(name) || is_library(name) || is_sign_of_a_container(name)
}

/// Whether a name in `/dev` is of interest: GPUs' nodes and the driver's own.
fn is_driver_node(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b"nvidia")
}

/// Whether a name is that of the driver's library.
fn is_library(name: &OsString) -> bool {
    name.as_encoded_bytes().starts_with(b"libnvidia-ml.so")
}

/// Whether a name is one of those by which a driver's container shows how far it is:
/// `driver`, `driver.pid`, `validations`, `driver-ready`, `.driver-ctr-ready`.
fn is_sign_of_a_container(name: &OsString) -> bool {
    let name = name.as_encoded_bytes();
    name == b"validations"
        || name
            .strip_prefix(b".")
            .unwrap_or(name)
            .starts_with(b"driver")
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

    fn config(tree: &HostTree) -> Config {
        Config {
            host_root: tree.path().to_owned(),
            driver_root_ctr_path: tree.path().join("no-driver-root"),
            ..Config::default()
        }
    }

    #[test]
    fn the_root_of_a_drivers_container_is_searched_after_the_hosts_own() {
        let tree = HostTree::new();
        let root = tree.path().to_owned();
        let expected = [root.clone(), root.join("run/nvidia/driver")];
        assert_eq!(driver_roots(&config(&tree)), expected);

        tree.file("driver-root/etc/hostname", "");
        let mounted = root.join("driver-root");
        let in_container = Config {
            driver_root_ctr_path: mounted.clone(),
            ..config(&tree)
        };
        let expected = [
            mounted.clone(),
            root.clone(),
            mounted.join("run/nvidia/driver"),
            root.join("run/nvidia/driver"),
        ];
        assert_eq!(driver_roots(&in_container), expected);
    }

    #[test]
    fn another_driver_root_is_searched_alone() {
        let tree = HostTree::new();
        tree.file("opt/driver/usr/lib64/x", "");
        let elsewhere = Config {
            driver_root: "/opt/driver".into(),
            ..config(&tree)
        };
        assert_eq!(driver_roots(&elsewhere), [tree.path().join("opt/driver")]);
    }

    #[test]
    fn the_signs_of_a_drivers_container_are_watched_while_the_host_has_no_library() {
        let tree = HostTree::new();
        tree.file("usr/lib64/libc.so.6", "").file("run/lock", "");
        tree.file("run/nvidia/validations/toolkit-ready", "");
        let watched = |tree: &HostTree| {
            let root = tree.path().canonicalize().unwrap();
            let places = Machine::new(Arc::new(config(tree))).likely_places();
            let below = |place: PathBuf| place.strip_prefix(&root).unwrap().display().to_string();
            places.into_iter().map(below).collect::<Vec<_>>()
        };
        let signs = ["run", "run/nvidia", "run/nvidia/validations"];
        assert_eq!(watched(&tree), [&["usr/lib64"], &signs[..]].concat());

        tree.file("run/nvidia/driver/usr/lib64/libc.so.6", "");
        let of_container = ["run/nvidia/driver/usr/lib64"];
        let expected = [&["usr/lib64"], &signs[..], &of_container].concat();
        assert_eq!(watched(&tree), expected);

        let elsewhere = Config {
            nvml_library: Some("/elsewhere/libnvidia-ml.so.1".into()),
            ..config(&tree)
        };
        let places = Machine::new(Arc::new(elsewhere)).likely_places();
        assert_eq!(places.len(), 1, "no other library is asked for: {places:?}");

        tree.file("usr/lib64/libnvidia-ml.so.1", "");
        assert_eq!(watched(&tree), ["usr/lib64"]);
    }

    #[test]
    fn a_directory_by_two_names_is_watched_once() {
        let tree = HostTree::new();
        tree.file("usr/lib64/libc.so.6", "");
        std::os::unix::fs::symlink("usr/lib64", tree.path().join("lib64")).unwrap();
        let places = Machine::new(Arc::new(config(&tree))).likely_places();
        assert_eq!(places.len(), 1, "{places:?}");
    }

    #[test]
    fn names_that_tell_of_a_drivers_container_are_known() {
        let is_sign = |name: &str| is_sign_of_a_container(&name.into());
        for name in [
            "driver",
            "driver.pid",
            "driver-ready",
            ".driver-ctr-ready",
            "validations",
        ] {
            assert!(is_sign(name), "{name}");
        }
        for name in ["toolkit-ready", "lock", "systemd"] {
            assert!(!is_sign(name), "{name}");
        }
    }
}
