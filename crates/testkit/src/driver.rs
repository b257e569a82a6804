//! A driver that does what a test tells it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mizzen_core::driver::{
    DriverError, DriverEvent, DriverEventKind, DriverLoader, GpuCondition, GpuDriver, Questions,
    RecoveryAction, RowRemap,
};
use mizzen_core::gpu::{Gpu, GpuUuid, PciBusId};
use mizzen_core::inventory::{BrokenGpu, DriverVersions, Inventory};
use mizzen_core::mig::{GpuMig, Layout, MigStep, MigTable};
use mizzen_core::sample::{GpuSample, Texts, Wanted};
use mizzen_core::topology::{Link, LinkMatrix, PcieRelation};

use crate::mig::MigScript;
use crate::sample::SampleScript;

/// `count` GPUs of one model, alternating between two NUMA nodes by halves.
pub fn gpus(count: u32) -> Vec<Gpu> {
    (0..count).map(|index| gpu(index, count)).collect()
}

fn gpu(index: u32, count: u32) -> Gpu {
    let bus = u8::try_from(index + 1).expect("fewer GPUs than buses");
    Gpu {
        index,
        minor: index,
        uuid: format!("GPU-4d697a7a-656e-4000-8000-{index:012x}")
            .parse()
            .expect("a UUID"),
        pci: PciBusId {
            domain: 0,
            bus,
            device: 0,
            function: 0,
        },
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        memory_mib: 81_559,
        compute_capability: (9, 0),
        numa_node: Some(u32::from(index >= count / 2)),
        device_id: 0,
        mig: None,
    }
}

/// A scripted driver; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct FakeDriver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    changed: Condvar,
}

/// What the driver does, and what was done to it.
#[derive(Debug)]
pub(crate) struct Script {
    absent: Option<DriverError>,
    pub(crate) gpus: Vec<Gpu>,
    broken: BTreeMap<u32, DriverError>,
    conditions: BTreeMap<GpuUuid, Result<GpuCondition, DriverError>>,
    refuses_events: BTreeMap<GpuUuid, DriverError>,
    events: VecDeque<DriverEvent>,
    wait_error: Option<DriverError>,
    waits_hang: bool,
    /// Waits are as long as asked.
    waits_are_long: bool,
    opened: usize,
    watched: Vec<GpuUuid>,
    waits: usize,
    pub(crate) mig: MigScript,
    pub(crate) samples: SampleScript,
}

impl Script {
    fn mig(&self, gpu: &GpuUuid) -> Option<GpuMig> {
        let known = self.gpus.iter().find(|known| known.uuid == *gpu);
        known.and_then(|known| known.mig.clone())
    }
}

/// Waits for events end early, as they may, so that no test has to sit one out.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// A GPU that is well, as a driver that knows recovery actions tells it.
pub const WELL: GpuCondition = GpuCondition {
    recovery_action: Some(RecoveryAction::None),
    double_bit_ecc: Some(0),
    single_bit_ecc: Some(0),
    row_remap: Some(RowRemap {
        pending: false,
        failure: false,
    }),
};

impl FakeDriver {
    /// A driver with these GPUs, all well.
    pub fn new(gpus: Vec<Gpu>) -> Self {
        let script = Script {
            absent: None,
            gpus,
            broken: BTreeMap::new(),
            conditions: BTreeMap::new(),
            refuses_events: BTreeMap::new(),
            events: VecDeque::new(),
            wait_error: None,
            waits_hang: false,
            waits_are_long: false,
            opened: 0,
            watched: Vec::new(),
            waits: 0,
            mig: MigScript::default(),
            samples: SampleScript::default(),
        };
        Self {
            shared: Arc::new(Shared {
                script: Mutex::new(script),
                changed: Condvar::new(),
            }),
        }
    }

    /// The driver cannot be opened, and answers nothing where it was.
    pub fn go_absent(&self, error: DriverError) {
        self.change(|script| script.absent = Some(error));
    }

    /// The driver is there (again).
    pub fn come(&self) {
        self.change(|script| script.absent = None);
    }

    /// From the next session on there are these GPUs.
    pub fn set_gpus(&self, gpus: Vec<Gpu>) {
        self.change(|script| script.gpus = gpus);
    }

    /// Somebody partitions this GPU: it is so from now on, in open sessions too, and nobody is
    /// told.
    pub fn partition(&self, gpu: &GpuUuid, mig: Option<GpuMig>) {
        self.change(|script| {
            let known = script.gpus.iter_mut().find(|known| known.uuid == *gpu);
            if let Some(known) = known {
                known.mig = mig;
            }
        });
    }

