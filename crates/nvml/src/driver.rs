//! The open session as the agent sees it: every call bounded in time, every GPU for itself.

use std::collections::VecDeque;
use std::mem;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mizzen_core::driver::{DriverError, DriverEvent, GpuCondition, GpuDriver, Questions};
use mizzen_core::gpu::{Gpu, GpuUuid, PciBusId};
use mizzen_core::inventory::{BrokenGpu, DriverVersions, Inventory};
use mizzen_core::mig::{GpuMig, Layout, MigStep, MigTable};
use mizzen_core::sample::{GpuSample, Texts, Wanted};
use mizzen_core::topology::{FabricClique, LinkMatrix};

use crate::events::EventSet;
use crate::host::HostRoot;
use crate::identity::{self, Remembered};
use crate::library::{Library, code};
use crate::links::{self, Ways};
use crate::loader::How;
use crate::mig::CapabilityMinors;
use crate::session::{Known, Open, Session};
use crate::watched::{Claims, Subject, Watched};

/// How long a session may take to end when its owner has let go of it: its wait for events runs
/// out first.
const LONGEST_END: Duration = Duration::from_secs(15);

/// What the sessions of one loader share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) claims: Arc<Claims>,
    open: Arc<Open>,
    remembered: Remembered,
}

/// How long calls may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// A question to a GPU that has answered before.
    pub(crate) call: Duration,
    /// The first question to a GPU, which wakes it.
    pub(crate) first: Duration,
    /// A change of a GPU's partitions.
    pub(crate) change: Duration,
    /// Loading and initialising NVML, and shutting it down.
    pub(crate) init: Duration,
}

/// A session with the NVIDIA driver through NVML.
///
/// Closing it (dropping it) frees its event set and shuts NVML down, as soon as no call is
/// stuck any more. Waiting for events ([`GpuDriver::next_event`]) happens on the caller's
/// thread and lasts as long as asked, or as NVML takes; all other calls are bounded by the
/// loader's deadlines.
#[derive(Debug)]
pub struct NvmlDriver {
    watched: Watched,
    session: Option<Arc<Session>>,
    count: u32,
    versions: DriverVersions,
    host: HostRoot,
    deadlines: Deadlines,
    awake: AtomicBool,
    shared: Arc<Shared>,
    events: Mutex<Option<Arc<EventSet>>>,
    /// Events that nobody had taken from a set when another one took its place.
    left_over: Mutex<VecDeque<DriverEvent>>,
}

impl NvmlDriver {
    /// Loads NVML, initialises it and counts the GPUs.
    ///
    /// NVML lists the GPUs when it is initialised, and does so once however often that is done.
    /// So where another session is about to be closed and its wait for events has not run out,
    /// this one takes an NVML of its own, or else waits until the other is closed. A session that
    /// a stuck call keeps open is not about to be closed: it would be in the way for good.
    pub(crate) fn open(
        load: impl Fn(How) -> Result<Library, DriverError> + Clone + Send + 'static,
        host: HostRoot,
        deadlines: Deadlines,
        shared: Arc<Shared>,
    ) -> Result<Self, DriverError> {
        let watched = Watched::new(shared.claims.clone());
        let start = |how: How| {
            let (load, sessions) = (load.clone(), shared.open.clone());
            let open = move || {
                let session = Session::open(load(how)?, sessions)?;
                let count = session.library.count()?;
                let versions = session.library.versions()?;
                Ok((session, count, versions))
            };
            watched.call(Subject::Driver, deadlines.init, open)?
        };
        let apart = (shared.open.any() && shared.claims.stuck() == 0).then(|| start(How::Apart));
        let started = match apart {
            Some(Err(
                error @ (DriverError::LibraryUnusable { .. } | DriverError::LibraryNotFound { .. }),
            )) => {
                tracing::debug!(%error, "no second NVML beside the first one: waiting for its end");
                shared.open.wait_for_none(LONGEST_END);
                start(How::Ordinarily)
            }
            Some(answered) => answered,
            None => start(How::Ordinarily),
        };
        let (session, count, versions) = started?;
        Ok(Self {
            watched,
            session: Some(Arc::new(session)),
            count,
            versions,
            host,
            deadlines,
            awake: AtomicBool::new(false),
            shared,
            events: Mutex::default(),
            left_over: Mutex::default(),
        })
    }

