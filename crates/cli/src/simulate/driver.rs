//! The simulated driver of a run.

use std::path::{Path, PathBuf};

use anyhow::Result;
use mizzen_nvml_sim::scenario::Scenario;

use super::picture::{Gpu, Picture};
use super::script::Action;
use super::world::World;

#[derive(Debug)]
pub(crate) struct Driver {
    library: PathBuf,
}

impl Driver {
    pub(crate) fn install(_world: &World, _scenario: &Scenario) -> Result<Self> {
        anyhow::bail!("driver")
    }
    pub(crate) fn library(&self) -> &Path {
        &self.library
    }
    pub(crate) fn first_picture(&self, _node: String) -> Result<Picture> {
        anyhow::bail!("driver")
    }
    pub(crate) fn gpus(&self) -> Result<Vec<Gpu>> {
        anyhow::bail!("driver")
    }
    pub(crate) fn perform(&self, _action: &Action) -> Result<()> {
        anyhow::bail!("driver")
    }
}
