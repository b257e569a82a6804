//! What is offered by CDI names: nothing that a runtime would not find.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Effect, KnownGpu, NodeState};
use crate::allocate::{HostNodes, cdi_extras, cdi_gpu, visible_id};
use crate::mig::MigDevice;
use crate::pool::{DevicePool, Unit};

impl NodeState {
    /// The full names of the CDI devices that containers are given; none where runtimes are not
    /// told of devices by CDI. What is common to all containers is in it where its nodes are.
    pub fn cdi_names(&self) -> BTreeSet<String> {
        if !self.config.device_list_strategies.any_cdi() {
            return BTreeSet::new();
        }
        let shares = self.pools().values().flat_map(DevicePool::shares);
        let gpus = shares.filter_map(|share| {
            let known = self.gpus().get(share.gpu)?;
            let device = share.mig.and_then(|at| known.mig_devices().get(at));
            Some(self.cdi_name(known, device))
        });
        gpus.chain(self.extras(&self.host_nodes)).collect()
    }

    pub(super) fn cdi_name(&self, known: &KnownGpu, mig: Option<&MigDevice>) -> String {
        let unit = Unit {
            gpu: &known.gpu,
            mig,
        };
        cdi_gpu(&visible_id(&self.config, &unit))
    }

    fn extras(&self, nodes: &HostNodes) -> impl Iterator<Item = String> + use<> {
        let configured = self.config.imex.channel_ids.iter().copied();
        let channels: Vec<u32> = configured
            .filter(|id| nodes.imex_channels.contains(id))
            .collect();
        cdi_extras(&self.config, &channels)
            .collect::<Vec<_>>()
            .into_iter()
    }

    pub(super) fn is_found_by_runtimes(&self, known: &KnownGpu, mig: Option<&MigDevice>) -> bool {
        let Some(found) = &self.cdi else {
            return true;
        };
        !self.config.device_list_strategies.any_cdi() || found.contains(&self.cdi_name(known, mig))
    }

    pub(super) fn cdi_resolved(&mut self, names: BTreeSet<String>) -> Vec<Effect> {
        self.cdi_was_looked_at = true;
        if self.cdi.as_ref() == Some(&names) {
            // What was found stays, and yet there may be GPUs now that are not in it.
            return self.renew_delivery();
        }
        self.cdi = Some(names);
        self.renew_unresolved();
        let mut effects = self.renew_delivery();
        if effects.is_empty() {
            effects.push(Effect::Publish);
        }
        effects
    }

    /// Works out anew which of the extras no runtime finds.
    pub(super) fn renew_unresolved(&mut self) {
        let nodes = HostNodes::clone(&self.host_nodes);
        self.host_nodes = Arc::new(self.with_unresolved(nodes));
    }

    /// The nodes with the word on which of the extras no runtime finds.
    pub(super) fn with_unresolved(&self, mut nodes: HostNodes) -> HostNodes {
        nodes.unresolved = match &self.cdi {
            Some(found) => {
                let extras = self.extras(&nodes);
                extras.filter(|name| !found.contains(name)).collect()
            }
            None => BTreeSet::new(),
        };
        nodes
    }
}
