//! What the Node has of ours, and seeing to it that it is what it should be.
//!
//! What the API has is known from its last answer, so what is right is no request. The Node is
//! looked at before the first patch, and about once an hour while it has something of ours, for it
//! may have been made anew, or somebody may have taken away what is ours.

use std::ops::Range;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::GetParams;
use mizzen_core::node_health::{CONDITION, NodeCondition};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::node::{self, Condition, Node};
use crate::clock::Clock;
use crate::cluster::{Cluster, Pace, Refusal, Spread, send};
use crate::labels::Trouble;

/// Between two looks at the Node: 10,000 nodes make three of them a second.
const LOOKS: Range<Duration> = Duration::from_mins(45)..Duration::from_mins(75);
/// How often taints are read and written anew because somebody else was faster.
const ATTEMPTS: u32 = 4;
const MAY_LOOK: &str = "give the agent's ServiceAccount a ClusterRole with verbs [get] on \
                        resources [nodes] of apiGroups [\"\"], as deploy/mizzen-labels.yaml does";
const MAY_TELL: &str = "give the agent's ServiceAccount a ClusterRole with verbs [patch] on \
                        resources [nodes/status] of apiGroups [\"\"], as \
                        deploy/mizzen-labels.yaml does";
const MAY_TAINT: &str = "give the agent's ServiceAccount a ClusterRole with verbs [get, patch] on \
                         resources [nodes] of apiGroups [\"\"], as deploy/mizzen-labels.yaml does";

/// What is wanted of something that the Node may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish<T> {
    /// That it stays as it is.
    Leave,
    /// That it is not there.
    Nothing,
    /// This.
    Is(T),
}

/// What the Node shall have of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) condition: Wish<NodeCondition>,
    /// The taint, by its effect.
    pub(super) taint: Wish<&'static str>,
}

/// What the Node has of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct There {
    /// The Node's.
    uid: String,
    condition: Option<Condition>,
    /// The taint, by its effect.
    taint: Option<String>,
}

impl There {
    fn of(node: &Node) -> Self {
        Self {
            uid: node.uid().to_owned(),
            condition: node.condition(),
            taint: node.taint(),
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.condition.is_none() && self.taint.is_none()
    }

    fn has(&self, wanted: &Wanted) -> bool {
        self.has_condition(&wanted.condition) && self.has_taint(&wanted.taint)
    }

    fn has_condition(&self, wanted: &Wish<NodeCondition>) -> bool {
        match (wanted, &self.condition) {
            (Wish::Leave, _) | (Wish::Nothing, None) => true,
            (Wish::Nothing, Some(_)) | (Wish::Is(_), None) => false,
            (Wish::Is(wanted), Some(there)) => {
                wanted.status.word() == there.status
                    && wanted.reason == there.reason
                    && wanted.message == there.message
            }
        }
    }

    fn has_taint(&self, wanted: &Wish<&'static str>) -> bool {
        match wanted {
            Wish::Leave => true,
            Wish::Nothing => self.taint.is_none(),
            Wish::Is(effect) => self.taint.as_deref() == Some(effect),
        }
    }
}

/// What a write has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Written {
    /// Whether the condition is another one.
    pub(super) condition: bool,
    /// Whether the taint came or went.
    pub(super) taint: bool,
}

/// Why something was not done, and which rule lets it be done.
struct Failure {
    refusal: Refusal,
    rule: &'static str,
}

impl Failure {
    fn without(rule: &'static str) -> impl Fn(Refusal) -> Self {
        move |refusal| Self { refusal, rule }
    }
}

/// Writes to the Node.
pub(super) struct Writer {
    cluster: Cluster,
    node: String,
    clock: Clock,
    pace: Pace,
    there: Option<There>,
    next_look: Instant,
}

