//! Settings as they are meant: every value checked.

use core::net::SocketAddr;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::ConfigWarning;
use super::labels::LabelsConfig;
use super::metrics::MetricsConfig;
use super::mig::MigManagerConfig;
use super::naming::{GpuFilter, ResourceNaming};
use super::rules::HealthRules;
use super::sharing::SharingConfig;
use super::source::ConfigSource;
use crate::cdi::CdiKind;
use crate::xid::XidPolicy;

/// A setting with a fixed set of values.
pub trait Choice: Sized + Copy + 'static {
    /// Every value with the word that means it.
    const WORDS: &'static [(&'static str, Self)];

    /// The value that `word` means.
    fn from_word(word: &str) -> Option<Self> {
        let found = Self::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, value)| *value)
    }

    /// The word that means this value.
    fn word(self) -> &'static str
    where
        Self: PartialEq,
    {
        let found = Self::WORDS.iter().find(|(_, value)| *value == self);
        found.map_or("", |(word, _)| word)
    }
}

/// The words of a choice, in the order of its type.
pub(super) const fn words<T: Choice, const N: usize>() -> [&'static str; N] {
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = T::WORDS[at].0;
        at += 1;
    }
    words
}

/// How MIG devices are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MigStrategy {
    /// Every GPU is a whole GPU.
    #[default]
    None,
    /// Whole GPUs, or MIG devices of one kind, all as `nvidia.com/gpu`.
    Single,
    /// MIG devices by their profile, `nvidia.com/mig-1g.5gb`.
    Mixed,
}

impl Choice for MigStrategy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("none", Self::None),
        ("single", Self::Single),
        ("mixed", Self::Mixed),
    ];
}

/// A way to tell the container runtime which devices a container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceListStrategy {
    /// `NVIDIA_VISIBLE_DEVICES` with the ids.
    Envvar,
    /// One mount of `/dev/null` for each id, which a container cannot forge.
    VolumeMounts,
    /// An annotation with the CDI names of the devices.
    CdiAnnotations,
    /// The CDI names in the CRI's own field.
    CdiCri,
}

impl DeviceListStrategy {
    /// Whether the runtime resolves the names through CDI.
    pub fn is_cdi(self) -> bool {
        matches!(self, Self::CdiAnnotations | Self::CdiCri)
    }
}

impl Choice for DeviceListStrategy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("envvar", Self::Envvar),
        ("volume-mounts", Self::VolumeMounts),
        ("cdi-annotations", Self::CdiAnnotations),
        ("cdi-cri", Self::CdiCri),
    ];
}

/// The word that leaves the choice of a way to the agent.
pub(super) const AUTO: &str = "auto";

/// The ways that are used at once; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceListStrategies {
    used: BTreeSet<DeviceListStrategy>,
    /// Whether the agent chooses them by what the node's runtime can do.
    is_auto: bool,
    /// Whether specs are kept although no way that is used needs them: one may be used as soon as
    /// its names are found.
    awaits_specs: bool,
}

impl DeviceListStrategies {
    /// The strategies in `strategies`, or [`DeviceListStrategy::Envvar`] where there is none.
    pub fn new(strategies: impl IntoIterator<Item = DeviceListStrategy>) -> Self {
        let mut used: BTreeSet<_> = strategies.into_iter().collect();
        if used.is_empty() {
            used.insert(DeviceListStrategy::Envvar);
        }
        Self {
            used,
            is_auto: false,
            awaits_specs: false,
        }
    }

    /// What the agent has chosen where it was told `auto`: this way; `awaits_specs` says whether
    /// it would rather use CDI.
    pub fn chosen(strategy: DeviceListStrategy, awaits_specs: bool) -> Self {
        Self {
            is_auto: true,
            awaits_specs,
            ..Self::new([strategy])
        }
    }

    /// Whether the agent chooses them.
    pub fn is_auto(&self) -> bool {
        self.is_auto
    }

    /// Whether `strategy` is used.
    pub fn includes(&self, strategy: DeviceListStrategy) -> bool {
        self.used.contains(&strategy)
    }

    /// Whether any of them needs CDI.
    pub fn any_cdi(&self) -> bool {
        self.used.iter().any(|strategy| strategy.is_cdi())
    }

    /// Whether all of them need CDI, so that nothing else is to be told.
    pub fn all_cdi(&self) -> bool {
        self.used.iter().all(|strategy| strategy.is_cdi())
    }

    /// Whether specs of what is handed out are to be kept.
    pub fn need_specs(&self) -> bool {
        self.any_cdi() || self.awaits_specs
    }

