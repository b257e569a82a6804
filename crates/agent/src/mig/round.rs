//! One round: every GPU of which something is wanted is looked at, and what can be done is done.

use mizzen_core::gpu::{Gpu, GpuUuid};
use tokio::time::Instant;

use super::decide::{Change, Look};
use super::inputs::Session;
use super::manager::{Halt, Manager};
use super::retry::Pace;
use super::wish::{Goals, Wish, goals};
use super::words::{MigState, Outcome, Report, Standing};

/// A GPU, and how it is; `None` if it cannot be partitioned.
type FirstLook = (Gpu, Result<Option<Look>, String>);

impl Manager {
    /// What the round calls for next.
    pub(super) async fn work(&mut self) -> Result<Pace, Halt> {
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
}
