//! What the machine shows, read as programs read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use tempfile::TempDir;

use crate::identity::{PciAddress, Uuid};
use crate::model::GpuModel;
use crate::scenario::Scenario;

use super::*;

mod properties;
mod strategies;
mod writing;

fn node(short: &str) -> Node {
    Scenario::short(short).unwrap().plan().unwrap()
}

fn scenario(yaml: &str) -> Node {
    Scenario::parse(yaml, "test").unwrap().plan().unwrap()
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Everything below a directory: path → kind, permissions, contents.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let status = entry.metadata().unwrap();
            let content = if status.is_dir() {
                pending.push(entry.path());
                String::new()
            } else if status.is_symlink() {
                format!("-> {:?}", fs::read_link(entry.path()).unwrap())
            } else if status.is_file() {
                format!("{:?}", fs::read(entry.path()).unwrap())
            } else {
                format!("device {:#x}", status.rdev())
            };
            let path = entry.path().strip_prefix(root).unwrap().to_owned();
            found.insert(path, format!("{:o} {content}", status.mode()));
        }
    }
    found
}

fn fresh(node: &Node) -> BTreeMap<PathBuf, String> {
    let root = tempfile::tempdir().unwrap();
    write(node, root.path()).unwrap();
    snapshot(root.path())
}

fn written(node: &Node) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    write(node, root.path()).unwrap();
    root
}

#[test]
fn the_gpus_are_on_the_bus_with_class_vendor_and_numa_node() {
    let node = node("2xh100-80gb,1xt4");
    let root = written(&node);
    for gpu in &node.gpus {
        let device = format!("sys/bus/pci/devices/{}", gpu.pci);
        let attribute = |name: &str| read(root.path(), &format!("{device}/{name}"));
        assert_eq!(attribute("vendor"), "0x10de\n");
        assert_eq!(attribute("device"), format!("0x{:04x}\n", gpu.device_id));
        assert_eq!(attribute("class"), "0x030200\n");
        assert_eq!(attribute("numa_node"), format!("{}\n", gpu.numa));
        let cpus = read(
            root.path(),
            &format!("sys/devices/system/node/node{}/cpulist", gpu.numa),
        );
        assert_eq!(attribute("local_cpulist"), cpus);
        assert_eq!(attribute("max_link_width"), "16\n");
        assert_eq!(attribute("resource").lines().count(), 13);
        let config = fs::read(root.path().join(&device).join("config")).unwrap();
        assert_eq!(config[..2], [0xde, 0x10]);
        let driver = fs::canonicalize(root.path().join(&device).join("driver")).unwrap();
        assert_eq!(driver.file_name().unwrap(), "nvidia");
    }
    let speed = |index: usize| {
        let pci = node.gpus[index].pci;
        read(
            root.path(),
            &format!("sys/bus/pci/devices/{pci}/current_link_speed"),
        )
    };
    assert_eq!(
        (speed(0).trim(), speed(2).trim()),
        ("32.0 GT/s PCIe", "8.0 GT/s PCIe")
    );
}

#[test]
fn only_the_gpus_are_nvidias_display_devices() {
    let node = node("8xh100-80gb");
    let root = written(&node);
    let devices = root.path().join("sys/bus/pci/devices");
    let mut classes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir(devices).unwrap().map(Result::unwrap) {
        let class = fs::read_to_string(entry.path().join("class")).unwrap();
        let name = entry.file_name().into_string().unwrap();
        classes
            .entry(class.trim().to_owned())
            .or_default()
            .insert(name);
    }
    let gpus: BTreeSet<String> = node.gpus.iter().map(|gpu| gpu.pci.to_string()).collect();
    assert_eq!(classes["0x030200"], gpus);
    assert_eq!(
        classes["0x068000"].len(),
        4,
        "NVSwitches of a Hopper baseboard"
    );
    assert!(!classes.contains_key("0x030000"));
}

#[test]
fn a_graphics_model_is_a_vga_controller_and_blackwell_has_no_nvswitch_on_the_bus() {
    let mut node = node("1xrtx-pro-6000,2xb200");
    let model = node.gpus[0].model;
    node.gpus[0].model = Box::leak(Box::new(GpuModel {
        graphics: true,
        ..*model
    }));
    let root = written(&node);
    let pci = node.gpus[0].pci;
    assert_eq!(
        read(root.path(), &format!("sys/bus/pci/devices/{pci}/class")),
        "0x030000\n"
    );
    assert!(
        !root
            .path()
            .join("sys/bus/pci/drivers/nvidia-nvswitch")
            .exists()
    );
}

#[test]
fn numa_nodes_without_cpus_are_listed_but_have_none() {
    let node = scenario("gpus: [{model: h100-80gb, numa: 1}]\nnuma_nodes: [{cpus: 0-31}, {}]\n");
    let root = written(&node);
    let nodes = "sys/devices/system/node";
    assert_eq!(read(root.path(), &format!("{nodes}/possible")), "0-1\n");
    assert_eq!(read(root.path(), &format!("{nodes}/has_cpu")), "0\n");
    assert_eq!(
        read(root.path(), &format!("{nodes}/node0/cpulist")),
        "0-31\n"
    );
    assert_eq!(read(root.path(), &format!("{nodes}/node1/cpulist")), "\n");
    assert_eq!(read(root.path(), "sys/devices/system/cpu/online"), "0-31\n");
}

