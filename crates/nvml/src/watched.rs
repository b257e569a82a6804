//! Calls that may never return, on threads that can be left behind.
//!
//! NVML blocks for ever on a GPU that fell off the bus at a bad moment. So every call runs on
//! a worker thread with a deadline. In the ordinary case one worker does everything and sleeps
//! in between; when it is late a second one goes on with the rest, and when it passes the
//! deadline it is left behind and what it was busy with (the *subject*) is *stuck*: questions
//! about it are answered [`DriverError::Hung`] at once until that call returns. So no subject
//! ever holds more than one thread.

use std::collections::HashMap;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mizzen_core::driver::DriverError;

use crate::library::code;

/// What a call is about: the thing that hangs if the call hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    /// The driver as a whole.
    Driver,
    /// The GPU of this index.
    Gpu(u32),
}

/// Which subjects are being asked now. Shared by all sessions of a loader, so that reloading
/// does not send one thread after another to the same stuck GPU.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    held: Mutex<HashMap<Subject, Claim>>,
    released: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// Somebody asks it something.
    Asked,
    /// Somebody changes it, which takes far longer.
    Changed,
    Stuck,
}

impl Claims {
    /// Takes the subject, waiting up to `patience` for another caller to have his answer.
    ///
    /// # Errors
    /// What keeps the subject from us.
    fn take(&self, subject: Subject, claim: Claim, patience: Duration) -> Result<(), Claim> {
        let due = Instant::now() + patience;
        let mut held = lock(&self.held);
        loop {
            match held.get(&subject) {
                None => {
                    held.insert(subject, claim);
                    return Ok(());
                }
                Some(Claim::Asked) => {}
                Some(&other) => return Err(other),
            }
            let Some(left) = due.checked_duration_since(Instant::now()) else {
                return Err(Claim::Asked);
            };
            held = wait(&self.released, held, left);
        }
    }

    /// Waits until none of the subjects is being changed, up to `patience`. Before any of them is
    /// taken: the others must not be kept from anybody for so long.
    fn await_changes(&self, subjects: &[Subject], patience: Duration) {
        let due = Instant::now() + patience;
        let mut held = lock(&self.held);
        while subjects
            .iter()
            .any(|subject| held.get(subject) == Some(&Claim::Changed))
        {
            let Some(left) = due.checked_duration_since(Instant::now()) else {
                return;
            };
            held = wait(&self.released, held, left);
        }
    }

    fn mark_stuck(&self, subject: Subject) {
        lock(&self.held).insert(subject, Claim::Stuck);
        self.released.notify_all();
    }

    fn release(&self, subject: Subject) {
        lock(&self.held).remove(&subject);
        self.released.notify_all();
    }

    /// How many calls have passed their deadline and not returned: as many threads are left
    /// behind.
    pub(crate) fn stuck(&self) -> usize {
        let held = lock(&self.held);
        held.values()
            .filter(|&&claim| claim == Claim::Stuck)
            .count()
    }
}

/// Work for a thread that sleeps in between.
type Job = Box<dyn FnOnce() + Send>;

/// The worker threads of one session.
#[derive(Debug)]
pub(crate) struct Watched {
    claims: Arc<Claims>,
    /// The worker that has nothing to do; it ends when this is dropped.
    idle: Mutex<Option<mpsc::Sender<Job>>>,
}

impl Watched {
    pub(crate) fn new(claims: Arc<Claims>) -> Self {
        Self {
            claims,
            idle: Mutex::new(None),
        }
    }

    /// Runs one call about `subject`.
    ///
    /// # Errors
    /// [`DriverError::Hung`] when it does not return within `deadline`; it goes on behind our
    /// back, and its answer is dropped. [`DriverError::InUse`] while the subject is being changed.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        subject: Subject,
        deadline: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DriverError> {
        self.one(subject, Claim::Asked, deadline, call)
    }

    /// As [`Self::call`], for a call that changes the subject: until it returns, others are told
    /// so.
    pub(crate) fn change<T: Send + 'static>(
        &self,
        subject: Subject,
        deadline: Duration,
        change: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DriverError> {
        self.one(subject, Claim::Changed, deadline, change)
    }

    fn one<T: Send + 'static>(
        &self,
        subject: Subject,
        claim: Claim,
        deadline: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DriverError> {
        let call = Mutex::new(Some(call));
        let step = move |_| lock(&call).take().map(|call| call());
        self.claims.await_changes(&[subject], deadline);
        let mut answers = self.claimed(&[subject], claim, deadline, step);
        // The answer is here a moment before the subject is free, and who asks next must not be
        // told that it is being changed.
        self.claims.await_changes(&[subject], deadline);
        match answers.pop() {
            Some(Ok(Some(answer))) => Ok(answer),
            Some(Err(error)) => Err(error),
            // A walk answers each subject once.
            Some(Ok(None)) | None => Err(DriverError::Hung { after: deadline }),
        }
    }

