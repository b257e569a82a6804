//! The `mizzen sim` command.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use mizzen_nvml_sim::control::{Affected, Simulator};
use mizzen_nvml_sim::environment::Place;
use mizzen_nvml_sim::host::Installation;
use mizzen_nvml_sim::scenario::GpuGroup;
use mizzen_nvml_sim::{host, library};

mod args;
mod course;
mod mig;
mod status;

pub(crate) use args::{ABOUT, SimArgs};

use args::{Layout, SimCommand, StatusForm};

use crate::stdout::{print, print_json};

/// Carries the command out.
pub(crate) fn run(args: SimArgs) -> Result<ExitCode> {
    let place = Place::new(args.scenario, args.state, None);
    match args.command {
        // Needs no live state, and makes none.
        SimCommand::Library { dir } => print_library(&dir)?,
        command => drive(Simulator::open(&place)?, command)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The commands that look at the live node, or change it.
fn drive(mut simulator: Simulator, command: SimCommand) -> Result<()> {
    match command {
        SimCommand::Status {
            output: StatusForm::Table,
        } => status::print(&simulator.status()?)?,
        SimCommand::Status {
            output: StatusForm::Json,
        } => print_json(&simulator.status()?)?,
        SimCommand::Inject(args) => {
            let (fault, hit) = args.fault();
            let hit_gpus = simulator.inject(&hit.which.gpu.0, &fault.into(), hit.lasting)?;
            tell(&hit_gpus, &fault.to_string())?;
        }
        SimCommand::Heal(which) => tell(&simulator.heal(&which.gpu.0)?, "healed")?,
        SimCommand::Load(args) => {
            let gpus = args.which.gpu.0.clone();
            let what = if args.idle { "idle" } else { "loaded" };
            tell(&simulator.load(&gpus, &(*args).into())?, what)?;
        }
        SimCommand::Mig(args) => mig::run(&simulator, args)?,
        SimCommand::Add { model, count } => {
            tell(&simulator.add(&GpuGroup::new(model, count))?, "added")?;
        }
        SimCommand::Remove(which) => tell(&simulator.remove(&which.gpu.0)?, "removed")?,
        SimCommand::Reset => {
            simulator.reset()?;
            let state = simulator.state_directory().display();
            print(&format!("{state}: as its scenario says\n"))?;
        }
        SimCommand::Host { dir, driver_layout } => {
            write_host(&simulator, &dir, Layout::installation(driver_layout))?;
        }
        SimCommand::Library { dir } => print_library(&dir)?,
    }
    Ok(())
}

/// One line for each GPU that was changed.
fn tell(gpus: &[Affected], what: &str) -> Result<()> {
    let lines = gpus
        .iter()
        .map(|gpu| format!("GPU {} {} {}: {what}\n", gpu.index, gpu.uuid, gpu.name));
    print(&lines.collect::<String>())
}

fn print_library(dir: &Path) -> Result<()> {
    print(&format!("{}\n", library::place(dir)?.display()))
}

/// Writes the machine around the live GPUs, prints where, and says what to know about its nodes.
fn write_host(simulator: &Simulator, dir: &Path, driver: Installation) -> Result<()> {
    let (node, partitions) = simulator.partitions()?;
    let report = host::write_installed(&node, &partitions, driver, dir)?;
    print(&format!("{}\n", report.root.display()))?;
    if let Some(reason) = report.no_devices_because {
        eprintln!("mizzen: the device nodes are empty files: {reason}");
    }
    if report.mounted_nodev {
        eprintln!("mizzen: its file system is mounted nodev: no program can open the device nodes");
    }
    Ok(())
}