#[test]
fn the_driver_tells_its_version_and_its_gpus() {
    let node = node("2xa100-40gb");
    let root = written(&node);
    assert!(read(root.path(), "proc/driver/nvidia/version").contains("  580.95.05  "));
    for gpu in &node.gpus {
        let path = format!("proc/driver/nvidia/gpus/{}/information", gpu.pci);
        let information = read(root.path(), &path);
        let field = |name: &str| {
            let line = information
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            line.trim_start()
                .strip_prefix(':')
                .unwrap()
                .trim()
                .to_owned()
        };
        assert_eq!(field("GPU UUID").parse::<Uuid>().unwrap(), gpu.uuid);
        assert_eq!(field("Device Minor"), gpu.minor.to_string());
        assert_eq!(
            field("Bus Location").parse::<PciAddress>().unwrap(),
            gpu.pci
        );
        assert_eq!(field("Model"), gpu.name);
    }
    let minors = read(root.path(), "proc/driver/nvidia-caps/mig-minors");
    assert!(minors.contains("config 1\nmonitor 2\n"));
}

#[test]
fn each_device_node_is_what_the_report_says() {
    let node = node("2xt4");
    let root = tempfile::tempdir().unwrap();
    let report = write(&node, root.path()).unwrap();
    let majors = read(root.path(), "proc/devices");
    let find = |path: &str| {
        report
            .device_nodes
            .iter()
            .find(|node| node.path == path)
            .unwrap()
    };
    for (path, major, minor, driver) in [
        ("/dev/nvidia0", 195, 0, "nvidia"),
        ("/dev/nvidia1", 195, 1, "nvidia"),
        ("/dev/nvidiactl", 195, 255, "nvidiactl"),
        ("/dev/nvidia-modeset", 195, 254, "nvidia-modeset"),
        ("/dev/nvidia-uvm", 505, 0, "nvidia-uvm"),
        ("/dev/nvidia-uvm-tools", 505, 1, "nvidia-uvm"),
        ("/dev/nvidia-caps/nvidia-cap1", 503, 1, "nvidia-caps"),
        ("/dev/dri/card1", 226, 1, "drm"),
        ("/dev/dri/renderD129", 226, 129, "drm"),
    ] {
        let told = find(path);
        assert_eq!((told.major, told.minor), (major, minor), "{path}");
        assert!(
            majors
                .lines()
                .any(|line| line.trim() == format!("{major} {driver}"))
        );
        let status = fs::symlink_metadata(root.path().join(&path[1..])).unwrap();
        match told.kind {
            NodeKind::CharacterDevice => {
                assert!(status.file_type().is_char_device(), "{path}");
                assert_eq!(status.rdev(), rustix::fs::makedev(major, minor));
            }
            NodeKind::EmptyFile => assert!(status.is_file() && status.len() == 0, "{path}"),
        }
    }
    let usable = fs::metadata(root.path().join("dev/nvidia0")).unwrap();
    assert_eq!(usable.permissions().mode() & 0o777, 0o666);
    let empty = report
        .device_nodes
        .iter()
        .any(|node| node.kind == NodeKind::EmptyFile);
    assert_eq!(report.no_devices_because.is_some(), empty);
}

#[test]
fn a_gpus_drm_nodes_are_found_from_its_place_on_the_bus() {
    let node = node("2xl4");
    let root = written(&node);
    for gpu in &node.gpus {
        let drm = root
            .path()
            .join(format!("sys/bus/pci/devices/{}/drm", gpu.pci));
        let names: BTreeSet<String> = fs::read_dir(drm)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let card = format!("card{}", gpu.minor);
        let render = format!("renderD{}", 128 + gpu.minor);
        assert_eq!(names, BTreeSet::from([card.clone(), render.clone()]));
        for (name, kind) in [(card, "card"), (render, "render")] {
            let by_path = root
                .path()
                .join(format!("dev/dri/by-path/pci-{}-{kind}", gpu.pci));
            let whole = fs::canonicalize(by_path).unwrap();
            assert_eq!(whole.file_name().unwrap().to_str(), Some(name.as_str()));
            let back = root
                .path()
                .join(format!("sys/class/drm/{name}/device/vendor"));
            assert_eq!(fs::read_to_string(back).unwrap(), "0x10de\n");
        }
    }
}

#[test]
fn instances_have_capabilities_in_procfs_and_nodes_with_their_minor_numbers() {
    let node = scenario(
        "gpus:\n- {model: t4}\n- {model: h100-80gb, mig: {instances: [3g.40gb, 1g.10gb]}}\n",
    );
    let root = written(&node);
    let minors = read(root.path(), "proc/driver/nvidia-caps/mig-minors");
    let minors: BTreeMap<&str, &str> = minors
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    let below = "proc/driver/nvidia/capabilities/gpu1/mig";
    for access in [
        "gi2/access",
        "gi2/ci0/access",
        "gi7/access",
        "gi7/ci0/access",
    ] {
        let minor = minors[format!("gpu1/{access}").as_str()];
        let text = format!("DeviceFileMinor: {minor}\nDeviceFileMode: 292\nDeviceFileModify: 1\n");
        assert_eq!(read(root.path(), &format!("{below}/{access}")), text);
        let cap = root
            .path()
            .join(format!("dev/nvidia-caps/nvidia-cap{minor}"));
        assert!(cap.exists(), "{cap:?}");
    }
    assert!(!root.path().join(below).join("gi1").exists());
    // What goes takes its nodes along.
    write_partitioned(&node, &[None, None], root.path()).unwrap();
    assert!(!root.path().join(below).exists());
    let caps = fs::read_dir(root.path().join("dev/nvidia-caps")).unwrap();
    assert_eq!(caps.count(), 2);
}