    /// Runs `step(i)` for each of the `subjects` and answers in their order. One that does not
    /// return within `deadline` answers [`DriverError::Hung`]; the others do not wait for it. One
    /// that is being changed is waited for as long, then it answers [`DriverError::InUse`].
    pub(crate) fn walk<T: Send + 'static>(
        &self,
        subjects: &[Subject],
        deadline: Duration,
        step: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Vec<Result<T, DriverError>> {
        self.claims.await_changes(subjects, deadline);
        self.claimed(subjects, Claim::Asked, deadline, step)
    }

    /// As [`Self::walk`], without waiting for a subject that is being changed.
    pub(crate) fn glance<T: Send + 'static>(
        &self,
        subjects: &[Subject],
        deadline: Duration,
        step: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Vec<Result<T, DriverError>> {
        self.claimed(subjects, Claim::Asked, deadline, step)
    }

    fn claimed<T: Send + 'static>(
        &self,
        subjects: &[Subject],
        claim: Claim,
        deadline: Duration,
        step: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Vec<Result<T, DriverError>> {
        let slots: Vec<Slot<T>> = subjects
            .iter()
            .map(
                |&subject| match self.claims.take(subject, claim, deadline) {
                    Ok(()) => Slot::Waiting,
                    Err(Claim::Changed) => Slot::Over(Err(DriverError::InUse)),
                    Err(Claim::Asked | Claim::Stuck) => {
                        Slot::Over(Err(DriverError::Hung { after: deadline }))
                    }
                },
            )
            .collect();
        let walk = Arc::new(Walk {
            claims: self.claims.clone(),
            subjects: subjects.to_vec(),
            step,
            state: Mutex::new(State::new(slots)),
            finished: Condvar::new(),
        });
        self.oversee(&walk, deadline)
    }

    /// Hands the walk to workers, as many as it takes, and waits for its end.
    fn oversee<T, F>(
        &self,
        walk: &Arc<Walk<T, F>>,
        deadline: Duration,
    ) -> Vec<Result<T, DriverError>>
    where
        T: Send + 'static,
        F: Fn(usize) -> T + Send + Sync + 'static,
    {
        // Long enough that an ordinary walk never needs a second worker, short enough that
        // one hanging GPU does not hold up the news of the others for long.
        let patience = deadline / 10;
        let mut first = None;
        let mut state = lock(&walk.state);
        loop {
            let now = Instant::now();
            let view = state.review(now, patience, deadline, |position| {
                walk.claims.mark_stuck(walk.subjects[position]);
            });
            if view.over {
                break;
            }
            if view.needs_a_hand {
                let worker = state.hands;
                state.hands += 1;
                match self.hire(walk, worker) {
                    Ok(sender) if worker == 0 => first = Some(sender),
                    Ok(_) => {}
                    Err(error) => {
                        state.hands -= 1;
                        state.give_up_waiting(&error, |position| {
                            walk.claims.release(walk.subjects[position]);
                        });
                    }
                }
                continue;
            }
            state = wait(&walk.finished, state, view.look_again);
        }
        if let Some(sender) = first.filter(|_| !state.left_behind.contains(&0)) {
            lock(&self.idle).get_or_insert(sender);
        }
        state.take_answers(deadline)
    }

    /// Sets a worker on the walk: the idle one, or a new one.
    fn hire<T, F>(
        &self,
        walk: &Arc<Walk<T, F>>,
        worker: usize,
    ) -> Result<mpsc::Sender<Job>, DriverError>
    where
        T: Send + 'static,
        F: Fn(usize) -> T + Send + Sync + 'static,
    {
        let walk = walk.clone();
        let mut job: Job = Box::new(move || walk.work(worker));
        let idle = lock(&self.idle).take();
        if let Some(sender) = idle {
            match sender.send(job) {
                Ok(()) => return Ok(sender),
                // A call that panicked took the worker with it.
                Err(mpsc::SendError(unsent)) => job = unsent,
            }
        }
        let sender = start_worker()?;
        // A new worker waits on this channel as long as we hold the sender.
        let _ = sender.send(job);
        Ok(sender)
    }
}

fn start_worker() -> Result<mpsc::Sender<Job>, DriverError> {
    let (sender, jobs) = mpsc::channel::<Job>();
    thread::Builder::new()
        .name("nvml".to_owned())
        .spawn(move || {
            while let Ok(job) = jobs.recv() {
                job();
            }
        })
        .map_err(|error| DriverError::Nvml {
            call: "pthread_create",
            code: code::UNKNOWN,
            message: format!("no thread for the call: {error}"),
        })?;
    Ok(sender)
}

/// Where one subject of a walk stands.
enum Slot<T> {
    Waiting,
    Running { since: Instant, worker: usize },
    Over(Result<T, DriverError>),
}

struct State<T> {
    slots: Vec<Slot<T>>,
    /// Workers hired so far.
    hands: usize,
    /// Workers that have begun to work.
    begun: usize,
    /// Workers stuck in a call past its deadline.
    left_behind: Vec<usize>,
}

