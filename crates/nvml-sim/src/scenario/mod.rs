//! The scenario: what a person writes to describe a node.

mod plan;
mod pool;
mod short;
mod values;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::identity::{PciAddress, Uuid};
use crate::node::{CpuList, DeviceNodes, Node};

pub use plan::Problem;
pub(crate) use plan::add_group;
pub use short::InvalidShortForm;
pub use values::{Mebibytes, Model, UnknownModel, Version};

/// A node with GPUs, as YAML describes it. `docs/simulator.md` has a full example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Driver version as NVML reports it.
    pub driver_version: String,
    /// CUDA version of the driver.
    pub cuda_version: Version,
    /// Name of the node; UUIDs and serial numbers are derived from it.
    pub hostname: String,
    /// Whether a GPU's device node must open for the GPU to be visible.
    pub device_nodes: DeviceNodes,
    /// The GPUs, in groups of equal ones.
    pub gpus: Vec<GpuGroup>,
    /// How NVLinks are wired.
    pub nvlink: NvLink,
    /// How GPUs hang on PCIe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcie: Option<PcieShape>,
    /// The machine's NUMA nodes; empty = chosen to suit the GPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numa_nodes: Vec<NumaNode>,
}

/// Equal GPUs, or one GPU with its own identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuGroup {
    /// Built-in model.
    pub model: Model,
    /// How many.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: usize,
    /// Product name, if not the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Framebuffer, if not the model's: MiB, or with a unit (`80GiB`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Mebibytes>,
    /// CUDA compute capability, if not the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<Version>,
    /// Power limit in watts, if not the model's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_limit: Option<u32>,
    /// PCI device id, if not the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<u16>,
    /// PCI subsystem id, if not the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsystem_id: Option<u16>,
    /// How the GPUs are partitioned; without it MIG is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig: Option<MigSetup>,
    /// NUMA node; without it the GPUs are spread evenly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<u32>,
    /// Root complex; GPUs with the same number share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcie_root: Option<u16>,
    /// PCIe switches from the root complex down to the GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcie_switches: Option<Vec<u16>>,
    /// UUID of a single GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// Serial number of a single GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Place on the PCI bus of a single GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<PciAddress>,
    /// Minor number of a single GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<u32>,
}

impl GpuGroup {
    /// So many GPUs of a model, with nothing else said.
    pub fn new(model: Model, count: usize) -> Self {
        Self {
            model,
            count,
            name: None,
            memory: None,
            compute_capability: None,
            power_limit: None,
            device_id: None,
            subsystem_id: None,
            mig: None,
            numa: None,
            pcie_root: None,
            pcie_switches: None,
            uuid: None,
            serial: None,
            pci: None,
            minor: None,
        }
    }
}

/// How GPUs are partitioned when they come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigSetup {
    /// Whether MIG is on.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Profiles of GPU instances, `1g.10gb`, created in this order where the driver would place
    /// them, each with one compute instance over all of it.
    #[serde(default)]
    pub instances: Vec<String>,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_one(count: &usize) -> bool {
    *count == 1
}

/// How NVLinks are wired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum NvLink {
    /// By one word.
    All(Wiring),
    /// Pair by pair.
    Pairs(Vec<LinkedPair>),
}

impl Default for NvLink {
    fn default() -> Self {
        Self::All(Wiring::Auto)
    }
}

/// Ways to wire all NVLinks of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wiring {
    /// As is usual for each model.
    Auto,
    /// Every link goes to an NVSwitch.
    NvSwitch,
    /// Every link is down.
    None,
}

/// Two GPUs that are joined by NVLinks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkedPair {
    /// The two GPUs, numbered from 0 in the order of `gpus`.
    pub gpus: [usize; 2],
    /// How many links join them.
    pub links: usize,
}

/// A regular PCIe tree: how many GPUs share what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcieShape {
    /// GPUs below one PCIe switch; 0 = no switches.
    pub gpus_per_switch: usize,
    /// GPUs below one root complex.
    pub gpus_per_root: usize,
}

/// One NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaNode {
    /// Its CPUs in the kernel's list form; empty for a node with memory alone.
    #[serde(default)]
    pub cpus: CpuList,
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read the scenario {path:?}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why; in the message already, so no source of this error.
        error: std::io::Error,
    },
    /// The YAML is not a scenario.
    #[error("{origin}:{line}:{column}: {message}")]
    Syntax {
        /// The file, or `scenario` for a text.
        origin: String,
        /// Line, from 1; 0 if unknown.
        line: u64,
        /// Column, from 1; 0 if unknown.
        column: u64,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The scenario describes no possible node; every reason is listed.
    #[error("{}", list(origin, problems))]
    Impossible {
        /// The file, or `scenario` for a text.
        origin: String,
        /// What is wrong, each with its place.
        problems: Vec<Problem>,
    },
}

fn list(origin: &str, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| match problem.position {
            Some((line, column)) => format!("{origin}:{line}:{column}: {}", problem.message),
            None => format!("{origin}: {}", problem.message),
        })
        .collect();
    lines.join("\n")
}

impl Scenario {
    /// Reads a scenario from a file and checks it.
    ///
    /// # Errors
    /// The file cannot be read, is no YAML of this shape, or describes no possible node; the
    /// message names file, line and column.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(|error| ScenarioError::Read {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a scenario from YAML and checks it; `origin` names the text in errors.
    ///
    /// # Errors
    /// The text is no YAML of this shape, or describes no possible node.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ScenarioError> {
        let options = serde_saphyr::options! { with_snippet: false };
        let scenario: Self =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| {
                let place = error.location();
                ScenarioError::Syntax {
                    origin: origin.to_owned(),
                    line: place.map_or(0, |place| place.line()),
                    column: place.map_or(0, |place| place.column()),
                    message: values::explain(&error.to_string()),
                }
            })?;
        match scenario.plan() {
            Ok(_) => Ok(scenario),
            Err(problems) => Err(ScenarioError::Impossible {
                origin: origin.to_owned(),
                problems: plan::locate(problems, text),
            }),
        }
    }

    /// Reads the short form of command lines: `8xh100-80gb`, `4xt4,2xa100-40gb`.
    ///
    /// # Errors
    /// The text has another form, names an unknown model, or asks for too many GPUs.
    pub fn short(text: &str) -> Result<Self, InvalidShortForm> {
        short::parse(text)
    }

    /// The scenario as YAML that [`Self::parse`] reads back.
    ///
    /// # Errors
    /// Never in practice: every value of a scenario has a form in YAML.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::SerializeError> {
        serde_saphyr::to_string(self)
    }

    /// The node that this scenario describes.
    ///
    /// # Errors
    /// Every reason why there can be no such node.
    pub fn plan(&self) -> Result<Node, Vec<Problem>> {
        plan::node(self)
    }
}

impl Default for Scenario {
    /// Eight H100 80GB SXM on NVSwitch.
    fn default() -> Self {
        Self {
            driver_version: "580.95.05".to_owned(),
            cuda_version: Version {
                major: 13,
                minor: 0,
            },
            hostname: "mizzen-sim".to_owned(),
            device_nodes: DeviceNodes::Ignore,
            gpus: vec![GpuGroup::new(Model::default(), 8)],
            nvlink: NvLink::default(),
            pcie: None,
            numa_nodes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