    /// The GPU of this index cannot be described.
    pub fn break_gpu(&self, index: u32, error: DriverError) {
        self.change(|script| {
            script.broken.insert(index, error);
        });
    }

    /// The GPU of this index can be described again.
    pub fn mend_gpu(&self, index: u32) {
        self.change(|script| {
            script.broken.remove(&index);
        });
    }

    /// What this GPU answers when asked how it is.
    pub fn set_condition(&self, gpu: &GpuUuid, answer: Result<GpuCondition, DriverError>) {
        self.change(|script| {
            script.conditions.insert(gpu.clone(), answer);
        });
    }

    /// This GPU is well again.
    pub fn heal(&self, gpu: &GpuUuid) {
        self.change(|script| {
            script.conditions.remove(gpu);
        });
    }

    /// This GPU cannot be watched for events.
    pub fn refuse_events(&self, gpu: &GpuUuid, error: DriverError) {
        self.change(|script| {
            script.refuses_events.insert(gpu.clone(), error);
        });
    }

    /// Reports an Xid, of an unknown GPU where there is none.
    pub fn xid(&self, gpu: Option<&GpuUuid>, number: u64) {
        self.event(gpu, DriverEventKind::Xid(number));
    }

    /// Reports an event.
    pub fn event(&self, gpu: Option<&GpuUuid>, kind: DriverEventKind) {
        self.event_of(DriverEvent {
            gpu: gpu.cloned(),
            kind,
            gpu_instance: None,
            compute_instance: None,
        });
    }

    /// Reports an event that may name a MIG instance.
    pub fn event_of(&self, event: DriverEvent) {
        self.change(|script| script.events.push_back(event));
    }

    /// Events that nobody has taken yet.
    pub fn pending_events(&self) -> usize {
        self.lock().events.len()
    }

    /// Every wait for events fails at once with this, until it is taken back.
    pub fn fail_waits(&self, error: Option<DriverError>) {
        self.change(|script| script.wait_error = error);
    }

    /// No wait for events returns, until this is taken back.
    pub fn hang_waits(&self, hang: bool) {
        self.change(|script| script.waits_hang = hang);
    }

    /// From now on waits without an event last as long as they are asked to.
    pub fn wait_in_full(&self) {
        self.change(|script| script.waits_are_long = true);
    }

    /// How many sessions were opened.
    pub fn opened(&self) -> usize {
        self.lock().opened
    }

    /// How often somebody began to wait for events.
    pub fn waits(&self) -> usize {
        self.lock().waits
    }

    /// The GPUs that are watched for events.
    pub fn watched(&self) -> Vec<GpuUuid> {
        self.lock().watched.clone()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Script> {
        self.shared
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody has told the driver something.
    pub(crate) fn wait<'a>(&self, script: MutexGuard<'a, Script>) -> MutexGuard<'a, Script> {
        let changed = self.shared.changed.wait(script);
        changed.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.lock());
        self.shared.changed.notify_all();
    }
}

impl DriverLoader for FakeDriver {
    fn open(&self) -> Result<Arc<dyn GpuDriver>, DriverError> {
        let mut script = self.lock();
        script.opened += 1;
        if let Some(error) = &script.absent {
            return Err(error.clone());
        }
        let gpus = script.gpus.clone();
        Ok(Arc::new(FakeSession {
            driver: self.clone(),
            gpus,
        }))
    }
}

/// A session, which shows the GPUs that there were when it was opened.
#[derive(Debug)]
struct FakeSession {
    driver: FakeDriver,
    gpus: Vec<Gpu>,
}

