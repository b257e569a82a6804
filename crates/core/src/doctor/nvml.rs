//! The driver's management library.

use super::commands::on_host;
use super::finding::Notes;
use super::{DriverFacts, Looked, NvmlFacts};
use crate::config::Config;
use crate::driver::DriverError;

type Answer = Looked<Result<NvmlFacts, DriverError>>;

const SILENT: &str = "NVML does not answer";

/// Why nothing that needs NVML can be told.
pub(super) fn obstacle(answer: &Answer) -> Option<&'static str> {
    match answer {
        Looked::Seen(Ok(_)) => None,
        Looked::Seen(Err(_)) | Looked::Late(_) => Some(SILENT),
    }
}

pub(super) fn judge(answer: &Answer, driver: &DriverFacts, config: &Config, notes: &mut Notes) {
    match answer {
        Looked::Seen(Ok(facts)) => answered(facts, driver, notes),
        Looked::Seen(Err(DriverError::Hung { after })) | Looked::Late(after) => {
            hung(after.as_secs(), notes);
        }
        Looked::Seen(Err(error)) => failed(error, driver, config, notes),
    }
}

fn answered(facts: &NvmlFacts, driver: &DriverFacts, notes: &mut Notes) {
    let versions = &facts.inventory.driver;
    if let Some(module) = driver
        .module
        .as_ref()
        .filter(|module| **module != versions.driver)
    {
        notes
            .warning(
                "nvml-other-driver",
                format!(
                    "NVML speaks of driver {}, the kernel of {module}",
                    versions.driver
                ),
            )
            .means("NVML talks to another machine than the one that is looked at, or is simulated")
            .advise("--nvml-library, --driver-root and --host-root must be of one machine");
        return;
    }
    let (major, minor) = versions.cuda;
    let at = facts
        .library
        .as_ref()
        .map_or_else(String::new, |path| format!(" ({path})"));
    notes.ok(
        "nvml",
        format!(
            "NVML {} answers{at}; CUDA up to {major}.{minor}",
            versions.nvml
        ),
    );
}

fn hung(seconds: u64, notes: &mut Notes) {
    notes
        .error(
            "nvml-hung",
            format!("NVML did not start within {seconds} s"),
        )
        .means(
            "a GPU has probably fallen off the bus, or its firmware hangs; nvidia-smi hangs as \
             well. The agent goes on and offers no GPU until the driver answers",
        )
        .advise("look for Xid 79, 119 and 120 in the kernel's log; mostly only a restart helps")
        .run("sudo dmesg | grep -iE 'nvrm|xid'")
        .run("sudo reboot");
}

fn failed(error: &DriverError, driver: &DriverFacts, config: &Config, notes: &mut Notes) {
    match error {
        DriverError::LibraryNotFound { searched } => missing(searched, driver, config, notes),
        DriverError::LibraryUnusable { path, reason } => notes
            .error("nvml-unusable", format!("{path} cannot be used: {reason}"))
            .means("the file is damaged, of another architecture, or needs a newer C library")
            .advise("install the driver's libraries again")
            .run(format!("file -L {path}; ldd {path}")),
        DriverError::NotRunning(words) if words.contains("ismatch") => notes
            .error("driver-versions-differ", format!("NVML: {words}"))
            .means("the driver was upgraded under running programs")
            .advise("end what uses the GPUs and load the module anew, or restart the machine")
            .run(format!("cat {}", on_host("/proc/driver/nvidia/version")))
            .run("sudo reboot"),
        DriverError::NotRunning(words) => notes
            .error("nvml-no-driver", format!("NVML found no driver: {words}"))
            .means("the module is loaded, but its device nodes are missing or lead nowhere")
            .run("sudo nvidia-modprobe -c 0 -u && ls -l /dev/nvidia*"),
        DriverError::NoPermission => notes
            .error(
                "nvml-no-permission",
                "NVML may not open the GPUs' device nodes",
            )
            .means(
                "the device cgroup of this container does not allow them: a mount of /dev alone \
                 is not enough",
            )
            .advise(
                "run the agent privileged, as deploy/mizzen.yaml does, or under NVIDIA's runtime \
                 class with NVIDIA_VISIBLE_DEVICES=all",
            ),
        other => notes
            .error("nvml-failed", format!("NVML does not start: {other}"))
            .means("the driver is there and cannot tell of its GPUs")
            .run("sudo dmesg | grep -iE 'nvrm|xid'"),
    };
}

fn missing<'a>(
    searched: &[String],
    driver: &DriverFacts,
    config: &Config,
    notes: &'a mut Notes,
) -> &'a mut super::Finding {
    let found = match &config.nvml_library {
        Some(path) => format!("there is no {} (--nvml-library)", path.display()),
        None => format!(
            "libnvidia-ml.so.1 is in none of {} places below the driver root {}",
            searched.len(),
            driver.root
        ),
    };
    notes
        .error("nvml-missing", found)
        .means("the kernel driver is loaded, but the driver's libraries are not where they are looked for")
        .advise(
            "say where the driver is: --driver-root (NVIDIA_DRIVER_ROOT), /run/nvidia/driver for \
             a driver in a container; in a pod mount that root of the host at /driver-root. \
             `mizzen mig profiles` names every place that was searched",
        )
        .run(format!(
            "sudo find {} -xdev -name 'libnvidia-ml.so.1' 2>/dev/null",
            on_host("/")
        ))
}
