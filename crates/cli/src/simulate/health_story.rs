//! Tells how the GPUs' health changes, and what it follows from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::narrator::Told;
use super::picture::{Gpu, Health, MigDevice, ResourceCount};
use super::script::Action;
use super::timeline::{Source, Tone};
use crate::duration;
use crate::fault::{Fault, Xid};
use crate::words::ranges;

/// More changes at once than this are told as a number.
const NAMED_AT_ONCE: usize = 3;

/// How long something must be in no device list to be told as not reported any more: a resource
/// with another name, or one whose plugin starts again, is on its way.
const MISSING: Duration = Duration::from_millis(500);

/// What has been told so far.
#[derive(Debug, Default)]
pub(crate) struct HealthStory {
    /// The health of each GPU and MIG device as it was told last, by UUID.
    told: BTreeMap<String, Health>,
    /// Since when those are in no device list that were in one, by UUID.
    missing: BTreeMap<String, Duration>,
    /// The numbers of each resource as they were told last.
    counts: BTreeMap<String, ResourceCount>,
    /// The resources whose numbers are told again, though they be the same.
    stale: BTreeSet<String>,
    /// When the script did what to a GPU or MIG device, by UUID, until its effect is seen.
    causes: BTreeMap<String, (Duration, String)>,
}

/// A GPU, or MIG devices of one, that have changed alike.
#[derive(Debug)]
struct Change<'a> {
    gpu: &'a Gpu,
    health: Health,
    /// The indices of the MIG devices; none where it is the GPU itself.
    mig_devices: Vec<u32>,
    uuids: Vec<&'a str>,
}

impl HealthStory {
    /// The script does something to GPUs.
    pub(crate) fn caused(&mut self, at: Duration, action: &Action, gpus: &[Gpu]) {
        let (what, target) = match action {
            Action::Inject(fault, target) => (fault.to_string(), target),
            Action::Heal(target) => ("it was healed".to_owned(), target),
            _ => return,
        };
        for gpu in gpus
            .iter()
            .filter(|gpu| target.names(gpu.index, &gpu.uuid, &gpu.pci_bus_id))
        {
            let devices = gpu.mig_devices().iter();
            let parts = devices
                .filter(|device| is_hit(action, device))
                .map(|device| &device.uuid);
            for uuid in std::iter::once(&gpu.uuid).chain(parts) {
                self.causes.insert(uuid.clone(), (at, what.clone()));
            }
        }
    }

    /// The plugin of a resource is gone: when it comes back, its numbers are news.
    pub(crate) fn plugin_gone(&mut self, resource: &str) {
        if self.counts.contains_key(resource) {
            self.stale.insert(resource.to_owned());
        }
    }

    /// The kubelet has stopped, and knows no plugin when it starts again.
    pub(crate) fn kubelet_stopped(&mut self) {
        self.stale.extend(self.counts.keys().cloned());
    }

    /// A device list has come in; these are the numbers of its resource and the GPUs after it.
    pub(crate) fn devices_reported(
        &mut self,
        at: Duration,
        resource: &str,
        count: ResourceCount,
        gpus: &[Gpu],
    ) -> Vec<Told> {
        let is_first = !self.counts.contains_key(resource);
        let has_changed = self.counts.insert(resource.to_owned(), count) != Some(count);
        let is_back = self.stale.remove(resource);
        let changed = self.changed(gpus);
        let mut told = Vec::new();
        if !is_first && changed.len() <= NAMED_AT_ONCE {
            told.extend(changed.into_iter().map(|change| self.change(at, &change)));
        }
        if has_changed || is_back {
            told.push(numbers(resource, count));
        }
        told
    }

    /// What has been in no device list for a while.
    pub(crate) fn missing(&mut self, at: Duration, gpus: &[Gpu]) -> Vec<Told> {
        let told = &self.told;
        let was_known = |uuid: &str| {
            told.get(uuid)
                .is_some_and(|health| *health != Health::Unknown)
        };
        let missing = changes(gpus, |uuid, health| {
            health == Health::Unknown && was_known(uuid)
        });
        let uuids = missing.iter().flat_map(|change| &change.uuids);
        let since = uuids.map(|uuid| {
            let since = self.missing.get(*uuid).copied().unwrap_or(at);
            ((*uuid).to_owned(), since)
        });
        self.missing = since.collect();
        let late = changes(gpus, |uuid, _| {
            let since = self.missing.get(uuid);
            since.is_some_and(|since| at.saturating_sub(*since) >= MISSING)
        });
        for uuid in late.iter().flat_map(|change| &change.uuids) {
            self.told.insert((*uuid).to_owned(), Health::Unknown);
        }
        late.iter().map(|change| self.change(at, change)).collect()
    }

