//! The one table of all settings: what each is called on the command line, in the environment
//! and in the config file.

use core::net::SocketAddr;
use core::time::Duration;

use super::duration::parse_duration;
use super::source::FallbackStrategy;
use super::types::{AllocationPolicy, DeviceIdStrategy, MigStrategy, words};
use crate::metrics::HostnameLabel;

/// The directory in which a kubelet and its device plugins have their sockets.
pub(super) const DEVICE_PLUGIN_DIR: &str = "/var/lib/kubelet/device-plugins";

/// What a setting's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; a flag without a value means true.
    Boolean,
    /// Any text.
    Text,
    /// A path.
    Path,
    /// One of a fixed set of words.
    Choice(&'static [&'static str]),
    /// Several texts, separated by commas or given repeatedly; where words are named, only those.
    List(&'static [&'static str]),
    /// A span of time such as `30s`.
    Duration,
    /// A span of time, or `infinite`.
    Interval,
    /// A span of time, or a whole number of milliseconds as dcgm-exporter takes it.
    Milliseconds,
    /// An address and port such as `127.0.0.1:8080`.
    Address,
}

impl Kind {
    /// Whether a text, or one item of a list, is such a value.
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::Boolean => parse_boolean(text).is_some(),
            Self::Text | Self::Path | Self::List([]) => true,
            Self::Choice(words) | Self::List(words) => words.contains(&text),
            Self::Duration => parse_duration(text).is_ok(),
            Self::Interval => text == INFINITE || parse_duration(text).is_ok(),
            Self::Milliseconds => parse_milliseconds(text).is_some(),
            Self::Address => text.is_empty() || parse_address(text).is_some(),
        }
    }

    /// What such a value is, in words.
    pub fn expected(self) -> String {
        match self {
            Self::Boolean => "true or false".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List([]) => "a text, or a list of texts".to_owned(),
            Self::List([word]) => format!("nothing, or {word} alone"),
            Self::List(words) => format!("a list of {}", words.join(", ")),
            Self::Duration => "numbers with units, such as 30s or 1m30s".to_owned(),
            Self::Interval => "numbers with units, such as 30s or 1m30s, or infinite".to_owned(),
            Self::Milliseconds => {
                "numbers with units, such as 1s or 500ms, or a number of milliseconds".to_owned()
            }
            Self::Address => "an address and port, such as 127.0.0.1:8080".to_owned(),
            Self::Text | Self::Path => "a text".to_owned(),
        }
    }

    /// The words that are valid, where they are a fixed set.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Self::Boolean => &["true", "false"],
            // A list of one word: "did you mean 0?" helps nobody.
            Self::Text
            | Self::Path
            | Self::Duration
            | Self::Milliseconds
            | Self::Address
            | Self::List([_]) => &[],
            Self::Interval => &[INFINITE],
            Self::Choice(words) | Self::List(words) => words,
        }
    }
}

/// The interval after which nothing comes.
pub(super) const INFINITE: &str = "infinite";

/// Reads a switch in the spellings of Go's `strconv.ParseBool`, which the reference takes from
/// flags and the environment, and of YAML 1.1, which it takes from its file; empty is false.
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" | "yes" | "Yes" | "YES" | "y" | "Y" | "on"
        | "On" | "ON" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" | "no" | "No" | "NO" | "n" | "N" | "off"
        | "Off" | "OFF" | "" => Some(false),
        _ => None,
    }
}

/// Reads a whole number as the reference's reader of YAML 1.1 does: `10`, `1_000`, `0x10`, `0o10`,
/// `010` (octal), and `4.0`.
pub(crate) fn parse_integer(text: &str) -> Option<u32> {
    let digits = text.replace('_', "");
    let octal = digits.strip_prefix("0o").or(digits.strip_prefix('0'));
    if let Some(hexadecimal) = digits.strip_prefix("0x") {
        u32::from_str_radix(hexadecimal, 16).ok()
    } else if let Some(octal) = octal.filter(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
        && !octal.is_empty()
    {
        u32::from_str_radix(octal, 8).ok()
    } else {
        let whole = match digits.split_once('.') {
            Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole,
            _ => digits.as_str(),
        };
        whole.parse().ok()
    }
}

/// Reads a span of time, where a number without a unit counts milliseconds.
pub(super) fn parse_milliseconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        parse_duration(&format!("{text}ms")).ok()
    } else {
        parse_duration(text).ok()
    }
}

