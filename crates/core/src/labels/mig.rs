//! The labels of MIG devices.

use std::collections::BTreeMap;

use super::sharing::Shared;
use super::value::LabelValue;
use super::{GPU, Writer, mig_is_on};
use crate::gpu::Gpu;
use crate::mig::{MigDevice, MigProfile};
use crate::resource::ResourceName;

/// MIG devices of one profile.
struct Kind<'a> {
    /// The GPU of the first.
    gpu: &'a Gpu,
    first: &'a MigDevice,
    count: usize,
}

/// The MIG devices of all GPUs by their profiles.
fn kinds<'a>(gpus: &[&'a Gpu]) -> BTreeMap<MigProfile, Kind<'a>> {
    let mut kinds: BTreeMap<MigProfile, Kind<'a>> = BTreeMap::new();
    for &gpu in gpus.iter().filter(|gpu| mig_is_on(gpu)) {
        for first in devices(gpu) {
            let count = 0;
            let kind = kinds
                .entry(first.profile)
                .or_insert(Kind { gpu, first, count });
            kind.count += 1;
        }
    }
    kinds
}

fn devices(gpu: &Gpu) -> &[MigDevice] {
    gpu.mig.as_ref().map_or(&[], |mig| &mig.devices)
}

impl Writer<'_> {
    /// `nvidia.com/gpu.*` are those of the MIG devices, if all GPUs are cut into the same. If they
    /// are not, the labels say that nothing is right, as the reference's do; what is offered all
    /// the same is said by the resources of the Node.
    pub(super) fn single(&mut self, gpus: &[&Gpu]) {
        let Some(&first_cut) = gpus.iter().find(|gpu| mig_is_on(gpu)) else {
            return;
        };
        let kinds = kinds(gpus);
        let all_are_cut = gpus
            .iter()
            .all(|gpu| mig_is_on(gpu) && !devices(gpu).is_empty());
        let mut each = kinds.into_iter();
        match (each.next(), each.next()) {
            (Some((profile, kind)), None) if all_are_cut => self.kind(GPU, profile, &kind),
            _ => self.invalid(first_cut),
        }
    }

    fn invalid(&mut self, gpu: &Gpu) {
        let product = LabelValue::of_product(&gpu.name, ["MIG", "INVALID"]);
        self.set("nvidia.com/gpu.product", product);
        for name in ["count", "replicas", "memory"] {
            self.set(&format!("{GPU}.{name}"), 0_u32);
        }
        self.set("nvidia.com/gpu.sharing-strategy", LabelValue::default());
    }

    /// Labels for each profile, beside those of whole GPUs.
    pub(super) fn mixed(&mut self, gpus: &[&Gpu]) {
        for (profile, kind) in kinds(gpus) {
            let resource = ResourceName::of_mig(profile);
            self.kind(resource.as_str(), profile, &kind);
        }
    }

    fn kind(&mut self, resource: &str, profile: MigProfile, kind: &Kind<'_>) {
        let Kind { gpu, first, count } = kind;
        let named = self.config.naming.of_mig(profile, self.config.mig_strategy);
        let shared = Shared::of(self.config, &named);
        self.base(resource, &gpu.name, Some(&profile.dotted()), *count, shared);
        let engines = first.engines;
        for (name, number) in [
            ("multiprocessors", first.multiprocessors),
            ("slices.gi", profile.gpu_slices),
            ("slices.ci", profile.compute_slices),
            ("engines.copy", engines.copy),
            ("engines.decoder", engines.decoders),
            ("engines.encoder", engines.encoders),
            ("engines.jpeg", engines.jpeg),
            ("engines.ofa", engines.ofa),
        ] {
            self.set(&format!("{resource}.{name}"), number);
        }
        self.set(&format!("{resource}.memory"), first.memory_mib);
    }
}
