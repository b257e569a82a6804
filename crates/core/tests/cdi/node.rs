//! A node to make specs of.

use std::collections::BTreeSet;

use mizzen_core::cdi::{DriFiles, DriverFiles, FoundNode, HostFile, Library, Link, NodeNumbers};
use mizzen_core::config::{Config, file};
use mizzen_core::gpu::Gpu;
use mizzen_core::mig::{Capabilities, Engines, GpuMig, MigDevice, MigMode};

pub(crate) const VERSION: &str = "550.54.15";

/// A GPU that is whole, or cut into devices of these profiles.
pub(crate) fn gpu(index: u32, cut: Option<&[&str]>) -> Gpu {
    let devices = (0..).zip(cut.unwrap_or_default());
    Gpu {
        index,
        minor: index + 4,
        uuid: format!("GPU-4d697a7a-656e-4000-8000-{index:012x}")
            .parse()
            .unwrap(),
        pci: format!("0000:{index:02x}:00.0").parse().unwrap(),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        memory_mib: 81_559,
        compute_capability: (9, 0),
        numa_node: None,
        device_id: 0x2330_10de,
        mig: Some(GpuMig {
            mode: MigMode {
                current: cut.is_some(),
                pending: cut.is_some(),
            },
            devices: devices
                .map(|(at, profile)| device(index, at, profile))
                .collect(),
        }),
    }
}

fn device(gpu: u32, at: u32, profile: &str) -> MigDevice {
    MigDevice {
        index: at,
        uuid: format!("MIG-4d697a7a-656e-4000-8000-{:012x}", 100 * gpu + at)
            .parse()
            .unwrap(),
        gpu_instance: 7 + at,
        compute_instance: 0,
        profile: profile.parse().unwrap(),
        memory_mib: 9_984,
        multiprocessors: 16,
        engines: Engines::default(),
        placement: None,
        capabilities: Capabilities {
            gpu_instance: Some(100 * gpu + 10 * at + 1),
            compute_instance: Some(100 * gpu + 10 * at + 2),
        },
    }
}

pub(crate) fn config(settings: &str) -> Config {
    file::parse(settings).validate().unwrap()
}

/// All nodes that these GPUs and their MIG devices have.
pub(crate) fn files(gpus: &[Gpu]) -> DriverFiles {
    let mut files = DriverFiles {
        version: Some(VERSION.to_owned()),
        ..DriverFiles::default()
    };
    for (name, minor) in [("nvidiactl", 255), ("nvidia-modeset", 254)] {
        add_node(&mut files, &format!("/dev/{name}"), (195, minor), 0o666, 0);
    }
    add_node(&mut files, "/dev/nvidia-uvm", (508, 0), 0o666, 0);
    for gpu in gpus {
        let path = format!("/dev/nvidia{}", gpu.minor);
        add_node(&mut files, &path, (195, gpu.minor), 0o666, 0);
        let devices = gpu.mig.iter().flat_map(|mig| &mig.devices);
        let minors: BTreeSet<u32> = devices
            .flat_map(|device| {
                let known = device.capabilities;
                [known.gpu_instance, known.compute_instance]
            })
            .flatten()
            .collect();
        for minor in minors {
            let path = format!("/dev/nvidia-caps/nvidia-cap{minor}");
            add_node(&mut files, &path, (511, minor), 0o444, 0);
        }
    }
    files
}

pub(crate) fn add_node(
    files: &mut DriverFiles,
    path: &str,
    (major, minor): (u32, u32),
    mode: u32,
    gid: u32,
) {
    let node = FoundNode {
        host: path.to_owned(),
        numbers: Some(NodeNumbers {
            major,
            minor,
            mode,
            gid,
        }),
    };
    files.nodes.insert(path.to_owned(), node);
}

/// The graphics nodes of a GPU, which are not for everybody.
pub(crate) fn add_dri(files: &mut DriverFiles, gpu: &Gpu) {
    let card = format!("/dev/dri/card{}", gpu.index);
    let render = format!("/dev/dri/renderD{}", 128 + gpu.index);
    add_node(files, &card, (226, gpu.index), 0o660, 44);
    add_node(files, &render, (226, 128 + gpu.index), 0o660, 104);
    let dri = DriFiles {
        links: vec![link(
            &format!("../card{}", gpu.index),
            &format!("/dev/dri/by-path/pci-{}-card", gpu.pci),
        )],
        nodes: vec![card, render],
    };
    files.dri.insert(gpu.pci, dri);
}

fn link(target: &str, path: &str) -> Link {
    Link {
        target: target.to_owned(),
        path: path.to_owned(),
    }
}

pub(crate) fn below(root: &str, path: &str) -> HostFile {
    HostFile {
        host: format!("{root}{path}"),
        container: path.to_owned(),
    }
}

/// A few of a driver's files, in a root of its own.
pub(crate) fn add_driver(files: &mut DriverFiles, root: &str) {
    let directory = "/usr/lib/x86_64-linux-gnu";
    for (base, soname) in [
        ("libcuda", "libcuda.so.1"),
        ("libGLX_nvidia", "libGLX_nvidia.so.0"),
    ] {
        let name = format!("{base}.so.{VERSION}");
        files.libraries.push(Library {
            file: below(root, &format!("{directory}/{name}")),
            links: vec![link(&name, &format!("{directory}/{soname}"))],
        });
    }
    files.files.push(below(root, "/usr/bin/nvidia-smi"));
    let firmware = format!("/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin");
    files.files.push(below(root, &firmware));
    files
        .sockets
        .push(below(root, "/run/nvidia-persistenced/socket"));
    files.storage.push(below(root, "/run/udev"));
}