impl Writer {
    pub(super) fn new(cluster: Cluster, node: String, clock: Clock) -> Self {
        Self {
            cluster,
            clock,
            pace: Pace::new(&node, " condition"),
            node,
            there: None,
            next_look: Instant::now(),
        }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn spread(&mut self) -> &mut Spread {
        self.pace.spread()
    }

    pub(super) fn there(&self) -> Option<&There> {
        self.there.as_ref()
    }

    /// Believes what a former process knew, until the time comes for a look.
    pub(super) fn believe(&mut self, there: There, next_look: Instant) {
        self.there = Some(there);
        self.next_look = next_look;
    }

    /// When to write this next: now, if the Node has something else; never, if there is nothing
    /// to look after.
    pub(super) fn due(&self, wanted: &Wanted) -> Option<Instant> {
        let Wanted { condition, taint } = wanted;
        if *condition == Wish::Leave && *taint == Wish::Leave {
            return None;
        }
        match &self.there {
            Some(there) if there.has(wanted) => (!there.is_nothing()).then_some(self.next_look),
            _ => Some(Instant::now()),
        }
    }

    /// Sees to it that the Node has this, as far as anything needs to be done about it now.
    ///
    /// # Errors
    /// Why it has not, and when to try again.
    pub(super) async fn write(&mut self, wanted: &Wanted) -> Result<Written, Trouble> {
        match self.try_to_write(wanted).await {
            Ok(written) => {
                self.pace.worked();
                Ok(written)
            }
            Err(failure) => Err(self.trouble(failure)),
        }
    }

    async fn try_to_write(&mut self, wanted: &Wanted) -> Result<Written, Failure> {
        let known = self.there.clone();
        let mut there = match known.filter(|_| Instant::now() < self.next_look) {
            Some(there) => there,
            None => self.look().await.map_err(Failure::without(MAY_LOOK))?,
        };
        let mut written = Written::default();
        if !there.has_condition(&wanted.condition) {
            there.condition = self
                .tell(&there, &wanted.condition)
                .await
                .map_err(Failure::without(MAY_TELL))?;
            written.condition = true;
            self.there = Some(there.clone());
        }
        if !there.has_taint(&wanted.taint) {
            let effect = match wanted.taint {
                Wish::Is(effect) => Some(effect),
                Wish::Leave | Wish::Nothing => None,
            };
            written.taint = self
                .taint(&there.uid, effect)
                .await
                .map_err(Failure::without(MAY_TAINT))?;
            there.taint = effect.map(str::to_owned);
            self.there = Some(there);
        }
        Ok(written)
    }

    async fn look(&mut self) -> Result<There, Refusal> {
        let there = There::of(&self.get(&GetParams::any()).await?);
        self.there = Some(there.clone());
        self.next_look = Instant::now() + self.pace.spread().within(LOOKS);
        Ok(there)
    }

    async fn get(&self, parameters: &GetParams) -> Result<Node, Refusal> {
        let client = self.cluster.client().map_err(Refusal::of)?;
        let request = node::get(&self.node, parameters).map_err(Refusal::of)?;
        send(&client, request).await
    }

    /// Sets the condition or takes it away. Since when it has its status is known from before,
    /// where that is the same.
    async fn tell(
        &self,
        there: &There,
        wanted: &Wish<NodeCondition>,
    ) -> Result<Option<Condition>, Refusal> {
        let now = self.now();
        let condition = match wanted {
            Wish::Leave | Wish::Nothing => None,
            Wish::Is(wanted) => {
                let status = wanted.status.word();
                let before = there.condition.as_ref();
                let same = before.filter(|before| before.status == status);
                let since = same.and_then(|before| before.last_transition_time.clone());
                Some(Condition {
                    kind: CONDITION.to_owned(),
                    status: status.to_owned(),
                    reason: wanted.reason.to_owned(),
                    message: wanted.message.clone(),
                    last_transition_time: since.or_else(|| Some(now.clone())),
                })
            }
        };
        let client = self.cluster.client().map_err(Refusal::of)?;
        for takes_over in [false, true] {
            let condition = condition.as_ref();
            let request = node::apply(&self.node, &there.uid, condition, &now, takes_over);
            match send::<Value>(&client, request.map_err(Refusal::of)?).await {
                Err(refusal) if !takes_over && refusal.conflicts().next().is_some() => {
                    tracing::warn!(
                        event = "condition-taken-over",
                        error = refusal.words,
                        todo = "let one program alone set this condition",
                        "the Node {} has a condition {CONDITION} of somebody else, which is ours from \
                     now on",
                        self.node
                    );
                }
                answer => {
                    answer?;
                    break;
                }
            }
        }
        Ok(condition)
    }

    /// Sets the taint or takes it away, and says whether anything had to be done.
    async fn taint(&self, uid: &str, effect: Option<&str>) -> Result<bool, Refusal> {
        let client = self.cluster.client().map_err(Refusal::of)?;
        let mut attempt = 1;
        loop {
            let node = self.get(&GetParams::default()).await?;
            if node.uid() != uid {
                return Err(another());
            }
            let Some(request) = node.taint_with(&self.node, effect) else {
                return Ok(false);
            };
            match send::<Value>(&client, request.map_err(Refusal::of)?).await {
                Ok(_) => return Ok(true),
                Err(refusal) if refusal.code == Some(409) && attempt < ATTEMPTS => attempt += 1,
                Err(refusal) => return Err(refusal),
            }
        }
    }

    fn now(&self) -> String {
        let seconds = i64::try_from(self.clock.now().wall).unwrap_or_default();
        let time = Timestamp::from_second(seconds).unwrap_or_default();
        time.to_string()
    }

    fn trouble(&mut self, Failure { refusal, rule }: Failure) -> Trouble {
        // Another Node of the same name, whose UID is not to be changed, or none any more: whatever
        // was known is of no use.
        if matches!(refusal.code, Some(404 | 409 | 422)) {
            self.there = None;
        }
        let todo = match refusal.code {
            Some(403) => Some(rule.to_owned()),
            Some(404) => Some("set --node-name to the pod's spec.nodeName".to_owned()),
            _ => None,
        };
        let pause = self.pace.failed(&refusal);
        Trouble {
            words: refusal.words,
            todo,
            pause,
        }
    }
}

fn another() -> Refusal {
    Refusal {
        code: Some(409),
        ..Refusal::of("it is another Node of the same name")
    }
}
