//! What the GPU instances of a partitioned GPU are busy with.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use super::layout::{INSTANCE_LOAD_WORDS, INSTANCES, LOAD_WORDS, Slot};
use super::load::{Load, Program, decode_program, encode_program};
use super::store::Writer;

/// What is programmed for one GPU instance. It starts and ends with its GPU's load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct InstanceLoad {
    /// Its id.
    pub(crate) gpu_instance: u32,
    /// Utilisation of what it has, %.
    pub(crate) utilization: Program,
    /// Work done before [`Load::energy_since`], % × s.
    pub(crate) work: f64,
}

/// What is programmed for the GPU instances of one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct InstanceLoads(pub(crate) [Option<InstanceLoad>; INSTANCES]);

type Words = [u64; INSTANCE_LOAD_WORDS];

impl InstanceLoad {
    fn encode(&self) -> Words {
        let [kind, first, second, length] = encode_program(Some(self.utilization));
        let named = kind | u64::from(self.gpu_instance) << 8;
        [named, first, second, length, self.work.to_bits()]
    }

    fn decode(words: &Words) -> Option<Self> {
        let [named, first, second, length, work] = *words;
        Some(Self {
            gpu_instance: u32::try_from(named >> 8).ok()?,
            utilization: decode_program(&[named & 0xff, first, second, length])?,
            work: f64::from_bits(work),
        })
    }
}

impl InstanceLoads {
    /// What is programmed for the GPU instance of this id.
    pub(crate) fn of(&self, gpu_instance: u32) -> Option<&InstanceLoad> {
        let mut all = self.0.iter().flatten();
        all.find(|load| load.gpu_instance == gpu_instance)
    }

    /// These programs in the place of the old ones; what was done under `load` until now counts.
    pub(crate) fn replaced(&self, load: &Load, programs: &[(u32, Program)]) -> Self {
        let mut new = Self::default();
        for (place, &(gpu_instance, utilization)) in new.0.iter_mut().zip(programs) {
            let done = self.of(gpu_instance);
            *place = Some(InstanceLoad {
                gpu_instance,
                utilization,
                work: done.map_or(0.0, |done| load.worked(done.utilization, done.work)),
            });
        }
        new
    }
}

impl Slot {
    /// The load, whole: a half that changes while it is read is read again.
    pub(crate) fn load(&self) -> Load {
        self.read_load(|half| Load::decode(&words(&self.load[half])))
    }

    /// The load with those of the GPU's instances.
    pub(crate) fn loads(&self) -> (Load, InstanceLoads) {
        self.read_load(|half| {
            let of_instances = &self.instance_load[half];
            let instance = |at: usize| InstanceLoad::decode(&words(&of_instances[at]));
            let load = Load::decode(&words(&self.load[half]));
            (load, InstanceLoads(std::array::from_fn(instance)))
        })
    }

    fn read_load<T>(&self, read: impl Fn(usize) -> T) -> T {
        loop {
            let version = self.load_version.load(Acquire);
            let answer = read(usize::from(version & 1 == 1));
            fence(Acquire);
            if self.load_version.load(Relaxed) == version {
                return answer;
            }
        }
    }
}

fn words<const COUNT: usize>(stored: &[AtomicU64; COUNT]) -> [u64; COUNT] {
    std::array::from_fn(|index| stored[index].load(Relaxed))
}

impl Writer<'_> {
    /// Replaces a load: writes the half that nobody reads, then points to it.
    pub(crate) fn store_load(&self, slot: usize, load: &Load, instances: &InstanceLoads) {
        let slot = &self.slots[slot];
        let version = slot.load_version.load(Relaxed).wrapping_add(1);
        fence(Release);
        let half = usize::from(version & 1 == 1);
        let encoded: [u64; LOAD_WORDS] = load.encode();
        store(&slot.load[half], &encoded);
        for (stored, instance) in slot.instance_load[half].iter().zip(&instances.0) {
            let encoded = instance.as_ref().map(InstanceLoad::encode);
            store(stored, &encoded.unwrap_or_default());
        }
        slot.load_version.store(version, Release);
    }
}

fn store(stored: &[AtomicU64], values: &[u64]) {
    for (word, value) in stored.iter().zip(values) {
        word.store(*value, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_instances_load_survives_the_way_through_its_words() {
        let load = InstanceLoad {
            gpu_instance: 13,
            utilization: Program::Wave {
                low: 10.0,
                high: 90.0,
                period: Duration::from_secs(7),
            },
            work: 1234.5,
        };
        assert_eq!(InstanceLoad::decode(&load.encode()), Some(load));
        assert_eq!(InstanceLoad::decode(&Words::default()), None);
    }

    #[test]
    fn work_that_was_done_counts_when_the_program_changes() {
        let load = Load::default();
        let first = InstanceLoads::default().replaced(&load, &[(3, Program::Constant(50.0))]);
        let second = first.replaced(&load, &[(3, Program::Constant(10.0))]);
        // Under a load that began with the machine.
        assert!(second.of(3).unwrap().work > 0.0);
        assert_eq!(second.of(4), None);
    }
}
