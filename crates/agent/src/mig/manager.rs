//! The manager's task: hears of everything, works through the GPUs, and says where they stand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::driver::GpuDriver;
use mizzen_core::gpu::{Gpu, GpuUuid};
use mizzen_core::mig::MigTarget;
use mizzen_core::state::{Event, Withheld};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::decide::{Change, Look};
use super::hands::Hands;
use super::holders::Holdings;
use super::inputs::{Facts, Inputs};
use super::journal::Journal;
use super::kubelet::Kubelet;
use super::retry::{Pace, Retry};
use super::wish::{Goals, Wish, goals};
use super::words::{MigState, Outcome, Report, Standing};
use crate::cluster::{self, Cluster, Reporter};
use crate::driver::News;

/// Why work on a GPU ended before it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// It does not work now, and why.
    Failed(String),
    /// Something else is wanted by now.
    Overtaken,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The API, to tell for the first time what is wanted.
    pub(super) first_word: Duration,
    /// The kubelet, to take a withdrawal.
    pub(super) withdrawal: Duration,
    /// Evicted pods, to let go.
    pub(super) eviction: Duration,
    /// The driver, to tell how a GPU is.
    pub(super) look: Duration,
    /// The driver, for one step.
    pub(super) step: Duration,
    /// Between questions to the kubelet, at first and at most.
    pub(super) poll: Duration,
    pub(super) longest_poll: Duration,
    /// Between questions about pods or resets that are waited for.
    pub(super) slow_poll: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_word: Duration::from_secs(5),
            withdrawal: Duration::from_secs(30),
            eviction: Duration::from_mins(5),
            look: Duration::from_secs(20),
            step: Duration::from_mins(2),
            poll: Duration::from_millis(5),
            longest_poll: Duration::from_millis(500),
            slow_poll: Duration::from_secs(3),
        }
    }
}

pub(super) struct Manager {
    pub(super) inputs: Inputs,
    /// Whether pods must make way.
    pub(super) evicts: bool,
    pub(super) cluster: Cluster,
    pub(super) kubelet: Kubelet,
    pub(super) hands: Hands,
    pub(super) journal: Journal,
    /// What the state task was told to withhold.
    pub(super) withheld: BTreeMap<GpuUuid, Withheld>,
    pub(super) news: mpsc::Sender<News>,
    pub(super) reporter: Reporter,
    pub(super) states: mpsc::UnboundedSender<Option<MigState>>,
    pub(super) patience: Patience,
    pub(super) course: Course,
}

/// Where the manager is on its way.
pub(super) struct Course {
    /// When this process began to work.
    begun: Instant,
    retry: Retry,
    wish: Wish,
    facts: Facts,
    /// What was last said of where the layout stands.
    standing: Option<Standing>,
    /// Whether it was said that GPUs are being changed for this wish.
    applying: bool,
    /// What has not worked, and is tried again when it is time for that.
    failed: BTreeMap<GpuUuid, Report>,
    /// Who holds what of GPUs on which somebody is waited for.
    pub(super) blocked: BTreeMap<GpuUuid, Holdings>,
    /// What is odd about the layout, said once.
    remarks: Vec<String>,
}

impl Course {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            retry: Retry::new(),
            wish: Wish::Unheard,
            facts: Facts::default(),
            standing: None,
            applying: false,
            failed: BTreeMap::new(),
            blocked: BTreeMap::new(),
            remarks: Vec::new(),
        }
    }
}

impl Manager {
    /// Works until everything else has ended.
    pub(super) async fn run(mut self) {
        self.course.wish = self.inputs.wish();
        self.course.facts = self.inputs.facts();
        loop {
            let due = self.course.retry.due();
            let due = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let released = released(
                &mut self.kubelet,
                &self.course.blocked,
                self.patience.slow_poll,
            );
            tokio::select! {
                () = due => self.round().await,
                () = released => self.make_new_way(),
                () = self.inputs.changed() => self.hear(),
            }
        }
    }

    /// Somebody has let go of what others waited for.
    fn make_new_way(&mut self) {
        let blocked = &self.course.blocked;
        self.course
            .failed
            .retain(|gpu, _| !blocked.contains_key(gpu));
        self.course.retry.soon();
    }

