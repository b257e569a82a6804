//! What goes wrong on a node, and the pods that come and go meanwhile: the same in each run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use mizzen_kubelet_sim::Phase;
use mizzen_nvml_sim::Program;
use mizzen_nvml_sim::control::{
    ControlError, EccKind, EventCall, Fault, GpuRef, Gpus, LinkError, LoadChange, ProcessLoad,
    RowRemap, Simulator, ThrottleReason,
};
use mizzen_nvml_sim::node::NvLinkError;

use super::super::whole::Whole;
use super::GPUS;

/// GPUs from this one on are cut into MIG devices.
const FIRST_CUT: u32 = 6;
/// What they are cut into, one time and another.
const LAYOUTS: [&[&str]; 4] = [
    &["1g.10gb"; 7],
    &["3g.40gb", "2g.20gb", "1g.10gb"],
    &["1g.10gb", "1g.10gb"],
    &["3g.40gb", "3g.40gb"],
];
/// Of applications, of memory, of links, of the GPU itself.
const XIDS: [u64; 14] = [13, 31, 43, 45, 48, 63, 64, 74, 79, 92, 94, 95, 119, 120];
/// `NVML_ERROR_UNKNOWN`.
const UNKNOWN: u32 = 999;
/// Whole GPUs and three profiles.
pub(super) const RESOURCES: usize = 4;
/// As many pods as want a device at a time.
const PODS: u64 = 10;

/// Numbers that look random and follow from a seed (splitmix64).
#[derive(Debug)]
pub(super) struct Arbitrary(u64);

impl Arbitrary {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn gpu(&mut self) -> u32 {
        u32::try_from(self.below(u64::from(GPUS))).unwrap_or_default()
    }

    fn seconds(&mut self, most: u64) -> Duration {
        Duration::from_secs(1 + self.below(most))
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let at = self.below(all.len() as u64);
        all.get(usize::try_from(at).ok()?).copied()
    }
}

/// Cuts the GPUs that are to be cut as they are at the start and at the end: there is each of the
/// profiles.
pub(super) fn partition(simulator: &Simulator) -> Result<(), ControlError> {
    for (index, layout) in (FIRST_CUT..GPUS).zip(LAYOUTS) {
        let gpu = GpuRef::Index(index).into();
        simulator.set_mig_mode(&gpu, true)?;
        simulator.destroy_gpu_instances(&gpu, None)?;
        simulator.create_mig_devices(&gpu, layout)?;
    }
    Ok(())
}

/// Makes trouble, and counts it.
#[derive(Debug)]
pub(super) struct Troubles {
    arbitrary: Arbitrary,
    made: BTreeMap<&'static str, usize>,
}

impl Troubles {
    pub(super) fn new(arbitrary: Arbitrary) -> Self {
        Self {
            arbitrary,
            made: BTreeMap::new(),
        }
    }

    /// How much there was.
    pub(super) fn made(&self) -> usize {
        self.made.values().sum()
    }

    /// How much there was of each kind, in words.
    pub(super) fn counted(&self) -> String {
        let kinds = self.made.iter();
        let kinds: Vec<String> = kinds
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        kinds.join(", ")
    }

    /// One more thing happens to a GPU.
    pub(super) fn make(&mut self, simulator: &Simulator) -> Result<(), ControlError> {
        let arbitrary = &mut self.arbitrary;
        let index = arbitrary.gpu();
        let gpu: Gpus = GpuRef::Index(index).into();
        let kind = match arbitrary.below(16) {
            0..4 => {
                simulator.heal(&gpu)?;
                "healed"
            }
            4..6 => {
                busy(simulator, &gpu, arbitrary)?;
                "loads"
            }
            6..8 => {
                let index = FIRST_CUT + index % (GPUS - FIRST_CUT);
                cut(simulator, index, arbitrary)?;
                "layouts"
            }
            _ => {
                let (kind, fault, lasting) = fault(arbitrary);
                simulator.inject(&gpu, &fault, lasting)?;
                kind
            }
        };
        *self.made.entry(kind).or_default() += 1;
        Ok(())
    }
}

