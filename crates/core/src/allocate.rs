//! What a container is given with its devices.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::cdi::PLUGIN_VENDOR;
use crate::config::{Config, DeviceIdStrategy, DeviceListStrategy};
use crate::device::{DeviceId, InvalidDeviceId};
use crate::pool::Unit;
use crate::resource::ResourceName;

/// The variable that names the devices of a container to NVIDIA's container runtime.
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
/// The directory in a container below which mounts name its devices.
const MOUNT_ROOT: &str = "/var/run/nvidia-container-devices";
/// The directory of the nodes of IMEX channels.
const IMEX_NODES: &str = "/dev/nvidia-caps-imex-channels";

/// Devices that the kubelet wants for one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllocationRequest {
    devices: BTreeSet<DeviceId>,
}

impl AllocationRequest {
    /// Reads the ids of one container; an id that is there twice counts once.
    ///
    /// # Errors
    /// The first text that is no device's id.
    pub fn parse<'a>(ids: impl IntoIterator<Item = &'a str>) -> Result<Self, AllocationError> {
        let parse = |id: &str| {
            id.parse().map_err(|reason| AllocationError::InvalidId {
                id: id.to_owned(),
                reason,
            })
        };
        let devices = ids.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { devices })
    }

    /// The devices asked for.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.devices.iter()
    }
}

/// Why devices are not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    /// Not an id of a device at all.
    #[error("device {id:?} cannot be allocated: {reason}")]
    InvalidId {
        /// What was asked for.
        id: String,
        /// What is wrong with it.
        reason: InvalidDeviceId,
    },
    /// No device of the resource has this id.
    #[error(
        "{resource} has no device {id}: it may have been removed from the node; delete the pod so \
         that it is scheduled again, and restart the kubelet if it goes on asking for the device"
    )]
    UnknownDevice {
        /// The resource that was asked.
        resource: ResourceName,
        /// The id.
        id: DeviceId,
    },
    /// Several replicas for one container, where the config allows it one.
    #[error(
        "request for {resource} too large: maximum request size for shared resources is 1; found \
         {asked}: more replicas give a container no larger share of a GPU \
         (failRequestsGreaterThanOne)"
    )]
    TooManyReplicas {
        /// The resource that was asked.
        resource: ResourceName,
        /// How many devices were asked for.
        asked: usize,
    },
    /// Replicas that do not lie as the config wants those of one container to lie.
    #[error(
        "request for {resource} cannot be met: its {asked} replicas would be on {gpus} GPU(s), and \
         replicaPlacement wants them {wanted}; ask for fewer, or wait until enough are free"
    )]
    Misplaced {
        /// The resource that was asked.
        resource: ResourceName,
        /// How many devices were asked for.
        asked: usize,
        /// How many GPUs they are on.
        gpus: usize,
        /// Where they should be.
        wanted: &'static str,
    },
    /// An IMEX channel that must be given does not exist.
    #[error(
        "IMEX channel {channel} is required but {} does not exist on the node: create it \
         (nvidia-modprobe -c {channel}, or the driver's parameter NVreg_CreateImexChannel0=1) or \
         leave out --imex-required", imex_node(*.channel).display()
    )]
    ImexChannelMissing {
        /// The channel.
        channel: u32,
    },
}

/// What a container is given with its devices, as the kubelet's Allocate answers it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allocation {
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Device nodes.
    pub device_nodes: Vec<DeviceNode>,
    /// Annotations for the container runtime.
    pub annotations: BTreeMap<String, String>,
    /// Fully qualified names of CDI devices.
    pub cdi_devices: Vec<String>,
}

/// A file or directory of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Path on the host.
    pub host_path: PathBuf,
    /// Path in the container.
    pub container_path: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// A device node of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Path on the host.
    pub host_path: PathBuf,
    /// Path in the container.
    pub container_path: PathBuf,
    /// What the container may do: `r`, `w` and `m` for read, write and make.
    pub permissions: &'static str,
}

/// Which device nodes there are on the host besides those of the GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostNodes {
    /// The nodes that exist of [`CONTROL_NODES`].
    pub control: BTreeSet<&'static str>,
    /// The IMEX channels whose nodes exist.
    pub imex_channels: BTreeSet<u32>,
    /// The full names of CDI devices besides GPUs that the settings ask for and that no runtime
    /// finds; a container that was given one would not start.
    pub unresolved: BTreeSet<String>,
}

