//! The way of one GPU to what it shall be.

use std::collections::BTreeSet;
use std::sync::Arc;

use mizzen_core::driver::{DriverError, GpuDriver};
use mizzen_core::gpu::{Gpu, GpuUuid};
use mizzen_core::mig::{GpuMig, MigStep, MigTarget};
use mizzen_core::state::{Event, NodeState, Withheld};
use tokio::time::{Instant, sleep};

use super::decide::{Change, Look, Next, next};
use super::holders::Holders;
use super::inputs::Session;
use super::manager::{Halt, Manager};
use super::words::{Outcome, StepWords, refused};
use crate::backoff::Backoff;
use crate::driver::News;

/// After so many plans a GPU should be as it shall be: withdrawal, mode, the rest, and some more
/// for what others do meanwhile.
const MOST_PLANS: u32 = 8;

impl Manager {
    /// Changes a GPU until it is as `target` says, or something is in the way.
    pub(super) async fn bring(
        &mut self,
        session: &Session,
        look: Look,
        target: &MigTarget,
    ) -> Result<Outcome, Halt> {
        let gpu = look.uuid.clone();
        let outcome = self.on_the_way(session, look, target).await;
        match &outcome {
            Ok(Outcome::Reset) | Err(Halt::Overtaken) => {}
            Ok(Outcome::Met(false)) if !self.withheld.contains_key(&gpu) => {}
            Ok(_) | Err(Halt::Failed(_)) => self.offer_again(session, &gpu).await,
        }
        match outcome {
            Err(Halt::Failed(why)) => Ok(Outcome::Failed(why)),
            other => other,
        }
    }

    async fn on_the_way(
        &mut self,
        session: &Session,
        mut look: Look,
        target: &MigTarget,
    ) -> Result<Outcome, Halt> {
        let mut withdrawn = BTreeSet::new();
        let mut offered_whole = None;
        let mut set_again = false;
        let mut changed = false;
        for _ in 0..MOST_PLANS {
            let change = match self.next(&look, target, &mut offered_whole).await? {
                Next::Nothing => {
                    self.done(&look.uuid).await;
                    return Ok(Outcome::Met(changed));
                }
                Next::AwaitReset => {
                    self.begin(&look, target).await?;
                    self.withhold(&look.uuid, Withheld::Whole).await;
                    if set_again || !self.set_mode_again(session, &look, target).await? {
                        return Ok(Outcome::Reset);
                    }
                    set_again = true;
                    look = self.look(session, &look.uuid, look.index).await?;
                    continue;
                }
                Next::Unclear(why) => return Err(Halt::Failed(why)),
                Next::Impossible(why) => return Ok(Outcome::Impossible(why)),
                Next::Blocked(pods, change) => return Ok(Outcome::Waiting(pods, change)),
                Next::Change(change) => change,
            };
            if !change.gone.is_subset(&withdrawn) {
                self.withdraw(&look.uuid, &change).await?;
                withdrawn.extend(change.gone);
                // Whoever got some of it before the kubelet took that is known now.
                look = self.look(session, &look.uuid, look.index).await?;
                continue;
            }
            if self.is_overtaken() {
                return Err(Halt::Overtaken);
            }
            self.begin(&look, target).await?;
            changed = true;
            self.carry_out(session, &look, target, change.steps).await?;
            look = self.look(session, &look.uuid, look.index).await?;
        }
        Err(Halt::Failed(format!(
            "it is not {target} after {MOST_PLANS} plans; somebody else may be changing it"
        )))
    }

    /// Sets a mode once more that is set and not in force. On GPUs that need no reset for it, it
    /// waits only because somebody used the GPU the last time. Whether that could be tried: not
    /// while a pod holds the GPU, or may.
    async fn set_mode_again(
        &mut self,
        session: &Session,
        look: &Look,
        target: &MigTarget,
    ) -> Result<bool, Halt> {
        match self.withdraw(&look.uuid, &Change::nothing_but(look)).await {
            Err(Halt::Overtaken) => return Err(Halt::Overtaken),
            Err(Halt::Failed(_)) => return Ok(false),
            Ok(()) => {}
        }
        let holdings = self.kubelet.holdings().await;
        if !holdings.is_ok_and(|holdings| holdings.on(look).is_empty()) {
            return Ok(false);
        }
        let (driver, gpu) = (session.clone(), look.uuid.clone());
        let step = MigStep::SetMode(target.enabled);
        let call = move || driver.change_mig(&gpu, &step);
        let set = self.hands.call(&look.uuid, self.patience.step, call).await;
        Ok(set.is_ok())
    }

