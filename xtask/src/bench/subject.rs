//! Who is measured, and the simulated node they are measured on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use mizzen_nvml_sim::Program;
use mizzen_nvml_sim::control::{Fault, GpuRef, Gpus, LoadChange, ProcessLoad, Simulator};
use mizzen_nvml_sim::environment;
use mizzen_nvml_sim::host::{self, DriverLayout, Installation};
use mizzen_nvml_sim::library;
use mizzen_nvml_sim::scenario::Scenario;

use super::process::Recipe;
use super::table::Column;

/// Builds the release binary and says where it is.
pub(super) fn build(root: &Path) -> Result<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["build", "--release", "--package", "mizzen"])
        .status()?;
    if !status.success() {
        bail!("building mizzen failed");
    }
    // Beside us: `cargo xtask` is a release build in the same target directory.
    let binary = std::env::current_exe()?.with_file_name("mizzen");
    binary
        .try_exists()?
        .then_some(binary)
        .context("the built mizzen is not beside this program")
}

/// A simulated node.
pub(super) struct Node {
    simulator: Simulator,
    library: PathBuf,
    work: PathBuf,
    /// The agent's config file, if it has one, and how often that offers each GPU.
    config: Option<(PathBuf, u32)>,
    /// The root of the simulated host's files, if it has some.
    host: Option<PathBuf>,
    /// Where the agent keeps what it knows of sick GPUs.
    pub(super) state_dir: PathBuf,
    /// Where the kubelet's socket is.
    pub(super) plugin_dir: PathBuf,
}

impl Node {
    /// A node with `gpus` (`8xh100-80gb`), its files below `work`.
    pub(super) fn new(work: &Path, gpus: &str, plugin_dir: Option<&Path>) -> Result<Self> {
        Self::in_directory(work.join(gpus), gpus, plugin_dir)
    }

    /// The same, with each GPU offered [`SHARED_REPLICAS`] times.
    pub(super) fn shared(work: &Path, gpus: &str, plugin_dir: Option<&Path>) -> Result<Self> {
        let work = work.join(format!("{gpus}-shared"));
        let mut node = Self::in_directory(work, gpus, plugin_dir)?;
        node.share(SHARED_REPLICAS)?;
        Ok(node)
    }

    /// A node whose GPUs are offered so many times.
    pub(super) fn shared_by(work: &Path, gpus: &str, replicas: u32) -> Result<Self> {
        let mut node = Self::in_directory(work.join(format!("{gpus}-shared")), gpus, None)?;
        node.share(replicas)?;
        Ok(node)
    }

    /// The same, with each GPU cut into seven MIG devices, which are offered by profile, and the
    /// host's files that number their capabilities.
    pub(super) fn partitioned(work: &Path, gpus: &str, plugin_dir: Option<&Path>) -> Result<Self> {
        let work = work.join(format!("{gpus}-partitioned"));
        let mut node = Self::in_directory(work, gpus, plugin_dir)?;
        node.simulator.set_mig_mode(&Gpus::All, true)?;
        node.simulator
            .create_mig_devices(&Gpus::All, &MIG_DEVICES)?;
        let host = node.work.join("host");
        let (known, partitions) = node.simulator.partitions()?;
        host::write_partitioned(&known, &partitions, &host)?;
        node.host = Some(host);
        Ok(node)
    }

    /// The same, with as many processes on each GPU as a shared one may have.
    pub(super) fn crowded(work: &Path, gpus: &str) -> Result<Self> {
        let mut node = Self::in_directory(work.join(format!("{gpus}-crowded")), gpus, None)?;
        node.share(PROCESSES)?;
        for index in 0..node.gpus()? {
            let processes = (0..PROCESSES).map(|number| pid(index, number));
            node.occupy(index, processes)?;
        }
        Ok(node)
    }

    /// Offers each GPU so many times.
    fn share(&mut self, replicas: u32) -> Result<()> {
        self.config = Some((self.work.join("config.yaml"), replicas));
        self.configure(replicas)
    }