    /// Takes in what is new, and decides when to look at the GPUs again.
    fn hear(&mut self) {
        let wish = self.inputs.wish();
        if wish != self.course.wish {
            self.take_wish(wish);
        }
        let facts = self.inputs.facts();
        if facts.gpus != self.course.facts.gpus {
            self.course.retry.now();
        } else if facts.layouts != self.course.facts.layouts {
            self.course.retry.drifted();
        }
        self.course.facts = facts;
    }

    fn take_wish(&mut self, wish: Wish) {
        self.course.wish = wish;
        self.course.standing = None;
        self.course.applying = false;
        self.course.remarks.clear();
        self.course.failed.clear();
        self.course.retry.begin();
    }

    /// Whether something else is wanted by now.
    pub(super) fn is_overtaken(&mut self) -> bool {
        if !self.inputs.may_wish_more() {
            return false;
        }
        let wish = self.inputs.wish();
        if wish == self.course.wish {
            return false;
        }
        self.take_wish(wish);
        true
    }

    /// Looks at every GPU that something is wanted of, and does what can be done.
    async fn round(&mut self) {
        if self.course.retry.began() {
            self.course.failed.clear();
        }
        let failed = &self.course.failed;
        self.course
            .blocked
            .retain(|gpu, _| failed.contains_key(gpu));
        match self.work().await {
            Ok(pace) => self.course.retry.ended(pace),
            Err(Halt::Overtaken) => {}
            Err(Halt::Failed(why)) => {
                let name = self.course.wish.name();
                self.stand(Standing::failed(format!("{name}: {why}")));
                self.course.retry.ended(Pace::RETRY);
            }
        }
        self.kubelet.hang_up();
    }

    async fn work(&mut self) -> Result<Pace, Halt> {
        if self.course.wish == Wish::Nothing {
            return Ok(self.leave_alone().await);
        }
        if !self.course.wish.is_heard() && self.journal.gpus().is_empty() {
            return Ok(Pace::NEVER);
        }
        let first_word = self.course.begun + self.patience.first_word;
        if self.course.wish == Wish::Unheard && Instant::now() < first_word {
            // What was begun may not be wanted any more.
            return Ok(Pace {
                at: Some(first_word),
                ..Pace::NEVER
            });
        }
        let session = self.inputs.session();
        let (Some(session), Some(_)) = (session, &self.course.facts.gpus) else {
            if matches!(self.course.wish, Wish::Named { .. }) {
                let _ = self.states.send(Some(MigState::Pending));
            }
            return Ok(Pace::NEVER);
        };
        let gpus = self.inputs.gpus();
        let mut looks = Vec::new();
        for gpu in &gpus {
            let look = self.first_look(&session, gpu).await;
            looks.push((gpu.clone(), look));
        }
        let goals = match self.goals(&looks) {
            Ok(goals) => goals,
            Err(why) => return Ok(self.refuse(why, &looks).await),
        };
        self.prepare(&goals, &looks).await;
        let reports = self.bring_all(&session, looks, &goals).await?;
        let reports = self.evict_for(&session, reports).await?;
        Ok(self.conclude(&reports))
    }

    /// What is wanted of each GPU: what the label says or, as long as that is not known, what was
    /// begun.
    fn goals(&self, looks: &[FirstLook]) -> Result<Goals, String> {
        let Wish::Named { name, file } = &self.course.wish else {
            let of = self.journal.gpus().clone();
            return Ok(Goals {
                of,
                ..Goals::default()
            });
        };
        let gpus: Vec<_> = looks
            .iter()
            .map(|(gpu, look)| {
                let look = look.as_ref().ok().and_then(Option::as_ref);
                (gpu, look.map(|look| &look.table))
            })
            .collect();
        goals(name, file.as_ref(), &gpus)
    }

