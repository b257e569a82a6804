//! Which specs are asked for.

use std::collections::BTreeSet;

use super::hooks::Hooks;
use super::name::CdiKind;
use super::{MANAGEMENT_VENDOR, PLUGIN_VENDOR};
use crate::config::{Choice, Config, MigStrategy};

/// How GPUs and MIG devices are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameStrategy {
    /// `0`, `0:1`.
    Index,
    /// As NVML names them.
    Uuid,
    /// `gpu0`, `mig0:1`.
    TypeIndex,
}

impl Choice for NameStrategy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("index", Self::Index),
        ("uuid", Self::Uuid),
        ("type-index", Self::TypeIndex),
    ];
}

impl NameStrategy {
    /// The way in which a device of this name is named; `None` for `all` and names that are none of
    /// ours.
    pub fn of_name(device: &str) -> Option<Self> {
        let is_index = |text: &str| {
            let mut numbers = text.splitn(2, ':');
            numbers.all(|number| {
                !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            })
        };
        let typed = |word: &str| device.strip_prefix(word).is_some_and(is_index);
        if is_index(device) {
            Some(Self::Index)
        } else if device.starts_with("GPU-") || device.starts_with("MIG-") {
            Some(Self::Uuid)
        } else if typed("gpu") || typed("mig") {
            Some(Self::TypeIndex)
        } else {
            None
        }
    }
}

/// The names in a spec of GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuNames {
    /// The ways to name; each device has one name of each.
    pub strategies: BTreeSet<NameStrategy>,
    /// Whether there is a device `all`, which is all others together.
    pub all: bool,
    /// Whether a GPU that is cut into MIG devices is a device, too, with all of them.
    pub cut_gpus: bool,
}

/// What a spec is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// GPUs and MIG devices.
    Gpus(GpuNames),
    /// IMEX channels: these, or all that there are.
    ImexChannels(Option<BTreeSet<u32>>),
    /// `GPUDirect` Storage.
    Gds,
    /// The network adapters of `GPUDirect` RDMA.
    Mofed,
    /// `GPUDirect` copies by the processor.
    GdrCopy,
    /// The control nodes of `NVSwitches`.
    NvSwitch,
    /// Everything, for what looks after the node.
    Management,
}

/// A spec that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The kind of its devices.
    pub kind: CdiKind,
    /// What they are.
    pub contents: Contents,
}

impl Wanted {
    /// What a device plugin with these settings hands out, and more: every GPU and MIG device by
    /// index and UUID, so that no setting that changes leaves a name without a device.
    pub fn of_plugin(config: &Config) -> Vec<Self> {
        let wanted = |class, contents| Self {
            kind: CdiKind::of_valid(PLUGIN_VENDOR, class),
            contents,
        };
        let names = GpuNames {
            strategies: BTreeSet::from([NameStrategy::Index, NameStrategy::Uuid]),
            all: true,
            cut_gpus: config.mig_strategy == MigStrategy::None,
        };
        let mut all = vec![wanted("gpu", Contents::Gpus(names))];
        let channels = &config.imex.channel_ids;
        if !channels.is_empty() {
            let channels = Some(channels.iter().copied().collect());
            all.push(wanted("imex-channel", Contents::ImexChannels(channels)));
        }
        let extras = [
            ("gdrcopy", Contents::GdrCopy, config.gdrcopy_enabled),
            ("gds", Contents::Gds, config.gds_enabled),
            ("mofed", Contents::Mofed, config.mofed_enabled),
        ];
        for (class, contents, _) in extras.into_iter().filter(|(_, _, enabled)| *enabled) {
            all.push(wanted(class, contents));
        }
        all
    }

    /// What an agent with these settings keeps: the specs of what it hands out, if it names devices
    /// by CDI, and those of `--cdi-kinds`.
    pub fn of_config(config: &Config) -> Vec<Self> {
        let mut all = Vec::new();
        if config.device_list_strategies.need_specs() {
            all = Self::of_plugin(config);
        }
        let strategies: BTreeSet<NameStrategy> =
            NameStrategy::WORDS.iter().map(|(_, way)| *way).collect();
        for kind in &config.cdi_kinds {
            let wanted = Self::of_kind(kind.clone(), strategies.clone());
            let is_new = !all.iter().any(|known| known.kind == *kind);
            all.extend(wanted.filter(|_| is_new));
        }
        all
    }

    /// What a kind stands for by its class, with GPUs named in these ways; `None` for a class that
    /// stands for nothing.
    pub fn of_kind(kind: CdiKind, strategies: BTreeSet<NameStrategy>) -> Option<Self> {
        let contents = match kind.class() {
            "gpu" if kind.vendor() == MANAGEMENT_VENDOR => Contents::Management,
            "gpu" => Contents::Gpus(GpuNames {
                strategies,
                all: true,
                cut_gpus: false,
            }),
            "imex-channel" => Contents::ImexChannels(None),
            "gds" => Contents::Gds,
            "mofed" => Contents::Mofed,
            "gdrcopy" => Contents::GdrCopy,
            "nvswitch" => Contents::NvSwitch,
            _ => return None,
        };
        Some(Self { kind, contents })
    }

    /// The classes that stand for something.
    pub const CLASSES: [&'static str; 6] =
        ["gpu", "imex-channel", "gds", "mofed", "gdrcopy", "nvswitch"];
}

/// The feature flags that are heeded, and then those that some version of NVIDIA's toolkit has and
/// that are about nothing of ours.
pub const FEATURE_FLAGS: &[&str] = &[
    EXPLICIT_LIBRARIES,
    NO_ADDITIONAL_GIDS,
    NO_SOCKETS,
    "disable-coherent-annotations",
    "disable-multiple-csv-devices",
    "disable-nvsandbox-utils",
    "disable-nvsandboxutils",
    "enable-coherent-annotations",
];
/// The flag with which libraries of a fixed list are given to containers besides.
pub const EXPLICIT_LIBRARIES: &str = "enable-explicit-driver-libraries";
const NO_ADDITIONAL_GIDS: &str = "no-additional-gids-for-device-nodes";
const NO_SOCKETS: &str = "disable-ipc-discoverer";

/// What is left to taste.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecOptions {
    /// The hooks.
    pub hooks: Hooks,
    /// Whether a container's process joins the groups of nodes that are not for everybody.
    pub additional_gids: bool,
    /// Whether the sockets of the driver's daemons are mounted.
    pub sockets: bool,
}

impl SpecOptions {
    /// What the settings say: `--nvidia-cdi-hook-path` or `--hook-dir`, `--cdi-disable-hooks` and
    /// `--cdi-feature-flags`, whose flags are those of NVIDIA's toolkit.
    pub fn of_config(config: &Config) -> Self {
        let has = |flag: &str| config.cdi_feature_flags.iter().any(|known| known == flag);
        Self {
            hooks: Hooks::new(
                config.hook_program().to_string_lossy(),
                config.cdi_disable_hooks.iter().cloned(),
            ),
            additional_gids: !has(NO_ADDITIONAL_GIDS),
            sockets: !has(NO_SOCKETS),
        }
    }
}
