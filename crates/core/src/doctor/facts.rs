//! What was seen on a node, as plain data.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cdi::{CdiKind, NameStrategy, Platform};
use crate::config::Config;
use crate::driver::{DriverError, GpuCondition};
use crate::gpu::PciBusId;
use crate::inventory::Inventory;
use crate::runtime::{PrivacyRisk, RuntimeReport};

/// Everything that was seen. Paths are those of the host, also where the one who looked sees them
/// elsewhere.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What the agent would be told.
    pub settings: SettingsFacts,
    /// GPUs on the bus and the kernel's module.
    pub driver: DriverFacts,
    /// What the driver's library answers.
    pub nvml: Looked<Result<NvmlFacts, DriverError>>,
    /// The device nodes.
    pub nodes: NodesFacts,
    /// The CDI specs.
    pub cdi: CdiFacts,
    /// The container runtime; `None` where none was found.
    pub runtime: Option<RuntimeFacts>,
    /// The kubelet's registration socket.
    pub kubelet: KubeletFacts,
    /// What is registered there.
    pub registration: RegistrationFacts,
    /// The agent.
    pub agent: AgentFacts,
    /// What this process may do.
    pub permissions: PermissionFacts,
    /// The time.
    pub clock: ClockFacts,
}

/// What came of a look that may hang.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked<T> {
    /// It was seen.
    Seen(T),
    /// There was no answer within this time.
    Late(Duration),
}

impl<T> Looked<T> {
    /// What was seen.
    pub fn seen(&self) -> Option<&T> {
        match self {
            Self::Seen(seen) => Some(seen),
            Self::Late(_) => None,
        }
    }
}

/// The settings.
#[derive(Debug, Clone)]
pub struct SettingsFacts {
    /// The settings with which everything is looked at: all of them, or, where they cannot be
    /// used, as many as can.
    pub config: Config,
    /// Where they are from, for people: `flags and environment`, `the config file /etc/…`.
    pub source: String,
    /// The config file that they name, by its path for this process.
    pub file: Option<String>,
    /// Everything that is wrong with them.
    pub mistakes: Vec<String>,
}

/// The GPUs on the bus and the kernel's module for them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DriverFacts {
    /// What kind of machine it is.
    pub platform: Platform,
    /// The display controllers of NVIDIA's on the PCI bus.
    pub bus: Vec<BusGpu>,
    /// The version of the loaded module (`/sys/module/nvidia/version`,
    /// `/proc/driver/nvidia/version`).
    pub module: Option<String>,
    /// Whether `nouveau` or `nova_core` is loaded, and which.
    pub rival: Option<String>,
    /// The release of the running kernel.
    pub kernel: Option<String>,
    /// Whether there is a module of NVIDIA's for that kernel; `None` where that cannot be seen.
    pub is_built: Option<bool>,
    /// Whether the firmware demands signed modules; `None` where that cannot be seen.
    pub secure_boot: Option<bool>,
    /// The version of the driver's libraries.
    pub libraries: Option<String>,
    /// The root below which they were looked for, on the host.
    pub root: String,
}

/// A GPU on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusGpu {
    /// Where.
    pub pci: PciBusId,
    /// The kernel driver that it is bound to.
    pub driver: Option<String>,
}

/// What a session with NVML has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvmlFacts {
    /// The library that was loaded, where that is known.
    pub library: Option<String>,
    /// Its GPUs.
    pub inventory: Inventory,
    /// How each of [`Inventory::gpus`] is.
    pub conditions: Vec<Result<GpuCondition, DriverError>>,
}

/// The device nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodesFacts {
    /// Whether they belong to a simulated machine, and lead to nothing.
    pub are_simulated: bool,
    /// Whether systemd runs the machine, which looks devices up in `/dev/char`.
    pub has_systemd: bool,
    /// The nodes that are expected, and what is there.
    pub nodes: Vec<NodeFact>,
}

/// A device node that is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFact {
    /// Its path.
    pub path: String,
    /// Whether GPUs are of use without it.
    pub is_needed: bool,
    /// The major and minor number that it must have; `None` where the kernel does not tell.
    pub expected: Option<(u32, u32)>,
    /// What is there.
    pub state: NodeState,
    /// What came of opening it: the name of the error, `EPERM`. `None` where it was not tried.
    pub opened: Option<Looked<Result<(), String>>>,
    /// What is in `/dev/char`.
    pub link: LinkFact,
}

/// What is at the path of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Nothing.
    Missing,
    /// Something else.
    NoDevice,
    /// A character device of these numbers.
    Device(u32, u32),
}

/// What `/dev/char/MAJOR:MINOR` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkFact {
    /// It leads to a node.
    There,
    /// There is none, or it leads nowhere.
    Missing,
    /// It was not looked for, since the numbers are not known.
    Unknown,
}

/// The CDI specs of the node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CdiFacts {
    /// The directories that runtimes read.
    pub directories: Vec<String>,
    /// The spec files of NVIDIA's kinds, and those that cannot be used.
    pub specs: Vec<SpecFact>,
    /// The names of the devices that containers may be given, and what they mean to a runtime.
    pub names: Vec<(String, Resolved)>,
    /// The directories of programs for hooks, used or to be used, from which none may be run.
    pub noexec: Vec<String>,
}

