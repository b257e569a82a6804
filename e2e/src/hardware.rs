//! The node's hardware: a simulated driver's GPUs, as files below one directory that takes the
//! place of the machine's root, and the live state that faults are injected into.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;

use crate::layout::{self, Layout};
use crate::programs::{RUNC, TestBinaries};

/// Where a driver's library lies on Debian and its kin, below the root of the machine.
const DRIVER_LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Its name.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// The mode of the device node of an instance.
const CAPABILITY_MODE: u32 = 0o444;

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

/// The GPUs as they are partitioned.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Partitions {
    /// By index.
    pub(crate) gpus: Vec<PartitionedGpu>,
}

/// A GPU as it is partitioned.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct PartitionedGpu {
    /// NVML's index.
    pub(crate) index: u32,
    /// `GPU-…`.
    pub(crate) uuid: String,
    /// The number of its device node.
    pub(crate) minor: u32,
    /// MIG.
    pub(crate) mig: Mig,
}

/// What there is of MIG on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Mig {
    /// Whether its mode is on.
    pub(crate) enabled: bool,
    /// The GPU instances.
    pub(crate) gpu_instances: Vec<GpuInstance>,
}

/// A GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct GpuInstance {
    /// The driver's number for it.
    pub(crate) id: u32,
    /// `1g.10gb`.
    pub(crate) profile: String,
    /// Its compute instances.
    pub(crate) devices: Vec<MigDevice>,
}

/// A compute instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct MigDevice {
    /// `MIG-…`.
    pub(crate) uuid: String,
    /// The driver's number for it.
    pub(crate) compute_instance: u32,
}

impl Hardware {
    /// Builds the machine, once per cluster.
    pub(crate) async fn install(layout: &Layout, binaries: &TestBinaries) -> Result<Self> {
        let hardware = Self::at(layout.hardware(), binaries);
        if hardware.make("scenario.yaml").await? {
            hardware.add_library().await?;
            hardware
                .install_runtime(layout, binaries.nvidia_runtime())
                .await?;
        }
        Ok(hardware)
    }

    /// Builds the machine of the tests of MIG, once per cluster.
    pub(crate) async fn install_for_mig(layout: &Layout, binaries: &TestBinaries) -> Result<Self> {
        let hardware = Self::at(layout.mig_hardware(), binaries);
        if hardware.make("scenario-mig.yaml").await? {
            hardware.add_library().await?;
            hardware.make_capabilities().await?;
        }
        Ok(hardware)
    }

    /// Builds the machine of the tests of CDI, once per cluster: it has a whole driver, and
    /// directories for specs.
    pub(crate) async fn install_for_cdi(layout: &Layout, binaries: &TestBinaries) -> Result<Self> {
        let hardware = Self::at(layout.cdi_hardware(), binaries);
        if hardware.make("scenario-cdi.yaml").await? {
            hardware.install_driver().await?;
            for directory in layout.cdi_spec_directories() {
                fs::create_dir_all(directory)?;
            }
            // As on every host.
            let host = hardware.host();
            fs::create_dir_all(host.join("var/lib/mizzen"))?;
            symlink("../run", host.join("var/run"))?;
            // Where it is to itself: see the agent's mounts.
            fs::create_dir_all(host.join(host.strip_prefix("/")?))?;
        }
        Ok(hardware)
    }

    /// Installs the driver in the scenario's version, or upgrades the one that is there.
    async fn install_driver(&self) -> Result<()> {
        // Where Red Hat's distributions have libraries, and the dynamic linkers of others do not
        // look: an image finds them by its cache, or not at all.
        let host = self.host();
        self.sim(&["host", path(&host)?, "--driver-layout", "rhel"])
            .await?;
        Ok(())
    }

    /// Another version of the driver takes the place of the one that there is.
    pub(crate) async fn upgrade_driver(&self, from: &str, to: &str) -> Result<()> {
        let scenario = fs::read_to_string(self.scenario())?;
        let changed = scenario.replace(from, to);
        if changed == scenario {
            bail!("{} is not of version {from}", self.scenario().display());
        }
        fs::write(self.scenario(), changed)?;
        self.install_driver().await
    }

    fn at(directory: PathBuf, binaries: &TestBinaries) -> Self {
        Self {
            directory,
            mizzen: binaries.mizzen().to_path_buf(),
        }
    }

    /// Makes the machine of a scenario, unless it is there.
    async fn make(&self, scenario: &str) -> Result<bool> {
        if self.scenario().exists() {
            return Ok(false);
        }
        let host = self.host();
        for directory in [&self.state(), &host] {
            fs::create_dir_all(directory)?;
        }
        // The root of a real machine is a shared mount, and so is what stands for it.
        mount_bind(&host, &host)?;
        mount_change(&host, MountPropagationFlags::SHARED)?;
        let scenario = layout::repository()?.join("e2e").join(scenario);
        fs::copy(scenario, self.scenario())?;
        self.sim(&["host", path(&host)?]).await?;
        Ok(true)
    }