    /// Gives a GPU something to do, in these processes.
    pub(super) fn occupy(&self, index: u32, pids: impl Iterator<Item = u32>) -> Result<()> {
        let process = |pid| ProcessLoad {
            pid,
            memory_mib: 512,
            utilization: 2,
            ..ProcessLoad::default()
        };
        let change = LoadChange {
            utilization: Some(Program::Constant(90.0)),
            processes: pids.map(process).collect(),
            ..LoadChange::default()
        };
        self.simulator.load(&GpuRef::Index(index).into(), &change)?;
        Ok(())
    }

    /// How many GPUs it has.
    pub(super) fn gpus(&self) -> Result<u32> {
        Ok(u32::try_from(self.simulator.node()?.gpus.len())?)
    }

    /// What drives it.
    pub(super) fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    /// A place of its own for this.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// Rolls out a config with this many replicas of each GPU, if the node has a config.
    pub(super) fn configure(&self, replicas: u32) -> Result<()> {
        let Some((config, _)) = &self.config else {
            return Ok(());
        };
        let new = config.with_extension("new");
        fs::write(&new, time_slicing(replicas))?;
        fs::rename(new, config)?;
        Ok(())
    }

    fn in_directory(work: PathBuf, gpus: &str, plugin_dir: Option<&Path>) -> Result<Self> {
        let node = Self {
            simulator: Simulator::create(&work.join("sim"), &Scenario::short(gpus)?)?,
            library: library::place(&work.join("lib"))?,
            state_dir: work.join("state"),
            plugin_dir: plugin_dir.map_or_else(|| work.join("plugins"), Path::to_owned),
            work,
            config: None,
            host: None,
        };
        fs::create_dir_all(&node.plugin_dir)?;
        Ok(node)
    }

    /// Makes the driver report that the GPU at `index` has fallen off the bus.
    pub(super) fn inject_xid(&self, index: usize) -> Result<()> {
        let gpu = GpuRef::Index(u32::try_from(index)?);
        self.simulator.inject(&gpu.into(), &Fault::xid(79), None)?;
        Ok(())
    }