    /// Tells that work begins, and lets go of what nothing is wanted of any more.
    async fn prepare(&mut self, goals: &Goals, looks: &[FirstLook]) {
        for remark in &goals.remarks {
            if !self.course.remarks.contains(remark) {
                tracing::warn!(event = "mig-config", "{remark}");
                self.course.remarks.push(remark.clone());
            }
        }
        let met = looks
            .iter()
            .all(|(gpu, look)| match (goals.of.get(&gpu.uuid), look) {
                (None, Ok(_)) => true,
                (Some(target), Ok(Some(look))) => look.is(target),
                (_, Err(_)) => !goals.miss(gpu),
                (Some(_), Ok(None)) => false,
            });
        if self.course.wish.is_heard() && self.course.standing.is_none() && !met {
            let _ = self.states.send(Some(MigState::Pending));
        }
        self.forget(|gpu, target| {
            let wanted = goals.of.get(gpu) == Some(target);
            wanted || looks.iter().all(|(known, _)| known.uuid != *gpu)
        })
        .await;
        let unwanted = |gpu: &GpuUuid| !goals.of.contains_key(gpu);
        self.release(unwanted).await;
    }

    async fn bring_all(
        &mut self,
        session: &Session,
        looks: Vec<FirstLook>,
        goals: &Goals,
    ) -> Result<Vec<(GpuUuid, Report)>, Halt> {
        let mut reports = Vec::new();
        for (gpu, look) in looks {
            let target = goals.of.get(&gpu.uuid);
            let outcome = match (look, target) {
                (Ok(Some(look)), Some(target)) => match self.course.failed.get(&gpu.uuid) {
                    // It is not its time yet.
                    Some(report) if !look.is(target) => report.outcome.clone(),
                    _ => self.bring(session, look, target).await?,
                },
                (Ok(_), _) => continue,
                (Err(_), _) if !goals.miss(&gpu) => continue,
                (Err(why), _) => Outcome::Failed(why),
            };
            let report = Report {
                index: gpu.index,
                target: target.cloned(),
                outcome,
            };
            reports.push((gpu.uuid, report));
        }
        Ok(reports)
    }

    /// Has pods make way where they stand in it and that is allowed, and goes on with their GPUs.
    async fn evict_for(
        &mut self,
        session: &Session,
        mut reports: Vec<(GpuUuid, Report)>,
    ) -> Result<Vec<Report>, Halt> {
        let blocked: Vec<(GpuUuid, Change)> = reports
            .iter()
            .filter_map(|(gpu, report)| match &report.outcome {
                Outcome::Waiting(_, change) if !self.course.failed.contains_key(gpu) => {
                    Some((gpu.clone(), change.clone()))
                }
                _ => None,
            })
            .collect();
        if self.evicts && !blocked.is_empty() {
            let way = self.make_way(&blocked).await;
            if way == Err(Halt::Overtaken) {
                return Err(Halt::Overtaken);
            }
            for (gpu, report) in &mut reports {
                if blocked.iter().all(|(other, _)| other != gpu) {
                    continue;
                }
                let Some(target) = &report.target else {
                    continue;
                };
                report.outcome = match self.look(session, gpu, report.index).await {
                    Ok(look) => self.bring(session, look, target).await?,
                    Err(Halt::Failed(why)) => Outcome::Failed(why),
                    Err(Halt::Overtaken) => return Err(Halt::Overtaken),
                };
                if let (Outcome::Waiting(..), Err(Halt::Failed(why))) = (&report.outcome, &way) {
                    report.outcome = Outcome::Failed(why.clone());
                }
            }
        }
        Ok(self.remember(reports))
    }

    /// Remembers what has not worked, so that rounds for other GPUs' sake let it be.
    fn remember(&mut self, reports: Vec<(GpuUuid, Report)>) -> Vec<Report> {
        let failed = reports
            .iter()
            .filter(|(_, report)| report.outcome.is_to_be_tried_again());
        self.course.failed = failed.cloned().collect();
        reports.into_iter().map(|(_, report)| report).collect()
    }

    /// Says where the layout stands, and when to look again.
    fn conclude(&mut self, reports: &[Report]) -> Pace {
        let each = || reports.iter().map(|report| &report.outcome);
        let standing = Standing::of(self.course.wish.name(), reports);
        self.stand(standing);
        let resets = each().any(|one| *one == Outcome::Reset);
        Pace {
            changed: each().any(|one| *one == Outcome::Met(true)),
            retry: each().any(Outcome::is_to_be_tried_again),
            poll: resets.then_some(self.patience.slow_poll),
            at: None,
        }
    }

