//! What can be typed after `mizzen sim`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use mizzen_nvml_sim::control::{InstanceLoad, LoadChange, ProcessLoad};
use mizzen_nvml_sim::host::{DriverLayout, Installation};
use mizzen_nvml_sim::scenario::Model;

use crate::duration;
use crate::fault::{
    EccKind, EventCall, Fault, Instance, LinkError, RecoveryAction, RowRemap, ThrottleReason, Xid,
};
use crate::target::Target;

use super::course::Course;
use super::mig::MigArgs;

/// What the command is for.
pub(crate) const ABOUT: &str = "\
Drive the simulated GPU driver.

The simulated driver is a libnvidia-ml.so.1 with NVML's own ABI. It needs no GPU, no kernel module
and no privileges. These commands place it, and change what its GPUs do while programs use them.";

const EXAMPLES: &str = "\
Examples:
  mizzen sim library /tmp/nvml
      places libnvidia-ml.so.1 there; any NVML program then runs on it, such as
      LD_LIBRARY_PATH=/tmp/nvml nvidia-smi, or python3 with nvidia-ml-py
  mizzen sim status
      the GPUs, what they do and what is wrong with them
  mizzen sim inject xid 79 --gpu 2
      an Xid error; every program that waits for NVML events gets it
  mizzen sim inject lost --gpu 2,3 && mizzen sim heal --gpu 2,3
  mizzen sim load --gpu 0 --utilization 0..95/30s --memory 60000
      rises to 95 % within 30 s; 20~80/10s would swing with a period of 10 s

Every process that loads the library with the same scenario (MIZZEN_SIM) and the same state
(MIZZEN_SIM_STATE) sees the same GPUs. Without a scenario they are eight H100 80GB SXM on
NVSwitch; without a state directory it follows from the scenario's path. What is injected stays
until it is healed, whichever programs end.";

const LOAD_HELP: &str = "\
A VALUE is a number, or a course over time: 0..90/30s rises to 90 within 30 s, 20~80/10s swings
with a period of 10 s. What is not said follows from the utilisation.";

const HOST_HELP: &str = "\
Without --driver-layout no driver is installed; one that an earlier call installed there stays, in
the version that the scenario has now. All its files are stand-ins without code but
libnvidia-ml.so.1 and nvidia-smi.";

/// What was typed after `mizzen sim`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct SimArgs {
    /// The scenario: the simulated node as YAML (see docs/simulator.md)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MIZZEN_SIM",
        help_heading = "Which simulation"
    )]
    pub(crate) scenario: Option<PathBuf>,

    /// The directory of its live state
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MIZZEN_SIM_STATE",
        help_heading = "Which simulation"
    )]
    pub(crate) state: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: SimCommand,
}

/// What can be asked of the simulated driver.
#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// Show the GPUs: what they are, what they do, what is wrong with them
    Status {
        /// A table for people or JSON for programs
        #[arg(long, value_enum, default_value = "table", value_name = "FORM")]
        output: StatusForm,
    },
    /// Make GPUs faulty
    #[command(arg_required_else_help = true)]
    Inject(InjectArgs),
    /// Undo everything that was injected, as a reset of the GPU does
    Heal(WhichOrAll),
    /// Give GPUs work, or take it away
    #[command(arg_required_else_help = true, after_help = LOAD_HELP)]
    Load(Box<LoadArgs>),
    /// Partition GPUs into MIG devices
    #[command(arg_required_else_help = true)]
    Mig(MigArgs),
    /// Plug GPUs in
    Add {
        /// A built-in model, such as h100-80gb
        model: Model,
        /// How many
        #[arg(long, default_value_t = 1, value_name = "N")]
        count: usize,
    },
    /// Take GPUs out of the node
    Remove(Which),
    /// Forget everything that happened: the scenario as it is written
    Reset,
    /// Place libnvidia-ml.so.1 in a directory and print its path
    Library {
        /// The directory; made if it is not there
        dir: PathBuf,
    },
    /// Write the machine around the GPUs: /sys, /proc/driver/nvidia and /dev below a directory
    #[command(after_help = HOST_HELP)]
    Host {
        /// The directory; made if it is not there
        dir: PathBuf,
        /// Install the driver's libraries, programs, firmware and configuration there, too
        #[arg(long, value_enum, value_name = "LAYOUT")]
        driver_layout: Option<Layout>,
    },
}

/// Where the driver's files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// usr/lib/x86_64-linux-gnu (aarch64-linux-gnu)
    Debian,
    /// usr/lib64
    Rhel,
    /// run/nvidia/driver/usr/lib/x86_64-linux-gnu, with device nodes of its own
    DriverContainer,
    /// nix/store, and links in run/opengl-driver
    Nixos,
    /// No files; those of an earlier call go
    None,
}

