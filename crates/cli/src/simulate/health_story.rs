//! Tells how the GPUs' health changes, and what it follows from.

use std::collections::BTreeMap;
use std::time::Duration;

use super::narrator::Told;
use super::picture::{Gpu, Health, ResourceCount};
use super::script::Action;
use super::timeline::{Source, Tone};
use crate::duration;

/// More GPUs than this that change at once are told as a number.
const NAMED_AT_ONCE: usize = 3;

/// What has been told so far.
#[derive(Debug, Default)]
pub(crate) struct HealthStory {
    /// The health of each GPU as it was told last, by UUID.
    told: BTreeMap<String, Health>,
    /// The numbers of each resource as they were told last.
    counts: BTreeMap<String, ResourceCount>,
    /// When the script did what to a GPU, by UUID, until its effect is seen.
    causes: BTreeMap<String, (Duration, String)>,
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
            self.causes.insert(gpu.uuid.clone(), (at, what.clone()));
        }
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
        let changed = self.changed(gpus);
        let mut told = Vec::new();
        if !is_first && changed.len() <= NAMED_AT_ONCE {
            told.extend(changed.into_iter().map(|gpu| self.change(at, gpu)));
        }
        if has_changed {
            told.push(numbers(resource, count));
        }
        told
    }

    /// The GPUs whose health is another than was told last; it counts as told from now on.
    fn changed<'a>(&mut self, gpus: &'a [Gpu]) -> Vec<&'a Gpu> {
        let mut is_news =
            |gpu: &Gpu| self.told.insert(gpu.uuid.clone(), gpu.health) != Some(gpu.health);
        gpus.iter().filter(|gpu| is_news(gpu)).collect()
    }

    fn change(&mut self, at: Duration, gpu: &Gpu) -> Told {
        let (tone, health) = match gpu.health {
            Health::Healthy => (Tone::Good, "healthy"),
            Health::Unhealthy => (Tone::Bad, "unhealthy"),
            Health::Unknown => (Tone::Warning, "no longer reported"),
        };
        let cause = self
            .causes
            .remove(&gpu.uuid)
            .map_or_else(String::new, |(since, what)| {
                format!(
                    ", {} after {what}",
                    duration::short(at.saturating_sub(since))
                )
            });
        let message = format!("GPU {} is {health}{cause}", gpu.index);
        Told {
            source: Source::Kubelet,
            tone,
            message,
        }
    }
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
}
