//! How a GPU is partitioned, and its MIG devices.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Devices, Gpu, Health};

/// How a GPU that can be partitioned is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mig {
    /// Whether MIG is on.
    pub(crate) enabled: bool,
    /// Whether it will be on after the next reset of the GPU.
    pub(crate) pending: bool,
    /// The MIG devices by index; those behind them that are gone and were held once.
    pub(crate) devices: Vec<MigDevice>,
}

/// One MIG device, and what the kubelet makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MigDevice {
    /// The indices of its GPU and its own: `0:1`.
    #[serde(rename = "index")]
    pub(crate) name: String,
    /// Its own alone.
    #[serde(skip)]
    pub(crate) index: u32,
    /// `MIG-…`.
    pub(crate) uuid: String,
    /// `1g.10gb`.
    pub(crate) profile: String,
    /// Memory of its GPU instance, MiB.
    #[serde(rename = "memoryMiB")]
    pub(crate) memory_mib: u64,
    /// Id of its GPU instance.
    pub(crate) gpu_instance: u32,
    /// Its id in the GPU instance.
    pub(crate) compute_instance: u32,
    /// Whether it has been taken away.
    pub(crate) gone: bool,
    /// What the agent told the kubelet.
    pub(crate) health: Health,
    /// The devices it is offered as, by resource.
    pub(crate) offered_as: BTreeMap<String, Devices>,
    /// The containers that hold it, as [`Gpu::held_by`].
    pub(crate) held_by: Vec<String>,
    /// The containers that held it and have ended.
    pub(crate) was_held_by: Vec<String>,
}

impl Gpu {
    /// Its MIG devices, with those that are gone.
    pub(crate) fn mig_devices(&self) -> &[MigDevice] {
        self.mig.as_ref().map_or(&[], |mig| &mig.devices)
    }

    /// The containers that hold it as a whole.
    pub(crate) fn held_as_whole(&self) -> impl Iterator<Item = &String> {
        let holds_part = |holder: &String| {
            let mut devices = self.mig_devices().iter();
            devices.any(|device| device.held_by.contains(holder))
        };
        self.held_by
            .iter()
            .filter(move |holder| !holds_part(holder))
    }

    /// The containers that held it as a whole and have ended.
    pub(crate) fn was_held_as_whole(&self) -> impl Iterator<Item = &String> {
        let held_part = |holder: &String| {
            let mut devices = self.mig_devices().iter();
            devices.any(|device| device.was_held_by.contains(holder))
        };
        self.was_held_by
            .iter()
            .filter(move |holder| !held_part(holder))
    }

    /// Whether MIG is on and there are no MIG devices.
    pub(crate) fn has_nothing_to_offer(&self) -> bool {
        let is_empty = |mig: &Mig| mig.enabled && mig.devices.iter().all(|device| device.gone);
        self.mig.as_ref().is_some_and(is_empty)
    }

    /// Whether it is offered as its MIG devices and not as a whole.
    pub(crate) fn is_cut(&self) -> bool {
        let there = || self.mig_devices().iter().filter(|device| !device.gone);
        let is_known = there().any(|device| device.health != Health::Unknown);
        is_known || (self.health == Health::Unknown && there().next().is_some())
    }
}
