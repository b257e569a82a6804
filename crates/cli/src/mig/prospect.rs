//! What is to be done to each GPU, or why it cannot be done.

use std::collections::BTreeSet;
use std::fmt;

use mizzen_core::driver::DriverError;
use mizzen_core::mig::{
    HeldInstance, Layout, MigMode, MigPlan, MigStep, MigTable, MigTarget, Unreachable, plan_mig,
};

use super::args::PlanArgs;
use super::goal::{Goal, did_you_mean};
use super::node::Card;
use super::pods::{self, Asked, Holder, Holders};
use super::steps;

/// What is to become of one GPU.
#[derive(Debug, Clone)]
pub(super) struct Prospect<'a> {
    pub(super) card: &'a Card,
    /// `None` if it is left as it is.
    pub(super) target: Option<MigTarget>,
    pub(super) way: Result<Way, Obstacle>,
}

/// How to get there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Way {
    pub(super) plan: MigPlan,
    /// Whether the GPU must be reset before all is as wanted.
    pub(super) needs_reset: bool,
    /// What is known only once MIG is on: this driver does not tell before where instances go.
    pub(super) is_open: bool,
}

/// Why a GPU cannot be cut as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The driver does not tell how it is cut, or that it can be.
    Driver(DriverError),
    /// It does not fit; with what was probably meant.
    Unreachable(Unreachable, String),
    /// Pods hold what stands in the way, or nobody knows whether they do.
    Held {
        reason: String,
        by: Vec<(String, Option<Holder>)>,
    },
    /// The kubelet cannot be asked, and something would be destroyed.
    Unasked(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(DriverError::NotSupported) => f.write_str("it cannot be partitioned"),
            Self::Driver(error) => write!(f, "{error}"),
            Self::Unreachable(reason, hint) => write!(f, "{reason}{hint}"),
            Self::Held { reason, by } => {
                f.write_str(reason)?;
                for (device, holder) in by {
                    match holder {
                        Some(holder) => write!(f, "; {device} is held by {holder}")?,
                        None => write!(
                            f,
                            "; {device} may be held by a pod, which cannot be told because the \
                             driver does not list it as a MIG device"
                        )?,
                    }
                }
                if by.iter().all(|(_, holder)| holder.is_none()) {
                    f.write_str("; --force does without")?;
                }
                Ok(())
            }
            Self::Unasked(reason) => write!(f, "{reason}; --force does without"),
        }
    }
}

/// What the driver told of a GPU that is to be changed: the table, the layout and the target.
pub(super) type Question<'a> = (&'a MigTable, &'a Layout, &'a MigTarget);

/// The way of a GPU to its target, past what is held.
pub(super) fn way(
    card: &Card,
    (table, layout, target): Question<'_>,
    held: &BTreeSet<(u32, u32)>,
) -> Result<Way, Unreachable> {
    if let Some(plan) = blind(table, layout, target) {
        return Ok(Way {
            needs_reset: card.mode_needs_reset() || plan.needs_reset,
            is_open: true,
            plan,
        });
    }
    let plan = plan_mig(table, layout, target, held)?;
    // Taking back a change that waits for the reset takes none.
    let is_change = plan
        .changes_mode()
        .is_some_and(|on| on != layout.mode.current);
    let waits = is_change && card.mode_needs_reset();
    Ok(Way {
        needs_reset: plan.needs_reset || waits,
        is_open: false,
        plan,
    })
}

/// The first step of a GPU whose driver tells nothing of profiles before MIG is on.
fn blind(table: &MigTable, layout: &Layout, target: &MigTarget) -> Option<MigPlan> {
    let is_blind = table.profiles.is_empty() && target.enabled && !layout.mode.current;
    is_blind.then(|| MigPlan {
        steps: if layout.mode.pending {
            Vec::new()
        } else {
            vec![MigStep::SetMode(true)]
        },
        needs_reset: layout.mode.pending,
        after: Layout {
            mode: MigMode {
                current: true,
                pending: true,
            },
            instances: Vec::new(),
        },
        ..MigPlan::default()
    })
}

/// What is to be done to each of these GPUs, and what the kubelet said.
pub(super) fn prospects<'a>(
    args: &PlanArgs,
    goal: &Goal,
    cards: &[&'a Card],
) -> (Vec<Prospect<'a>>, Asked) {
    let all = |see: &dyn Fn(&'a Card, &MigTarget) -> Result<Way, Obstacle>| {
        let both = cards.iter().zip(&goal.of);
        let each = both.map(|(card, target)| Prospect {
            card,
            target: target.clone(),
            way: match target {
                Some(target) => see(card, target),
                None => Ok(Way::default()),
            },
        });
        each.collect::<Vec<_>>()
    };
    let careless = all(&|card, target| consider(card, target, &Holders::default()));
    let is_at_stake = careless
        .iter()
        .any(|prospect| prospect.way.as_ref().is_ok_and(destroys));
    if args.force || !is_at_stake {
        return (careless, Asked::No);
    }
    match args.kubelet().and_then(|kubelet| pods::ask(&kubelet)) {
        Ok(asked) => {
            let holders = asked.holders();
            (all(&|card, target| consider(card, target, &holders)), asked)
        }
        Err(error) => {
            let reason = format!("{error:#}");
            let careful = all(&|card, target| {
                let way = consider(card, target, &Holders::default())?;
                if destroys(&way) {
                    Err(Obstacle::Unasked(reason.clone()))
                } else {
                    Ok(way)
                }
            });
            (careful, Asked::No)
        }
    }
}