impl FakeSession {
    /// Whether the GPU answers at all.
    fn reach(&self, script: &Script, gpu: &GpuUuid) -> Result<(), DriverError> {
        if let Some(error) = &script.absent {
            return Err(error.clone());
        }
        let Some(known) = self.gpus.iter().find(|known| known.uuid == *gpu) else {
            return Err(DriverError::UnknownGpu(gpu.clone()));
        };
        match script.broken.get(&known.index) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

impl GpuDriver for FakeSession {
    fn snapshot(&self) -> Result<Inventory, DriverError> {
        let script = self.driver.lock();
        if let Some(error) = &script.absent {
            return Err(error.clone());
        }
        let is_broken = |gpu: &&Gpu| script.broken.contains_key(&gpu.index);
        let whole: Vec<Gpu> = self
            .gpus
            .iter()
            .filter(|gpu| !is_broken(gpu))
            .map(|gpu| Gpu {
                mig: script.mig(&gpu.uuid),
                ..gpu.clone()
            })
            .collect();
        let broken = self.gpus.iter().filter(is_broken).map(|gpu| BrokenGpu {
            index: gpu.index,
            uuid: None,
            pci: Some(gpu.pci),
            error: script.broken[&gpu.index].clone(),
        });
        let switch = Link {
            pcie: PcieRelation::CrossCpu,
            nvlinks: 18,
        };
        Ok(Inventory {
            driver: DriverVersions {
                driver: "580.65.06".to_owned(),
                nvml: "13.580.65.06".to_owned(),
                cuda: (13, 0),
            },
            broken: broken.collect(),
            links: LinkMatrix::from_fn(whole.len(), |_, _| switch),
            gpus: whole,
        })
    }

    fn check(&self, gpu: &GpuUuid, questions: Questions) -> Result<GpuCondition, DriverError> {
        let script = self.driver.lock();
        self.reach(&script, gpu)?;
        let condition = script.conditions.get(gpu).cloned().unwrap_or(Ok(WELL))?;
        // What is not asked for is not told.
        let single_bit_ecc = condition.single_bit_ecc;
        let row_remap = condition.row_remap;
        Ok(GpuCondition {
            single_bit_ecc: single_bit_ecc.filter(|_| questions.single_bit_ecc),
            row_remap: row_remap.filter(|_| questions.row_remap),
            ..condition
        })
    }

    fn partitions(&self, gpus: &[GpuUuid]) -> Vec<Result<Option<GpuMig>, DriverError>> {
        let script = self.driver.lock();
        let one = |gpu| match &script.absent {
            Some(error) => Err(error.clone()),
            None => Ok(script.mig(gpu)),
        };
        gpus.iter().map(one).collect()
    }

    fn sample(&self, gpus: &[GpuUuid], wanted: Wanted) -> Vec<Result<GpuSample, DriverError>> {
        let reach = |script: &Script, gpu: &GpuUuid| self.reach(script, gpu);
        self.driver.sample(gpus, wanted, reach)
    }

    fn texts(&self, gpus: &[GpuUuid]) -> Vec<Result<Texts, DriverError>> {
        let reach = |script: &Script, gpu: &GpuUuid| self.reach(script, gpu);
        self.driver.texts(gpus, reach)
    }

    fn mig_layout(&self, gpu: &GpuUuid) -> Result<(MigTable, Layout), DriverError> {
        let script = self.driver.lock();
        if let Some(error) = script.absent.as_ref().or(script.mig.silent.get(gpu)) {
            return Err(error.clone());
        }
        let known = script.mig.gpus.get(gpu).ok_or(DriverError::NotSupported)?;
        Ok((known.table(), known.layout.clone()))
    }

    fn change_mig(&self, gpu: &GpuUuid, step: &MigStep) -> Result<(), DriverError> {
        self.driver.change_mig(gpu, step)
    }

    fn watch_events(&self, gpus: &[GpuUuid]) -> Result<Vec<(GpuUuid, DriverError)>, DriverError> {
        let mut script = self.driver.lock();
        let refused: Vec<_> = gpus
            .iter()
            .filter_map(|gpu| Some((gpu.clone(), script.refuses_events.get(gpu)?.clone())))
            .collect();
        script.watched = gpus.to_vec();
        script
            .watched
            .retain(|gpu| refused.iter().all(|(other, _)| other != gpu));
        self.driver.shared.changed.notify_all();
        Ok(refused)
    }

    fn next_event(&self, timeout: Duration) -> Result<Option<DriverEvent>, DriverError> {
        let mut script = self.driver.lock();
        let limit = if script.waits_are_long {
            timeout
        } else {
            timeout.min(LONGEST_WAIT)
        };
        let due = Instant::now() + limit;
        script.waits += 1;
        loop {
            if script.waits_hang {
                let changed = self.driver.shared.changed.wait(script);
                script = changed.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if let Some(error) = &script.wait_error {
                return Err(error.clone());
            }
            if script.watched.is_empty() {
                return Err(DriverError::NotSupported);
            }
            if let Some(event) = script.events.pop_front() {
                return Ok(Some(event));
            }
            let Some(left) = due.checked_duration_since(Instant::now()) else {
                return Ok(None);
            };
            let changed = self.driver.shared.changed.wait_timeout(script, left);
            script = changed.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