    /// The file of the library; a bare name where the dynamic linker found it.
    pub fn library(&self) -> Option<&Path> {
        let session = self.session.as_ref();
        session.map(|session| session.library.path.as_path())
    }

    /// The session; there is one until the driver is dropped.
    fn session(&self) -> Result<&Arc<Session>, DriverError> {
        self.session.as_ref().ok_or(DriverError::Hung {
            after: self.deadlines.call,
        })
    }

    /// Asks each GPU `question`, and answers by ascending index.
    fn ask_all<T: Send + 'static>(
        &self,
        question: impl Fn(&Session, u32) -> Result<T, DriverError> + Send + Sync + 'static,
    ) -> Result<Vec<Result<T, DriverError>>, DriverError> {
        let session = self.session()?.clone();
        let subjects: Vec<Subject> = (0..self.count).map(Subject::Gpu).collect();
        let deadline = if self.awake.swap(true, Ordering::Relaxed) {
            self.deadlines.call
        } else {
            self.deadlines.first.max(self.deadlines.call)
        };
        let indices: Vec<u32> = (0..self.count).collect();
        let ask = move |position: usize| question(&session, indices[position]);
        Ok(flattened(self.watched.walk(&subjects, deadline, ask)))
    }

    /// The index and handle of the GPU with this UUID.
    fn find(&self, uuid: &GpuUuid) -> Result<(u32, Known), DriverError> {
        let session = self.session()?;
        if let Some(found) = session.find(uuid) {
            return Ok(found);
        }
        if !session.knows_all(self.count) {
            self.ask_all(Session::identify)?;
        }
        session
            .find(uuid)
            .ok_or_else(|| DriverError::UnknownGpu(uuid.clone()))
    }

    /// Asks each of these GPUs `question`, and answers in their order. One that is being changed
    /// answers [`DriverError::InUse`] at once.
    fn ask_each<T: Send + 'static>(
        &self,
        gpus: &[GpuUuid],
        question: impl Fn(&Session, u32, &Known) -> Result<T, DriverError> + Send + Sync + 'static,
    ) -> Vec<Result<T, DriverError>> {
        let found: Vec<_> = gpus.iter().map(|gpu| self.find(gpu)).collect();
        let session = match self.session() {
            Ok(session) => session.clone(),
            Err(error) => return gpus.iter().map(|_| Err(error.clone())).collect(),
        };
        let asked: Vec<(u32, Known)> = found.iter().flatten().cloned().collect();
        let subjects: Vec<_> = asked
            .iter()
            .map(|(index, _)| Subject::Gpu(*index))
            .collect();
        let ask = move |position: usize| {
            let (index, known) = &asked[position];
            question(&session, *index, known)
        };
        let answers = self.watched.glance(&subjects, self.deadlines.call, ask);
        let mut answers = flattened(answers).into_iter();
        let mut next = || answers.next().unwrap_or_else(|| Err(self.unanswered()));
        found
            .into_iter()
            .map(|found| found.and_then(|_| next()))
            .collect()
    }

    /// What is said of a GPU that was not answered for.
    fn unanswered(&self) -> DriverError {
        DriverError::Hung {
            after: self.deadlines.call,
        }
    }

    /// The links between these GPUs.
    fn links(&self, gpus: &[Gpu]) -> Result<LinkMatrix, DriverError> {
        let session = self.session()?.clone();
        let devices: Vec<_> = gpus
            .iter()
            .filter_map(|gpu| session.known(gpu.index).map(|known| known.device))
            .collect();
        if devices.len() != gpus.len() {
            return Ok(LinkMatrix::unknown(gpus.len()));
        }
        let subjects: Vec<_> = gpus.iter().map(|gpu| Subject::Gpu(gpu.index)).collect();
        let ask = move |position: usize| {
            links::ways(
                &session.library,
                devices[position],
                &devices[position + 1..],
            )
        };
        let ways: Vec<Ways> = self
            .watched
            .walk(&subjects, self.deadlines.call, ask)
            .into_iter()
            .map(Result::unwrap_or_default)
            .collect();
        let places: Vec<PciBusId> = gpus.iter().map(|gpu| gpu.pci).collect();
        let (matrix, disagreeing) = links::matrix(&places, &ways);
        for (a, b) in disagreeing {
            tracing::warn!(
                a = %gpus[a].uuid,
                b = %gpus[b].uuid,
                "two GPUs tell different numbers of NVLinks between them; the lower one counts"
            );
        }
        Ok(matrix)
    }

    /// The GPU of this index, as far as it is known, with what it answered.
    fn broken(&self, index: u32, error: DriverError) -> BrokenGpu {
        let known = self
            .session
            .as_ref()
            .and_then(|session| session.known(index));
        BrokenGpu {
            index,
            pci: known
                .as_ref()
                .and_then(|known| known.pci)
                .map(|pci| pci.place),
            uuid: known.map(|known| known.uuid),
            error,
        }
    }

    fn events(&self) -> MutexGuard<'_, Option<Arc<EventSet>>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left_over(&self) -> MutexGuard<'_, VecDeque<DriverEvent>> {
        self.left_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the new set in the place of the old one, and keeps what is still in that one. Taken
    /// out only now, so that no event falls between the two; one that came since the new set was
    /// made is in both, and a fault told twice is the same fault.
    fn replace_events(&self, new: Option<Arc<EventSet>>) {
        let old = mem::replace(&mut *self.events(), new);
        let Some(old) = old else { return };
        let drain = move || old.drain();
        match self
            .watched
            .call(Subject::Driver, self.deadlines.call, drain)
        {
            Ok(events) => self.left_over().extend(events),
            Err(error) => tracing::warn!(%error, "the events of a replaced set are lost"),
        }
    }

    /// A new event set, and what each of these GPUs answered when it was to join.
    fn event_set(&self, gpus: &[(GpuUuid, u32, Known)]) -> Result<Registration, DriverError> {
        let session = self.session()?.clone();
        let create = move || EventSet::create(session).map(Arc::new);
        let set = self
            .watched
            .call(Subject::Driver, self.deadlines.call, create)??;
        let subjects: Vec<_> = gpus
            .iter()
            .map(|(_, index, _)| Subject::Gpu(*index))
            .collect();
        let devices: Vec<_> = gpus.iter().map(|(_, _, known)| known.device).collect();
        let shared = set.clone();
        let register = move |position: usize| shared.register(devices[position]);
        let answers = self.watched.walk(&subjects, self.deadlines.call, register);
        Ok(Registration {
            set,
            answers: flattened(answers),
        })
    }
}

