//! What can be typed after `mizzen sim`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::duration;
use crate::fault::{EccKind, Fault, RecoveryAction, ThrottleReason};
use crate::target::Gpus;

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
  mizzen sim load --gpu all --utilization 90 --over 10s

Every process that loads the library with the same scenario (MIZZEN_SIM) and the same state
(MIZZEN_SIM_STATE) sees the same GPUs. Without a scenario they are eight H100 80GB SXM on
NVSwitch; without a state directory it follows from the scenario's path. What is injected stays
until it is healed, whichever programs end.";

/// What was typed after `mizzen sim`.
#[derive(Debug, Args)]
#[command(
    long_about = "Drive the simulated GPU driver.\n\n\
        The simulated driver is a libnvidia-ml.so.1 with NVML's own ABI. It needs no GPU, no \
        kernel module and no privileges. These commands place it, and change what its GPUs do \
        while programs use them.",
    after_long_help = EXAMPLES
)]
pub(crate) struct SimArgs {
    /// The scenario: the simulated node as YAML (see docs/simulator.md)
    #[arg(long, global = true, value_name = "FILE", env = "MIZZEN_SIM", help_heading = "Which simulation")]
    pub(crate) scenario: Option<PathBuf>,

    /// The directory of its live state
    #[arg(long, global = true, value_name = "DIR", env = "MIZZEN_SIM_STATE", help_heading = "Which simulation")]
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
    /// Undo everything that was injected and every load
    Heal(WhichOrAll),
    /// Give GPUs work, or take it away
    #[command(arg_required_else_help = true)]
    Load(LoadArgs),
    /// Plug one more GPU in
    Add {
        /// A built-in model, such as h100-80gb
        model: String,
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
    Host {
        /// The directory; made if it is not there
        dir: PathBuf,
    },
}

/// The GPUs that are meant.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Index, UUID or PCI bus id, several with commas, or `all`
    #[arg(long, short, value_name = "GPU")]
    pub(crate) gpu: Gpus,
}

/// The GPUs that are meant, all if none is named.
#[derive(Debug, Args)]
pub(crate) struct WhichOrAll {
    /// Index, UUID or PCI bus id, several with commas, or `all`
    #[arg(long, short, value_name = "GPU", default_value = "all")]
    pub(crate) gpu: Gpus,
}

/// How the status is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusForm {
    /// For people
    Table,
    /// For programs
    Json,
}