    /// Of the driver's files, the library that agents load.
    async fn add_library(&self) -> Result<()> {
        let libraries = self.host().join(DRIVER_LIBRARIES);
        fs::create_dir_all(&libraries)?;
        self.sim(&["library", path(&libraries)?]).await?;
        Ok(())
    }

    /// Makes the nodes of all capabilities that instances of the GPUs can ever have. A driver makes
    /// a node when somebody asks for it (nvidia-modprobe); the simulated machine has those of the
    /// instances that there were when it was made, which are none.
    async fn make_capabilities(&self) -> Result<()> {
        let (_, major, _) = self.node("nvidia-caps/nvidia-cap1")?;
        for gpu in self.gpus().await? {
            let of_gpu = format!("gpu{}/", gpu.minor);
            for (name, minor) in self.capabilities()? {
                if !name.starts_with(&of_gpu) {
                    continue;
                }
                let node = format!("dev/nvidia-caps/nvidia-cap{minor}");
                let numbers = rustix::fs::makedev(major, minor);
                let (kind, mode) = (FileType::CharacterDevice, Mode::from(CAPABILITY_MODE));
                let node = self.host().join(node);
                mknodat(CWD, &node, kind, mode, numbers)
                    .with_context(|| node.display().to_string())?;
            }
        }
        Ok(())
    }

    /// The numbers of the capabilities of MIG, by names such as `gpu0/gi1/ci0/access`.
    pub(crate) fn capabilities(&self) -> Result<BTreeMap<String, u32>> {
        let table = self.host().join("proc/driver/nvidia-caps/mig-minors");
        let table = fs::read_to_string(&table).with_context(|| table.display().to_string())?;
        let row = |line: &str| {
            let (name, minor) = line.split_once(' ').context("a name and a number")?;
            Ok((name.to_owned(), minor.parse()?))
        };
        table.lines().map(row).collect()
    }

    /// Puts what stands in for NVIDIA's container runtime where containerd looks for it, and
    /// beside it what it adds to containers: the GPUs of this machine.
    pub(crate) async fn install_runtime(&self, layout: &Layout, program: &Path) -> Result<()> {
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
        let library = Path::new(DRIVER_LIBRARIES).join(LIBRARY);
        let source = [library.clone(), Path::new("usr/lib64").join(LIBRARY)];
        let mut sources = source.iter().map(|path| self.host().join(path));
        let source = sources.find(|path| path.exists());
        let settings = json!({
            "runc": RUNC,
            "toolkit": self.toolkit_config(),
            "control": control,
            "gpus": gpus,
            "mounts": [
                [
                    source.context("the machine has the driver's library")?,
                    Path::new("/").join(&library),
                ],
                [self.directory(), self.directory()],
            ],
            "env": [
                format!("MIZZEN_SIM={}", self.scenario().display()),
                format!("MIZZEN_SIM_STATE={}", self.state().display()),
            ],
        });
        let at = layout.nvidia_runtime();
        fs::write(at.with_extension("json"), settings.to_string())?;
        if !at.exists() {
            fs::copy(program, at)?;
        }
        Ok(())
    }

    /// The config of NVIDIA's container toolkit, which the machine does not have at first.
    pub(crate) fn toolkit_config(&self) -> PathBuf {
        self.host().join("etc/nvidia-container-runtime/config.toml")
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

    /// How the GPUs are partitioned, in the simulator's words.
    pub(crate) async fn partitions(&self) -> Result<Partitions> {
        let output = self.sim(&["status", "--output", "json"]).await?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Turns MIG on on a GPU, and makes an instance of this profile there.
    pub(crate) async fn partition(&self, index: &str, profile: &str) -> Result<()> {
        self.sim(&["mig", "enable", "--gpu", index]).await?;
        self.sim(&["mig", "create", profile, "--gpu", index])
            .await?;
        Ok(())
    }

    /// Makes one whole GPU of it again.
    pub(crate) async fn unite(&self, index: &str) -> Result<()> {
        self.sim(&["mig", "destroy", "--gpu", index]).await?;
        self.sim(&["mig", "disable", "--gpu", index]).await?;
        Ok(())
    }

    /// Has everything forgotten that happened to the GPUs.
    pub(crate) async fn reset(&self) -> Result<()> {
        self.sim(&["reset"]).await?;
        Ok(())
    }

    async fn sim(&self, words: &[&str]) -> Result<Output> {
        let output = Command::new(&self.mizzen)
            .arg("sim")
            .args(words)
            .env("MIZZEN_SIM", self.scenario())
            .env("MIZZEN_SIM_STATE", self.state())
            .kill_on_drop(true)
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