/// What is not closed, because the driver as a whole is stuck in a call, stays for good: on the
/// caller's thread closing it could block for ever.
struct Keep<T>(Option<T>);

impl<T> Drop for Keep<T> {
    fn drop(&mut self) {
        mem::forget(self.0.take());
    }
}

/// An event set and what each GPU that was to join it answered.
struct Registration {
    set: Arc<EventSet>,
    answers: Vec<Result<(), DriverError>>,
}

/// One result from the watch's and the call's own.
fn flattened<T>(
    answers: Vec<Result<Result<T, DriverError>, DriverError>>,
) -> Vec<Result<T, DriverError>> {
    answers.into_iter().map(Result::flatten).collect()
}

/// Whether a set is spoilt by this refusal: NVML says so for `NVML_ERROR_UNKNOWN`, and a call
/// that is still running may do anything to it yet.
fn spoils_the_set(error: &DriverError) -> bool {
    matches!(
        error,
        DriverError::Hung { .. }
            | DriverError::Nvml {
                code: code::UNKNOWN,
                ..
            }
    )
}

impl GpuDriver for NvmlDriver {
    fn snapshot(&self) -> Result<Inventory, DriverError> {
        let host = self.host.clone();
        let capabilities = CapabilityMinors::new(host.clone());
        let describe =
            move |session: &Session, index| session.describe(index, &host, &capabilities);
        let answers = self.ask_all(describe)?;
        let (mut gpus, mut broken) = (Vec::new(), Vec::new());
        for (index, answer) in (0..).zip(answers) {
            match answer {
                Ok(gpu) => gpus.push(gpu),
                Err(error) => broken.push(self.broken(index, error)),
            }
        }
        if !broken.is_empty() {
            self.shared.remembered.name(&mut broken, &gpus);
            identity::name_by_driver_list(&mut broken, &gpus, &self.host.driver_gpus());
        }
        self.shared.remembered.note(&gpus);
        let links = self.links(&gpus)?;
        Ok(Inventory {
            driver: self.versions.clone(),
            gpus,
            broken,
            links,
        })
    }

    fn check(&self, gpu: &GpuUuid, questions: Questions) -> Result<GpuCondition, DriverError> {
        let mut answers = self.check_all(std::slice::from_ref(gpu), questions);
        answers.pop().unwrap_or_else(|| Err(self.unanswered()))
    }

