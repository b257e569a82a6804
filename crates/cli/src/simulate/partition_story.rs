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
    fn a_pod_whose_device_goes_is_told_once() {
        let mut device = gpu(Some(&["1g.10gb"])).mig_devices()[0].clone();
        device.held_by = vec!["a/main".to_owned()];
        let told: Vec<String> = loss(&device).map(|told| told.message).collect();
        assert_eq!(told, ["a/main holds MIG 1:0 (1g.10gb), which is gone"]);
        device.gone = true;
        assert_eq!(loss(&device).count(), 0);
    }
}
