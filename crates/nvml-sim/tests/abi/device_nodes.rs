//! With `device_nodes: enforce`, what a process may open decides what it sees.

use std::ffi::c_uint;
use std::os::unix::fs::PermissionsExt;

use mizzen_nvml_sim::node::DeviceNodes;
use mizzen_nvml_sim::scenario::Scenario;

use crate::support::{DRIVER_NOT_LOADED, NO_PERMISSION, Node, SUCCESS, text, value};

fn enforcing(nodes: &[&str]) -> Node {
    let node = Node::of(&Scenario {
        device_nodes: DeviceNodes::Enforce,
        ..Scenario::short("4xt4").unwrap()
    });
    let dev = node.directory.path().join("root/dev");
    std::fs::create_dir_all(&dev).unwrap();
    for name in nodes {
        std::fs::write(dev.join(name), []).unwrap();
    }
    node
}

#[test]
fn a_gpu_whose_node_is_missing_is_not_there() {
    let node = enforcing(&["nvidiactl", "nvidia1", "nvidia3"]);
    assert_eq!(node.init(), SUCCESS);
    // SAFETY: Pointers are valid, buffers as long as said.
    unsafe {
        let count: c_uint = value(|at| node.nvmlDeviceGetCount_v2(at));
        assert_eq!(count, 2);
        let planned = node.simulator.node().unwrap().gpus;
        for (index, minor) in [(0, 1), (1, 3)] {
            let uuid = text(|at, n| node.nvmlDeviceGetUUID(node.device(index), at, n));
            assert_eq!(uuid, planned[minor].uuid.to_string());
            let told: c_uint = value(|at| node.nvmlDeviceGetMinorNumber(node.device(index), at));
            assert_eq!(told as usize, minor);
        }
    }
}

#[test]
fn without_nvidiactl_there_is_no_driver() {
    let node = enforcing(&["nvidia0"]);
    assert_eq!(node.init(), DRIVER_NOT_LOADED);
}

#[test]
fn a_node_that_may_not_be_opened_hides_its_gpu() {
    if rustix::process::geteuid().is_root() {
        // Modes do not bind root; a device cgroup does, and the cluster's tests have one.
        let node = enforcing(&["nvidiactl"]);
        let loop_to_itself = node.directory.path().join("root/dev/nvidia0");
        std::os::unix::fs::symlink("nvidia0", loop_to_itself).unwrap();
        assert_eq!(node.init(), SUCCESS);
        // SAFETY: The pointer is valid.
        let count: c_uint = value(|at| unsafe { node.nvmlDeviceGetCount_v2(at) });
        assert_eq!(count, 0);
        return;
    }
    let node = enforcing(&["nvidiactl", "nvidia0"]);
    let control = node.directory.path().join("root/dev/nvidiactl");
    std::fs::set_permissions(&control, std::fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(node.init(), NO_PERMISSION);
}

#[test]
fn a_node_without_a_kernel_driver_counts_as_open() {
    let node = enforcing(&["nvidiactl"]);
    let path = node.directory.path().join("root/dev/nvidia2");
    // A character device that no driver answers for: opening it says ENXIO. Only root may make
    // one, and not on every file system.
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from(0o666),
        rustix::fs::makedev(195, 2),
    );
    let opens = std::fs::File::open(&path)
        .err()
        .and_then(|error| error.raw_os_error());
    if made.is_err() || opens != Some(rustix::io::Errno::NXIO.raw_os_error()) {
        return;
    }
    assert_eq!(node.init(), SUCCESS);
    // SAFETY: The pointer is valid.
    let count: c_uint = value(|at| unsafe { node.nvmlDeviceGetCount_v2(at) });
    assert_eq!(count, 1);
}