    /// Ends every fault, and forgets what an agent knew of them.
    pub(super) fn heal(&self) -> Result<()> {
        if let Some((_, replicas)) = self.config {
            self.configure(replicas)?;
        }
        self.simulator.heal(&Gpus::All)?;
        match fs::remove_dir_all(&self.state_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The root of a host that has the driver's files too.
    fn installed(&self) -> Result<PathBuf> {
        let host = self.work.join("installed");
        let (known, partitions) = self.simulator.partitions()?;
        let layout = Installation::Layout(DriverLayout::Debian);
        host::write_installed(&known, &partitions, layout, &host)?;
        Ok(host)
    }

    fn config_file(&self) -> Option<&Path> {
        self.config.as_ref().map(|(file, _)| file.as_path())
    }

    fn kubelet_socket(&self) -> PathBuf {
        self.plugin_dir.join("kubelet.sock")
    }

    fn recipe(&self, name: &str, command: Vec<String>) -> Recipe {
        let text = |path: &Path| path.display().to_string();
        let library_dir = self.library.parent().map(text).unwrap_or_default();
        Recipe {
            command,
            environment: vec![
                (
                    environment::STATE.to_owned(),
                    text(self.simulator.state_directory()),
                ),
                ("LD_LIBRARY_PATH".to_owned(), library_dir),
                ("KUBELET_SOCKET".to_owned(), text(&self.kubelet_socket())),
                (
                    "CONFIG_FILE".to_owned(),
                    self.config_file().map(text).unwrap_or_default(),
                ),
            ],
            log: self.work.join(format!("{name}.log")),
        }
    }
}

/// What each GPU of a partitioned node is cut into.
const MIG_DEVICES: [&str; 7] = ["1g.10gb"; 7];

/// How many processes each GPU of a crowded node has.
pub(super) const PROCESSES: u32 = 48;

/// A process on a GPU, which no other GPU has.
pub(super) fn pid(gpu: u32, number: u32) -> u32 {
    1000 * (gpu + 1) + number
}

/// How often each GPU of a node with shared GPUs is offered.
const SHARED_REPLICAS: u32 = 1000;

/// The reference's config for this many replicas of each GPU.
fn time_slicing(replicas: u32) -> String {
    format!(
        "version: v1\nsharing:\n  timeSlicing:\n    resources:\n    - name: nvidia.com/gpu\n      \
         replicas: {replicas}\n"
    )
}

/// One column's plugin on one node.
pub(super) struct Subject {
    pub(super) column: Column,
    pub(super) recipe: Recipe,
}

impl Subject {
    pub(super) fn mizzen(binary: &Path, node: &Node) -> Self {
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let mut command = vec![
            binary.display().to_string(),
            "agent".to_owned(),
            option("nvml-library", &node.library),
            option("state-dir", &node.state_dir),
        ];
        if let Some(host) = &node.host {
            command.push(option("host-root", host));
            command.push("--mig-strategy=mixed".to_owned());
        }
        Self {
            column: Column::Mizzen,
            recipe: node.recipe("mizzen", command),
        }
    }

    /// The agent with these flags besides, on a node that has the files of its host.
    pub(super) fn agent(binary: &Path, node: &Node, flags: Vec<String>) -> Result<Recipe> {
        let mut recipe = Self::mizzen(binary, node).recipe;
        if node.host.is_none() {
            let host = node.installed()?;
            let host = format!("--host-root={}", host.display());
            recipe
                .command
                .extend([host, "--mig-strategy=mixed".to_owned()]);
        }
        recipe.command.extend(flags);
        Ok(recipe)
    }

    /// The command that makes the node's CDI spec, of a host that has the driver's files too.
    pub(super) fn generate(binary: &Path, node: &Node) -> Result<Self> {
        let host = node.installed()?;
        let command = vec![
            binary.display().to_string(),
            "cdi".to_owned(),
            "generate".to_owned(),
            format!("--host-root={}", host.display()),
        ];
        Ok(Self {
            column: Column::Mizzen,
            recipe: node.recipe("generate", command),
        })
    }

    /// `mizzen labels --oneshot` on a node with the files of its host, MIG devices by profile.
    pub(super) fn labels(binary: &Path, node: &Node) -> Result<Self> {
        let host = node.installed()?;
        let command = vec![
            binary.display().to_string(),
            "labels".to_owned(),
            "--oneshot".to_owned(),
            "--mig-strategy=mixed".to_owned(),
            format!("--host-root={}", host.display()),
        ];
        Ok(Self {
            column: Column::Mizzen,
            recipe: node.recipe("labels", command),
        })
    }

    /// This program, asking the node's GPUs what they measure so many times.
    pub(super) fn samples(node: &Node, rounds: usize) -> Result<Self> {
        let command = vec![
            std::env::current_exe()?.display().to_string(),
            "samples".to_owned(),
            node.library.display().to_string(),
            rounds.to_string(),
        ];
        Ok(Self {
            column: Column::Mizzen,
            recipe: node.recipe("samples", command),
        })
    }

    pub(super) fn floor(node: &Node) -> Result<Self> {
        let command = vec![
            std::env::current_exe()?.display().to_string(),
            "floor-plugin".to_owned(),
            node.kubelet_socket().display().to_string(),
            node.simulator.node()?.gpus.len().to_string(),
        ];
        Ok(Self {
            column: Column::Floor,
            recipe: node.recipe("floor", command),
        })
    }

    pub(super) fn peer(command: &str, node: &Node) -> Self {
        let command = command.split_whitespace().map(str::to_owned).collect();
        Self {
            column: Column::PeerNow,
            recipe: node.recipe("peer", command),
        }
    }
}
