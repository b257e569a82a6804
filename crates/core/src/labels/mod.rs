//! The labels that tell a scheduler what GPUs a node has.
//!
//! Names and values are those of NVIDIA's gpu-feature-discovery for the same node, its deprecated
//! ones included, with three differences: values are always such that Kubernetes takes them; on a
//! node with several models it is decided whose values `nvidia.com/gpu.*` has; and labels below
//! [`MODEL_PREFIX`] count the GPUs of each model.

mod host;
mod mig;
mod sharing;
mod value;

use std::collections::BTreeMap;

use crate::config::{Choice as _, Config, MigStrategy};
use crate::gpu::Gpu;
use crate::inventory::DriverVersions;
use crate::topology::FabricClique;

pub use host::{DisplayController, HostFacts, Vgpu, VgpuHost};
use sharing::{Shared, mps_is_configured};
use value::UNKNOWN;
pub use value::{InvalidLabelKey, InvalidLabelValue, LabelKey, LabelValue};

/// Labels of a node, by their keys.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// What the labels that count the GPUs of a model begin with: `gpu.mizzen.dev/NVIDIA-L40S`.
pub const MODEL_PREFIX: &str = "gpu.mizzen.dev";

/// The label with the time of the start.
const TIMESTAMP: &str = "nvidia.com/gfd.timestamp";

/// The resource of whole GPUs, which its labels begin with.
const GPU: &str = "nvidia.com/gpu";

/// What labels are made of.
#[derive(Debug, Clone, Copy)]
pub struct NodeFacts<'a> {
    /// The driver's versions; `None` where it does not answer.
    pub driver: Option<&'a DriverVersions>,
    /// The GPUs, in any order.
    pub gpus: &'a [Gpu],
    /// The fabric cliques of those that are in one.
    pub fabric: &'a [FabricClique],
    /// What the machine tells.
    pub host: &'a HostFacts,
    /// The seconds since 1970 that `nvidia.com/gfd.timestamp` tells; `None` leaves it out.
    pub timestamp: Option<u64>,
}

/// Every label of a node, and none that is not true of it: what is missing here and is on the node
/// is to go. GPUs that the config leaves out do not count.
pub fn feature_labels(node: &NodeFacts<'_>, config: &Config) -> Labels {
    let admitted = node.gpus.iter().filter(|gpu| config.gpus.admits(gpu));
    let mut gpus: Vec<&Gpu> = admitted.collect();
    gpus.sort_by(|a, b| (a.index, &a.uuid).cmp(&(b.index, &b.uuid)));
    let mut writer = Writer {
        config,
        labels: Labels::new(),
    };
    if let Some(timestamp) = node.timestamp {
        writer.set(TIMESTAMP, timestamp);
    }
    writer.vgpu(&node.host.vgpu);
    if !node.host.display.is_empty() || !node.gpus.is_empty() {
        writer.set("nvidia.com/gpu.present", true);
    }
    if !gpus.is_empty() {
        writer.node(node, &gpus);
        writer.whole_gpus(&gpus);
        writer.models(&gpus);
        match config.mig_strategy {
            MigStrategy::None => {}
            MigStrategy::Single => writer.single(&gpus),
            MigStrategy::Mixed => writer.mixed(&gpus),
        }
    }
    writer.labels
}

/// What to have where these labels are there already: the time of the start is told anew only
/// together with something else, so that a restart alone changes nothing.
pub fn keep_time(mut wanted: Labels, there: &Labels) -> Labels {
    let without_time = |labels: &Labels| -> Labels {
        let others = labels.iter().filter(|(key, _)| key.as_str() != TIMESTAMP);
        others
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    if without_time(&wanted) == without_time(there) {
        for (key, value) in wanted
            .iter_mut()
            .filter(|(key, _)| key.as_str() == TIMESTAMP)
        {
            if let Some(before) = there.get(key) {
                value.clone_from(before);
            }
        }
    }
    wanted
}

/// Labels as lines of `key=value`, which is also the form of the files that Node Feature Discovery
/// reads in its `features.d`.
pub fn features_file(labels: &Labels) -> String {
    let lines = labels.iter().map(|(key, value)| format!("{key}={value}\n"));
    lines.collect()
}

/// The labels of such lines; what is none is passed over.
pub fn parse_features_file(text: &str) -> Labels {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .filter_map(|(key, value)| Some((key.parse().ok()?, value.parse().ok()?)))
        .collect()
}

/// Writes labels, a later one over an earlier one of the same key.
struct Writer<'a> {
    config: &'a Config,
    labels: Labels,
}

