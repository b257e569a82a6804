//! The `mizzen hook` command.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use mizzen_agent::cdi::hook;
use mizzen_core::config::Config;

/// What the command is for.
pub(crate) const ABOUT: &str = "\
Carry out the hooks of CDI specs, or install the small program that does.

CDI specs name a program that finishes a container's file system before it starts: create-symlinks,
update-ldcache, enable-cuda-compat, disable-device-node-modification. That program is mizzen-hook,
which the agent installs by itself where it keeps specs. `mizzen hook HOOK` does the same as
`mizzen-hook HOOK`, whose --help describes the hooks; `mizzen hook install` is for specs that are
made by hand.";

/// What was typed after `mizzen hook`.
#[derive(Debug, Args)]
pub(crate) struct HookArgs {
    #[command(subcommand)]
    command: HookCommand,
}

#[derive(Debug, Subcommand)]
enum HookCommand {
    /// Put mizzen-hook, which CDI specs name, on this machine
    Install {
        /// The directory; specs name the program by it
        #[arg(long, value_name = "DIR", default_value_os_t = Config::default().hook_dir)]
        dir: PathBuf,
    },
    /// Whatever mizzen-hook takes.
    #[command(external_subcommand)]
    Hook(Vec<String>),
}

/// Carries the command out.
pub(crate) fn run(args: HookArgs) -> Result<ExitCode> {
    match args.command {
        HookCommand::Install { dir } => install(&dir),
        HookCommand::Hook(words) => {
            let streams = (&mut io::stdin(), &mut io::stdout(), &mut io::stderr());
            let code = mizzen_hook::run(&words, streams.0, streams.1, streams.2);
            Ok(code.into())
        }
    }
}

fn install(dir: &std::path::Path) -> Result<ExitCode> {
    let installed = hook::install(dir)
        .with_context(|| format!("cannot install mizzen-hook in {}", dir.display()))?;
    let done = if installed.is_new {
        "installed"
    } else {
        "there already"
    };
    println!("{}: {done}", installed.path.display());
    if installed.is_noexec {
        eprintln!(
            "mizzen hook: {} is mounted noexec: containers whose specs name this program will not \
             start; give another --dir",
            dir.display()
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