/// A fault, and how long it lasts where it ends by itself.
fn fault(arbitrary: &mut Arbitrary) -> (&'static str, Fault, Option<Duration>) {
    let count = 1 + arbitrary.below(20);
    let lasting = Some(arbitrary.seconds(8));
    match arbitrary.below(10) {
        0 => ("lost", Fault::Lost, lasting),
        1 => ("hung", Fault::Hang, lasting),
        2 => {
            let kind = arbitrary.one_of(&[EccKind::Single, EccKind::Double]);
            let kind = kind.unwrap_or(EccKind::Single);
            ("ecc", Fault::Ecc { kind, count }, None)
        }
        3 => {
            let error = arbitrary.one_of(&[
                LinkError::PcieReplay,
                LinkError::NvLink(NvLinkError::CrcData),
                LinkError::NvLink(NvLinkError::Replay),
                LinkError::NvLink(NvLinkError::Recovery),
            ]);
            let error = error.unwrap_or(LinkError::PcieReplay);
            ("link errors", Fault::Link { error, count }, None)
        }
        4 => {
            let reason = arbitrary.one_of(&[ThrottleReason::Thermal, ThrottleReason::Power]);
            let reason = reason.unwrap_or(ThrottleReason::Power);
            ("throttled", Fault::Throttle(reason), lasting)
        }
        5 => {
            let remap = arbitrary.one_of(&[RowRemap::Pending, RowRemap::Failure]);
            let remap = remap.unwrap_or(RowRemap::Pending);
            ("rows", Fault::RowRemap(remap), None)
        }
        6 => {
            let call = EventCall::Wait;
            (
                "events",
                Fault::Events {
                    call,
                    code: UNKNOWN,
                },
                None,
            )
        }
        _ => {
            let xid = arbitrary.one_of(&XIDS).unwrap_or(79);
            ("xids", Fault::xid(xid), None)
        }
    }
}

/// Other processes come, or all go.
fn busy(simulator: &Simulator, gpu: &Gpus, arbitrary: &mut Arbitrary) -> Result<(), ControlError> {
    let first = 1000 + u32::try_from(arbitrary.below(30_000)).unwrap_or_default();
    let count = u32::try_from(arbitrary.below(24)).unwrap_or_default();
    let process = |pid| ProcessLoad {
        pid,
        memory_mib: 256,
        utilization: 3,
        ..ProcessLoad::default()
    };
    let busy = Program::Wave {
        low: 20.0,
        high: 100.0,
        period: Duration::from_secs(10),
    };
    let change = LoadChange {
        utilization: (count > 0).then_some(busy),
        processes: (first..first + count).map(process).collect(),
        end_all_processes: true,
        ..LoadChange::default()
    };
    simulator.load(gpu, &change).map(|_| ())
}

/// A GPU is cut into something else, whoever uses it.
fn cut(simulator: &Simulator, index: u32, arbitrary: &mut Arbitrary) -> Result<(), ControlError> {
    let gpu = GpuRef::Index(index).into();
    let layout = arbitrary.one_of(&LAYOUTS).unwrap_or(LAYOUTS[0]);
    simulator.destroy_gpu_instances(&gpu, None)?;
    simulator.create_mig_devices(&gpu, layout)?;
    Ok(())
}

/// Pods that come and go.
#[derive(Debug)]
pub(super) struct Pods {
    arbitrary: Arbitrary,
    created: usize,
    deleted: usize,
    refused: usize,
}

impl Pods {
    pub(super) fn new(arbitrary: Arbitrary) -> Self {
        Self {
            arbitrary,
            created: 0,
            deleted: 0,
            refused: 0,
        }
    }

    /// How many there were, in words.
    pub(super) fn counted(&self) -> String {
        let mut words = format!("{} created, {} deleted", self.created, self.deleted);
        if self.refused > 0 {
            let _ = write!(words, ", {} of them refused by the kubelet", self.refused);
        }
        words
    }

    /// One is deleted if it is there, and created if not.
    pub(super) fn change(&mut self, whole: &Whole) -> Result<()> {
        let name = format!("pod-{}", self.arbitrary.below(PODS));
        let key = format!("research/{name}");
        let resources = ["nvidia.com/gpu", "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"];
        let resource = self.arbitrary.one_of(&resources);
        if let Some(pod) = whole.kubelet.snapshot().pod(&key) {
            self.refused += usize::from(pod.phase == Phase::Failed);
            self.deleted += 1;
            whole.kubelet.delete(&key);
            return Ok(());
        }
        self.created += 1;
        whole.create(&name, resource.unwrap_or(resources[0]), 1)
    }
}

#[cfg(test)]
mod tests {
    use mizzen_nvml_sim::scenario::Scenario;

    use super::*;

    #[test]
    fn whatever_goes_wrong_can_and_is_healed() {
        let dir = tempfile::tempdir().unwrap();
        let scenario = Scenario::short("8xh100-80gb").unwrap();
        let simulator = Simulator::create(dir.path(), &scenario).unwrap();
        partition(&simulator).unwrap();
        let mut troubles = Troubles::new(Arbitrary::new(1));
        for _ in 0..2000 {
            troubles.make(&simulator).unwrap();
        }
        assert_eq!(troubles.made(), 2000);
        assert_eq!(troubles.made.len(), 11, "{}", troubles.counted());
        simulator.heal(&Gpus::All).unwrap();
        let status = simulator.status().unwrap();
        assert!(status.gpus.iter().all(|gpu| !gpu.lost && !gpu.hung));
    }

    #[test]
    fn a_seed_makes_the_same_numbers_again() {
        let numbers = |seed| {
            let mut arbitrary = Arbitrary::new(seed);
            (0..50)
                .map(move |_| arbitrary.below(100))
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
    }
}
