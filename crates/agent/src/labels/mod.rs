//! The labels of this node: what they are made of is gathered here, what is made of it is
//! `core::labels`' decision, and where it goes is done here again.
//!
//! A running agent follows its picture of the node (`facts`) and keeps the labels where the
//! settings say (`keep`); `mizzen labels` looks for itself ([`look`], [`follow`](follow())).

mod api;
mod facts;
mod file;
mod follow;
mod host;
mod keep;
mod place;
mod record;

use mizzen_core::config::Config;
use mizzen_core::driver::{DriverError, DriverLoader, GpuDriver};
use mizzen_core::gpu::GpuUuid;
use mizzen_core::inventory::Inventory;
use mizzen_core::labels::{Labels, NodeFacts, feature_labels};
use mizzen_core::topology::FabricClique;
use mizzen_nvml::HostRoot;

pub use api::{ApiLabels, Trouble, Written};
pub use file::LabelsFile;
pub use follow::{FollowError, Next, follow};
pub use host::host_facts;
pub(crate) use keep::{Labelled, start};

/// The labels of the node at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The labels.
    pub labels: Labels,
    /// What could not be asked, for people: labels say nothing of it.
    pub remarks: Vec<String>,
}

/// Opens the driver, looks at the node and closes it. `timestamp` is that of
/// [`NodeFacts::timestamp`].
///
/// # Errors
/// The driver's where it cannot be asked; with `--fail-on-init-error=false` that is a remark, and
/// the labels tell what is known without it.
pub fn look(
    loader: &dyn DriverLoader,
    config: &Config,
    timestamp: Option<u64>,
) -> Result<Look, DriverError> {
    let asked = ask(loader);
    let mut remarks = Vec::new();
    let (inventory, fabric) = match asked {
        Ok((inventory, fabric)) => (Some(inventory), fabric),
        Err(error) if config.fail_on_init_error => return Err(error),
        Err(error) => {
            remarks.push(format!("the driver cannot be asked: {error}"));
            (None, Vec::new())
        }
    };
    let broken = inventory.iter().flat_map(|inventory| &inventory.broken);
    remarks.extend(broken.map(|gpu| {
        let (index, error) = (gpu.index, &gpu.error);
        format!("GPU {index} cannot be described and counts in no label: {error}")
    }));
    let machine_file = config.labels.machine_type_file.as_deref();
    let host = host_facts(&HostRoot::new(&config.host_root), machine_file);
    let facts = NodeFacts {
        driver: inventory.as_ref().map(|inventory| &inventory.driver),
        gpus: inventory.as_ref().map_or(&[], |inventory| &inventory.gpus),
        fabric: &fabric,
        host: &host,
        timestamp,
    };
    Ok(Look {
        labels: feature_labels(&facts, config),
        remarks,
    })
}

/// The GPUs, and the fabric cliques that they say they are in.
fn ask(loader: &dyn DriverLoader) -> Result<(Inventory, Vec<FabricClique>), DriverError> {
    let driver = loader.open()?;
    let inventory = driver.snapshot()?;
    let gpus: Vec<GpuUuid> = inventory.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    let fabric = cliques(driver.as_ref(), &gpus);
    Ok((inventory, fabric))
}

/// The fabric cliques of those that answer and are in one.
fn cliques(driver: &dyn GpuDriver, gpus: &[GpuUuid]) -> Vec<FabricClique> {
    let answers = driver.fabric(gpus).into_iter();
    answers.filter_map(|answer| answer.ok().flatten()).collect()
}

#[cfg(test)]
mod tests;