/// Reads an address and port. `:8080` is how Kubernetes' own components are told to listen on
/// every address.
pub(super) fn parse_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}").parse().ok(),
        None => text.parse().ok(),
    }
}

/// One row of [`SETTINGS`].
#[derive(Debug, Clone, Copy)]
pub struct SettingInfo {
    /// Which setting.
    pub setting: Setting,
    /// Its flag, without the dashes; `None` for what only the environment sets.
    pub flag: Option<&'static str>,
    /// Other names of the flag.
    pub aliases: &'static [&'static str],
    /// Its environment variables; the first that is set counts.
    pub env: &'static [&'static str],
    /// Its key in the config file, `None` where the file cannot set it.
    pub key: Option<&'static str>,
    /// What its value looks like.
    pub kind: Kind,
    /// What holds where it is not given, in words for the help text.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
}

macro_rules! settings {
    ($($setting:ident {
        flag: $flag:expr, aliases: $aliases:expr, env: $env:expr, key: $key:expr,
        kind: $kind:expr, default: $default:literal, help: $help:literal $(,)?
    })*) => {
        /// Everything that can be set.
        #[allow(
            clippy::doc_markdown,
            reason = "the texts are also a terminal's help, where backticks are noise"
        )]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Setting {
            $(#[doc = $help] $setting,)*
        }

        /// All settings, in the order of the help text and of [`Setting`].
        pub const SETTINGS: &[SettingInfo] = &[
            $(SettingInfo {
                setting: Setting::$setting, flag: $flag, aliases: &$aliases, env: &$env,
                key: $key, kind: $kind, default: $default, help: $help,
            },)*
        ];
    };
}

