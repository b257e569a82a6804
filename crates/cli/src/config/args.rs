//! What can be typed after `mizzen config`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use mizzen_core::resource::ResourceName;
use mizzen_nvml_sim::scenario::Scenario;

use super::choice::Taken;

/// What the command is for.
pub(crate) const ABOUT: &str = "\
Check a config file, and see what it makes of a node.

The file is the one that `mizzen agent --config-file` reads: the format of NVIDIA's
k8s-device-plugin and Mizzen's additions, described in docs/config.md. Nothing here touches a
running agent, a kubelet or a cluster.";

const EXAMPLES: &str = "\
Examples:
  mizzen config check config.yaml
      every mistake with its place, or what this machine would offer
  mizzen config check config.yaml --gpus 4xa30,2xt4
      the same for a node with other GPUs
  mizzen config explain-choice --want 4 --gpus 8xv100-sxm2 --taken 0
      which four GPUs a container would get, and which rule decided
  mizzen config schema > config.schema.json
      for editors that complete and check YAML";

const CHECK_HELP: &str = "\
The file is read as the agent reads it that is given no flags and no variables. What it makes of
a node is told for the node that --gpus or --scenario describes; without them for this machine's
GPUs, if it has a driver, and else for the simulator's default node. The first lines say which.

Exit codes:
  0    the file can be used
  1    it cannot: every mistake is told, with its place
  2    the command line or the scenario cannot be understood, or a file cannot be read";

const CHOICE_HELP: &str = "\
A GPU is taken by its index or UUID, a MIG device by its UUID or by two indices: 0:2 is the third
one of GPU 0, and 0 alone any one that is left. Of what is shared that takes one replica more each
time it is named; UUID::N takes replica N. The rules and their scores:
  LINKS        sum over the pairs of the set: 100 for each NVLink, 10 to 60 for the way through
               PCIe; more is better
  LEFT OVER    the same sum over what stays free; more is better
  NUMA SPLITS  pairs that straddle two NUMA nodes; fewer is better
  PCIE STEPS   steps through PCIe over the pairs, 0 on one board to 6; fewer is better
and where all are equal, the lowest indices. MIG devices are joined by no links: like replicas they
are spread over GPUs or packed onto few, as sharedDevicesAllocationPolicy says.

Exit codes:
  0    the container gets what it asks for
  1    it does not: the pod stays Pending, or the container is refused
  2    the command line, the scenario or the config file cannot be understood, or a file cannot be
       read";

/// What was typed after `mizzen config`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

/// What can be done with a config file.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a config file, and show what a node would offer with it
    #[command(after_long_help = CHECK_HELP)]
    Check(CheckArgs),
    /// Show which GPUs a container would get, and why
    #[command(after_long_help = CHOICE_HELP)]
    ExplainChoice(ChoiceArgs),
    /// Print the JSON Schema of the config file
    Schema {
        /// The schema, or a table of all keys as docs/config.md has it
        #[arg(long, value_enum, default_value = "json", value_name = "FORM")]
        output: SchemaForm,
    },
}

/// How the description of the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaForm {
    /// JSON Schema, draft 2020-12
    Json,
    /// A table of all keys
    Markdown,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnswerForm {
    /// For people
    Table,
    /// For programs
    Json,
}

/// The node that is asked about.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The node's GPUs: how many of which model, such as 8xh100-80gb or 4xa30,2xt4
    #[arg(long, value_name = "GPUS", value_parser = Scenario::short, conflicts_with = "scenario", help_heading = "The node")]
    pub(crate) gpus: Option<Scenario>,

    /// The node as a scenario file (YAML, see docs/simulator.md)
    #[arg(long, value_name = "FILE", help_heading = "The node")]
    pub(crate) scenario: Option<PathBuf>,
}

/// `mizzen config check …`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The config file; `-` is standard input
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) node: NodeArgs,

    /// A table for people or JSON for programs
    #[arg(long, value_enum, default_value = "table", value_name = "FORM")]
    pub(crate) output: AnswerForm,
}

/// A number of devices that can be asked for.
fn wanted(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse()
        .map_err(|_| "expected how many devices: a whole number from 1")
}

/// `mizzen config explain-choice …`
#[derive(Debug, Args)]
pub(crate) struct ChoiceArgs {
    /// How many devices the container asks for
    #[arg(long, value_name = "N", value_parser = wanted)]
    pub(crate) want: NonZeroUsize,

    /// The config file; `-` is standard input. Default: none
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) node: NodeArgs,

    /// The resource it asks for. Default: the node's only one, or nvidia.com/gpu
    #[arg(long, value_name = "NAME")]
    pub(crate) resource: Option<ResourceName>,

    /// Devices that other containers have: indices (2, or 2:0 for a MIG device) or UUIDs, with
    /// commas
    #[arg(long, value_name = "GPUS", value_delimiter = ',')]
    pub(crate) taken: Vec<Taken>,

    /// How many of the next best sets to show
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) others: usize,

    /// A table for people or JSON for programs
    #[arg(long, value_enum, default_value = "table", value_name = "FORM")]
    pub(crate) output: AnswerForm,
}
