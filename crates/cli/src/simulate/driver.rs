//! The simulated driver of a run: its library, its machine, its live state.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mizzen_nvml_sim::control::{Affected, GpuStatus, LoadChange, MigStatus, Simulator};
use mizzen_nvml_sim::environment::Place;
use mizzen_nvml_sim::mig::Partition;
use mizzen_nvml_sim::scenario::{GpuGroup, Scenario};
use mizzen_nvml_sim::{Program, host, library};

use super::agent_process::Figures;
use super::picture::{Agent, FORM, Gpu, Health, Mig, MigDevice, Node, Picture};
use super::script::{Action, MigChange};
use super::world::World;
use crate::fault;
use crate::target::Target;

/// The driver, installed.
#[derive(Debug)]
pub(crate) struct Driver {
    library: PathBuf,
    simulator: Simulator,
    host: PathBuf,
}

impl Driver {
    /// Places the library and writes the scenario and the machine around the GPUs.
    pub(crate) fn install(world: &World, scenario: &Scenario) -> Result<Self> {
        let library = library::place(&world.driver())?;
        let yaml = scenario.to_yaml().context("cannot write the scenario")?;
        fs::write(world.scenario(), yaml).context("cannot write the scenario")?;
        let place = Place::new(
            Some(world.scenario()),
            Some(world.sim_state()),
            Some(world.host()),
        );
        let simulator = Simulator::open(&place)?;
        let driver = Self {
            library,
            simulator,
            host: world.host(),
        };
        write_host(&driver.simulator, &driver.host)?;
        Ok(driver)
    }

    /// Where `libnvidia-ml.so.1` is.
    pub(crate) fn library(&self) -> &Path {
        &self.library
    }

    /// The node before anything has happened.
    pub(crate) fn first_picture(&self, name: String) -> Result<Picture> {
        let status = self.simulator.status()?;
        Ok(Picture {
            version: FORM,
            elapsed: Duration::ZERO,
            outcome: None,
            node: Node {
                name,
                driver_version: status.driver_version,
                cuda_version: status.cuda_version,
                resources: BTreeMap::new(),
            },
            gpus: status.gpus.iter().map(seen).collect(),
            pods: Vec::new(),
            timeline: Vec::new(),
            agent: Agent {
                pid: 0,
                ready: None,
                figures: Figures::default(),
            },
        })
    }

    /// The GPUs as they are now.
    pub(crate) fn gpus(&self) -> Result<Vec<Gpu>> {
        Ok(self.simulator.status()?.gpus.iter().map(seen).collect())
    }

    /// Does to the GPUs what a step says.
    pub(crate) fn perform(&self, action: &Action) -> Result<()> {
        let simulator = &self.simulator;
        match action {
            Action::Inject(fault, target) => simulator.inject(&target.0, &(*fault).into(), None)?,
            Action::Load(percent, target) => {
                let utilization = Some(Program::Constant(f64::from(*percent)));
                simulator.load(
                    &target.0,
                    &LoadChange {
                        utilization,
                        ..LoadChange::default()
                    },
                )?
            }
            Action::Heal(target) => simulator.heal(&target.0)?,
            Action::Mig(change, target) => {
                let changed = self.partition(change, target)?;
                write_host(simulator, &self.host)?;
                changed
            }
            Action::Add(model) => {
                let added = simulator.add(&GpuGroup::new(model.parse()?, 1))?;
                write_host(simulator, &self.host)?;
                added
            }
            Action::Remove(target) => {
                // The bus and /dev lose a GPU before the driver's users hear of it.
                let (mut node, partitions) = simulator.partitions()?;
                let left = without(target, node.gpus.into_iter().zip(partitions));
                let (gpus, partitions): (_, Vec<_>) = left.into_iter().unzip();
                node.gpus = gpus;
                host::write_partitioned(&node, &partitions, &self.host)?;
                simulator.remove(&target.0)?
            }
            Action::RestartKubelet | Action::RestartAgent | Action::Config(_) => {
                bail!("no matter of the driver's")
            }
        };
        Ok(())
    }

    fn partition(&self, change: &MigChange, target: &Target) -> Result<Vec<Affected>> {
        let (simulator, gpus) = (&self.simulator, &target.0);
        Ok(match change {
            MigChange::Mode(on) => {
                let set = simulator.set_mig_mode(gpus, *on)?;
                set.into_iter().map(|set| set.gpu).collect()
            }
            MigChange::Create(profiles) => simulator.create_mig_devices(gpus, profiles)?,
            MigChange::Destroy => simulator.destroy_gpu_instances(gpus, None)?,
        })
    }
}

/// Writes the machine around the GPUs as they are now.
fn write_host(simulator: &Simulator, host: &Path) -> Result<()> {
    let (node, partitions) = simulator.partitions()?;
    host::write_partitioned(&node, &partitions, host)?;
    Ok(())
}

/// A GPU, and what it is partitioned into.
type Partitioned = (mizzen_nvml_sim::node::Gpu, Option<Partition>);

/// The GPUs that are left when the target's are gone.
fn without(target: &Target, gpus: impl Iterator<Item = Partitioned>) -> Vec<Partitioned> {
    let left = gpus.zip(0..).filter(|((gpu, _), index)| {
        !target.names(*index, &gpu.uuid.to_string(), &gpu.pci.to_string())
    });
    left.map(|(gpu, _index)| gpu).collect()
}

/// A GPU as the simulation knows it; the kubelet's view of it comes from elsewhere.
fn seen(gpu: &GpuStatus) -> Gpu {
    Gpu {
        index: gpu.index,
        uuid: gpu.uuid.to_string(),
        name: gpu.name.clone(),
        memory_mib: gpu.memory_mib,
        pci_bus_id: gpu.pci.to_string(),
        numa_node: Some(gpu.numa),
        health: Health::Unknown,
        faults: fault::in_words(gpu),
        offered_as: BTreeMap::new(),
        held_by: Vec::new(),
        was_held_by: Vec::new(),
        mig: gpu.mig.as_ref().map(|mig| seen_mig(gpu.index, mig)),
    }
}

fn seen_mig(gpu: u32, mig: &MigStatus) -> Mig {
    let devices = mig.gpu_instances.iter().flat_map(|parent| {
        parent.devices.iter().map(move |device| MigDevice {
            name: format!("{gpu}:{}", device.index),
            index: device.index,
            uuid: device.uuid.to_string(),
            profile: device.profile.clone(),
            memory_mib: parent.memory_mib,
            gpu_instance: parent.id,
            compute_instance: device.compute_instance,
            gone: false,
            health: Health::Unknown,
            offered_as: BTreeMap::new(),
            held_by: Vec::new(),
            was_held_by: Vec::new(),
        })
    });
    Mig {
        enabled: mig.enabled,
        pending: mig.pending,
        devices: devices.collect(),
    }
}