impl HostNodes {
    /// Looks for every node that matters by asking `exists`, which gets its path as it is in a
    /// container, `/dev/nvidiactl`, and must look for it below the device root.
    pub fn discover(config: &Config, exists: impl Fn(&Path) -> bool) -> Self {
        let control = CONTROL_NODES
            .into_iter()
            .filter(|path| exists(Path::new(path)));
        let channels = config.imex.channel_ids.iter().copied();
        Self {
            control: control.collect(),
            imex_channels: channels.filter(|id| exists(&imex_node(*id))).collect(),
            unresolved: BTreeSet::new(),
        }
    }
}

/// The device nodes that every container with a GPU gets, where they exist, in this order.
pub const CONTROL_NODES: [&str; 4] = [
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-modeset",
];

/// The path of an IMEX channel's node.
fn imex_node(channel: u32) -> PathBuf {
    Path::new(IMEX_NODES).join(format!("channel{channel}"))
}

/// A random UUID (version 4), by which the runtime tells annotations of two containers apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AnnotationId(u128);

impl AnnotationId {
    /// Makes one of random bytes, which the caller draws.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let version = 0x4 << 76;
        let variant = 0b10 << 62;
        let fixed = 0xf << 76 | 0b11 << 62;
        Self(u128::from_be_bytes(bytes) & !fixed | version | variant)
    }
}

impl fmt::Display for AnnotationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let (a, b, c) = (&digits[..8], &digits[8..12], &digits[12..16]);
        write!(f, "{a}-{b}-{c}-{}-{}", &digits[16..20], &digits[20..])
    }
}

impl fmt::Debug for AnnotationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What of the config decides what a container is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AllocationRules {
    config: Config,
}

