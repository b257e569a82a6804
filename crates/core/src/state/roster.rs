//! Which GPUs are known: what the driver lists now, joined with what was known before.

use std::collections::{BTreeMap, BTreeSet};

use super::KnownGpu;
use super::record::GpuRecord;
use crate::driver::DriverError;
use crate::gpu::{Gpu, GpuUuid, PciBusId};
use crate::health::{Change, GpuHealth, Moment, Reason};
use crate::inventory::{BrokenGpu, Inventory};
use crate::topology::{Link, LinkMatrix};

/// All known GPUs in the order in which they are offered, and their links by that order.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    pub(super) gpus: Vec<KnownGpu>,
    pub(super) links: LinkMatrix,
}

/// What a look at the driver has changed.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) added: Vec<GpuUuid>,
    pub(super) removed: Vec<Gpu>,
    pub(super) health: Vec<(GpuUuid, Change)>,
    /// Whether anything at all is different.
    pub(super) any: bool,
}

impl Roster {
    /// The GPUs that were known before this process.
    pub(super) fn restored(records: Vec<GpuRecord>, now: Moment) -> Self {
        let mut gpus: Vec<KnownGpu> = records
            .into_iter()
            .map(|record| {
                let instances = record.mig.into_iter();
                KnownGpu {
                    instances: instances
                        .map(|mig| (mig.uuid, GpuHealth::restored(mig.signs, now)))
                        .collect(),
                    ..KnownGpu::new(record.gpu, GpuHealth::restored(record.signs, now))
                }
            })
            .collect();
        gpus.sort_by_key(order);
        gpus.dedup_by(|a, b| a.gpu.uuid == b.gpu.uuid);
        let links = LinkMatrix::unknown(gpus.len());
        Self { gpus, links }
    }

    pub(super) fn find(&self, uuid: &GpuUuid) -> Option<&KnownGpu> {
        self.gpus.iter().find(|known| known.gpu.uuid == *uuid)
    }

    pub(super) fn find_mut(&mut self, uuid: &GpuUuid) -> Option<&mut KnownGpu> {
        self.gpus.iter_mut().find(|known| known.gpu.uuid == *uuid)
    }

    fn at(&self, pci: PciBusId) -> Option<&KnownGpu> {
        self.gpus.iter().find(|known| known.gpu.pci == pci)
    }

    /// Joins what the driver lists with what was known.
    ///
    /// `on_bus` are the PCI addresses of those known GPUs that the machine has, whatever the driver
    /// says of them; `None` where that cannot be told. A known GPU that the driver does not list is
    /// kept as unhealthy while it is on the bus, and forgotten when it is not. Where the bus
    /// cannot be told, or contradicts the driver, a GPU that was sick is kept.
    pub(super) fn join(
        &mut self,
        inventory: Inventory,
        on_bus: Option<&BTreeSet<PciBusId>>,
        now: Moment,
    ) -> Difference {
        let mut difference = Difference::default();
        let listed = inventory.gpus.len();
        let on_bus = on_bus.filter(|bus| inventory.gpus.iter().all(|gpu| bus.contains(&gpu.pci)));
        let mut next: Vec<KnownGpu> = Vec::with_capacity(listed);
        let fresh_links = FreshLinks::of(&inventory);
        for gpu in inventory.gpus {
            next.push(self.keep_or_add(gpu, &mut difference));
        }
        for broken in inventory.broken {
            let known = self.broken(&broken, now, &mut difference);
            if next.iter().all(|other| other.gpu.uuid != known.gpu.uuid) {
                next.push(known);
            }
        }
        for known in &self.gpus {
            if next.iter().any(|other| other.gpu.uuid == known.gpu.uuid) {
                continue;
            }
            // Another board sits in its place: it is gone, whatever was known of it.
            let replaced = next.iter().any(|other| other.gpu.pci == known.gpu.pci);
            let there = on_bus.map_or(!known.health.is_healthy(), |bus| {
                bus.contains(&known.gpu.pci)
            });
            if there && !replaced {
                let mut missing = known.clone();
                let change = missing.health.fault(Reason::Missing, now);
                difference
                    .health
                    .extend(change.map(|change| (known.gpu.uuid.clone(), change)));
                next.push(missing);
            } else {
                difference.removed.push(known.gpu.clone());
            }
        }
        next.sort_by_key(order);
        let links = self.links_of(&next, &fresh_links);
        let same = |a: &KnownGpu, b: &KnownGpu| {
            a.gpu == b.gpu && a.health == b.health && a.instances == b.instances
        };
        difference.any = links != self.links
            || next.len() != self.gpus.len()
            || !next.iter().zip(&self.gpus).all(|(a, b)| same(a, b));
        *self = Self { gpus: next, links };
        difference
    }

