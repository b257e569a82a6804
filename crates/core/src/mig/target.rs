//! What a GPU is to be cut into.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::profile::MigProfile;

/// What one GPU is to be cut into.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MigTarget {
    /// Whether MIG is on.
    pub enabled: bool,
    /// How many MIG devices of each profile; without MIG there can be none.
    pub devices: BTreeMap<MigProfile, u32>,
}

impl MigTarget {
    /// MIG off.
    pub fn off() -> Self {
        Self::default()
    }

    /// MIG on, with these devices. Several entries of one profile count together.
    pub fn of(devices: impl IntoIterator<Item = (MigProfile, u32)>) -> Self {
        let mut target = Self {
            enabled: true,
            devices: BTreeMap::new(),
        };
        for (profile, count) in devices.into_iter().filter(|(_, count)| *count > 0) {
            let sum = target.devices.entry(profile).or_default();
            *sum = sum.saturating_add(count);
        }
        target
    }

    /// Whether a GPU is cut so: MIG is on or off now as it shall be, each profile has as many MIG
    /// devices, wherever they are, and no GPU instance is empty.
    pub fn is_met_by(&self, layout: &Layout) -> bool {
        if !self.enabled || !layout.mode.current {
            return self.enabled == layout.mode.current && self.wanted().next().is_none();
        }
        let filled = layout
            .instances
            .iter()
            .all(|instance| !instance.compute.is_empty());
        filled && self.wanted().eq(devices(layout))
    }

    /// The devices without those of which there shall be none.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (MigProfile, u32)> {
        let all = self.devices.iter();
        all.filter(|(_, count)| **count > 0)
            .map(|(profile, count)| (*profile, *count))
    }
}

/// How many MIG devices of each profile a GPU has.
pub(super) fn devices(layout: &Layout) -> BTreeMap<MigProfile, u32> {
    let mut devices = BTreeMap::new();
    for instance in &layout.instances {
        for inside in &instance.compute {
            let profile = instance.profile.with_compute_slices(inside.slices);
            *devices.entry(profile).or_default() += 1;
        }
    }
    devices
}

/// `1g.10gb x2, 3g.40gb`; `MIG on, no devices`; `MIG off`.
impl fmt::Display for MigTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.enabled {
            return f.write_str(OFF);
        }
        let each = self.wanted().map(|(profile, count)| match count {
            1 => profile.to_string(),
            count => format!("{profile} x{count}"),
        });
        let each: Vec<String> = each.collect();
        if each.is_empty() {
            return f.write_str(EMPTY);
        }
        f.write_str(&each.join(", "))
    }
}

const OFF: &str = "MIG off";
const EMPTY: &str = "MIG on, no devices";

/// Why a text says not what a GPU is to be cut into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part:?} is not a MIG device: {reason}; expected a list such as 3g.40gb,1g.10gb*2")]
pub struct InvalidMigTarget {
    /// The part of the list that is wrong.
    pub part: String,
    reason: String,
}

/// Reads a list as one types it, `3g.40gb,1g.10gb*2`, and what `Display` writes.
impl FromStr for MigTarget {
    type Err = InvalidMigTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            OFF => return Ok(Self::off()),
            EMPTY => return Ok(Self::of([])),
            _ => {}
        }
        let parts: Result<Vec<_>, _> = text.split(',').map(part).collect();
        Ok(Self::of(parts?))
    }
}

fn part(text: &str) -> Result<(MigProfile, u32), InvalidMigTarget> {
    let text = text.trim();
    let invalid = |reason: String| InvalidMigTarget {
        part: text.to_owned(),
        reason,
    };
    let (profile, count) = match text.split_once('*').or_else(|| text.split_once(" x")) {
        None => (text, 1),
        Some((profile, count)) => {
            let count = count.trim();
            let digits = count.bytes().all(|byte| byte.is_ascii_digit());
            let number = count.parse().ok().filter(|_| digits);
            let number =
                number.ok_or_else(|| invalid(format!("{count:?} is not a number of devices")))?;
            (profile.trim_end(), number)
        }
    };
    let profile = profile.parse::<MigProfile>();
    let profile =
        profile.map_err(|_| invalid(String::from("there is no profile of such a name")))?;
    Ok((profile, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mig::{ComputeInstance, GpuInstance, MigMode, Placement};

    fn target(text: &str) -> MigTarget {
        text.parse().unwrap()
    }

    #[test]
    fn a_target_is_read_as_one_types_it_and_written_in_order() {
        for (typed, written) in [
            ("3g.40gb,1g.10gb*2", "1g.10gb x2, 3g.40gb"),
            (" 1g.10gb , 1g.10gb", "1g.10gb x2"),
            ("1g.10gb*0", "MIG on, no devices"),
            ("1c.3g.40gb * 3", "1c.3g.40gb x3"),
            ("MIG off", "MIG off"),
        ] {
            assert_eq!(target(typed).to_string(), written);
            assert_eq!(target(written), target(typed));
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_part_that_is_wrong() {
        for (typed, part) in [
            ("", ""),
            ("1g.10gb,", ""),
            ("1g.10gb,2g", "2g"),
            ("1g.10gb*", "1g.10gb*"),
            ("1g.10gb*-1", "1g.10gb*-1"),
            ("1g.10gb*+1", "1g.10gb*+1"),
            ("1g.10gb*4294967296", "1g.10gb*4294967296"),
        ] {
            assert_eq!(typed.parse::<MigTarget>().unwrap_err().part, part);
        }
    }

    #[test]
    fn a_target_is_met_by_the_devices_whatever_gpu_instances_they_share() {
        let inside = |id| ComputeInstance {
            id,
            slices: 1,
            placement: Placement { start: id, size: 1 },
        };
        let instance = |id, start, compute| GpuInstance {
            id,
            profile: "3g.40gb".parse().unwrap(),
            placement: Placement { start, size: 4 },
            compute,
        };
        let mode = MigMode {
            current: true,
            pending: true,
        };
        let mut layout = Layout {
            mode,
            instances: vec![
                instance(1, 0, vec![inside(0)]),
                instance(2, 4, vec![inside(0), inside(1)]),
            ],
        };
        assert!(target("1c.3g.40gb*3").is_met_by(&layout));
        assert!(!target("1c.3g.40gb*2").is_met_by(&layout));
        assert!(!MigTarget::off().is_met_by(&layout));
        layout.instances[0].compute.clear();
        assert!(!target("1c.3g.40gb*2").is_met_by(&layout));
        layout.instances.clear();
        assert!(MigTarget::of([]).is_met_by(&layout));
        layout.mode.current = false;
        assert!(!MigTarget::of([]).is_met_by(&layout));
        assert!(MigTarget::off().is_met_by(&layout));
    }
}