impl Layout {
    /// What it means; without one, things stay as they are.
    pub(crate) fn installation(layout: Option<Self>) -> Installation {
        match layout {
            None => Installation::Kept,
            Some(Self::None) => Installation::Nothing,
            Some(Self::Debian) => Installation::Layout(DriverLayout::Debian),
            Some(Self::Rhel) => Installation::Layout(DriverLayout::Rhel),
            Some(Self::DriverContainer) => Installation::Layout(DriverLayout::DriverContainer),
            Some(Self::Nixos) => Installation::Layout(DriverLayout::NixOs),
        }
    }
}

/// The GPUs that are meant.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Index, UUID or PCI bus id, several with commas, or `all`
    #[arg(long, short, value_name = "GPU")]
    pub(crate) gpu: Target,
}

/// The GPUs that are meant, all if none is named.
#[derive(Debug, Args)]
pub(crate) struct WhichOrAll {
    /// Index, UUID or PCI bus id, several with commas, or `all`
    #[arg(long, short, value_name = "GPU", default_value = "all")]
    pub(crate) gpu: Target,
}

/// How the status is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusForm {
    /// For people
    Table,
    /// For programs
    Json,
}

/// `mizzen sim inject …`
#[derive(Debug, Args)]
pub(crate) struct InjectArgs {
    #[command(subcommand)]
    fault: FaultCommand,
}

/// The faults and what each needs to know.
#[derive(Debug, Subcommand)]
enum FaultCommand {
    /// An Xid error: the event, and what a real GPU suffers with it (79: it is lost)
    Xid {
        /// The number in NVIDIA's Xid catalogue
        number: u64,
        /// The event alone: the GPU goes on as if nothing had happened
        #[arg(long)]
        event_only: bool,
        /// The GPU instance that the event names, or a compute instance in it: 2 or 2/0
        #[arg(long, value_name = "GI[/CI]")]
        instance: Option<Instance>,
        #[command(flatten)]
        hit: Hit,
    },
    /// Memory errors
    Ecc {
        /// Corrected or not
        kind: EccKind,
        /// How many
        #[arg(long, default_value_t = 1, value_name = "N")]
        count: u64,
        #[command(flatten)]
        hit: Hit,
    },
    /// The GPU falls off the bus: it answers `GPU_IS_LOST` to everything
    Lost(Hit),
    /// Calls about the GPU block, as real ones do
    Hang(Hit),
    /// The clocks are held down
    Throttle {
        /// Why
        reason: ThrottleReason,
        #[command(flatten)]
        hit: Hit,
    },
    /// The driver asks for something to be done to the GPU
    RecoveryAction {
        /// What it asks for
        action: RecoveryAction,
        #[command(flatten)]
        hit: Hit,
    },
    /// Errors of links, which are corrected and counted
    LinkErrors {
        /// Of which kind
        error: LinkError,
        /// How many
        #[arg(long, default_value_t = 1, value_name = "N")]
        count: u64,
        #[command(flatten)]
        hit: Hit,
    },
    /// A row of the memory is faulty (Ampere and later): the state alone, without Xid 63 or 64
    RowRemap {
        /// What becomes of it
        row: RowRemap,
        #[command(flatten)]
        hit: Hit,
    },
    /// Registering or waiting for the GPU's events fails
    Events {
        /// Which call fails
        call: EventCall,
        /// With which NVML return code; 0 ends it, 999 is `NVML_ERROR_UNKNOWN`
        code: u32,
        #[command(flatten)]
        hit: Hit,
    },
}

/// Which GPUs a fault hits, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Hit {
    #[command(flatten)]
    pub(crate) which: Which,
    /// End a lost, hanging or throttled GPU's fault after this time; else it stays until healed
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    pub(crate) lasting: Option<Duration>,
}

impl InjectArgs {
    /// The fault, and what it hits.
    pub(crate) fn fault(self) -> (Fault, Hit) {
        match self.fault {
            FaultCommand::Xid {
                number,
                event_only,
                instance,
                hit,
            } => {
                let xid = Xid {
                    number,
                    event_only,
                    instance,
                };
                (Fault::Xid(xid), hit)
            }
            FaultCommand::Ecc { kind, count, hit } => (Fault::Ecc(kind, count), hit),
            FaultCommand::Lost(hit) => (Fault::Lost, hit),
            FaultCommand::Hang(hit) => (Fault::Hang, hit),
            FaultCommand::Throttle { reason, hit } => (Fault::Throttle(reason), hit),
            FaultCommand::RecoveryAction { action, hit } => (Fault::RecoveryAction(action), hit),
            FaultCommand::LinkErrors { error, count, hit } => (Fault::Link(error, count), hit),
            FaultCommand::RowRemap { row, hit } => (Fault::RowRemap(row), hit),
            FaultCommand::Events { call, code, hit } => (Fault::Events(call, code), hit),
        }
    }
}