/// What a name means to a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// A device.
    Yes,
    /// Nothing.
    Unknown,
    /// Nothing, since these files all have it.
    Conflict(Vec<String>),
}

/// A spec file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecFact {
    /// Its path.
    pub path: String,
    /// Why a runtime passes it over, if it does.
    pub mistake: Option<String>,
    /// The kind of its devices; `None` where it has a mistake.
    pub kind: Option<CdiKind>,
    /// The ways in which its devices are named.
    pub names: BTreeSet<NameStrategy>,
    /// Whether the agent writes this file itself.
    pub is_kept: bool,
    /// The version of the driver whose libraries it mounts.
    pub driver_version: Option<String>,
    /// The files that it names and that are not there, hooks apart.
    pub missing: Vec<MissingFile>,
    /// The programs that it has runtimes run.
    pub hooks: Vec<HookFact>,
}

/// A file that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingFile {
    /// Its path.
    pub path: String,
    /// Whether it was to be a device node.
    pub is_node: bool,
}

/// A program that a spec names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookFact {
    /// Its path.
    pub path: String,
    /// What is there.
    pub state: HookState,
}

/// What is at the path of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookState {
    /// A program.
    Runs,
    /// Nothing.
    Missing,
    /// A file that may not be run.
    NotExecutable,
}

/// The container runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeFacts {
    /// How it is installed: `containerd`, `k3s`.
    pub name: String,
    /// Why it is this one, in words.
    pub why: String,
    /// What is known of it.
    pub report: RuntimeReport,
    /// The settings by which a pod may take GPUs.
    pub risks: Vec<PrivacyRisk>,
    /// Whether NVIDIA's toolkit gives a container the GPUs that its environment names.
    pub accepts_variable: bool,
    /// Why it could not be asked itself, in words, if it was to be.
    pub unasked: Option<String>,
}

/// What came of connecting to a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Somebody answered.
    Answered,
    /// There is no such file.
    Missing,
    /// The file is no socket.
    NoSocket,
    /// Nobody listens.
    Refused,
    /// This process may not connect.
    Denied,
    /// There was no answer within this time.
    Late(Duration),
    /// Anything else, in words.
    Failed(String),
}

/// The kubelet's registration socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletFacts {
    /// Its path; `None` where the agent is told not to register.
    pub socket: Option<String>,
    /// What came of connecting.
    pub reach: Reach,
    /// Sockets of kubelets in other directories.
    pub elsewhere: Vec<String>,
}

/// What is registered with the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationFacts {
    /// The sockets of plugins in the kubelet's directory that are for NVIDIA's resources.
    pub plugins: Vec<PluginFact>,
    /// The path of the socket that tells what the kubelet can give out.
    pub pod_resources: String,
    /// The resources and how many devices each has, or what came of asking.
    pub allocatable: Result<BTreeMap<String, usize>, Reach>,
}

/// A plugin's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFact {
    /// Its path.
    pub socket: String,
    /// What came of asking it for its options.
    pub reach: Reach,
    /// The name of the program that listens, where that can be seen.
    pub program: Option<String>,
}

/// The agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFacts {
    /// Where it tells how it is; `None` where the settings do not say.
    pub address: Option<SocketAddr>,
    /// What came of asking `/readyz`: whether it is ready, and its words.
    pub answer: Result<(bool, String), Reach>,
}

/// What this process may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PermissionFacts {
    /// Its user.
    pub user: u32,
    /// Whether it has `CAP_SYS_ADMIN`.
    pub has_sys_admin: bool,
    /// The directories that the agent writes to.
    pub directories: Vec<DirectoryFact>,
    /// Whether `SELinux` enforces its policy.
    pub selinux: bool,
    /// The `AppArmor` profile that confines this process.
    pub apparmor: Option<String>,
}

/// A directory that the agent writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryFact {
    /// Its path.
    pub path: String,
    /// Whether the path is one of the host's, and not of this process.
    pub is_on_host: bool,
    /// What for.
    pub purpose: &'static str,
    /// How it is.
    pub state: DirectoryState,
}

/// How a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryState {
    /// It can be written to, or made.
    Writable,
    /// It is no directory, or lies in what is none.
    NoDirectory,
    /// It is on a file system that is mounted read-only.
    ReadOnly,
    /// This process may not write to it.
    Denied,
}

/// The time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockFacts {
    /// Now, in seconds since 1970.
    pub now: i64,
    /// The file that was written last of those that must be older, and when.
    pub newest: Option<(String, i64)>,
    /// The clock of the mainboard, in seconds since 1970.
    pub hardware: Option<i64>,
    /// Whether the clock follows others.
    pub synchronised: Synchronised,
}

/// Whether the clock follows others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Synchronised {
    /// It does.
    Yes,
    /// This program is there to see to it, and does not tell.
    Watched(&'static str),
    /// systemd-timesyncd runs and has not found a server yet.
    NotYet,
    /// That cannot be seen.
    Unknown,
}
