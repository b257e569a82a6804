//! The node's hardware: a simulated driver's GPUs, as files below one directory that takes the
//! place of the machine's root, and the live state that faults are injected into.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, bail};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;

use crate::layout::{self, Layout};
use crate::programs::{RUNC, TestBinaries};

/// Where a driver's library lies on Debian and its kin, below the root of the machine.
const DRIVER_LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The simulated machine.
#[derive(Debug, Clone)]
pub(crate) struct Hardware {
    directory: PathBuf,
    mizzen: PathBuf,
}

/// One simulated GPU.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Gpu {
    /// NVML's index.
    pub(crate) index: u32,
    /// `GPU-…`.
    pub(crate) uuid: String,
    /// The number of its device node, `/dev/nvidia<minor>`.
    pub(crate) minor: u32,
}

impl Hardware {
    /// Builds the machine, once per cluster.
    pub(crate) async fn install(layout: &Layout, binaries: &TestBinaries) -> Result<Self> {
        let hardware = Self {
            directory: layout.hardware(),
            mizzen: binaries.mizzen().to_path_buf(),
        };
        if hardware.scenario().exists() {
            return Ok(hardware);
        }
        let host = hardware.host();
        let libraries = host.join(DRIVER_LIBRARIES);
        for directory in [&hardware.state(), &libraries] {
            fs::create_dir_all(directory)?;
        }
        // The root of a real machine is a shared mount, and so is what stands for it.
        mount_bind(&host, &host)?;
        mount_change(&host, MountPropagationFlags::SHARED)?;
        let scenario = layout::repository()?.join("e2e/scenario.yaml");
        fs::copy(scenario, hardware.scenario())?;
        hardware.sim(&["host", path(&host)?]).await?;
        hardware.sim(&["library", path(&libraries)?]).await?;
        hardware
            .install_runtime(layout, binaries.nvidia_runtime())
            .await?;
        Ok(hardware)
    }

    /// Puts what stands in for NVIDIA's container runtime where containerd looks for it, and
    /// beside it what it adds to containers.
    async fn install_runtime(&self, layout: &Layout, program: &Path) -> Result<()> {
        let control = self.control_nodes()?;
        let control: Vec<_> = control
            .iter()
            .map(|name| self.node(name))
            .collect::<Result<_>>()?;
        let gpus = self.gpus().await?.into_iter().map(|gpu| {
            let node = self.node(&format!("nvidia{}", gpu.minor))?;
            Ok((gpu.uuid, node))
        });
        let gpus: Vec<_> = gpus.collect::<Result<_>>()?;
        let library = Path::new(DRIVER_LIBRARIES).join("libnvidia-ml.so.1");
        let settings = json!({
            "runc": RUNC,
            "control": control,
            "gpus": gpus,
            "mounts": [
                [self.host().join(&library), Path::new("/").join(&library)],
                [self.directory(), self.directory()],
            ],
            "env": [
                format!("MIZZEN_SIM={}", self.scenario().display()),
                format!("MIZZEN_SIM_STATE={}", self.state().display()),
            ],
        });
        let at = layout.nvidia_runtime();
        fs::write(at.with_extension("json"), settings.to_string())?;
        fs::copy(program, at)?;
        Ok(())
    }

    /// A device node of the machine: its path in a container, its major and minor numbers.
    fn node(&self, name: &str) -> Result<(String, u32, u32)> {
        let path = self.host().join("dev").join(name);
        let metadata = fs::metadata(&path).with_context(|| path.display().to_string())?;
        if !metadata.file_type().is_char_device() {
            bail!("{} is no character device", path.display());
        }
        let number = metadata.rdev();
        Ok((
            format!("/dev/{name}"),
            rustix::fs::major(number),
            rustix::fs::minor(number),
        ))
    }

    /// Everything of the simulation: what is mounted into containers that use its library.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What stands for the machine's root directory.
    pub(crate) fn host(&self) -> PathBuf {
        self.directory.join("host")
    }

    /// The scenario file.
    pub(crate) fn scenario(&self) -> PathBuf {
        self.directory.join("scenario.yaml")
    }

    /// The directory of the live state.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The names of the driver's device nodes in the machine's /dev that belong to no one GPU.
    pub(crate) fn control_nodes(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.host().join("dev"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let of_one_gpu = name
                .strip_prefix("nvidia")
                .is_some_and(|rest| rest.parse::<u32>().is_ok());
            if name.starts_with("nvidia") && !of_one_gpu && !name.contains("caps") {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The GPUs, by index.
    pub(crate) async fn gpus(&self) -> Result<Vec<Gpu>> {
        #[derive(Deserialize)]
        struct Status {
            gpus: Vec<Gpu>,
        }
        let output = self.sim(&["status", "--output", "json"]).await?;
        let status: Status = serde_json::from_slice(&output.stdout)?;
        Ok(status.gpus)
    }

    /// Breaks a GPU: `fault` is what follows `mizzen sim inject`.
    pub(crate) async fn inject(&self, fault: &[&str], uuid: &str) -> Result<()> {
        let words = [&["inject"], fault, &["--gpu", uuid]].concat();
        self.sim(&words).await?;
        Ok(())
    }

    /// Heals every GPU.
    pub(crate) async fn heal(&self) -> Result<()> {
        self.sim(&["heal"]).await?;
        Ok(())
    }

    async fn sim(&self, words: &[&str]) -> Result<Output> {
        let output = Command::new(&self.mizzen)
            .arg("sim")
            .args(words)
            .env("MIZZEN_SIM", self.scenario())
            .env("MIZZEN_SIM_STATE", self.state())
            .output()
            .await
            .with_context(|| format!("run {}", self.mizzen.display()))?;
        if !output.status.success() {
            bail!(
                "mizzen sim {}: {}: {}",
                words.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(output)
    }
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the cluster's paths are text")
}
