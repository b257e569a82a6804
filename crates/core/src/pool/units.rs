//! What each GPU gives: itself, or its MIG devices.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::Remark;
use crate::config::MigStrategy;
use crate::gpu::Gpu;
use crate::mig::{MigDevice, MigProfile};

/// The position of a GPU, or of one of its MIG devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) gpu: usize,
    pub(super) mig: Option<usize>,
}

/// What GPUs give by a strategy.
#[derive(Debug, Default)]
pub(super) struct Units {
    pub(super) list: Vec<Position>,
    pub(super) remarks: Vec<Remark>,
}

/// What the GPUs at the positions `admitted` give.
pub(super) fn units(gpus: &[Gpu], admitted: &[usize], strategy: MigStrategy) -> Units {
    let mut units = Units::default();
    match strategy {
        MigStrategy::None => units.take_all_whole(gpus, admitted),
        MigStrategy::Mixed => units.take_each_as_it_is(gpus, admitted),
        MigStrategy::Single => units.take_one_kind(gpus, admitted),
    }
    units
}

/// The MIG devices of a GPU with MIG on.
fn devices(gpu: &Gpu) -> Option<&[MigDevice]> {
    let mig = gpu.mig.as_ref().filter(|mig| mig.mode.current)?;
    Some(&mig.devices)
}

impl Units {
    fn take_whole(&mut self, gpu: usize) {
        self.list.push(Position { gpu, mig: None });
    }

    fn take_devices(&mut self, gpu: usize, devices: &[MigDevice]) {
        let positions = 0..devices.len();
        self.list
            .extend(positions.map(|at| Position { gpu, mig: Some(at) }));
    }

    fn remark(&mut self, text: String) {
        self.remarks.push(Remark::from(text));
    }

    fn take_all_whole(&mut self, gpus: &[Gpu], admitted: &[usize]) {
        for &at in admitted {
            self.take_whole(at);
        }
        let on = |at: &&usize| devices(&gpus[**at]).is_some();
        let on: Vec<u32> = admitted
            .iter()
            .filter(on)
            .map(|at| gpus[*at].index)
            .collect();
        if !on.is_empty() {
            self.remark(format!(
                "MIG is on, and migStrategy none offers the GPU whole, with all its MIG devices \
                 together: {}; with migStrategy mixed or single they are offered one by one",
                gpus_in_words(&on)
            ));
        }
    }

    fn take_each_as_it_is(&mut self, gpus: &[Gpu], admitted: &[usize]) {
        let mut empty = Vec::new();
        for &at in admitted {
            match devices(&gpus[at]) {
                None => self.take_whole(at),
                Some([]) => empty.push(gpus[at].index),
                Some(devices) => self.take_devices(at, devices),
            }
        }
        if !empty.is_empty() {
            self.remark(format!(
                "MIG is on and there are no MIG devices, so nothing is offered: {}; create some \
                 (mizzen mig apply, nvidia-smi mig -cgi ... -C) or turn MIG off",
                gpus_in_words(&empty)
            ));
        }
    }

    /// All GPUs have to give the same, since a pod cannot say which it wants. On a node that is
    /// uneven those give it that are like most, of equals those like the GPU with the lowest index;
    /// the reference then offers nothing.
    fn take_one_kind(&mut self, gpus: &[Gpu], admitted: &[usize]) {
        let kinds: Vec<Kind> = admitted.iter().map(|at| Kind::of(&gpus[*at])).collect();
        let mut counts: BTreeMap<&Kind, usize> = BTreeMap::new();
        for kind in kinds.iter().filter(|kind| kind.is_offered()) {
            *counts.entry(kind).or_default() += 1;
        }
        // The first of equals: `max_by_key` would take the last.
        let common = kinds
            .iter()
            .rev()
            .filter(|kind| kind.is_offered())
            .max_by_key(|kind| counts[kind]);
        for (&at, kind) in admitted.iter().zip(&kinds) {
            if Some(kind) == common {
                match devices(&gpus[at]) {
                    None => self.take_whole(at),
                    Some(devices) => self.take_devices(at, devices),
                }
                continue;
            }
            let wanted = common.map_or_else(
                || "wants each GPU whole, or cut into MIG devices of one profile".to_owned(),
                |common| {
                    let (count, all) = (counts[common], kinds.len());
                    let offered = common.of_many(count);
                    format!("offers GPUs of one kind, and {count} of {all} {offered}")
                },
            );
            self.remark(format!(
                "GPU {} {} and is not offered: migStrategy single {wanted}; cut it alike, or use \
                 migStrategy mixed",
                gpus[at].index,
                kind.of_one()
            ));
        }
    }
}

/// What a GPU gives with the strategy `single`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Whole,
    Devices(MigProfile),
    Uneven(BTreeSet<MigProfile>),
    Empty,
}

impl Kind {
    fn of(gpu: &Gpu) -> Self {
        let Some(devices) = devices(gpu) else {
            return Self::Whole;
        };
        let profiles: BTreeSet<_> = devices.iter().map(|device| device.profile).collect();
        let mut each = profiles.iter();
        match (each.next(), each.next()) {
            (None, _) => Self::Empty,
            (Some(only), None) => Self::Devices(*only),
            (Some(_), Some(_)) => Self::Uneven(profiles),
        }
    }

    fn is_offered(&self) -> bool {
        matches!(self, Self::Whole | Self::Devices(_))
    }

    fn of_one(&self) -> String {
        match self {
            Self::Whole => "is whole".to_owned(),
            Self::Devices(profile) => format!("is cut into {profile}"),
            Self::Uneven(profiles) => {
                let each: Vec<String> = profiles.iter().map(MigProfile::to_string).collect();
                format!("is cut into {}", listed(&each))
            }
            Self::Empty => "has MIG on and no MIG devices".to_owned(),
        }
    }

    fn of_many(&self, count: usize) -> String {
        let are = if count == 1 { "is" } else { "are" };
        match self {
            Self::Devices(profile) => format!("{are} cut into {profile}"),
            _ => format!("{are} whole"),
        }
    }
}

/// `GPU 3`, `GPUs 0, 1 and 3`.
fn gpus_in_words(indices: &[u32]) -> String {
    let texts: Vec<String> = indices.iter().map(u32::to_string).collect();
    let gpus = if texts.len() == 1 { "GPU" } else { "GPUs" };
    format!("{gpus} {}", listed(&texts))
}

/// `a`, `a and b`, `a, b and c`.
fn listed(texts: &[String]) -> String {
    match texts {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        texts => texts.concat(),
    }
}