    /// What comes next. The kubelet is asked only about changes that take something away, and once
    /// whether it has the GPU as a whole: it answers so many questions in a second, and no more.
    async fn next(
        &mut self,
        look: &Look,
        target: &MigTarget,
        offered_whole: &mut Option<bool>,
    ) -> Result<Next, Halt> {
        match next(look, target, &Holders::unknown()) {
            Next::Change(change) if change.withheld.is_some() => {}
            Next::Blocked(..) => {}
            decided => return Ok(decided),
        }
        let holdings = self.kubelet.holdings().await.map_err(Halt::Failed)?;
        let decided = next(look, target, &holdings.on(look));
        let is_whole = if let Some(known) = *offered_whole {
            known
        } else {
            let allocatable = self.kubelet.allocatable().await.map_err(Halt::Failed)?;
            *offered_whole.insert(allocatable.contains_key(look.uuid.as_str()))
        };
        if let Next::Blocked(..) = decided {
            let here = holdings.only(&look.everything());
            self.course.blocked.insert(look.uuid.clone(), here);
        } else {
            self.course.blocked.remove(&look.uuid);
        }
        Ok(match decided {
            Next::Change(change) if is_whole => Next::Change(change.of_whole(look)),
            Next::Blocked(pods, change) if is_whole => Next::Blocked(pods, change.of_whole(look)),
            decided => decided,
        })
    }

    /// Withholds what a change takes away, and waits until the kubelet cannot give it out.
    pub(super) async fn withdraw(&mut self, gpu: &GpuUuid, change: &Change) -> Result<(), Halt> {
        let Some(withheld) = &change.withheld else {
            return Ok(());
        };
        self.withhold(gpu, withheld.clone()).await;
        let limit = self.patience.withdrawal;
        let until = Instant::now() + limit;
        let mut pause = Backoff::new(self.patience.poll, self.patience.longest_poll);
        loop {
            // It takes a kubelet a few milliseconds.
            sleep(pause.failed()).await;
            let allocatable = self.kubelet.allocatable().await.map_err(Halt::Failed)?;
            let mut still = change
                .gone
                .iter()
                .filter_map(|id| allocatable.get_key_value(id));
            let Some((id, resource)) = still.next() else {
                break;
            };
            if Instant::now() >= until {
                return Err(Halt::Failed(format!(
                    "the kubelet can still give out {id} as {resource} {} s after it was \
                     withdrawn; does another device plugin offer it?",
                    limit.as_secs()
                )));
            }
            if self.is_overtaken() {
                return Err(Halt::Overtaken);
            }
        }
        // Since it was withheld the plugin gives it to nobody. A kubelet that got it just before
        // tells who holds it only a moment after the answer.
        let mut pause = Backoff::new(self.patience.poll, self.patience.longest_poll);
        while self.kubelet.may_be_giving(&change.gone) {
            self.kubelet.holdings().await.map_err(Halt::Failed)?;
            if !self.kubelet.may_be_giving(&change.gone) {
                break;
            }
            if self.is_overtaken() {
                return Err(Halt::Overtaken);
            }
            sleep(pause.failed()).await;
        }
        Ok(())
    }

    async fn carry_out(
        &mut self,
        session: &Session,
        look: &Look,
        target: &MigTarget,
        steps: Vec<MigStep>,
    ) -> Result<(), Halt> {
        self.say_applying(look.index, target);
        for step in steps {
            if takes_away(&step) && self.is_overtaken() {
                return Err(Halt::Overtaken);
            }
            tracing::info!(
                event = "mig-step",
                gpu = look.index,
                uuid = %look.uuid,
                "{}",
                StepWords(&step)
            );
            let (driver, gpu, made) = (session.clone(), look.uuid.clone(), step.clone());
            let call = move || driver.change_mig(&gpu, &made);
            let done = self.hands.call(&look.uuid, self.patience.step, call).await;
            done.map_err(|error| Halt::Failed(refused(&step, &error)))?;
            if matches!(step, MigStep::SetMode(_)) {
                // Whether it is in force now or after a reset only the GPU knows.
                return Ok(());
            }
        }
        Ok(())
    }

    /// How a GPU is now.
    pub(super) async fn look(
        &mut self,
        session: &Session,
        gpu: &GpuUuid,
        index: u32,
    ) -> Result<Look, Halt> {
        let looked = self.try_look(session, gpu, index).await;
        looked.map_err(|error| Halt::Failed(format!("the driver does not tell how it is: {error}")))
    }