/// `mizzen sim load …`
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) which: WhichOrAll,
    /// GPU utilisation, per cent; power and temperature follow
    #[arg(long, short, value_name = "VALUE")]
    pub(crate) utilization: Option<Course>,
    /// Utilisation of the memory controller, per cent
    #[arg(long, value_name = "VALUE")]
    pub(crate) memory_utilization: Option<Course>,
    /// Used framebuffer, MiB
    #[arg(long, short, value_name = "VALUE")]
    pub(crate) memory: Option<Course>,
    /// Watts
    #[arg(long, short, value_name = "VALUE")]
    pub(crate) power: Option<Course>,
    /// Degrees Celsius
    #[arg(long, short, value_name = "VALUE")]
    pub(crate) temperature: Option<Course>,
    /// End the load after this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    pub(crate) time: Option<Duration>,
    /// What a GPU instance is busy with, by its id: 9=20~80/10s; repeatable, and those that are
    /// not named are idle
    #[arg(long = "instance", value_name = "ID=VALUE")]
    pub(crate) instances: Vec<InstanceCourse>,
    /// A process that appears on the GPUs, with the MiB it uses, the SMs' utilisation, and the
    /// GPU and compute instance it is on: 4711:2048, 4711:2048:30, 4711:2048:30@9/0; repeatable
    #[arg(long = "process", value_name = "PID:MIB[:PERCENT][@GI/CI]")]
    pub(crate) processes: Vec<Process>,
    /// A process that ends; repeatable
    #[arg(long = "end-process", value_name = "PID")]
    pub(crate) end_processes: Vec<u32>,
    /// Take all load and all processes away
    #[arg(long)]
    pub(crate) idle: bool,
}

/// A GPU instance and its utilisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct InstanceCourse {
    /// Its id.
    pub(crate) id: u32,
    /// %.
    pub(crate) utilization: Course,
}

impl std::str::FromStr for InstanceCourse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "expected the id of a GPU instance and a value, such as 9=75".to_owned();
        let (id, utilization) = text.split_once('=').ok_or_else(wrong)?;
        Ok(Self {
            id: id.parse().map_err(|_| wrong())?,
            utilization: utilization.parse().map_err(|error| format!("{error}"))?,
        })
    }
}

/// A process and what it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: u32,
    /// MiB.
    pub(crate) memory_mib: u64,
    /// Of the SMs, %.
    pub(crate) utilization: u16,
    /// GPU instance and compute instance.
    pub(crate) instance: Option<(u32, u32)>,
}

impl std::str::FromStr for Process {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (what, place) = match text.split_once('@') {
                Some((what, place)) => (what, Some(place.split_once('/')?)),
                None => (text, None),
            };
            let (pid, uses) = what.split_once(':')?;
            let (memory, utilization) = uses.split_once(':').unwrap_or((uses, "0"));
            Some(Self {
                pid: pid.parse().ok()?,
                memory_mib: memory.parse().ok()?,
                utilization: utilization.parse().ok().filter(|percent| *percent <= 100)?,
                instance: match place {
                    Some((gpu, compute)) => Some((gpu.parse().ok()?, compute.parse().ok()?)),
                    None => None,
                },
            })
        };
        parse().ok_or("expected a process id and MiB, such as 4711:2048 or 4711:2048:30@9/0")
    }
}

impl From<LoadArgs> for LoadChange {
    fn from(args: LoadArgs) -> Self {
        let processes = args.processes.iter().map(|process| ProcessLoad {
            pid: process.pid,
            memory_mib: process.memory_mib,
            utilization: process.utilization,
            graphics: false,
            instance: process.instance,
        });
        let instances = args.instances.iter().map(|instance| InstanceLoad {
            gpu_instance: instance.id,
            utilization: instance.utilization.into(),
        });
        Self {
            utilization: args.utilization.map(Into::into),
            memory_utilization: args.memory_utilization.map(Into::into),
            memory: args.memory.map(Into::into),
            power: args.power.map(Into::into),
            temperature: args.temperature.map(Into::into),
            lasting: args.time,
            instances: instances.collect(),
            processes: processes.collect(),
            end_processes: args.end_processes,
            end_all_processes: args.idle,
            ..Self::default()
        }
    }
}
