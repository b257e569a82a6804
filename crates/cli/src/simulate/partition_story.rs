//! Tells how GPUs are partitioned anew.

use std::collections::BTreeMap;

use super::narrator::Told;
use super::picture::{Gpu, Mig, MigDevice, in_words};
use super::timeline::{Source, Tone};
use crate::words::times_before;

/// What a GPU has become; nothing where it is partitioned as before.
pub(crate) fn change(before: &Gpu, after: &Gpu) -> Option<Told> {
    let (before, mig) = (before.mig.as_ref()?, after.mig.as_ref()?);
    let what = if before.enabled != mig.enabled || uuids(before) != uuids(mig) {
        state(mig)
    } else if before.pending != mig.pending && mig.pending != mig.enabled {
        let mode = if mig.pending { "on" } else { "off" };
        format!("has MIG {mode} after its next reset")
    } else {
        return None;
    };
    Some(Told {
        source: Source::Driver,
        tone: Tone::Neutral,
        message: format!("GPU {} {what}", after.index),
    })
}

/// Whom a GPU is taken from that has just been whole.
pub(crate) fn loss_of_whole<'a>(before: &'a Gpu, after: &Gpu) -> impl Iterator<Item = Told> + 'a {
    let is_on = |gpu: &Gpu| gpu.mig.as_ref().is_some_and(|mig| mig.enabled);
    let is_lost = !is_on(before) && is_on(after);
    let holders = before.held_as_whole().filter(move |_| is_lost);
    holders.map(|holder| Told {
        source: Source::Pod,
        tone: Tone::Bad,
        message: format!(
            "{} holds GPU {}, which is no longer whole",
            in_words(holder),
            before.index
        ),
    })
}

/// Whom a MIG device is taken from that has just gone; nobody where it was gone before.
pub(crate) fn loss(gone: &MigDevice) -> impl Iterator<Item = Told> + '_ {
    let holders = gone.held_by.iter().filter(|_| !gone.gone);
    holders.map(|holder| Told {
        source: Source::Pod,
        tone: Tone::Bad,
        message: format!(
            "{} holds MIG {} ({}), which is gone",
            in_words(holder),
            gone.name,
            gone.profile
        ),
    })
}

fn there(mig: &Mig) -> impl Iterator<Item = &MigDevice> {
    mig.devices.iter().filter(|device| !device.gone)
}

fn uuids(mig: &Mig) -> Vec<&str> {
    there(mig).map(|device| device.uuid.as_str()).collect()
}

fn state(mig: &Mig) -> String {
    if !mig.enabled {
        return "is whole: MIG is off".to_owned();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for device in there(mig) {
        *counts.entry(&device.profile).or_default() += 1;
    }
    let parts = counts.iter().rev();
    let parts: Vec<String> = parts
        .map(|(name, count)| times_before(*count, name))
        .collect();
    match parts.as_slice() {
        [] => "has MIG on and no MIG devices".to_owned(),
        [only] => format!("is cut into {only}"),
        [rest @ .., last] => format!("is cut into {} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::picture::sample::{cut, sample};

    fn gpu(profiles: Option<&[&str]>) -> Gpu {
        let mut gpu = sample().gpus.remove(1);
        cut(&mut gpu, profiles.unwrap_or_default());
        if let (None, Some(mig)) = (profiles, &mut gpu.mig) {
            (mig.enabled, mig.pending) = (false, false);
        }
        gpu
    }

    fn told_of(before: &Gpu, after: &Gpu) -> Option<String> {
        change(before, after).map(|told| told.message)
    }

    #[test]
    fn what_a_gpu_has_become_is_told_by_profiles() {
        let whole = gpu(None);
        let empty = gpu(Some(&[]));
        let seven = gpu(Some(&["1g.10gb"; 7]));
        let mixed = gpu(Some(&["3g.40gb", "1g.10gb", "1g.10gb"]));
        for (before, after, told) in [
            (&whole, &empty, Some("GPU 1 has MIG on and no MIG devices")),
            (&empty, &seven, Some("GPU 1 is cut into 7 × 1g.10gb")),
            (
                &seven,
                &mixed,
                Some("GPU 1 is cut into 3g.40gb and 2 × 1g.10gb"),
            ),
            (&mixed, &whole, Some("GPU 1 is whole: MIG is off")),
            (&mixed, &mixed, None),
        ] {
            assert_eq!(told_of(before, after).as_deref(), told);
        }
    }

    #[test]
    fn a_mode_that_waits_for_a_reset_is_told_once() {
        let whole = gpu(None);
        let mut waits = whole.clone();
        if let Some(mig) = &mut waits.mig {
            mig.pending = true;
        }
        let told = told_of(&whole, &waits);
        assert_eq!(
            told.as_deref(),
            Some("GPU 1 has MIG on after its next reset")
        );
        assert_eq!(told_of(&waits, &waits), None);
    }

    #[test]
    fn what_is_gone_and_only_remembered_is_no_part() {
        let seven = gpu(Some(&["1g.10gb"; 2]));
        let mut gone = seven.clone();
        if let Some(mig) = &mut gone.mig {
            mig.devices[1].gone = true;
        }
        assert_eq!(
            told_of(&seven, &gone).as_deref(),
            Some("GPU 1 is cut into 1g.10gb")
        );
    }

    #[test]
    fn a_pod_whose_whole_gpu_is_partitioned_is_told_and_one_that_held_a_part_is_not() {
        let mut whole = gpu(None);
        whole.held_by = vec!["a/main".to_owned()];
        let cut = gpu(Some(&["1g.10gb"]));
        let told = |before: &Gpu, after: &Gpu| -> Vec<String> {
            loss_of_whole(before, after)
                .map(|told| told.message)
                .collect()
        };
        let loss = "a/main holds GPU 1, which is no longer whole";
        assert_eq!(told(&whole, &cut), [loss]);
        assert_eq!(told(&whole, &whole), [""; 0]);
        assert_eq!(told(&cut, &cut), [""; 0]);
        cut_and_gone(&mut whole);
        assert_eq!(told(&whole, &cut), [""; 0]);
    }

    /// Makes those who hold a GPU holders of a MIG device that is gone.
    fn cut_and_gone(gpu: &mut Gpu) {
        let holders = gpu.held_by.clone();
        cut(gpu, &["1g.10gb"]);
        gpu.held_by.clone_from(&holders);
        if let Some(mig) = &mut gpu.mig {
            (mig.enabled, mig.pending) = (false, false);
            (mig.devices[0].gone, mig.devices[0].held_by) = (true, holders);
        }
    }

    #[test]
    fn a_pod_whose_device_goes_is_told_once() {
        let mut device = gpu(Some(&["1g.10gb"])).mig_devices()[0].clone();
        device.held_by = vec!["a/main".to_owned()];
        let told: Vec<String> = loss(&device).map(|told| told.message).collect();
        assert_eq!(told, ["a/main holds MIG 1:0 (1g.10gb), which is gone"]);
        device.gone = true;
        assert_eq!(loss(&device).count(), 0);
    }
}