    fn check_all(
        &self,
        gpus: &[GpuUuid],
        questions: Questions,
    ) -> Vec<Result<GpuCondition, DriverError>> {
        let ask =
            move |session: &Session, _, known: &Known| session.condition(known.device, questions);
        self.ask_each(gpus, ask)
    }

    fn partitions(&self, gpus: &[GpuUuid]) -> Vec<Result<Option<GpuMig>, DriverError>> {
        let capabilities = CapabilityMinors::new(self.host.clone());
        let ask = move |session: &Session, index, known: &Known| {
            session.partition(index, known.device, &capabilities)
        };
        self.ask_each(gpus, ask)
    }

    fn fabric(&self, gpus: &[GpuUuid]) -> Vec<Result<Option<FabricClique>, DriverError>> {
        self.ask_each(gpus, |session, _, known| {
            session.library.fabric(known.device)
        })
    }

    fn sample(&self, gpus: &[GpuUuid], wanted: Wanted) -> Vec<Result<GpuSample, DriverError>> {
        let capabilities = CapabilityMinors::new(self.host.clone());
        let ask = move |session: &Session, index, known: &Known| {
            session.sample(index, known.device, wanted, &capabilities)
        };
        self.ask_each(gpus, ask)
    }

    fn texts(&self, gpus: &[GpuUuid]) -> Vec<Result<Texts, DriverError>> {
        let versions = self.versions.clone();
        let ask = move |session: &Session, _, known: &Known| session.texts(known.device, &versions);
        self.ask_each(gpus, ask)
    }

    /// What the GPU can be cut into and what it is cut into, empty GPU instances included. A
    /// driver that tells no profiles or placements while MIG is off has them empty.
    fn mig_layout(&self, gpu: &GpuUuid) -> Result<(MigTable, Layout), DriverError> {
        let (index, known) = self.find(gpu)?;
        let session = self.session()?.clone();
        let ask = move || session.mig_layout(known.device);
        self.watched
            .call(Subject::Gpu(index), self.deadlines.call, ask)?
    }

    fn change_mig(&self, gpu: &GpuUuid, step: &MigStep) -> Result<(), DriverError> {
        let (index, known) = self.find(gpu)?;
        let (session, step) = (self.session()?.clone(), step.clone());
        let change = move || session.change_mig(index, known.device, &step);
        self.watched
            .change(Subject::Gpu(index), self.deadlines.change, change)?
    }

    fn watch_events(&self, gpus: &[GpuUuid]) -> Result<Vec<(GpuUuid, DriverError)>, DriverError> {
        let mut refused = Vec::new();
        let mut asked = Vec::new();
        for gpu in gpus {
            match self.find(gpu) {
                Ok((index, known)) => asked.push((gpu.clone(), index, known)),
                Err(error) => refused.push((gpu.clone(), error)),
            }
        }
        loop {
            let Registration { set, answers } = self.event_set(&asked)?;
            let mut spoilt = false;
            let mut watched = Vec::new();
            for (gpu, answer) in asked.into_iter().zip(answers) {
                match answer {
                    Ok(()) => watched.push(gpu),
                    Err(error) => {
                        spoilt |= spoils_the_set(&error);
                        refused.push((gpu.0, error));
                    }
                }
            }
            if !spoilt {
                self.replace_events((!watched.is_empty()).then_some(set));
                return Ok(refused);
            }
            asked = watched;
        }
    }

    /// Waits for the next event of the watched GPUs.
    ///
    /// # Errors
    /// [`DriverError::NotSupported`] when no GPU is watched, at once: there is nothing to wait
    /// for. Any other error may come back at once as well; the caller waits before it asks again.
    fn next_event(&self, timeout: Duration) -> Result<Option<DriverEvent>, DriverError> {
        if let Some(event) = self.left_over().pop_front() {
            return Ok(Some(event));
        }
        let set = self.events().clone();
        set.ok_or(DriverError::NotSupported)?.wait(timeout)
    }
}

impl Drop for NvmlDriver {
    fn drop(&mut self) {
        let events = self.events().take();
        let mut open = Keep(Some((events, self.session.take())));
        // Even closing may hang; then the worker is left behind with it.
        let close = move || drop(open.0.take());
        if self
            .watched
            .call(Subject::Driver, self.deadlines.init, close)
            .is_err()
        {
            tracing::warn!("NVML did not shut down in time");
        }
    }
}
