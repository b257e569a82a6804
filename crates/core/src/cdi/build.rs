//! The specs of a node.

use std::collections::BTreeSet;

use super::edits::{self, Parts};
use super::files::{DriverFiles, Platform};
use super::name::check_device;
use super::spec::{CdiDevice, CdiSpec, ContainerEdits};
use super::version::minimum_version;
use super::wanted::{Contents, GpuNames, NameStrategy, SpecOptions, Wanted};
use crate::gpu::Gpu;
use crate::mig::{MigDevice, ProfileExtra};

/// The name of what is everything.
const ALL: &str = "all";
/// The directory of the nodes of IMEX channels.
const IMEX_NODES: &str = "/dev/nvidia-caps-imex-channels/channel";

/// The specs that are asked for, in that order. One without devices is left out: no runtime would
/// take it. A GPU or MIG device without one of its nodes is in none.
pub fn cdi_specs(
    gpus: &[Gpu],
    files: &DriverFiles,
    wanted: &[Wanted],
    options: &SpecOptions,
) -> Vec<CdiSpec> {
    let builder = Builder {
        gpus,
        files,
        options,
    };
    wanted
        .iter()
        .filter_map(|wanted| builder.spec(wanted))
        .collect()
}

struct Builder<'a> {
    gpus: &'a [Gpu],
    files: &'a DriverFiles,
    options: &'a SpecOptions,
}

impl<'a> Builder<'a> {
    fn spec(&self, wanted: &Wanted) -> Option<CdiSpec> {
        let (devices, common) = self.contents(&wanted.contents);
        let mut devices: Vec<CdiDevice> = devices
            .into_iter()
            .filter(|(name, _)| check_device(name).is_ok())
            .map(|(name, parts)| CdiDevice {
                name,
                container_edits: parts.edits(self.options),
                ..CdiDevice::default()
            })
            .filter(|device| !device.container_edits.is_empty())
            .collect();
        if devices.is_empty() {
            return None;
        }
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        devices.dedup_by(|a, b| a.name == b.name);
        let mut spec = CdiSpec {
            kind: wanted.kind.to_string(),
            devices,
            container_edits: common,
            ..CdiSpec::default()
        };
        spec.cdi_version = minimum_version(&spec).to_string();
        Some(spec)
    }

    fn contents(&self, contents: &Contents) -> (Vec<(String, Parts<'a>)>, ContainerEdits) {
        let files = self.files;
        let void = || ContainerEdits {
            env: vec!["NVIDIA_VISIBLE_DEVICES=void".to_owned()],
            ..ContainerEdits::default()
        };
        let everything = |parts: Parts<'a>| vec![(ALL.to_owned(), parts)];
        match contents {
            Contents::Gpus(names) => (self.gpus(names), edits::common(files, self.options)),
            Contents::ImexChannels(only) => (self.imex_channels(only.as_ref()), void()),
            Contents::Gds => (everything(self.gds()), void()),
            Contents::Mofed => {
                let is_wanted = |path: &str| {
                    is_numbered(path, "/dev/infiniband/uverbs") || path == "/dev/infiniband/rdma_cm"
                };
                (everything(Parts::of_all(files, is_wanted)), void())
            }
            Contents::GdrCopy => {
                let parts = Parts::of_all(files, |path| path == "/dev/gdrdrv");
                (everything(parts), void())
            }
            Contents::NvSwitch => {
                let parts = Parts::of_all(files, |path| path.starts_with("/dev/nvidia-nvswitch"));
                (everything(parts), void())
            }
            Contents::Management => {
                let parts = Parts::of_all(files, is_for_management);
                (everything(parts), edits::of_management(files, self.options))
            }
        }
    }

    fn gpus(&self, names: &GpuNames) -> Vec<(String, Parts<'a>)> {
        let mut devices = match self.files.platform {
            Platform::Linux => self.gpus_of_linux(names),
            // There is one device and no way to tell GPUs apart.
            Platform::Wsl => Vec::new(),
            Platform::Tegra => vec![("0".to_owned(), self.own_parts())],
        };
        let mut all = Parts::default();
        for (_, parts) in &devices {
            all.join(parts);
        }
        if self.files.platform != Platform::Linux {
            all = self.own_parts();
        }
        if names.all || self.files.platform == Platform::Wsl {
            devices.push((ALL.to_owned(), all));
        }
        devices
    }

    /// What WSL and Tegra have instead of GPUs.
    fn own_parts(&self) -> Parts<'a> {
        Parts::of_all(self.files, |path| {
            self.files.own_nodes.iter().any(|own| own == path)
        })
    }