    /// The same for the first time, when a GPU may not be of this kind at all.
    pub(super) async fn first_look(
        &mut self,
        session: &Session,
        gpu: &Gpu,
    ) -> Result<Option<Look>, String> {
        match self.try_look(session, &gpu.uuid, gpu.index).await {
            Ok(look) => Ok(Some(look)),
            Err(DriverError::NotSupported) => Ok(None),
            Err(error) => Err(format!("the driver does not tell how it is: {error}")),
        }
    }

    async fn try_look(
        &mut self,
        session: &Session,
        gpu: &GpuUuid,
        index: u32,
    ) -> Result<Look, DriverError> {
        let (driver, uuid) = (session.clone(), gpu.clone());
        let call = move || {
            let (table, layout) = driver.mig_layout(&uuid)?;
            let devices = partitions(&*driver, &uuid)?.unwrap_or_default().devices;
            Ok(Look {
                uuid,
                index,
                table,
                layout,
                devices,
            })
        };
        self.hands.call(gpu, self.patience.look, call).await
    }

    /// Has the GPU offered as it is now, in one list. While the driver has not come back from a
    /// change nobody knows how it is.
    pub(super) async fn offer_again(&mut self, session: &Session, gpu: &GpuUuid) {
        if self.hands.is_stuck(gpu) {
            return;
        }
        let (driver, uuid) = (session.clone(), gpu.clone());
        let call = move || partitions(&*driver, &uuid);
        let mut events = Vec::new();
        match self.hands.call(gpu, self.patience.look, call).await {
            Ok(mig) => events.push(Event::Partitioned(gpu.clone(), mig)),
            // What is the matter with it shows when it is asked how it is.
            Err(DriverError::Hung { .. }) => return,
            Err(_) => {}
        }
        if self.withheld.remove(gpu).is_some() {
            events.push(Event::Withhold(self.withheld.clone()));
        }
        self.tell(events).await;
        (self.show)(gpu);
    }

    /// Withholds something of a GPU, besides what is withheld of it already.
    pub(super) async fn withhold(&mut self, gpu: &GpuUuid, more: Withheld) {
        let all = match (self.withheld.get(gpu), more) {
            (Some(Withheld::Whole), _) | (_, Withheld::Whole) => Withheld::Whole,
            (Some(Withheld::Devices(old)), Withheld::Devices(new)) => {
                Withheld::Devices(old.union(&new).cloned().collect())
            }
            (None, new) => new,
        };
        let old = self.withheld.insert(gpu.clone(), all.clone());
        if old.as_ref() != Some(&all) {
            self.tell(vec![Event::Withhold(self.withheld.clone())])
                .await;
            // From then on the plugin gives it to nobody. What is new is heard of as ever.
            let mut state = self.inputs.state.clone();
            let told = |state: &Arc<NodeState>| state.withheld().get(gpu) == Some(&all);
            let _ = state.wait_for(told).await;
        }
    }

    pub(super) async fn tell(&self, events: Vec<Event>) {
        // Fails only if the state task has ended, and the process with it.
        let _ = self.news.send(News::Events(events)).await;
    }

    /// Writes down what is about to be done, so that it is done also if this process ends.
    async fn begin(&mut self, look: &Look, target: &MigTarget) -> Result<(), Halt> {
        let begun = self.journal.begin(&look.uuid, target).await;
        begun.map_err(|error| {
            Halt::Failed(format!(
                "it cannot be written down what is to be done, so nothing is done: {error} (mount \
                 a writable directory and set --state-dir)"
            ))
        })
    }

    /// Forgets what was to be done to a GPU.
    async fn done(&mut self, gpu: &GpuUuid) {
        self.forget(|known, _| known != gpu).await;
    }
}

/// Whether something is gone after this step that was there before.
fn takes_away(step: &MigStep) -> bool {
    match step {
        MigStep::SetMode(_)
        | MigStep::DestroyComputeInstance { .. }
        | MigStep::DestroyGpuInstance { .. } => true,
        MigStep::CreateComputeInstances { .. } | MigStep::CreateGpuInstance { .. } => false,
    }
}

fn partitions(driver: &dyn GpuDriver, gpu: &GpuUuid) -> Result<Option<GpuMig>, DriverError> {
    let answers = driver.partitions(std::slice::from_ref(gpu));
    answers.into_iter().next().unwrap_or(Ok(None))
}
