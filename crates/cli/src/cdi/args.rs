//! What can be typed after `mizzen cdi`.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use mizzen_agent::cdi::directories;
use mizzen_core::cdi::{CdiKind, FEATURE_FLAGS, HOOK_NAMES, NameStrategy, SPEC_DIRECTORIES};
use mizzen_core::config::{Choice, Config};
use mizzen_nvml::HostRoot;

use crate::host_root;

/// What the command is for.
pub(crate) const ABOUT: &str = "\
Make, list, check and compare CDI specs, the files that tell container runtimes of GPUs.

A spec says what a container gets with a device: device nodes, the driver's libraries and programs,
hooks. Runtimes read specs in /etc/cdi and /var/run/cdi and resolve names such as nvidia.com/gpu=0
(docker run --device nvidia.com/gpu=0). The agent keeps the specs of what it hands out by itself;
this command is for people.";

const EXAMPLES: &str = "\
Examples:
  mizzen cdi generate
      the spec of nvidia.com/gpu for this machine
  mizzen cdi generate --output-dir /var/run/cdi --kind nvidia.com/gpu --kind nvidia.com/gds
      the same and that of GPUDirect Storage, as files
  mizzen cdi list
      every name that a runtime finds, and where it is from
  mizzen cdi validate
      what is wrong with the specs of this machine
  mizzen cdi diff
      whether the specs of this machine still are what they should be";

const GENERATE_HELP: &str = "\
Kinds are told by their class: gpu, imex-channel, gds, mofed, gdrcopy, nvswitch, of any vendor;
management.nvidia.com/gpu is one device with everything, for what looks after a node.
GPUs that are cut into MIG devices have no name of their own, unless --mig-strategy none.

Exit codes:
  0    the specs were made
  1    there is no device of a kind that was asked for
  2    the command line cannot be understood, the driver cannot be asked or a file cannot be written";

const LIST_HELP: &str = "\
Exit codes:
  0    every name resolves
  1    a name is in conflict or a file cannot be used
  2    the command line cannot be understood";

const VALIDATE_HELP: &str = "\
Exit codes:
  0    nothing is wrong
  1    every mistake is told, with its place
  2    the command line cannot be understood";

const DIFF_HELP: &str = "\
What a runtime has now is compared with what `mizzen cdi generate` would make.

Exit codes:
  0    there is no difference
  1    every difference is told
  2    the command line cannot be understood or the driver cannot be asked";

/// What was typed after `mizzen cdi`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CdiArgs {
    #[command(subcommand)]
    pub(crate) command: CdiCommand,
}

/// What can be done with specs.
#[derive(Debug, Subcommand)]
pub(crate) enum CdiCommand {
    /// Make the specs of this machine
    #[command(after_long_help = GENERATE_HELP)]
    Generate(GenerateArgs),
    /// Show every name that resolves, and where it is from
    #[command(after_long_help = LIST_HELP)]
    List(ListArgs),
    /// Check specs: their form, that what they count on is on this machine, and that names resolve
    #[command(after_long_help = VALIDATE_HELP)]
    Validate(ValidateArgs),
    /// Show what would change if specs were made anew
    #[command(after_long_help = DIFF_HELP)]
    Diff(DiffArgs),
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnswerForm {
    /// For people
    Table,
    /// For programs
    Json,
}

/// How a spec is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SpecForm {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Which specs are made, and of what.
#[derive(Debug, Args)]
pub(crate) struct MakeArgs {
    /// The kind of the devices, VENDOR/CLASS; more than once for several. Default: nvidia.com/gpu
    #[arg(long = "kind", value_name = "KIND", conflicts_with_all = ["vendor", "class"], help_heading = "The specs")]
    pub(crate) kinds: Vec<CdiKind>,

    /// The vendor of the kind
    #[arg(long, value_name = "VENDOR", help_heading = "The specs")]
    pub(crate) vendor: Option<String>,

    /// The class of the kind
    #[arg(long, value_name = "CLASS", help_heading = "The specs")]
    pub(crate) class: Option<String>,

    /// How GPUs are named; several with commas
    #[arg(long = "name-strategy", alias = "device-name-strategy", value_name = "STRATEGY", value_delimiter = ',', default_value = "index,uuid", value_parser = word_of::<NameStrategy>(), help_heading = "The specs")]
    pub(crate) names: Vec<String>,

    /// Whether GPUs that are cut into MIG devices are devices too: only with none
    #[arg(long, value_name = "STRATEGY", default_value = "mixed", value_parser = PossibleValuesParser::new(["none", "single", "mixed"]), help_heading = "The specs")]
    pub(crate) mig_strategy: String,

