//! The device nodes, and the links to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

use mizzen_core::doctor::{
    ExpectedNode, LinkFact, Looked, NodeFact, NodeState, NodesFacts, expected_nodes,
};
use mizzen_core::inventory::Inventory;
use mizzen_core::mig::Capabilities;
use mizzen_nvml::HostRoot;
use rustix::io::Errno;

use super::{Host, text, within};
use crate::cdi::Places;

/// How long opening a node may take: the driver may have to wake its GPU.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// The file by which a tree that `mizzen sim host` has made is known.
const SIMULATED: &str = ".mizzen-sim-host";

pub(super) fn facts(host: &Host, places: &Places, inventory: Option<&Inventory>) -> NodesFacts {
    let majors = majors(&text(host.kernel.join("proc/devices")).unwrap_or_default());
    let expected = expected_nodes(
        &majors,
        &gpus(&host.kernel, inventory),
        &capabilities(inventory),
    );
    let are_simulated = host.kernel.join(SIMULATED).exists();
    let root = HostRoot::new(places.dev_here());
    let look = |expected: ExpectedNode| fact(expected, &root, are_simulated);
    NodesFacts {
        are_simulated,
        has_systemd: host.files.join("run/systemd/system").is_dir(),
        nodes: expected.into_iter().map(look).collect(),
    }
}

/// The character devices by their names; what follows `Block devices:` is none.
pub(super) fn majors(text: &str) -> BTreeMap<String, u32> {
    let characters = text.lines().take_while(|line| !line.starts_with("Block"));
    let device = |line: &str| {
        let (major, name) = line.trim().split_once(' ')?;
        Some((name.trim().to_owned(), major.parse().ok()?))
    };
    characters.filter_map(device).collect()
}

/// The minor numbers of the GPUs that the kernel's module or NVML knows.
fn gpus(kernel: &HostRoot, inventory: Option<&Inventory>) -> BTreeSet<u32> {
    // The module may have to ask a GPU that does not answer.
    let kernel = kernel.clone();
    let of_module = match within(OPEN_LIMIT, move || kernel.driver_gpus()) {
        Looked::Seen(gpus) => gpus,
        Looked::Late(_) => Vec::new(),
    };
    let of_module = of_module.iter().filter_map(|gpu| gpu.minor);
    let known = inventory.into_iter().flat_map(|known| &known.gpus);
    of_module.chain(known.map(|gpu| gpu.minor)).collect()
}

/// The minor numbers of the capabilities of the MIG devices that there are.
fn capabilities(inventory: Option<&Inventory>) -> BTreeSet<u32> {
    let gpus = inventory.into_iter().flat_map(|known| &known.gpus);
    let devices = gpus.flat_map(|gpu| gpu.mig.iter().flat_map(|mig| &mig.devices));
    let minors = devices.flat_map(|device| {
        let Capabilities {
            gpu_instance,
            compute_instance,
        } = device.capabilities;
        [gpu_instance, compute_instance]
    });
    minors.flatten().collect()
}

fn fact(expected: ExpectedNode, root: &HostRoot, are_simulated: bool) -> NodeFact {
    let here = root.join(&expected.path);
    let state = state(&here);
    let is_right = match (state, expected.numbers) {
        (NodeState::Device(major, minor), Some(numbers)) => (major, minor) == numbers,
        (NodeState::Device(..), None) => true,
        _ => false,
    };
    let opened = (is_right && !are_simulated).then(|| {
        within(OPEN_LIMIT, move || {
            let opened = File::options().read(true).write(true).open(&here);
            opened.map(drop).map_err(|error| name(&error))
        })
    });
    let link = match state {
        NodeState::Device(major, minor) => {
            let link = root.join(format!("dev/char/{major}:{minor}"));
            if fs::symlink_metadata(&link).is_ok() {
                LinkFact::There
            } else {
                LinkFact::Missing
            }
        }
        NodeState::Missing | NodeState::NoDevice => LinkFact::Unknown,
    };
    NodeFact {
        path: expected.path,
        is_needed: expected.is_needed,
        expected: expected.numbers,
        state,
        opened,
        link,
    }
}

fn state(here: &Path) -> NodeState {
    match fs::metadata(here) {
        Err(_) => NodeState::Missing,
        Ok(known) if known.file_type().is_char_device() => NodeState::Device(
            rustix::fs::major(known.rdev()),
            rustix::fs::minor(known.rdev()),
        ),
        Ok(_) => NodeState::NoDevice,
    }
}

/// The system's name of an error.
fn name(error: &io::Error) -> String {
    let known = [
        (Errno::PERM, "EPERM"),
        (Errno::ACCESS, "EACCES"),
        (Errno::NXIO, "ENXIO"),
        (Errno::NODEV, "ENODEV"),
        (Errno::IO, "EIO"),
        (Errno::BUSY, "EBUSY"),
    ];
    let found = Errno::from_io_error(error)
        .and_then(|errno| known.into_iter().find(|(known, _)| *known == errno));
    found.map_or_else(|| error.to_string(), |(_, name)| name.to_owned())
}