    fn keep_or_add(&self, gpu: Gpu, difference: &mut Difference) -> KnownGpu {
        let Some(known) = self.find(&gpu.uuid) else {
            difference.added.push(gpu.uuid.clone());
            return KnownGpu::new(gpu, GpuHealth::default());
        };
        let mut known = KnownGpu {
            gpu,
            ..known.clone()
        };
        known.forget_gone_instances();
        known
    }

    /// A GPU that cannot be described is recognised by its UUID or its place, and otherwise gets
    /// a description of its own.
    fn broken(&self, broken: &BrokenGpu, now: Moment, difference: &mut Difference) -> KnownGpu {
        let by_uuid = broken.uuid.as_ref().and_then(|uuid| self.find(uuid));
        let by_place = broken.pci.and_then(|pci| self.at(pci));
        let mut known = by_uuid.or(by_place).cloned().unwrap_or_else(|| {
            let gpu = describe_broken(broken);
            difference.added.push(gpu.uuid.clone());
            KnownGpu::new(gpu, GpuHealth::default())
        });
        // One that is being partitioned anew is as it was.
        if broken.error == DriverError::InUse && self.find(&known.gpu.uuid).is_some() {
            return known;
        }
        let reason = Reason::from_error(&broken.error)
            .unwrap_or_else(|| Reason::Broken(broken.error.to_string()));
        let change = known.health.fault(reason, now);
        difference
            .health
            .extend(change.map(|change| (known.gpu.uuid.clone(), change)));
        known
    }

    /// The links of `gpus`: as read now where both ends were, else as known before.
    fn links_of(&self, gpus: &[KnownGpu], fresh: &FreshLinks) -> LinkMatrix {
        let before: BTreeMap<&GpuUuid, usize> = self
            .gpus
            .iter()
            .enumerate()
            .map(|(at, known)| (&known.gpu.uuid, at))
            .collect();
        LinkMatrix::from_fn(gpus.len(), |a, b| {
            let (a, b) = (&gpus[a].gpu.uuid, &gpus[b].gpu.uuid);
            fresh
                .get(a, b)
                .unwrap_or_else(|| match (before.get(a), before.get(b)) {
                    (Some(&a), Some(&b)) => self.links.get(a, b),
                    _ => Link::UNKNOWN,
                })
        })
    }
}

/// The links of one inventory, by UUID.
struct FreshLinks {
    positions: BTreeMap<GpuUuid, usize>,
    links: LinkMatrix,
}

impl FreshLinks {
    fn of(inventory: &Inventory) -> Self {
        let gpus = inventory.gpus.iter().enumerate();
        Self {
            positions: gpus.map(|(at, gpu)| (gpu.uuid.clone(), at)).collect(),
            links: inventory.links.clone(),
        }
    }

    fn get(&self, a: &GpuUuid, b: &GpuUuid) -> Option<Link> {
        let link = self
            .links
            .get(*self.positions.get(a)?, *self.positions.get(b)?);
        (link != Link::UNKNOWN).then_some(link)
    }
}

fn order(known: &KnownGpu) -> (u32, PciBusId) {
    (known.gpu.index, known.gpu.pci)
}

/// A description for a GPU that never gave one. Without a UUID it gets one made of its place on
/// the bus, or of its index: `GPU-00000000-0000-0000-0000-…`, which no real GPU has. It is
/// unhealthy, so that nobody is given it, and counted, so that somebody misses it.
fn describe_broken(broken: &BrokenGpu) -> Gpu {
    let pci = broken.pci.unwrap_or(PciBusId {
        domain: 0,
        bus: 0,
        device: 0,
        function: 0,
    });
    Gpu {
        index: broken.index,
        minor: broken.index,
        uuid: broken
            .uuid
            .clone()
            .unwrap_or_else(|| GpuUuid::placeholder(broken.index, broken.pci)),
        pci,
        name: "unknown".to_owned(),
        memory_mib: 0,
        compute_capability: (0, 0),
        numa_node: None,
        device_id: 0,
        mig: None,
    }
}