impl Writer<'_> {
    /// Keys are made of words of ours and the profiles of MIG devices; should those be such that
    /// Kubernetes takes no key of them, there is no label.
    fn set(&mut self, key: &str, value: impl Into<LabelValue>) {
        if let Ok(key) = key.parse() {
            self.labels.insert(key, value.into());
        }
    }

    fn set_text(&mut self, key: &str, text: &str) {
        self.set(key, LabelValue::of_text(text));
    }

    fn vgpu(&mut self, vgpu: &Vgpu) {
        let present = match vgpu {
            Vgpu::Unknown => return,
            Vgpu::Absent => false,
            Vgpu::Present(host) => {
                if let Some(host) = host {
                    let VgpuHost {
                        driver_version,
                        driver_branch,
                    } = host;
                    self.set_text("nvidia.com/vgpu.host-driver-version", driver_version);
                    self.set_text("nvidia.com/vgpu.host-driver-branch", driver_branch);
                }
                true
            }
        };
        self.set("nvidia.com/vgpu.present", present);
    }

    /// What is said of a node with GPUs as a whole.
    fn node(&mut self, node: &NodeFacts<'_>, gpus: &[&Gpu]) {
        let machine = node.host.machine.as_deref().unwrap_or(UNKNOWN);
        self.set_text("nvidia.com/gpu.machine", machine);
        if let Some(versions) = node.driver {
            self.driver(&versions.driver);
            self.cuda(versions.cuda);
        }
        let mig_capable = gpus.iter().any(|gpu| gpu.mig.is_some());
        self.set("nvidia.com/mig.capable", mig_capable);
        let mps_capable = mps_is_configured(self.config) && !gpus.iter().any(|gpu| mig_is_on(gpu));
        self.set("nvidia.com/mps.capable", mps_capable);
        self.set_text("nvidia.com/gpu.mode", mode(gpus, &node.host.display));
        if let Some(clique) = only(node.fabric) {
            self.set_text("nvidia.com/gpu.clique", &clique.to_string());
        }
        if self.config.mig_strategy != MigStrategy::None {
            let strategy = self.config.mig_strategy.word();
            self.set_text("nvidia.com/mig.strategy", strategy);
        }
    }

    /// A version of two parts has an empty revision.
    fn driver(&mut self, version: &str) {
        self.set_text("nvidia.com/cuda.driver-version.full", version);
        let mut parts = version.splitn(3, '.');
        for (name, deprecated) in [("major", "major"), ("minor", "minor"), ("revision", "rev")] {
            let part = parts.next().unwrap_or_default();
            self.set_text(&format!("nvidia.com/cuda.driver-version.{name}"), part);
            self.set_text(&format!("nvidia.com/cuda.driver.{deprecated}"), part);
        }
    }

    /// 0 is no version.
    fn cuda(&mut self, (major, minor): (u32, u32)) {
        if major == 0 {
            return;
        }
        let full = format!("{major}.{minor}");
        self.set_text("nvidia.com/cuda.runtime-version.full", &full);
        for (name, part) in [("major", major), ("minor", minor)] {
            self.set(&format!("nvidia.com/cuda.runtime-version.{name}"), part);
            self.set(&format!("nvidia.com/cuda.runtime.{name}"), part);
        }
    }

    /// `nvidia.com/gpu.*`, which have room for one model.
    fn whole_gpus(&mut self, gpus: &[&Gpu]) {
        let Some(Model { gpu, count, whole }) = told_model(gpus) else {
            return;
        };
        let shared = if whole {
            Shared::of(self.config, &self.config.naming.of_gpu(gpu))
        } else {
            Shared::NOT_GIVEN_WHOLE
        };
        self.base(GPU, &gpu.name, None, count, shared);
        if gpu.memory_mib > 0 {
            self.set("nvidia.com/gpu.memory", gpu.memory_mib);
        }
        let (major, minor) = gpu.compute_capability;
        if major > 0 {
            self.set_text("nvidia.com/gpu.family", family(major, minor));
            self.set("nvidia.com/gpu.compute.major", major);
            self.set("nvidia.com/gpu.compute.minor", minor);
        }
    }

    /// What every resource has. A profile is that of MIG devices.
    fn base(
        &mut self,
        resource: &str,
        model: &str,
        profile: Option<&str>,
        count: usize,
        shared: Shared,
    ) {
        let parts = profile.iter().flat_map(|profile| ["MIG", *profile]);
        let parts = parts.chain(shared.is_told_by_the_product().then_some("SHARED"));
        let product = LabelValue::of_product(model, parts);
        self.set(&format!("{resource}.product"), product);
        self.set(&format!("{resource}.count"), count);
        self.set(&format!("{resource}.replicas"), shared.replicas);
        let strategy = format!("{resource}.sharing-strategy");
        self.set_text(&strategy, shared.strategy());
    }

    /// How many GPUs there are of each model.
    fn models(&mut self, gpus: &[&Gpu]) {
        let mut counts: BTreeMap<LabelKey, usize> = BTreeMap::new();
        for gpu in gpus {
            if let Ok(key) = LabelKey::of_model(MODEL_PREFIX, &gpu.name) {
                *counts.entry(key).or_default() += 1;
            }
        }
        let counts = counts.into_iter().map(|(key, count)| (key, count.into()));
        self.labels.extend(counts);
    }
}