    /// Their words, in their order.
    pub fn words(&self) -> String {
        let words: Vec<&str> = self.used.iter().map(|strategy| strategy.word()).collect();
        words.join(",")
    }
}

impl Default for DeviceListStrategies {
    /// `auto`, of which nothing is known yet: the reference's way.
    fn default() -> Self {
        Self::chosen(DeviceListStrategy::Envvar, false)
    }
}

/// Which ids a container is told. The kubelet always gets UUIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceIdStrategy {
    /// UUIDs, which never change.
    #[default]
    Uuid,
    /// NVML's indices.
    Index,
}

impl Choice for DeviceIdStrategy {
    const WORDS: &'static [(&'static str, Self)] = &[("uuid", Self::Uuid), ("index", Self::Index)];
}

/// Which of the free devices a container gets. Every policy names exactly one set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AllocationPolicy {
    /// From the GPU with the fewest replicas given out; the reference's default for shared
    /// devices.
    #[default]
    Distributed,
    /// From the GPU with the most replicas given out.
    Packed,
    /// The GPUs that are best connected, see [`AlignedChooser`](crate::prefer::AlignedChooser);
    /// the default for whole GPUs.
    Aligned,
    /// The GPUs that lie on the fewest NUMA nodes, and among those the best connected.
    Numa,
    /// From the NUMA node with the fewest devices given out.
    NumaDistributed,
    /// From the NUMA node with the most devices given out that has enough of them.
    NumaPacked,
}

impl Choice for AllocationPolicy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("distributed", Self::Distributed),
        ("packed", Self::Packed),
        ("aligned", Self::Aligned),
        ("numa", Self::Numa),
        ("numa-distributed", Self::NumaDistributed),
        ("numa-packed", Self::NumaPacked),
    ];
}

/// How devices are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiscoveryStrategy {
    /// By what the machine is.
    #[default]
    Auto,
    /// Through NVML.
    Nvml,
}

impl Choice for DiscoveryStrategy {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("nvml", Self::Nvml)];
}

/// Which IMEX channels containers with GPUs get.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImexConfig {
    /// The channels: none, or channel 0 alone.
    pub channel_ids: Vec<u32>,
    /// Whether a container without them must not start.
    pub required: bool,
}

/// How closely health is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthTuning {
    /// How long a GPU must have been well before it counts as healthy again.
    pub hold_down: Duration,
    /// How long between two questions to each GPU.
    pub check_interval: Duration,
    /// How long one call to the driver may take before its GPU counts as hung.
    pub nvml_call_timeout: Duration,
}

/// Everything the agent was told, checked.
#[allow(
    clippy::struct_excessive_bools,
    reason = "the reference's switches, each independent of the others"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `--mig-strategy`.
    pub mig_strategy: MigStrategy,
    /// `--fail-on-init-error`.
    pub fail_on_init_error: bool,
    /// `--driver-root`: the root of the driver's installation on the host.
    pub driver_root: PathBuf,
    /// `--dev-root`: the root of the device nodes on the host.
    pub dev_root: PathBuf,
    /// `--driver-root-ctr-path`: where the driver root is mounted in the agent's container.
    pub driver_root_ctr_path: PathBuf,
    /// `--pass-device-specs`.
    pub pass_device_specs: bool,
    /// `--device-list-strategy`.
    pub device_list_strategies: DeviceListStrategies,
    /// `--device-id-strategy`.
    pub device_id_strategy: DeviceIdStrategy,
    /// `--gdrcopy-enabled`.
    pub gdrcopy_enabled: bool,
    /// `--gds-enabled`.
    pub gds_enabled: bool,
    /// `--mofed-enabled`.
    pub mofed_enabled: bool,
    /// `--cdi-annotation-prefix`, with its slash.
    pub cdi_annotation_prefix: String,
    /// `--nvidia-cdi-hook-path`; `None` where hooks are carried out by [`HOOK_PROGRAM`].
    pub cdi_hook_path: Option<PathBuf>,
    /// `--hook-dir`: where that program is on the host.
    pub hook_dir: PathBuf,
    /// `--cdi-feature-flags`.
    pub cdi_feature_flags: Vec<String>,
    /// `--cdi-disable-hooks`.
    pub cdi_disable_hooks: Vec<String>,
    /// `--cdi-kinds`.
    pub cdi_kinds: Vec<CdiKind>,
    /// `--mps-root`.
    pub mps_root: Option<PathBuf>,
    /// `--shared-devices-allocation-policy`.
    pub shared_devices_allocation_policy: AllocationPolicy,
    /// `--gpu-allocation-policy`.
    pub gpu_allocation_policy: AllocationPolicy,
    /// `--include-gpus`, `--exclude-gpus`.
    pub gpus: GpuFilter,
    /// `resources` in the config file.
    pub naming: ResourceNaming,
    /// `sharing` in the config file.
    pub sharing: SharingConfig,
    /// `--device-discovery-strategy`.
    pub device_discovery_strategy: DiscoveryStrategy,
    /// `--imex-channel-ids`, `--imex-required`.
    pub imex: ImexConfig,
    /// `--kubelet-socket`; `None` where it was given as empty: do not register.
    pub kubelet_socket: Option<PathBuf>,
    /// `DP_DISABLE_HEALTHCHECKS`, `DP_ENABLE_HEALTHCHECKS`.
    pub xid_policy: XidPolicy,
    /// `--host-root`: the root of every access to /sys, /proc and /dev.
    pub host_root: PathBuf,
    /// `--nvml-library`: this library and no other.
    pub nvml_library: Option<PathBuf>,
    /// `--state-dir`: where what must survive a restart is kept.
    pub state_dir: PathBuf,
    /// `--health-address`: where `/healthz` and `/readyz` are served.
    pub health_address: Option<SocketAddr>,
    /// `--health-hold-down`, `--health-check-interval`, `--nvml-call-timeout`.
    pub health: HealthTuning,
    /// `health` in the config file: what faults mean.
    pub health_rules: HealthRules,
    /// What was accepted although it does not do what its giver may expect; to be logged.
    pub warnings: Vec<ConfigWarning>,
    /// Where the config file, or the config of this node, comes from; never set by a config.
    pub source: ConfigSource,
    /// `--mig-manager` and what belongs to it.
    pub mig_manager: MigManagerConfig,
    /// `--metrics-address` and what else is for metrics.
    pub metrics: MetricsConfig,
    /// `--oneshot` and what else is for the labels.
    pub labels: LabelsConfig,
}