    fn gpus_of_linux(&self, names: &GpuNames) -> Vec<(String, Parts<'a>)> {
        let mut devices = Vec::new();
        for gpu in self.gpus {
            let mig = gpu.mig.as_ref().filter(|mig| mig.mode.current);
            if (mig.is_none() || names.cut_gpus)
                && let Some(parts) = self.whole(gpu)
            {
                let each = names.strategies.iter().map(|strategy| match strategy {
                    NameStrategy::Index => gpu.index.to_string(),
                    NameStrategy::Uuid => gpu.uuid.to_string(),
                    NameStrategy::TypeIndex => format!("gpu{}", gpu.index),
                });
                devices.extend(each.map(|name| (name, parts.clone())));
            }
            for device in mig.map_or(&[][..], |mig| &mig.devices) {
                let Some(parts) = self.mig_device(gpu, device) else {
                    continue;
                };
                let (index, of) = (device.index, gpu.index);
                let each = names.strategies.iter().map(|strategy| match strategy {
                    NameStrategy::Index => format!("{of}:{index}"),
                    NameStrategy::Uuid => device.uuid.to_string(),
                    NameStrategy::TypeIndex => format!("mig{of}:{index}"),
                });
                devices.extend(each.map(|name| (name, parts.clone())));
            }
        }
        devices
    }

    /// A GPU with everything in it.
    fn whole(&self, gpu: &Gpu) -> Option<Parts<'a>> {
        let mut parts = Parts::of_nodes(self.files, [gpu_node(gpu)])?;
        parts.join(&self.dri(gpu));
        let mig = gpu.mig.as_ref().filter(|mig| mig.mode.current);
        for device in mig.map_or(&[][..], |mig| &mig.devices) {
            parts.join(&self.mig_device(gpu, device)?);
        }
        Some(parts)
    }

    fn mig_device(&self, gpu: &Gpu, device: &MigDevice) -> Option<Parts<'a>> {
        let capability = |minor: u32| format!("/dev/nvidia-caps/nvidia-cap{minor}");
        let nodes = [
            gpu_node(gpu),
            capability(device.capabilities.gpu_instance?),
            capability(device.capabilities.compute_instance?),
        ];
        let mut parts = Parts::of_nodes(self.files, nodes)?;
        if device.profile.extra == ProfileExtra::Graphics {
            parts.join(&self.dri(gpu));
        }
        Some(parts)
    }

    fn dri(&self, gpu: &Gpu) -> Parts<'a> {
        let Some(dri) = self.files.dri.get(&gpu.pci) else {
            return Parts::default();
        };
        let mut parts = Parts::of_all(self.files, |path| dri.nodes.iter().any(|node| node == path));
        parts.links.extend(&dri.links);
        parts
    }

    fn imex_channels(&self, only: Option<&BTreeSet<u32>>) -> Vec<(String, Parts<'a>)> {
        let nodes = self.files.nodes.iter();
        let channel = |(path, node): (&'a String, _)| {
            let id: u32 = path.strip_prefix(IMEX_NODES)?.parse().ok()?;
            let parts = Parts {
                nodes: BTreeSet::from([(path.as_str(), node)]),
                ..Parts::default()
            };
            let is_wanted = only.is_none_or(|only| only.contains(&id));
            is_wanted.then(|| (id.to_string(), parts))
        };
        nodes.filter_map(channel).collect()
    }

    fn gds(&self) -> Parts<'a> {
        let mut parts = Parts::of_all(self.files, |path| is_numbered(path, "/dev/nvidia-fs"));
        // Without a node there is nothing that would read them.
        if !parts.nodes.is_empty() {
            parts.files.extend(&self.files.storage);
        }
        parts
    }
}

fn gpu_node(gpu: &Gpu) -> String {
    format!("/dev/nvidia{}", gpu.minor)
}

/// Whether `path` is `prefix` and a number, or nothing, behind it.
fn is_numbered(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether what looks after a node needs a node of this path: GPUs, their capabilities, channels,
/// and the nodes that all GPUs have in common.
fn is_for_management(path: &str) -> bool {
    const OTHERS: [&str; 3] = ["nvidia-fs", "nvidia-nvswitch", "nvidia-nvlink"];
    path.strip_prefix("/dev/").is_some_and(|name| {
        name.starts_with("nvidia") && !OTHERS.iter().any(|other| name.starts_with(other))
    })
}
