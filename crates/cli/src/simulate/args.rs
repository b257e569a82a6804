//! What can be typed after `mizzen simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use mizzen_nvml_sim::scenario::Scenario;

use super::script::{GRAMMAR, Script};
use crate::duration;

/// What the command is for.
pub(crate) const ABOUT: &str = "\
Try everything without a cluster or a GPU.

Starts a simulated GPU driver, an embedded kubelet and the real agent in a temporary directory,
admits pods as a cluster would, and shows the node's GPUs, who has which, and what each container
was given. Needs no privileges and leaves nothing behind.";

const EXAMPLES: &str = "\
Examples:
  mizzen simulate
      the pods of examples/ on eight H100
  mizzen simulate --gpus 2xl4 --pod my-pod.yaml
      your own pod on two L4
  mizzen simulate --inject 'at 1s: xid 79 on gpu 2' --inject 'at 2s: heal gpu 2'
      a GPU falls off the bus and comes back
  mizzen simulate --config examples/configs/time-slicing.yaml \
      --pod examples/configs/pods/shared.yaml
      with a config file of the agent (docs/config.md), and pods that ask for what it offers
  mizzen simulate --for ever
      stays until Ctrl-C; break GPUs from another terminal with `mizzen sim`
  mizzen simulate --output json | jq '.pods[] | {name, phase}'
      for scripts
  mizzen simulate -- --device-list-strategy cdi-cri --pass-device-specs
      flags of `mizzen agent` go after --
  mizzen simulate --keep
      keeps the directory with the sockets, the agent's log and the host tree, and names it

So that a run of seconds shows recovery too, the agent waits less than it does by default:
--health-hold-down 1s, --health-check-interval 500ms, --nvml-call-timeout 1s. Flags after --
outrank these, and so does what a config file sets.

Exit codes:
  0    every pod that can run on this node has run
  1    something broke: the agent or the embedded kubelet did not work
  2    the command line, the scenario, the config or a pod's file cannot be understood
  3    a pod that fits this node did not run, or not to its end
  4    a pod was refused, as the API server would refuse it
  5    a step of the script could not be done
  130  ended by Ctrl-C before all was done

A pod that asks for more GPUs than the node has stays Pending, as in a cluster: it cannot run
here, so it is no failure. One that finds all GPUs taken waits until others end.";

/// What was typed after `mizzen simulate`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct SimulateArgs {
    /// The node's GPUs: how many of which model, such as 8xh100-80gb or 4xa30,2xt4
    #[arg(long, value_name = "GPUS", value_parser = Scenario::short, conflicts_with = "scenario", help_heading = "The node")]
    pub(crate) gpus: Option<Scenario>,

    /// The node as a scenario file (YAML, see docs/simulator.md)
    #[arg(long, value_name = "FILE", help_heading = "The node")]
    pub(crate) scenario: Option<PathBuf>,

    /// The agent's config file; `--inject 'at 3s: config FILE'` replaces it during the run
    #[arg(long, value_name = "FILE", help_heading = "The node")]
    pub(crate) config: Option<PathBuf>,

    /// A file with pods (YAML, several documents are fine); repeatable. Default: the pods of
    /// examples/
    #[arg(long = "pod", value_name = "FILE", help_heading = "The pods")]
    pub(crate) pods: Vec<PathBuf>,

    /// How long a pod's containers run, where the pod does not say
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration::parse, help_heading = "The pods")]
    pub(crate) pod_time: Duration,

    /// Something to happen during the run, such as 'at 3s: xid 79 on gpu 2'; repeatable
    #[arg(
        long,
        value_name = "STEP",
        long_help = format!(
            "Something to happen during the run; repeatable, and several steps may be separated by `;`.\n\
            A step is `at TIME: WHAT`, where TIME counts from the agent's start and WHAT is one of:\n\n{GRAMMAR}"
        ),
        help_heading = "What happens"
    )]
    pub(crate) inject: Vec<Script>,

    /// Go on for at least this long, or `ever`: until Ctrl-C. Default: until the pods and the
    /// script are done
    #[arg(long = "for", value_name = "TIME", help_heading = "What happens")]
    pub(crate) at_least: Option<AtLeast>,

    /// What to print: live (drawn in place), plain (a line per change) or json (one document at
    /// the end). Default: live on a terminal, else plain
    #[arg(
        long,
        value_name = "FORM",
        hide_possible_values = true,
        help_heading = "Output"
    )]
    pub(crate) output: Option<Output>,

    /// Write the end of the run as a picture too (SVG)
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) picture: Option<PathBuf>,

    /// Keep the directory of the run and say where it is
    #[arg(long, help_heading = "Output")]
    pub(crate) keep: bool,

    /// Use this directory for the run, and keep it
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(crate) dir: Option<PathBuf>,

    /// Flags for the agent
    #[arg(last = true, value_name = "AGENT FLAGS")]
    pub(crate) agent_flags: Vec<std::ffi::OsString>,
}

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Drawn in place
    Live,
    /// A line per change
    Plain,
    /// One document at the end
    Json,
}

/// How long a run goes on when everything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtLeast {
    /// So long.
    Time(Duration),
    /// Until somebody ends it.
    Ever,
}

impl std::str::FromStr for AtLeast {
    type Err = duration::InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ever" => Ok(Self::Ever),
            _ => duration::parse(text).map(Self::Time),
        }
    }
}