/// The program that carries out the hooks of CDI specs, unless another one is named.
pub const HOOK_PROGRAM: &str = "mizzen-hook";

impl Config {
    /// The program on the host that carries out the hooks of CDI specs.
    pub fn hook_program(&self) -> PathBuf {
        let named = self.cdi_hook_path.clone();
        named.unwrap_or_else(|| self.hook_dir.join(HOOK_PROGRAM))
    }

    /// The directory of the device plugins' sockets: the one of the kubelet's.
    pub fn device_plugin_dir(&self) -> &Path {
        let parent = self.kubelet_socket.as_deref().and_then(Path::parent);
        parent.unwrap_or_else(|| Path::new(super::setting::DEVICE_PLUGIN_DIR))
    }
}

impl Default for Config {
    /// The settings of an agent that was told nothing.
    fn default() -> Self {
        Self {
            mig_strategy: MigStrategy::default(),
            fail_on_init_error: true,
            driver_root: "/".into(),
            dev_root: "/".into(),
            driver_root_ctr_path: "/driver-root".into(),
            pass_device_specs: false,
            device_list_strategies: DeviceListStrategies::default(),
            device_id_strategy: DeviceIdStrategy::default(),
            gdrcopy_enabled: false,
            gds_enabled: false,
            mofed_enabled: false,
            cdi_annotation_prefix: "cdi.k8s.io/".into(),
            cdi_hook_path: None,
            hook_dir: "/var/lib/mizzen/bin".into(),
            cdi_feature_flags: Vec::new(),
            cdi_disable_hooks: Vec::new(),
            cdi_kinds: Vec::new(),
            mps_root: None,
            shared_devices_allocation_policy: AllocationPolicy::default(),
            gpu_allocation_policy: AllocationPolicy::Aligned,
            gpus: GpuFilter::default(),
            naming: ResourceNaming::default(),
            sharing: SharingConfig::default(),
            device_discovery_strategy: DiscoveryStrategy::default(),
            imex: ImexConfig::default(),
            kubelet_socket: Some(Path::new(super::setting::DEVICE_PLUGIN_DIR).join("kubelet.sock")),
            xid_policy: XidPolicy::default(),
            host_root: "/".into(),
            nvml_library: None,
            state_dir: "/var/lib/mizzen".into(),
            health_address: None,
            health: HealthTuning {
                hold_down: Duration::from_secs(30),
                check_interval: Duration::from_secs(15),
                nvml_call_timeout: Duration::from_secs(5),
            },
            health_rules: HealthRules::default(),
            warnings: Vec::new(),
            source: ConfigSource::default(),
            mig_manager: MigManagerConfig::default(),
            labels: LabelsConfig::default(),
            metrics: MetricsConfig::default(),
        }
    }
}