/// Whether somebody may lose a device by it.
fn destroys(way: &Way) -> bool {
    !way.plan.destroyed.is_empty() || sets_mode(way)
}

/// Whether the mode is set, or set once more because it is not in force yet.
fn sets_mode(way: &Way) -> bool {
    way.plan.changes_mode().is_some() || way.needs_reset
}

fn consider(card: &Card, target: &MigTarget, holders: &Holders) -> Result<Way, Obstacle> {
    if !card.can_be_partitioned() && !target.enabled {
        return Ok(Way::default());
    }
    let found = card.mig.as_ref();
    let (table, layout) = found.map_err(|error| Obstacle::Driver(error.clone()))?;
    let found = way(
        card,
        (table, layout, target),
        &holders.held(&card.gpu, layout),
    );
    let found = found.map_err(|error| obstacle(card, layout, error, holders))?;
    let holding = holders.of_whole(&card.gpu);
    if sets_mode(&found) && !holding.is_empty() {
        return Err(Obstacle::Held {
            reason: "its mode cannot be changed while it is in use".to_owned(),
            by: holding
                .into_iter()
                .map(|holder| ("the GPU".to_owned(), Some(holder)))
                .collect(),
        });
    }
    Ok(found)
}

fn obstacle(card: &Card, layout: &Layout, error: Unreachable, holders: &Holders) -> Obstacle {
    match &error {
        Unreachable::Held { target, by } => Obstacle::Held {
            reason: format!("{target} cannot be made beside what pods hold"),
            by: in_the_way(card, layout, by, holders),
        },
        Unreachable::NoSuchProfile { profile, .. } => {
            let hint = did_you_mean(&profile.to_string(), &[card]);
            Obstacle::Unreachable(error, hint)
        }
        Unreachable::NotTogether { target, .. } => {
            let would = card.table().and_then(|table| most_that_fits(table, target));
            let hint = would.map(|would| format!("; {would} would fit"));
            Obstacle::Unreachable(error, hint.unwrap_or_default())
        }
        _ => Obstacle::Unreachable(error, String::new()),
    }
}

/// Who holds what stands in the way: the whole GPU, or these parts of it.
fn in_the_way(
    card: &Card,
    layout: &Layout,
    parts: &[HeldInstance],
    holders: &Holders,
) -> Vec<(String, Option<Holder>)> {
    let whole = holders.of_whole(&card.gpu);
    if !whole.is_empty() {
        let each = whole.into_iter();
        return each
            .map(|holder| ("the GPU".to_owned(), Some(holder)))
            .collect();
    }
    let each = parts.iter().flat_map(|part| {
        let ids = (part.gpu_instance, part.compute_instance);
        let device = steps::device(layout, ids);
        let known = holders.of_device(&card.gpu, ids).into_iter().map(Some);
        let mut known: Vec<_> = known.collect();
        if known.is_empty() {
            known.push(None);
        }
        let each = known.into_iter();
        each.map(move |holder| (device.clone(), holder))
    });
    each.collect()
}

/// Candidates that are tried for what would fit; nobody wants to wait for it.
const MOST_TRIED: usize = 500;

/// A part of a target that fits onto an empty GPU: as few devices missing as possible, and of
/// those the part with the most slices.
fn most_that_fits(table: &MigTable, target: &MigTarget) -> Option<MigTarget> {
    let empty = Layout {
        mode: MigMode {
            current: true,
            pending: true,
        },
        instances: Vec::new(),
    };
    let fits = |part: &MigTarget| plan_mig(table, &empty, part, &BTreeSet::new()).is_ok();
    let slices = |part: &MigTarget| {
        let devices = part.devices.iter();
        let each = devices.map(|(profile, count)| profile.compute_slices.saturating_mul(*count));
        each.sum::<u32>()
    };
    let mut level = vec![target.clone()];
    let mut tried = 0;
    while !level.is_empty() && tried < MOST_TRIED {
        let mut fewer: Vec<MigTarget> = Vec::new();
        for part in &level {
            for profile in part.devices.keys() {
                let devices = part.devices.iter().map(|(known, count)| {
                    let less = u32::from(known == profile);
                    (*known, count.saturating_sub(less))
                });
                let part = MigTarget::of(devices);
                if !part.devices.is_empty() && !fewer.contains(&part) {
                    fewer.push(part);
                }
            }
        }
        tried += fewer.len();
        let fitting = fewer.iter().filter(|part| fits(part));
        if let Some(best) = fitting.max_by_key(|part| slices(part)) {
            return Some(best.clone());
        }
        level = fewer;
    }
    None
}

impl Way {
    /// The MIG devices that are made, by their ids in the layout after the plan.
    pub(super) fn made(&self) -> Vec<(u32, u32)> {
        let instances = self.plan.after.instances.iter();
        let all = instances.flat_map(|instance| {
            let inside = instance.compute.iter();
            inside.map(|inside| (instance.id, inside.id))
        });
        all.filter(|ids| !self.plan.kept.contains(ids)).collect()
    }
}