    /// What is another than was told last, but for what is in no device list; it counts as told
    /// from now on.
    fn changed<'a>(&mut self, gpus: &'a [Gpu]) -> Vec<Change<'a>> {
        changes(gpus, |uuid, health| {
            health != Health::Unknown && self.told.insert(uuid.to_owned(), health) != Some(health)
        })
    }

    fn change(&mut self, at: Duration, change: &Change<'_>) -> Told {
        let (tone, health) = match change.health {
            Health::Healthy => (Tone::Good, "healthy"),
            Health::Unhealthy => (Tone::Bad, "unhealthy"),
            Health::Unknown => (Tone::Warning, "no longer reported"),
        };
        let mut cause = None;
        for uuid in &change.uuids {
            cause = self.causes.remove(*uuid).or(cause);
        }
        let cause = cause.map_or_else(String::new, |(since, what)| {
            format!(
                ", {} after {what}",
                duration::short(at.saturating_sub(since))
            )
        });
        let index = change.gpu.index;
        let (name, is) = match change.mig_devices.as_slice() {
            [] => (format!("GPU {index}"), "is"),
            [only] => (format!("MIG {index}:{only}"), "is"),
            several => {
                let several = ranges(several.iter().copied());
                (format!("MIG {index}:{several}"), "are")
            }
        };
        Told {
            source: Source::Kubelet,
            tone,
            message: format!("{name} {is} {health}{cause}"),
        }
    }
}

/// Whether what is done to its GPU concerns a MIG device.
fn is_hit(action: &Action, device: &MigDevice) -> bool {
    match action {
        Action::Inject(
            Fault::Xid(Xid {
                instance: Some(instance),
                ..
            }),
            _,
        ) => instance.has(device.gpu_instance, device.compute_instance),
        _ => true,
    }
}

/// The GPUs, and of those that are cut the MIG devices, that are news; MIG devices of one GPU that
/// are alike are one change.
fn changes(gpus: &[Gpu], mut is_news: impl FnMut(&str, Health) -> bool) -> Vec<Change<'_>> {
    let mut changes: Vec<Change<'_>> = Vec::new();
    for gpu in gpus {
        let change = |health| Change {
            gpu,
            health,
            mig_devices: Vec::new(),
            uuids: Vec::new(),
        };
        if !gpu.is_cut() {
            if is_news(&gpu.uuid, gpu.health) {
                changes.push(Change {
                    uuids: vec![&gpu.uuid],
                    ..change(gpu.health)
                });
            }
            continue;
        }
        let mut by_health: BTreeMap<Health, Change<'_>> = BTreeMap::new();
        let there = gpu.mig_devices().iter().filter(|device| !device.gone);
        for device in there.filter(|device| is_news(&device.uuid, device.health)) {
            let health = device.health;
            let same = by_health.entry(health).or_insert_with(|| change(health));
            same.mig_devices.push(device.index);
            same.uuids.push(&device.uuid);
        }
        changes.extend(by_health.into_values());
    }
    changes
}