    /// Says once where the layout stands.
    fn stand(&mut self, standing: Standing) {
        if self.course.wish.is_heard() {
            let _ = self.states.send(Some(standing.state));
        }
        if self.course.standing.as_ref() == Some(&standing) {
            return;
        }
        let Standing { state, words, todo } = &standing;
        let todo = (!todo.is_empty()).then_some(todo);
        let message = standing.message();
        let report = match state {
            MigState::Success => {
                tracing::info!(event = "mig-applied", "{words}");
                // Nobody waits for the news that nothing had to be done.
                let news = self.course.applying || self.course.standing.is_some();
                news.then_some(cluster::Report::MigConfigApplied(message))
            }
            MigState::Pending | MigState::Rebooting => {
                tracing::warn!(event = "mig-waiting", todo, "{words}");
                Some(cluster::Report::MigConfigWaiting(message))
            }
            MigState::Failed => {
                tracing::error!(event = "mig-failed", todo, "{words}");
                Some(cluster::Report::MigConfigFailed(message))
            }
        };
        if let Some(report) = report {
            self.reporter.tell(report);
        }
        self.course.standing = Some(standing);
    }

    /// Says once for each wish that GPUs are being changed.
    pub(super) fn say_applying(&mut self, index: u32, target: &MigTarget) {
        tracing::info!(
            event = "mig-applying",
            gpu = index,
            "GPU {index} is to be {target}"
        );
        if !self.course.applying {
            self.course.applying = true;
            let name = self.course.wish.name();
            let words = format!("applying {name}, beginning with GPU {index}: {target}");
            self.reporter
                .tell(cluster::Report::MigConfigApplying(words));
        }
    }

    /// The layout cannot be used: no GPU is touched.
    async fn refuse(&mut self, why: String, looks: &[FirstLook]) -> Pace {
        self.forget(|_, _| false).await;
        self.release(|_| true).await;
        let name = self.course.wish.name();
        self.stand(Standing::failed(format!("{name}: {why}")));
        // A GPU that does not answer may be what is missing.
        if looks.iter().any(|(_, look)| look.is_err()) {
            Pace::RETRY
        } else {
            Pace::NEVER
        }
    }

    /// Nothing is asked for: the GPUs stay as they are, and nothing is said of them.
    async fn leave_alone(&mut self) -> Pace {
        self.forget(|_, _| false).await;
        self.release(|_| true).await;
        let _ = self.states.send(None);
        if self.withheld.is_empty() {
            Pace::NEVER
        } else {
            Pace::RETRY
        }
    }

    /// Forgets of what was begun all that is not `wanted` any more.
    pub(super) async fn forget(&mut self, wanted: impl FnMut(&GpuUuid, &MigTarget) -> bool) {
        if let Err(error) = self.journal.retain(wanted).await {
            tracing::warn!(
                event = "mig-journal",
                %error,
                "what was done cannot be struck off in --state-dir; it is looked at again after a \
                 restart"
            );
        }
    }

    /// Has what is withheld of these GPUs offered again. Of one whose driver has not come back
    /// from a change nobody knows how it is.
    async fn release(&mut self, of: impl Fn(&GpuUuid) -> bool) {
        let before = self.withheld.len();
        let hands = &mut self.hands;
        self.withheld
            .retain(|gpu, _| !of(gpu) || hands.is_stuck(gpu));
        if self.withheld.len() != before {
            self.tell(vec![Event::Withhold(self.withheld.clone())])
                .await;
        }
    }
}

pub(super) type Session = Arc<dyn GpuDriver>;
/// A GPU, and how it is; `None` if it cannot be partitioned.
type FirstLook = (Gpu, Result<Option<Look>, String>);

/// Waits until any pod has let go of something on a GPU on which somebody is waited for: without it
/// others may be in the way, or nobody. For ever, where nobody is waited for.
pub(super) async fn released(
    kubelet: &mut Kubelet,
    blocked: &BTreeMap<GpuUuid, Holdings>,
    every: Duration,
) {
    if blocked.is_empty() {
        return std::future::pending().await;
    }
    loop {
        sleep(every).await;
        if let Ok(holdings) = kubelet.holdings().await {
            if !blocked.values().all(|before| before.are_in(&holdings)) {
                return;
            }
        }
        kubelet.hang_up();
    }
}