/// The model whose values `nvidia.com/gpu.*` have.
struct Model<'a> {
    /// The GPU that stands for it.
    gpu: &'a Gpu,
    /// How many of the model there are, those with MIG on included.
    count: usize,
    /// Whether any has MIG off.
    whole: bool,
}

/// As in the reference, a model with GPUs that have MIG off goes before those that have none. Of
/// several such, the reference takes any, and another one each minute; here the one of which there
/// are the most, then the one with the most memory, then the first by its name.
fn told_model<'a>(gpus: &[&'a Gpu]) -> Option<Model<'a>> {
    let mut models: BTreeMap<&str, Model<'a>> = BTreeMap::new();
    for &gpu in gpus {
        let model = models.entry(&gpu.name).or_insert(Model {
            gpu,
            count: 0,
            whole: false,
        });
        model.count += 1;
        if mig_is_on(gpu) <= mig_is_on(model.gpu) {
            model.gpu = gpu;
        }
        model.whole |= !mig_is_on(gpu);
    }
    // Of equals `max_by_key` takes the last.
    let rank = |model: &Model<'_>| (model.whole, model.count, model.gpu.memory_mib);
    models.into_values().rev().max_by_key(rank)
}

fn mig_is_on(gpu: &Gpu) -> bool {
    gpu.mig.as_ref().is_some_and(|mig| mig.mode.current)
}

/// The clique, if there is but one.
fn only(cliques: &[FabricClique]) -> Option<&FabricClique> {
    let (first, rest) = cliques.split_first()?;
    rest.iter().all(|clique| clique == first).then_some(first)
}

/// Whether the GPUs draw or compute, if all do the same.
fn mode(gpus: &[&Gpu], display: &[DisplayController]) -> &'static str {
    let mode = |gpu: &&Gpu| {
        let place = display.iter().find(|known| known.place == gpu.pci);
        match place.map(|known| known.class) {
            Some(0x0300) => "graphics",
            Some(0x0302) => "compute",
            _ => UNKNOWN,
        }
    };
    let mut modes = gpus.iter().map(mode);
    let first = modes.next().unwrap_or(UNKNOWN);
    if modes.all(|mode| mode == first) {
        first
    } else {
        UNKNOWN
    }
}

/// The architecture of a compute capability.
fn family(major: u32, minor: u32) -> &'static str {
    match (major, minor) {
        (1, _) => "tesla",
        (2, _) => "fermi",
        (3, _) => "kepler",
        (5, _) => "maxwell",
        (6, _) => "pascal",
        (7, ..5) => "volta",
        (7, _) => "turing",
        (8, ..9) => "ampere",
        (8, _) => "ada-lovelace",
        (9, _) => "hopper",
        (10 | 12, _) => "blackwell",
        (13, _) => "rubin",
        _ => "undefined",
    }
}

#[cfg(test)]
mod tests;