/// What the overseer sees.
struct View {
    over: bool,
    needs_a_hand: bool,
    look_again: Duration,
}

impl<T> State<T> {
    fn new(slots: Vec<Slot<T>>) -> Self {
        Self {
            slots,
            hands: 0,
            begun: 0,
            left_behind: Vec::new(),
        }
    }

    /// Leaves behind what has passed its deadline, and says what to do now.
    fn review(
        &mut self,
        now: Instant,
        patience: Duration,
        deadline: Duration,
        mut stuck: impl FnMut(usize),
    ) -> View {
        let (mut waiting, mut running) = (0, 0);
        let mut in_time = self.hands - self.begun;
        let mut look_again = deadline;
        for (position, slot) in self.slots.iter_mut().enumerate() {
            match *slot {
                Slot::Over(_) => {}
                Slot::Waiting => waiting += 1,
                Slot::Running { since, worker } => {
                    let age = now.saturating_duration_since(since);
                    if age >= deadline {
                        stuck(position);
                        self.left_behind.push(worker);
                        *slot = Slot::Over(Err(DriverError::Hung { after: deadline }));
                        continue;
                    }
                    running += 1;
                    in_time += usize::from(age < patience);
                    look_again = look_again.min(deadline.saturating_sub(age));
                }
            }
        }
        if waiting > 0 {
            look_again = look_again.min(patience);
        }
        View {
            over: waiting + running == 0,
            needs_a_hand: waiting > 0 && in_time == 0,
            look_again,
        }
    }

    /// Ends everything that no worker has taken up.
    fn give_up_waiting(&mut self, error: &DriverError, mut given_up: impl FnMut(usize)) {
        for (position, slot) in self.slots.iter_mut().enumerate() {
            if matches!(slot, Slot::Waiting) {
                *slot = Slot::Over(Err(error.clone()));
                given_up(position);
            }
        }
    }

    fn take_answers(&mut self, deadline: Duration) -> Vec<Result<T, DriverError>> {
        let slots = std::mem::take(&mut self.slots);
        slots
            .into_iter()
            .map(|slot| match slot {
                Slot::Over(answer) => answer,
                Slot::Waiting | Slot::Running { .. } => Err(DriverError::Hung { after: deadline }),
            })
            .collect()
    }
}

/// One walk over its subjects, shared by the overseer and the workers.
struct Walk<T, F> {
    claims: Arc<Claims>,
    subjects: Vec<Subject>,
    step: F,
    state: Mutex<State<T>>,
    finished: Condvar,
}

impl<T, F: Fn(usize) -> T> Walk<T, F> {
    /// Takes one subject after the other until none waits, or until this worker has been left
    /// behind.
    fn work(&self, worker: usize) {
        lock(&self.state).begun += 1;
        while let Some(position) = self.take_up(worker) {
            let turn = Turn {
                walk: self,
                position,
            };
            let answer = (self.step)(position);
            if !turn.end(Ok(answer)) {
                return;
            }
        }
    }

    fn take_up(&self, worker: usize) -> Option<usize> {
        let mut state = lock(&self.state);
        let waiting = |slot: &Slot<T>| matches!(slot, Slot::Waiting);
        let position = state.slots.iter().position(waiting)?;
        state.slots[position] = Slot::Running {
            since: Instant::now(),
            worker,
        };
        Some(position)
    }
}

/// One subject in a worker's hands.
struct Turn<'a, T, F> {
    walk: &'a Walk<T, F>,
    position: usize,
}

impl<T, F> Turn<'_, T, F> {
    /// Records the answer and gives the subject back; false when the worker has been left
    /// behind, and the answer with it.
    fn end(&self, answer: Result<T, DriverError>) -> bool {
        let mut state = lock(&self.walk.state);
        let slot = state.slots.get_mut(self.position);
        let Some(slot @ Slot::Running { .. }) = slot else {
            return false;
        };
        *slot = Slot::Over(answer);
        let over = |slot: &Slot<T>| matches!(slot, Slot::Over(_));
        let all_over = state.slots.iter().all(over);
        drop(state);
        if all_over {
            self.walk.finished.notify_one();
        }
        true
    }
}

impl<T, F> Drop for Turn<'_, T, F> {
    /// However the call ended, its subject is free again.
    fn drop(&mut self) {
        // Without effect unless the call panicked.
        self.end(Err(DriverError::Nvml {
            call: "a call",
            code: code::UNKNOWN,
            message: "it panicked".to_owned(),
        }));
        self.walk.claims.release(self.walk.subjects[self.position]);
    }
}

/// Locks, also after a panic elsewhere: every critical section here leaves the data whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, limit: Duration) -> MutexGuard<'a, T> {
    condvar
        .wait_timeout(guard, limit)
        .unwrap_or_else(PoisonError::into_inner)
        .0
}

#[cfg(test)]
mod tests;
