//! From the ids that the kubelet sends to the GPUs and MIG devices they belong to.
//!
//! A kubelet names every free device in each question, thousands on a node with many replicas:
//! so ids are looked up without being copied, and a replica is a number.

use std::collections::{BTreeMap, BTreeSet};

use super::Share;
use crate::device::{DeviceUuid, ReplicaId, split_id};
use crate::gpu::Gpu;

/// Which of its share's devices a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The only one.
    Whole,
    /// One of its replicas.
    Replica(ReplicaId),
}

/// Finds devices by their ids.
#[derive(Debug, Clone)]
pub(super) struct Finder {
    /// For each GPU or MIG device the place of its share, and how many replicas it has.
    places: BTreeMap<DeviceUuid, (usize, Option<u32>)>,
}

impl Finder {
    pub(super) fn new(shares: &[Share], gpus: &[Gpu]) -> Self {
        let places = shares.iter().enumerate();
        let places = places.map(|(place, share)| (share.uuid(gpus), (place, share.replicas)));
        Self {
            places: places.collect(),
        }
    }

    /// The place of the device's share, and which of its devices it is.
    pub(super) fn find(&self, id: &str) -> Option<(usize, Part)> {
        let (uuid, replica) = split_id(id);
        let &(place, replicas) = self.places.get(uuid)?;
        Some((place, part(replica, replicas)?))
    }

    /// The place of the device's share.
    pub(super) fn place(&self, id: &str) -> Option<usize> {
        self.find(id).map(|(place, _)| place)
    }

    /// Which of the known devices are `available` and not `held`; an id that is there twice counts
    /// once.
    pub(super) fn free<Id: AsRef<str>>(&self, available: &[Id], held: &BTreeSet<&str>) -> Free {
        let mut devices = vec![Vec::new(); self.places.len()];
        // A kubelet sorts them: the next one is most often of the same GPU.
        let mut last: Option<(&str, usize, Option<u32>)> = None;
        for id in available.iter().map(AsRef::as_ref) {
            let (uuid, replica) = split_id(id);
            let (place, replicas) = match last {
                Some((known, place, replicas)) if known == uuid => (place, replicas),
                _ => match self.places.get(uuid) {
                    Some(&(place, replicas)) => (place, replicas),
                    None => continue,
                },
            };
            last = Some((uuid, place, replicas));
            if let Some(part) = part(replica, replicas)
                && (held.is_empty() || !held.contains(id))
            {
                devices[place].push(part);
            }
        }
        for of_one in &mut devices {
            if !of_one.is_sorted_by(|a, b| a < b) {
                of_one.sort_unstable();
                of_one.dedup();
            }
        }
        Free { devices }
    }
}

/// What an id's second part names, if a GPU with so many `replicas` has it.
fn part(replica: Option<&str>, replicas: Option<u32>) -> Option<Part> {
    match (replica, replicas) {
        (None, None) => Some(Part::Whole),
        (Some(number), Some(count)) => {
            let replica = ReplicaId::parse(number)?;
            (replica.0 < count).then_some(Part::Replica(replica))
        }
        _ => None,
    }
}

/// The free devices of each share, by number.
#[derive(Debug)]
pub(super) struct Free {
    devices: Vec<Vec<Part>>,
}

impl Free {
    /// How many of the share at `place` are free.
    pub(super) fn count(&self, place: usize) -> usize {
        self.devices[place].len()
    }

    /// The `count` lowest of them.
    pub(super) fn lowest(&self, place: usize, count: usize) -> impl Iterator<Item = Part> {
        self.devices[place].iter().copied().take(count)
    }
}
