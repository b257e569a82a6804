//! Faults of GPUs: what the driver reports of them, what they answer, and what new rules make
//! of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Effect, Line, NodeState, Severity, log};
use crate::config::{Config, FaultAction};
use crate::driver::{DriverError, DriverEvent, DriverEventKind, GpuCondition};
use crate::gpu::GpuUuid;
use crate::health::{Change, HealthPolicy, Moment, Reason};
use crate::xid::Xid;

/// How long a fault of a GPU that leaves it healthy is not mentioned again: a program that
/// faults in a loop must not fill the log.
const MENTIONED_AGAIN: Duration = Duration::from_mins(1);

/// Which faults were mentioned a short while ago, of which GPU, where it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Mentions(BTreeMap<(Option<GpuUuid>, Reason), Duration>);

impl Mentions {
    /// Whether the fault is to be mentioned now.
    pub(super) fn is_due(&mut self, gpu: Option<&GpuUuid>, reason: &Reason, now: Moment) -> bool {
        let recent = |then: Duration| now.monotonic.saturating_sub(then) < MENTIONED_AGAIN;
        self.0.retain(|_, then| recent(*then));
        let key = (gpu.cloned(), reason.clone());
        let due = !self.0.contains_key(&key);
        self.0.entry(key).or_insert(now.monotonic);
        due
    }
}

impl NodeState {
    pub(super) fn driver_event(&mut self, event: &DriverEvent, now: Moment) -> Vec<Effect> {
        let is_counted = self.count_xid(event, now);
        let mut effects = self.judged(event, now);
        if is_counted && !effects.contains(&Effect::Publish) {
            effects.insert(0, Effect::Publish);
        }
        effects
    }

    /// What an event means for health and partitions.
    fn judged(&mut self, event: &DriverEvent, now: Moment) -> Vec<Effect> {
        if event.kind == DriverEventKind::MigConfigChange {
            return self.partition_changed(event.gpu.as_ref());
        }
        if !self.is_health_watched() {
            return Vec::new();
        }
        let reason = match event.kind {
            DriverEventKind::Xid(number) => Reason::Xid(Xid(number)),
            DriverEventKind::DoubleBitEcc => Reason::DoubleBitEcc,
            DriverEventKind::SingleBitEcc => Reason::SingleBitEcc,
            // No fault.
            DriverEventKind::MigConfigChange => return Vec::new(),
        };
        let rule = self.policy().rule(&reason);
        let gpu = event.gpu.as_ref();
        match rule.action {
            FaultAction::Ignore => self.ignored(gpu, &reason, now),
            _ if reason == Reason::SingleBitEcc => self.memory_errors(gpu, &reason, now),
            // An error that is one too many must not wait for its GPU's answer.
            _ if reason == Reason::DoubleBitEcc && rule.count > 1 => {
                self.memory_errors(gpu, &reason, now)
            }
            action => match gpu {
                Some(uuid) => {
                    let of_instances = self.fault_of_instances(event, &reason, now);
                    of_instances.unwrap_or_else(|| self.fault(uuid, &reason, now))
                }
                None if action == FaultAction::Report => self.reported_of_nobody(&reason, now),
                None => self.fault_of_nobody(&reason),
            },
        }
    }

    fn fault(&mut self, uuid: &GpuUuid, reason: &Reason, now: Moment) -> Vec<Effect> {
        let policy = HealthPolicy::of(&self.config);
        let Some(known) = self.roster.find_mut(uuid) else {
            return Vec::new();
        };
        let change = known.health.happened(reason.clone(), 1, now, policy);
        let marked = known
            .health
            .signs()
            .iter()
            .any(|sign| sign.reason == *reason);
        let mut effects = self.changed(uuid, change.into_iter().collect(), now);
        if marked {
            effects.push(Effect::Check(vec![uuid.clone()]));
        }
        effects
    }

    /// The counters of the GPUs say how many there were, and of which GPU if that is unknown.
    fn memory_errors(
        &mut self,
        gpu: Option<&GpuUuid>,
        reason: &Reason,
        now: Moment,
    ) -> Vec<Effect> {
        let mut asked = Vec::new();
        for known in &mut self.roster.gpus {
            let uuid = &known.gpu.uuid;
            if gpu.is_none_or(|gpu| gpu == uuid) && known.health.memory_errors(reason, now) {
                asked.push(uuid.clone());
            }
        }
        if asked.is_empty() {
            return Vec::new();
        }
        vec![Effect::Check(asked)]
    }