settings! {
    MigStrategy {
        flag: Some("mig-strategy"), aliases: [], env: ["MIG_STRATEGY"],
        key: Some("flags.migStrategy"), kind: Kind::Choice(&words::<MigStrategy, 3>()),
        default: "none", help: "How MIG devices are offered",
    }
    FailOnInitError {
        flag: Some("fail-on-init-error"), aliases: [], env: ["FAIL_ON_INIT_ERROR"],
        key: Some("flags.failOnInitError"), kind: Kind::Boolean,
        default: "true", help: "Not ready while the driver cannot be initialised (the agent stays up either way)",
    }
    DriverRoot {
        flag: Some("driver-root"), aliases: ["nvidia-driver-root"], env: ["NVIDIA_DRIVER_ROOT"],
        key: Some("flags.nvidiaDriverRoot"), kind: Kind::Path,
        default: "/", help: "Root of the NVIDIA driver's installation on the host",
    }
    DevRoot {
        flag: Some("dev-root"), aliases: ["nvidia-dev-root"], env: ["NVIDIA_DEV_ROOT"],
        key: Some("flags.nvidiaDevRoot"), kind: Kind::Path,
        default: "the driver root", help: "Root of the NVIDIA device nodes on the host",
    }
    PassDeviceSpecs {
        flag: Some("pass-device-specs"), aliases: [], env: ["PASS_DEVICE_SPECS"],
        key: Some("flags.plugin.passDeviceSpecs"), kind: Kind::Boolean,
        default: "false", help: "Name the device nodes to the kubelet when devices are allocated",
    }
    DeviceListStrategy {
        flag: Some("device-list-strategy"), aliases: [], env: ["DEVICE_LIST_STRATEGY"],
        key: Some("flags.plugin.deviceListStrategy"),
        kind: Kind::List(&["auto", "envvar", "volume-mounts", "cdi-annotations", "cdi-cri"]),
        default: "auto", help: "How the container runtime is told which devices a container gets",
    }
    DeviceIdStrategy {
        flag: Some("device-id-strategy"), aliases: [], env: ["DEVICE_ID_STRATEGY"],
        key: Some("flags.plugin.deviceIDStrategy"),
        kind: Kind::Choice(&words::<DeviceIdStrategy, 2>()),
        default: "uuid", help: "Which ids the container runtime is told",
    }
    GdrcopyEnabled {
        flag: Some("gdrcopy-enabled"), aliases: [], env: ["GDRCOPY_ENABLED"],
        key: Some("flags.gdrcopyEnabled"), kind: Kind::Boolean,
        default: "false", help: "Give containers with GPUs GDRCopy",
    }
    GdsEnabled {
        flag: Some("gds-enabled"), aliases: [], env: ["GDS_ENABLED"],
        key: Some("flags.gdsEnabled"), kind: Kind::Boolean,
        default: "false", help: "Give containers with GPUs GPUDirect Storage",
    }
    MofedEnabled {
        flag: Some("mofed-enabled"), aliases: [], env: ["MOFED_ENABLED"],
        key: Some("flags.mofedEnabled"), kind: Kind::Boolean,
        default: "false", help: "Give containers with GPUs Mellanox OFED devices",
    }
    CdiAnnotationPrefix {
        flag: Some("cdi-annotation-prefix"), aliases: [], env: ["CDI_ANNOTATION_PREFIX"],
        key: Some("flags.plugin.cdiAnnotationPrefix"), kind: Kind::Text,
        default: "cdi.k8s.io/", help: "Prefix of the keys of CDI annotations",
    }
    CdiHookPath {
        flag: Some("nvidia-cdi-hook-path"), aliases: ["nvidia-ctk-path"],
        env: ["NVIDIA_CDI_HOOK_PATH", "NVIDIA_CTK_PATH"],
        key: Some("flags.plugin.nvidiaCTKPath"), kind: Kind::Path,
        default: "mizzen-hook in the hook directory",
        help: "Path on the host of the hook that CDI specs name, in place of Mizzen's own",
    }
    HookDir {
        flag: Some("hook-dir"), aliases: [], env: ["MIZZEN_HOOK_DIR"],
        key: None, kind: Kind::Path,
        default: "/var/lib/mizzen/bin",
        help: "Directory on the host for mizzen-hook, which CDI specs name",
    }
    DriverRootCtrPath {
        flag: Some("driver-root-ctr-path"), aliases: ["container-driver-root"],
        env: ["DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"],
        key: Some("flags.plugin.containerDriverRoot"), kind: Kind::Path,
        default: "/driver-root", help: "Where the driver root is mounted in the agent's container",
    }
    MpsRoot {
        flag: Some("mps-root"), aliases: [], env: ["MPS_ROOT"],
        key: Some("flags.mpsRoot"), kind: Kind::Path,
        default: "none", help: "Directory on the host for MPS control daemons",
    }
    SharedDevicesAllocationPolicy {
        flag: Some("shared-devices-allocation-policy"), aliases: [],
        env: ["SHARED_DEVICES_ALLOCATION_POLICY"],
        key: Some("flags.plugin.sharedDevicesAllocationPolicy"),
        kind: Kind::Choice(&words::<AllocationPolicy, 6>()),
        default: "distributed", help: "Which replicas and MIG devices a container gets",
    }
    GpuAllocationPolicy {
        flag: Some("gpu-allocation-policy"), aliases: [], env: ["MIZZEN_GPU_ALLOCATION_POLICY"],
        key: Some("flags.plugin.gpuAllocationPolicy"),
        kind: Kind::Choice(&words::<AllocationPolicy, 6>()),
        default: "aligned", help: "Which whole GPUs a container gets",
    }
    IncludeGpus {
        flag: Some("include-gpus"), aliases: [], env: ["MIZZEN_INCLUDE_GPUS"],
        key: Some("gpus.include"), kind: Kind::List(&[]),
        default: "all", help: "Offer only these GPUs: by UUID, index, PCI bus id or model (*H100*)",
    }
    ExcludeGpus {
        flag: Some("exclude-gpus"), aliases: [], env: ["MIZZEN_EXCLUDE_GPUS"],
        key: Some("gpus.exclude"), kind: Kind::List(&[]),
        default: "none", help: "Do not offer these GPUs, named as for --include-gpus",
    }
    DeviceDiscoveryStrategy {
        flag: Some("device-discovery-strategy"), aliases: [], env: ["DEVICE_DISCOVERY_STRATEGY"],
        key: Some("flags.deviceDiscoveryStrategy"), kind: Kind::Choice(&["auto", "nvml", "tegra"]),
        default: "auto", help: "How devices are found",
    }
    ImexChannelIds {
        flag: Some("imex-channel-ids"), aliases: [], env: ["IMEX_CHANNEL_IDS"],
        key: Some("imex.channelIDs"), kind: Kind::List(&["0"]),
        default: "none", help: "IMEX channels that containers with GPUs get",
    }
    ImexRequired {
        flag: Some("imex-required"), aliases: [], env: ["IMEX_REQUIRED"],
        key: Some("imex.required"), kind: Kind::Boolean,
        default: "false", help: "Start no container without its IMEX channels",
    }
    KubeletSocket {
        flag: Some("kubelet-socket"), aliases: [], env: ["KUBELET_SOCKET"],
        key: None, kind: Kind::Path,
        default: "/var/lib/kubelet/device-plugins/kubelet.sock",
        help: "The kubelet's registration socket; empty: do not register",
    }
    ConfigFile {
        flag: Some("config-file"), aliases: [], env: ["CONFIG_FILE"],
        key: None, kind: Kind::Path,
        default: "none", help: "File with settings, outranked by flags and environment",
    }
    CdiFeatureFlags {
        flag: Some("cdi-feature-flags"), aliases: [], env: ["CDI_FEATURE_FLAGS"],
        key: None, kind: Kind::List(&[]),
        default: "none", help: "Features of the CDI specs",
    }
    CdiDisableHooks {
        flag: Some("cdi-disable-hooks"), aliases: [], env: ["CDI_DISABLE_HOOKS"],
        key: None, kind: Kind::List(&[]),
        default: "none", help: "Hooks to leave out of CDI specs; all: every one",
    }
    CdiKinds {
        flag: Some("cdi-kinds"), aliases: [], env: ["MIZZEN_CDI_KINDS"],
        key: None, kind: Kind::List(&[]),
        default: "none",
        help: "CDI specs to keep besides: nvidia.com/gpu for use by hand, management.nvidia.com/gpu",
    }
    DisableHealthChecks {
        flag: None, aliases: [], env: ["DP_DISABLE_HEALTHCHECKS"],
        key: None, kind: Kind::List(&[]),
        default: "none", help: "Xids that leave a GPU healthy: all, xids or numbers",
    }
    EnableHealthChecks {
        flag: None, aliases: [], env: ["DP_ENABLE_HEALTHCHECKS"],
        key: None, kind: Kind::List(&[]),
        default: "none", help: "Xids that make a GPU unhealthy, outranking what is disabled: all or numbers",
    }
    HostRoot {
        flag: Some("host-root"), aliases: [], env: ["MIZZEN_HOST_ROOT"],
        key: None, kind: Kind::Path,
        default: "/", help: "Root of every access to /sys, /proc and /dev",
    }
    NvmlLibrary {
        flag: Some("nvml-library"), aliases: [], env: ["MIZZEN_NVML_LIBRARY"],
        key: None, kind: Kind::Path,
        default: "searched for under the driver root",
        help: "Path of the libnvidia-ml.so.1 to load, and no other",
    }
    StateDir {
        flag: Some("state-dir"), aliases: [], env: ["MIZZEN_STATE_DIR"],
        key: None, kind: Kind::Path,
        default: "/var/lib/mizzen", help: "Directory for what must survive a restart",
    }
    HealthAddress {
        flag: Some("health-address"), aliases: [], env: ["MIZZEN_HEALTH_ADDRESS"],
        key: None, kind: Kind::Address,
        default: "none", help: "Address and port on which to serve /healthz and /readyz",
    }
    HealthHoldDown {
        flag: Some("health-hold-down"), aliases: [], env: ["MIZZEN_HEALTH_HOLD_DOWN"],
        key: Some("health.holdDown"), kind: Kind::Duration,
        default: "30s", help: "How long a GPU must be well before it counts as healthy again",
    }
    HealthCheckInterval {
        flag: Some("health-check-interval"), aliases: [], env: ["MIZZEN_HEALTH_CHECK_INTERVAL"],
        key: Some("health.checkInterval"), kind: Kind::Duration,
        default: "15s", help: "How long between two questions to each GPU",
    }
    NvmlCallTimeout {
        flag: Some("nvml-call-timeout"), aliases: [], env: ["MIZZEN_NVML_CALL_TIMEOUT"],
        key: Some("health.nvmlCallTimeout"), kind: Kind::Duration,
        default: "5s", help: "How long a call to the driver may take before its GPU counts as hung",
    }
    NodeName {
        flag: Some("node-name"), aliases: [], env: ["NODE_NAME"],
        key: None, kind: Kind::Text,
        default: "none", help: "Name of the Node this is, whose label chooses its config",
    }
    NodeLabel {
        flag: Some("node-label"), aliases: [], env: ["NODE_LABEL"],
        key: None, kind: Kind::Text,
        default: "nvidia.com/device-plugin.config",
        help: "Label of the Node that names its config",
    }
    ConfigDir {
        flag: Some("config-dir"), aliases: ["config-file-srcdir"], env: ["CONFIG_FILE_SRCDIR"],
        key: None, kind: Kind::Path,
        default: "none", help: "Directory of named configs, one in each file: a mounted ConfigMap",
    }
    ConfigMap {
        flag: Some("config-map"), aliases: [], env: ["MIZZEN_CONFIG_MAP"],
        key: None, kind: Kind::Text,
        default: "none",
        help: "ConfigMap of named configs, NAMESPACE/NAME, read through the Kubernetes API",
    }
    DefaultConfig {
        flag: Some("default-config"), aliases: [], env: ["DEFAULT_CONFIG"],
        key: None, kind: Kind::Text,
        default: "none", help: "Config of a node whose label names none",
    }
    ConfigFallbackStrategies {
        flag: Some("config-fallback-strategies"), aliases: ["fallback-strategies"],
        env: ["FALLBACK_STRATEGIES"],
        key: None, kind: Kind::List(&words::<FallbackStrategy, 3>()),
        default: "named,single,empty",
        help: "What to take without label and default: the config called default, the only one, none",
    }
    Kubeconfig {
        flag: Some("kubeconfig"), aliases: [], env: ["KUBECONFIG"],
        key: None, kind: Kind::Path,
        default: "the pod's service account",
        help: "File that says how to reach the Kubernetes API from outside of a cluster",
    }
    MigManager {
        flag: Some("mig-manager"), aliases: [], env: ["MIZZEN_MIG_MANAGER"],
        key: None, kind: Kind::Boolean,
        default: "false",
        help: "Partition the GPUs as the Node's label nvidia.com/mig.config says",
    }
    MigConfigFile {
        flag: Some("mig-config-file"), aliases: [],
        env: ["MIZZEN_MIG_CONFIG_FILE", "MIG_PARTED_CONFIG_FILE"],
        key: None, kind: Kind::Path,
        default: "none", help: "File of named MIG layouts, in the format of mig-parted",
    }
    MigEvict {
        flag: Some("mig-evict"), aliases: [], env: ["MIZZEN_MIG_EVICT"],
        key: None, kind: Kind::Boolean,
        default: "false",
        help: "Evict the pods that hold what a new MIG layout takes away, instead of waiting for them",
    }
    PodResourcesSocket {
        flag: Some("pod-resources-socket"), aliases: ["pod-resources-kubelet-socket"],
        env: ["MIZZEN_POD_RESOURCES_SOCKET", "DCGM_POD_RESOURCES_KUBELET_SOCKET"],
        key: None, kind: Kind::Path,
        default: "pod-resources/kubelet.sock beside the kubelet's device-plugins",
        help: "The kubelet's socket that tells which pods hold which devices",
    }
    PodName {
        flag: Some("pod-name"), aliases: [], env: ["POD_NAME"],
        key: None, kind: Kind::Text,
        default: "none",
        help: "Name of the pod this is: a kubelet that does not list it yet knows no holders",
    }
    PodNamespace {
        flag: Some("pod-namespace"), aliases: [], env: ["POD_NAMESPACE"],
        key: None, kind: Kind::Text,
        default: "none", help: "Namespace of the pod this is",
    }
    MetricsAddress {
        flag: Some("metrics-address"), aliases: ["address"],
        env: ["MIZZEN_METRICS_ADDRESS", "DCGM_EXPORTER_LISTEN"],
        key: None, kind: Kind::Address,
        default: "none", help: "Address and port on which to serve metrics of the GPUs, such as :9400",
    }
    MetricsInterval {
        flag: Some("metrics-interval"), aliases: ["collect-interval"],
        env: ["MIZZEN_METRICS_INTERVAL", "DCGM_EXPORTER_INTERVAL"],
        key: Some("metrics.interval"), kind: Kind::Milliseconds,
        default: "1s", help: "How long between two samples of the GPUs",
    }
    MetricsCounters {
        flag: Some("metrics-counters"), aliases: ["collectors"],
        env: ["MIZZEN_METRICS_COUNTERS", "DCGM_EXPORTER_COLLECTORS"],
        key: Some("metrics.counters"), kind: Kind::Path,
        default: "those that dcgm-exporter has by default",
        help: "CSV file of the counters to tell: field, type, help",
    }
    MetricsPods {
        flag: Some("metrics-pods"), aliases: ["kubernetes"],
        env: ["MIZZEN_METRICS_PODS", "DCGM_EXPORTER_KUBERNETES"],
        key: Some("metrics.pods"), kind: Kind::Boolean,
        default: "true", help: "Tell which pods hold and use the GPUs",
    }
    MetricsPodUid {
        flag: Some("metrics-pod-uid"), aliases: ["kubernetes-enable-pod-uid"],
        env: ["MIZZEN_METRICS_POD_UID", "DCGM_EXPORTER_KUBERNETES_ENABLE_POD_UID"],
        key: Some("metrics.podUID"), kind: Kind::Boolean,
        default: "false", help: "Tell the UIDs of pods in metrics, where they are known",
    }
    MetricsNoHostname {
        flag: Some("metrics-no-hostname"), aliases: ["no-hostname"],
        env: ["MIZZEN_METRICS_NO_HOSTNAME", "DCGM_EXPORTER_NO_HOSTNAME"],
        key: Some("metrics.noHostname"), kind: Kind::Boolean,
        default: "false", help: "Leave the node's name out of metrics",
    }
    MetricsHostnameLabel {
        flag: Some("metrics-hostname-label"), aliases: [], env: ["MIZZEN_METRICS_HOSTNAME_LABEL"],
        key: Some("metrics.hostnameLabel"), kind: Kind::Choice(&words::<HostnameLabel, 2>()),
        default: "Hostname", help: "How metrics call the label with the node's name",
    }
    MetricsOldNamespace {
        flag: Some("metrics-old-namespace"), aliases: ["use-old-namespace"],
        env: ["MIZZEN_METRICS_OLD_NAMESPACE", "DCGM_EXPORTER_USE_OLD_NAMESPACE"],
        key: Some("metrics.oldNamespace"), kind: Kind::Boolean,
        default: "false", help: "Use the labels of dcgm-exporter 1: uuid, pod_name, pod_namespace",
    }
    MetricsReplaceBlanks {
        flag: Some("metrics-replace-blanks"), aliases: ["replace-blanks-in-model-name"],
        env: ["MIZZEN_METRICS_REPLACE_BLANKS", "DCGM_EXPORTER_REPLACE_BLANKS_IN_MODEL_NAME"],
        key: Some("metrics.replaceBlanks"), kind: Kind::Boolean,
        default: "false", help: "Write model names in metrics with dashes in place of blanks",
    }
    MetricsXidWindow {
        flag: Some("metrics-xid-window"), aliases: ["xid-count-window-size"],
        env: ["MIZZEN_METRICS_XID_WINDOW", "DCGM_EXPORTER_XID_COUNT_WINDOW_SIZE"],
        key: Some("metrics.xidWindow"), kind: Kind::Milliseconds,
        default: "5m", help: "Over how long DCGM_EXP_XID_ERRORS_COUNT counts",
    }
    MetricsClockEventsWindow {
        flag: Some("metrics-clock-events-window"), aliases: ["clock-events-count-window-size"],
        env: ["MIZZEN_METRICS_CLOCK_EVENTS_WINDOW", "DCGM_EXPORTER_CLOCK_EVENTS_COUNT_WINDOW_SIZE"],
        key: Some("metrics.clockEventsWindow"), kind: Kind::Milliseconds,
        default: "5m", help: "Over how long DCGM_EXP_CLOCK_EVENTS_COUNT counts",
    }
    WebConfigFile {
        flag: Some("web-config-file"), aliases: [],
        env: ["MIZZEN_WEB_CONFIG_FILE", "DCGM_EXPORTER_WEB_CONFIG_FILE"],
        key: None, kind: Kind::Path,
        default: "none", help: "Prometheus web config file: TLS and users of the metrics",
    }
    Oneshot {
        flag: Some("oneshot"), aliases: [], env: ["GFD_ONESHOT"],
        key: Some("flags.gfd.oneshot"), kind: Kind::Boolean,
        default: "false", help: "Tell the labels once and end",
    }
    NoTimestamp {
        flag: Some("no-timestamp"), aliases: [], env: ["GFD_NO_TIMESTAMP"],
        key: Some("flags.gfd.noTimestamp"), kind: Kind::Boolean,
        default: "false", help: "Leave the label with the time of the start out",
    }
    SleepInterval {
        flag: Some("sleep-interval"), aliases: [], env: ["GFD_SLEEP_INTERVAL"],
        key: Some("flags.gfd.sleepInterval"), kind: Kind::Interval,
        default: "60s", help: "How long between two looks at the node; infinite: one look, and no end",
    }
    OutputFile {
        flag: Some("output-file"), aliases: ["output"], env: ["GFD_OUTPUT_FILE"],
        key: Some("flags.gfd.outputFile"), kind: Kind::Path,
        default: "/etc/kubernetes/node-feature-discovery/features.d/gfd",
        help: "File for the labels; empty, or not given with --oneshot: standard output",
    }
    MachineTypeFile {
        flag: Some("machine-type-file"), aliases: [], env: ["GFD_MACHINE_TYPE_FILE"],
        key: Some("flags.gfd.machineTypeFile"), kind: Kind::Path,
        default: "/sys/class/dmi/id/product_name",
        help: "File below --host-root that says what the machine is; empty: unknown",
    }
}

impl Setting {
    /// The setting's row in the table.
    pub fn info(self) -> &'static SettingInfo {
        // The macro lists variants and rows in the same order, so one indexes the other.
        &SETTINGS[self as usize]
    }

    /// The setting of a flag's name or alias, given without dashes.
    pub fn from_flag(name: &str) -> Option<Self> {
        let row = SETTINGS
            .iter()
            .find(|row| row.flag == Some(name) || row.aliases.contains(&name));
        row.map(|row| row.setting)
    }

    /// The setting of a key of the config file.
    pub fn from_key(key: &str) -> Option<Self> {
        let row = SETTINGS.iter().find(|row| row.key == Some(key));
        row.map(|row| row.setting)
    }
}

#[cfg(test)]
mod tests;