    /// The program that carries hooks out. Default: mizzen-hook in --hook-dir
    #[arg(
        long = "nvidia-cdi-hook-path",
        alias = "nvidia-ctk-path",
        value_name = "PATH",
        help_heading = "The specs"
    )]
    pub(crate) hook_path: Option<PathBuf>,

    /// Where mizzen-hook is on the machine
    #[arg(long, value_name = "DIR", default_value_os_t = Config::default().hook_dir, help_heading = "The specs")]
    pub(crate) hook_dir: PathBuf,

    /// Leave a hook out; all for every one
    #[arg(
        long = "disable-hook",
        alias = "disable-hooks",
        value_name = "HOOK",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(HOOK_NAMES),
        help_heading = "The specs"
    )]
    pub(crate) disabled_hooks: Vec<String>,

    /// A feature flag of NVIDIA's toolkit, such as disable-ipc-discoverer
    #[arg(
        long = "feature-flag",
        alias = "feature-flags",
        value_name = "FLAG",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(FEATURE_FLAGS),
        help_heading = "The specs"
    )]
    pub(crate) feature_flags: Vec<String>,

    /// The root of the driver's installation. Default: /, or /run/nvidia/driver if it is there
    #[arg(long, value_name = "DIR", help_heading = "The machine")]
    pub(crate) driver_root: Option<PathBuf>,

    /// The root of the device nodes. Default: as the driver's
    #[arg(long, value_name = "DIR", help_heading = "The machine")]
    pub(crate) dev_root: Option<PathBuf>,

    /// Where the root of the machine is for this process
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/",
        value_parser = host_root::parser(),
        help_heading = "The machine"
    )]
    pub(crate) host_root: PathBuf,

    /// The library of the driver to ask; searched below the driver's root otherwise
    #[arg(long, value_name = "FILE", help_heading = "The machine")]
    pub(crate) nvml_library: Option<PathBuf>,
}

/// Takes the words of a choice.
fn word_of<T: Choice>() -> PossibleValuesParser {
    PossibleValuesParser::new(T::WORDS.iter().map(|(word, _)| *word))
}

impl MakeArgs {
    /// Whether it was said which kinds are meant.
    pub(crate) fn names_kinds(&self) -> bool {
        !self.kinds.is_empty() || self.vendor.is_some() || self.class.is_some()
    }

    /// The same as settings of an agent.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config {
            host_root: self.host_root.clone(),
            nvml_library: self.nvml_library.clone(),
            hook_dir: self.hook_dir.clone(),
            cdi_disable_hooks: self.disabled_hooks.clone(),
            cdi_feature_flags: self.feature_flags.clone(),
            ..Config::default()
        };
        if let Some(path) = &self.hook_path {
            config.cdi_hook_path = Some(path.clone());
        }
        if let Some(root) = &self.driver_root {
            config.driver_root.clone_from(root);
            config.dev_root.clone_from(root);
        }
        if let Some(root) = &self.dev_root {
            config.dev_root.clone_from(root);
        }
        config
    }
}

/// `mizzen cdi generate …`
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) make: MakeArgs,

    /// Write a file for each kind into this directory: nvidia.com-gpu.json. It is one of this
    /// process, whatever --host-root
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    pub(crate) output_dir: Option<PathBuf>,

    /// Write to this file; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,

    /// How the specs are written
    #[arg(long, value_enum, default_value = "json", value_name = "FORM")]
    pub(crate) format: SpecForm,
}

/// The specs that there are.
#[derive(Debug, Args)]
pub(crate) struct DirectoryArgs {
    /// A directory of specs; a later one outranks an earlier one. Default: /etc/cdi,/var/run/cdi
    /// below --host-root
    #[arg(long = "spec-dir", value_name = "DIR", value_delimiter = ',', value_parser = spec_directory())]
    directories: Vec<PathBuf>,
}

/// Takes a directory that a runtime can be told to read: by its whole path, and one that is there,
/// unless it is one that runtimes read anyway.
fn spec_directory() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        let is_usual = SPEC_DIRECTORIES
            .iter()
            .any(|usual| path == Path::new(usual));
        if !path.is_absolute() {
            Err("a directory is named by its whole path, from / on")
        } else if is_usual || path.is_dir() {
            Ok(path)
        } else {
            Err("there is no such directory")
        }
    })
}

impl DirectoryArgs {
    /// The directories that were named, or those that runtimes read below this root.
    pub(crate) fn below(&self, host_root: &Path) -> Vec<PathBuf> {
        if !self.directories.is_empty() {
            return self.directories.clone();
        }
        if host_root == Path::new("/") {
            // By the names that people know, without their links resolved.
            return SPEC_DIRECTORIES.iter().map(PathBuf::from).collect();
        }
        directories(&HostRoot::new(host_root))
    }
}

/// `mizzen cdi list …`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) specs: DirectoryArgs,

    /// Where the root of the machine is for this process
    #[arg(long, value_name = "DIR", default_value = "/", value_parser = host_root::parser())]
    pub(crate) host_root: PathBuf,

    /// A table for people or JSON for programs
    #[arg(long, value_enum, default_value = "table", value_name = "FORM")]
    pub(crate) output: AnswerForm,
}

/// `mizzen cdi validate …`
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The files. Default: all in the directories, which are also held against each other
    pub(crate) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) specs: DirectoryArgs,

    /// Where the root of the machine is for this process
    #[arg(long, value_name = "DIR", default_value = "/", value_parser = host_root::parser())]
    pub(crate) host_root: PathBuf,

    /// Check the form alone, not what is on the machine
    #[arg(long)]
    pub(crate) form_only: bool,

    /// A list for people or JSON for programs
    #[arg(long, value_enum, default_value = "table", value_name = "FORM")]
    pub(crate) output: AnswerForm,
}

/// `mizzen cdi diff …`
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) make: MakeArgs,

    #[command(flatten)]
    pub(crate) specs: DirectoryArgs,

    /// A list for people or JSON for programs
    #[arg(long, value_enum, default_value = "table", value_name = "FORM")]
    pub(crate) output: AnswerForm,
}