    /// The driver could not say which GPU it was. Marking all of them, as the reference does,
    /// takes a whole node away for one GPU's fault; so all are asked at once, and those stay
    /// healthy that show that they are. Drivers too old to tell leave no choice but to mark.
    fn fault_of_nobody(&mut self, reason: &Reason) -> Vec<Effect> {
        let line = of_nobody(reason)
            .advice("every GPU is asked now; those that cannot show that they are well are marked");
        for known in &mut self.roster.gpus {
            known.health.suspect(reason.clone());
        }
        vec![log(line), Effect::Check(self.every_gpu())]
    }

    fn reported_of_nobody(&mut self, reason: &Reason, now: Moment) -> Vec<Effect> {
        if !self.mentions.is_due(None, reason, now) {
            return Vec::new();
        }
        vec![log(of_nobody(reason).advice(reason.advice()))]
    }

    fn ignored(&mut self, gpu: Option<&GpuUuid>, reason: &Reason, now: Moment) -> Vec<Effect> {
        let known = gpu.and_then(|uuid| self.roster.find(uuid));
        // That the memory corrects errors is what it is built to do.
        let Some(known) = known.filter(|_| *reason != Reason::SingleBitEcc) else {
            return Vec::new();
        };
        if !self.mentions.is_due(gpu, reason, now) {
            return Vec::new();
        }
        let event = match reason {
            Reason::Xid(_) => "xid-ignored",
            _ => "fault-ignored",
        };
        let text = format!("{reason}; ignored: {}", self.policy().authority(reason));
        let line = Line::new(Severity::Info, event, text)
            .about(&known.gpu)
            .meaning(reason.meaning())
            .advice(reason.advice());
        vec![log(line)]
    }

    pub(super) fn checked(
        &mut self,
        uuid: &GpuUuid,
        answer: Result<GpuCondition, DriverError>,
        now: Moment,
    ) -> Vec<Effect> {
        if !self.is_health_watched() {
            return Vec::new();
        }
        let policy = HealthPolicy::of(&self.config);
        let Some(known) = self.roster.find_mut(uuid) else {
            return Vec::new();
        };
        let answered = answer.as_ref().ok().copied();
        let changes = match answer {
            Ok(condition) => known.health.answered(condition, now, policy),
            Err(error) => {
                let change = known.health.failed(&error, now, policy);
                change.into_iter().collect()
            }
        };
        let mut effects = self.changed(uuid, changes, now);
        if let Some(condition) = answered {
            effects.extend(self.instances_answered(uuid, condition, now));
        }
        effects
    }

    /// What is to be done about steps in a GPU's health. The kubelet is to know before anything
    /// is written anywhere.
    fn changed(&mut self, uuid: &GpuUuid, mut changes: Vec<Change>, now: Moment) -> Vec<Effect> {
        let mentions = &mut self.mentions;
        changes.retain(|change| match change {
            Change::Reported(reason, _) => mentions.is_due(Some(uuid), reason, now),
            _ => true,
        });
        let any = |wanted: fn(&Change) -> bool| changes.iter().any(wanted);
        let differs = any(|change| !matches!(change, Change::Reported(..)));
        // Whatever was done to it may have ended its watch.
        let recovered = any(|change| matches!(change, Change::Recovered(_)));
        let steps: Vec<_> = changes
            .into_iter()
            .map(|change| (uuid.clone(), change))
            .collect();
        let mut effects = Vec::new();
        effects.extend(differs.then_some(Effect::Publish));
        effects.extend(self.health_lines(&steps, now));
        effects.extend(differs.then_some(Effect::Persist));
        effects.extend(recovered.then_some(Effect::Watch));
        effects
    }

    /// Takes over new settings. By new rules every GPU is judged at its next answer, which is
    /// asked for at once.
    pub(super) fn configured(&mut self, config: Arc<Config>) -> Vec<Effect> {
        if self.config == config {
            return Vec::new();
        }
        let rules = |config: &Config| (config.xid_policy.clone(), config.health_rules.clone());
        let judge_anew = rules(&self.config) != rules(&config);
        self.config = config;
        self.renew_unresolved();
        let mut effects = self.renew_offer();
        effects.push(Effect::Publish);
        if judge_anew {
            self.mentions = Mentions::default();
            for known in &mut self.roster.gpus {
                known.health.rules_changed();
                for health in known.instances.values_mut() {
                    health.rules_changed();
                }
            }
            effects.push(Effect::Check(self.every_gpu()));
        }
        effects
    }

    pub(super) fn every_gpu(&self) -> Vec<GpuUuid> {
        let gpus = self.roster.gpus.iter();
        gpus.map(|known| known.gpu.uuid.clone()).collect()
    }
}

fn of_nobody(reason: &Reason) -> Line {
    let text = format!("a GPU reported a fault, the driver does not say which: {reason}");
    Line::new(Severity::Warning, "fault-of-unknown-gpu", text).meaning(reason.meaning())
}