fn numbers(resource: &str, count: ResourceCount) -> Told {
    let ResourceCount {
        capacity,
        allocatable,
    } = count;
    let tone = if allocatable == capacity {
        Tone::Good
    } else {
        Tone::Warning
    };
    let message = format!("{resource}: {allocatable} allocatable of {capacity}");
    Told {
        source: Source::Kubelet,
        tone,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::picture::sample;
    use crate::simulate::picture::sample::cut;
    use crate::simulate::script::Script;

    const GPUS: &str = "nvidia.com/gpu";

    fn count(allocatable: u64) -> ResourceCount {
        ResourceCount {
            capacity: 3,
            allocatable,
        }
    }

    fn messages(told: &[Told]) -> Vec<&str> {
        told.iter().map(|told| told.message.as_str()).collect()
    }

    fn whole() -> Vec<Gpu> {
        let mut gpus = sample().gpus;
        gpus[2].health = Health::Healthy;
        gpus
    }

    #[test]
    fn the_first_list_is_told_in_numbers_and_the_same_list_never_again() {
        let mut story = HealthStory::default();
        let first = story.devices_reported(Duration::ZERO, GPUS, count(3), &whole());
        assert_eq!(messages(&first), ["nvidia.com/gpu: 3 allocatable of 3"]);
        assert_eq!(
            story.devices_reported(Duration::ZERO, GPUS, count(3), &whole()),
            []
        );
    }

    #[test]
    fn a_change_is_told_by_gpu_with_what_it_follows_from() {
        let mut story = HealthStory::default();
        let mut gpus = whole();
        let at = Duration::from_millis;
        story.devices_reported(at(0), GPUS, count(3), &gpus);
        let Script(steps) = "xid 79 on gpu 2".parse().unwrap();
        story.caused(at(1000), &steps[0].action, &gpus);
        gpus[2].health = Health::Unhealthy;
        let told = story.devices_reported(at(1001), GPUS, count(2), &gpus);
        assert_eq!(
            messages(&told),
            [
                "GPU 2 is unhealthy, 1.00 ms after Xid 79",
                "nvidia.com/gpu: 2 allocatable of 3",
            ]
        );
    }

    #[test]
    fn one_gpu_for_another_is_told_though_the_numbers_stay() {
        let mut story = HealthStory::default();
        let mut gpus = sample().gpus;
        story.devices_reported(Duration::ZERO, GPUS, count(2), &gpus);
        gpus[2].health = Health::Healthy;
        gpus[0].health = Health::Unhealthy;
        let told = story.devices_reported(Duration::ZERO, GPUS, count(2), &gpus);
        assert_eq!(messages(&told), ["GPU 0 is unhealthy", "GPU 2 is healthy"]);
    }

    #[test]
    fn mig_devices_of_a_gpu_that_change_alike_are_told_together() {
        let mut story = HealthStory::default();
        let mut gpus = whole();
        cut(&mut gpus[0], &["1g.10gb"; 7]);
        let small = "nvidia.com/mig-1g.10gb";
        let at = Duration::from_millis;
        story.devices_reported(at(0), small, count(7), &gpus);
        let Script(steps) = "xid 94 on gpu 0".parse().unwrap();
        story.caused(at(10), &steps[0].action, &gpus);
        let devices = |gpus: &mut Vec<Gpu>, sick: &[usize]| {
            let mig = gpus[0].mig.as_mut().unwrap();
            for (at, device) in mig.devices.iter_mut().enumerate() {
                device.health = if sick.contains(&at) {
                    Health::Unhealthy
                } else {
                    Health::Healthy
                };
            }
        };
        devices(&mut gpus, &[1, 2, 3]);
        let told = story.devices_reported(at(11), small, count(4), &gpus);
        assert_eq!(
            messages(&told)[0],
            "MIG 0:1-3 are unhealthy, 1.00 ms after Xid 94"
        );
        devices(&mut gpus, &[2, 3, 5]);
        let told = story.devices_reported(at(12), small, count(4), &gpus);
        assert_eq!(
            messages(&told),
            [
                "MIG 0:1 is healthy",
                "MIG 0:5 is unhealthy, 2.00 ms after Xid 94"
            ]
        );
    }

    #[test]
    fn what_is_in_no_list_for_a_moment_alone_is_not_told() {
        let mut story = HealthStory::default();
        let mut gpus = whole();
        let at = Duration::from_millis;
        story.devices_reported(at(0), GPUS, count(3), &gpus);
        gpus[1].health = Health::Unknown;
        let told = story.devices_reported(at(1), GPUS, count(0), &gpus);
        assert_eq!(messages(&told), ["nvidia.com/gpu: 0 allocatable of 3"]);
        assert_eq!(story.missing(at(100), &gpus), []);
        gpus[1].health = Health::Healthy;
        assert_eq!(story.missing(at(700), &gpus), []);
        gpus[1].health = Health::Unknown;
        assert_eq!(story.missing(at(800), &gpus), []);
        let told = story.missing(at(1300), &gpus);
        assert_eq!(messages(&told), ["GPU 1 is no longer reported"]);
        assert_eq!(story.missing(at(2000), &gpus), [], "once");
    }

    #[test]
    fn the_numbers_of_a_resource_that_comes_back_are_told_though_they_are_the_same() {
        let mut story = HealthStory::default();
        let gpus = sample().gpus;
        let report = |story: &mut HealthStory| {
            let told = story.devices_reported(Duration::ZERO, GPUS, count(2), &gpus);
            messages(&told).join("; ")
        };
        let numbers = "nvidia.com/gpu: 2 allocatable of 3";
        assert_eq!(report(&mut story), numbers);
        assert_eq!(report(&mut story), "");
        story.plugin_gone(GPUS);
        assert_eq!(report(&mut story), numbers);
        story.kubelet_stopped();
        assert_eq!(report(&mut story), numbers);
        assert_eq!(report(&mut story), "");
    }
}