impl AllocationRules {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
        }
    }

    /// What a container gets with `units`, in their order.
    pub(crate) fn allocation(
        &self,
        units: &[Unit<'_>],
        nodes: &HostNodes,
        annotation: AnnotationId,
    ) -> Result<Allocation, AllocationError> {
        let strategies = &self.config.device_list_strategies;
        let ids: Vec<String> = units
            .iter()
            .map(|unit| visible_id(&self.config, unit))
            .collect();
        let channels = self.imex_channels(nodes)?;
        let mut allocation = Allocation::default();
        if strategies.any_cdi() {
            let extras = cdi_extras(&self.config, &channels);
            let found = extras.filter(|name| !nodes.unresolved.contains(name));
            let gpus = ids.iter().map(|id| cdi_gpu(id));
            self.name_by_cdi(&mut allocation, gpus.chain(found).collect(), annotation);
        }
        self.enable_extras(&mut allocation);
        if strategies.includes(DeviceListStrategy::Envvar) {
            name_by_environment(&mut allocation, &ids, &channels);
        }
        if strategies.includes(DeviceListStrategy::VolumeMounts) {
            name_by_mounts(&mut allocation, &ids, &channels);
        }
        if self.config.pass_device_specs && !strategies.all_cdi() {
            allocation.device_nodes = self.device_nodes(units, nodes, &channels);
        }
        Ok(allocation)
    }

    /// The configured IMEX channels that exist.
    fn imex_channels(&self, nodes: &HostNodes) -> Result<Vec<u32>, AllocationError> {
        let imex = &self.config.imex;
        let exists = |id: &u32| nodes.imex_channels.contains(id);
        match imex
            .channel_ids
            .iter()
            .find(|id| imex.required && !exists(id))
        {
            Some(&channel) => Err(AllocationError::ImexChannelMissing { channel }),
            None => Ok(imex.channel_ids.iter().copied().filter(exists).collect()),
        }
    }

    fn name_by_cdi(
        &self,
        allocation: &mut Allocation,
        names: Vec<String>,
        annotation: AnnotationId,
    ) {
        if names.is_empty() {
            return;
        }
        let strategies = &self.config.device_list_strategies;
        if strategies.includes(DeviceListStrategy::CdiAnnotations) {
            let key = format!(
                "{}nvidia-device-plugin_{annotation}",
                self.config.cdi_annotation_prefix
            );
            allocation.annotations.insert(key, names.join(","));
        }
        if strategies.includes(DeviceListStrategy::CdiCri) {
            allocation.cdi_devices = names;
        }
    }

    fn enable_extras(&self, allocation: &mut Allocation) {
        for (variable, enabled) in [
            ("NVIDIA_GDRCOPY", self.config.gdrcopy_enabled),
            ("NVIDIA_GDS", self.config.gds_enabled),
            ("NVIDIA_MOFED", self.config.mofed_enabled),
        ] {
            if enabled {
                allocation
                    .env
                    .insert(variable.to_owned(), "enabled".to_owned());
            }
        }
    }

    /// The nodes common to all GPUs that exist, then the GPUs' own with those of the MIG devices
    /// in them, then the IMEX channels'.
    fn device_nodes(
        &self,
        units: &[Unit<'_>],
        nodes: &HostNodes,
        channels: &[u32],
    ) -> Vec<DeviceNode> {
        let control = CONTROL_NODES
            .iter()
            .filter(|path| nodes.control.contains(*path));
        let mut paths: Vec<PathBuf> = control.map(PathBuf::from).collect();
        let channels = channels.iter().map(|id| imex_node(*id));
        for path in units.iter().flat_map(nodes_of).chain(channels) {
            // Several MIG devices of a GPU have its node in common.
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        let node = |path: PathBuf| DeviceNode {
            host_path: below(&self.config.dev_root, &path),
            container_path: path,
            permissions: "rw",
        };
        paths.into_iter().map(node).collect()
    }
}

/// The id by which the container runtime is told of a GPU or MIG device.
pub(crate) fn visible_id(config: &Config, unit: &Unit<'_>) -> String {
    match (config.device_id_strategy, unit.mig) {
        (DeviceIdStrategy::Uuid, _) => unit.uuid().to_string(),
        (DeviceIdStrategy::Index, None) => unit.gpu.index.to_string(),
        (DeviceIdStrategy::Index, Some(device)) => {
            format!("{}:{}", unit.gpu.index, device.index)
        }
    }
}

/// The full name of the CDI device of a GPU or MIG device, by its id.
pub(crate) fn cdi_gpu(id: &str) -> String {
    format!("{PLUGIN_VENDOR}/gpu={id}")
}

/// The full names of the CDI devices that every container with a GPU gets besides.
pub(crate) fn cdi_extras(config: &Config, channels: &[u32]) -> impl Iterator<Item = String> {
    let channels = channels
        .iter()
        .map(|id| format!("{PLUGIN_VENDOR}/imex-channel={id}"));
    let extras = [
        ("gdrcopy", config.gdrcopy_enabled),
        ("gds", config.gds_enabled),
        ("mofed", config.mofed_enabled),
    ];
    let enabled = extras.into_iter().filter(|(_, enabled)| *enabled);
    channels.chain(enabled.map(|(class, _)| format!("{PLUGIN_VENDOR}/{class}=all")))
}

/// The nodes of one GPU or MIG device: the GPU's, and the capabilities of the instances.
fn nodes_of(unit: &Unit<'_>) -> Vec<PathBuf> {
    let capabilities = unit.mig.map(|device| device.capabilities);
    let minors = capabilities
        .into_iter()
        .flat_map(|capabilities| [capabilities.gpu_instance, capabilities.compute_instance]);
    let capabilities = minors
        .flatten()
        .map(|minor| format!("/dev/nvidia-caps/nvidia-cap{minor}").into());
    let gpu = format!("/dev/nvidia{}", unit.gpu.minor).into();
    std::iter::once(gpu).chain(capabilities).collect()
}

/// The absolute `path` seen from outside of `root`.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn name_by_environment(allocation: &mut Allocation, ids: &[String], channels: &[u32]) {
    allocation
        .env
        .insert(VISIBLE_DEVICES.to_owned(), ids.join(","));
    if !channels.is_empty() {
        let channels: Vec<String> = channels.iter().map(u32::to_string).collect();
        allocation
            .env
            .insert("NVIDIA_IMEX_CHANNELS".to_owned(), channels.join(","));
    }
}

/// Tells the runtime by what is mounted below [`MOUNT_ROOT`], which the variable then points to,
/// so that it outranks a list of ids in the same variable.
fn name_by_mounts(allocation: &mut Allocation, ids: &[String], channels: &[u32]) {
    allocation
        .env
        .insert(VISIBLE_DEVICES.to_owned(), MOUNT_ROOT.to_owned());
    let root = Path::new(MOUNT_ROOT);
    let gpus = ids.iter().map(|id| root.join(id));
    let channels = channels
        .iter()
        .map(|id| root.join("imex").join(id.to_string()));
    allocation
        .mounts
        .extend(gpus.chain(channels).map(|container_path| Mount {
            host_path: "/dev/null".into(),
            container_path,
            read_only: false,
        }));
}
