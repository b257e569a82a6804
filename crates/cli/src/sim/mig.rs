//! `mizzen sim mig`: partitions the simulated GPUs and shows how they are partitioned.

use anyhow::Result;
use clap::{Args, Subcommand};
use mizzen_nvml_sim::control::{GpuInstanceStatus, GpuStatus, MigModeSet, Simulator, Status};

use crate::terminal::{BOLD, DIM, Line, Table, Terminal};

use super::args::{Which, WhichOrAll};
use super::{print, tell};

const EXAMPLES: &str = "\
Examples:
  mizzen sim mig enable --gpu 0,1
      at once on Hopper and later; on Ampere with the next `mizzen sim heal`, as with a real reset
  mizzen sim mig create 3g.40gb,1g.10gb,1g.10gb --gpu 0
      MIG devices, placed where the driver would place them
  mizzen sim mig destroy --gpu 0 && mizzen sim mig disable --gpu 0";

/// `mizzen sim mig …`
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct MigArgs {
    #[command(subcommand)]
    command: MigCommand,
}

/// What can be done with MIG.
#[derive(Debug, Subcommand)]
enum MigCommand {
    /// Turn MIG on
    Enable(Which),
    /// Turn MIG off
    Disable(Which),
    /// Create MIG devices
    Create {
        /// Profiles of GPU instances, several with commas; each gets one compute instance
        #[arg(required = true, value_delimiter = ',', value_name = "PROFILE")]
        profiles: Vec<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Take GPU instances away, with their compute instances
    Destroy {
        #[command(flatten)]
        which: Which,
        /// The GPU instance with this id alone
        #[arg(long, value_name = "ID")]
        instance: Option<u32>,
    },
    /// Show what the GPUs are partitioned into
    List(WhichOrAll),
}

/// Carries the command out.
pub(super) fn run(simulator: &Simulator, args: MigArgs) -> Result<()> {
    match args.command {
        MigCommand::Enable(which) => tell_mode(&simulator.set_mig_mode(&which.gpu.0, true)?, "on"),
        MigCommand::Disable(which) => {
            tell_mode(&simulator.set_mig_mode(&which.gpu.0, false)?, "off")
        }
        MigCommand::Create { profiles, which } => {
            let gpus = simulator.create_mig_devices(&which.gpu.0, &profiles)?;
            tell(&gpus, &format!("created {}", profiles.join(", ")))
        }
        MigCommand::Destroy { which, instance } => {
            let gpus = simulator.destroy_gpu_instances(&which.gpu.0, instance)?;
            let what = match instance {
                Some(id) => format!("destroyed GPU instance {id}"),
                None => "destroyed every GPU instance".to_owned(),
            };
            tell(&gpus, &what)
        }
        MigCommand::List(which) => {
            let mut status = simulator.status()?;
            status.gpus.retain(|gpu| {
                let (uuid, pci) = (gpu.uuid.to_string(), gpu.pci.to_string());
                which.gpu.names(gpu.index, &uuid, &pci)
            });
            match lines(&status) {
                lines if lines.is_empty() => print("no GPU instances\n"),
                lines => Ok(Terminal::stdout().print(lines)?),
            }
        }
    }
}

/// One line for each GPU whose mode was set.
fn tell_mode(set: &[MigModeSet], mode: &str) -> Result<()> {
    for set in set {
        let when = if set.active {
            ""
        } else {
            " with the next reset of the GPU (mizzen sim heal)"
        };
        tell(
            std::slice::from_ref(&set.gpu),
            &format!("MIG is {mode}{when}"),
        )?;
    }
    Ok(())
}

/// The instances of all GPUs as a table; nothing if there are none.
pub(super) fn lines(status: &Status) -> Vec<Line> {
    let mut table = Table::new(&[
        "GPU", "GI", "CI", "MIG", "PROFILE", "AT", "SMS", "MEMORY", "UUID",
    ]);
    let mut empty = true;
    for gpu in &status.gpus {
        for instance in gpu.mig.iter().flat_map(|mig| &mig.gpu_instances) {
            empty = false;
            for row in rows(gpu, instance) {
                table.row(row);
            }
        }
    }
    if empty { Vec::new() } else { table.lines(0) }
}

/// A GPU instance's rows: its compute instances, or itself alone.
fn rows(gpu: &GpuStatus, instance: &GpuInstanceStatus) -> Vec<Vec<Line>> {
    let row = |compute: String, index: String, profile: String, sms: String, uuid: String| {
        vec![
            Line::of(BOLD, gpu.index.to_string()),
            instance.id.to_string().into(),
            compute.into(),
            index.into(),
            profile.into(),
            instance.placement.to_string().into(),
            sms.into(),
            format!("{} MiB", instance.memory_mib).into(),
            Line::of(DIM, uuid),
        ]
    };
    if instance.devices.is_empty() {
        let none = || "-".to_owned();
        let profile = instance.profile.to_owned();
        return vec![row(none(), none(), profile, none(), none())];
    }
    let devices = instance.devices.iter();
    devices
        .map(|device| {
            row(
                device.compute_instance.to_string(),
                device.index.to_string(),
                device.profile.clone(),
                device.multiprocessors.to_string(),
                device.uuid.to_string(),
            )
        })
        .collect()
}
