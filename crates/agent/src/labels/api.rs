//! Labels that are kept in the Kubernetes API by server-side apply.
//!
//! What the API has of ours is known from its last answer; so a change is one patch, and no change
//! is no request. The object is looked at before the first patch, and from time to time, for
//! others may have taken labels away: soon again while others have a claim on them, hardly ever
//! where nobody has.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::labels::{Labels, keep_time};
use tokio::time::{Instant, sleep};

use super::follow::runtime;
use super::place::{Object, Place, Seen};
use crate::cluster::{Cluster, Pace, Refusal, Spread, connect, send};

/// Between two looks at the object: 10,000 nodes make three of them a second.
const LOOKS: Range<Duration> = Duration::from_mins(45)..Duration::from_mins(75);
/// The same while others have a claim on labels of ours.
const LOOKS_AT_CONTESTED: Range<Duration> = Duration::from_mins(4)..Duration::from_mins(6);
/// How often somebody who does it once tries.
const ATTEMPTS: u32 = 3;

/// What a write has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Whether anything was changed.
    pub changed: bool,
    /// From whom which labels were taken over, in words.
    pub taken: Option<String>,
}

/// Why labels could not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What the API, or the way to it, says is wrong.
    pub words: String,
    /// What to do about it, where that is known.
    pub todo: Option<String>,
    /// How long to wait before the next attempt.
    pub pause: Duration,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        match &self.todo {
            Some(todo) => write!(f, "; {todo}"),
            None => Ok(()),
        }
    }
}

/// Labels of a node in the Kubernetes API: in the Node itself, or in its `NodeFeature` object.
pub struct ApiLabels {
    cluster: Cluster,
    place: Place,
    pace: Pace,
    /// The Node's, once it is known.
    uid: Option<String>,
    /// The labels of ours that the API has, once that is known.
    there: Option<Labels>,
    /// When to look at the object.
    next_look: Instant,
}

impl std::fmt::Debug for ApiLabels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiLabels")
            .field("place", &self.place)
            .field("there", &self.there)
            .finish_non_exhaustive()
    }
}

impl ApiLabels {
    /// The labels of `mizzen labels`; `None` if the settings do not send them to the API.
    pub fn of(config: &Config) -> Option<Self> {
        let source = config.source.clone();
        let cluster = Cluster::new(Arc::new(move || connect(&source)));
        Some(Self::new(
            Place::of(config, config.labels.of_command())?,
            cluster,
        ))
    }

    pub(super) fn new(place: Place, cluster: Cluster) -> Self {
        Self {
            cluster,
            pace: Pace::new(place.node(), ""),
            place,
            uid: None,
            there: None,
            next_look: Instant::now(),
        }
    }

    /// The object that has them, in words.
    pub fn words(&self) -> String {
        self.place.words()
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn spread(&mut self) -> &mut Spread {
        self.pace.spread()
    }

    pub(super) fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    pub(super) fn there(&self) -> Option<&Labels> {
        self.there.as_ref()
    }

    /// Believes what a former process knew, until the time comes for a look.
    pub(super) fn believe(&mut self, uid: String, there: Labels, next_look: Instant) {
        self.uid = Some(uid);
        self.there = Some(there);
        self.next_look = next_look;
    }

    /// When to write these labels next: now, if the API has others.
    pub(super) fn due(&self, wanted: &Labels) -> Instant {
        match &self.there {
            Some(there) if keep_time(wanted.clone(), there) == *there => self.next_look,
            _ => Instant::now(),
        }
    }

    /// Writes these labels, waiting for it as long as a few attempts take.
    ///
    /// # Errors
    /// Those of [`write`](Self::write), and the system's, if it gives no runtime.
    pub fn write_once(&mut self, wanted: &Labels) -> io::Result<Written> {
        let writing = async {
            let mut attempt = 1;
            loop {
                match self.write(wanted).await {
                    Ok(written) => return Ok(written),
                    Err(trouble) if attempt == ATTEMPTS || trouble.todo.is_some() => {
                        return Err(io::Error::other(trouble.to_string()));
                    }
                    Err(trouble) => sleep(trouble.pause).await,
                }
                attempt += 1;
            }
        };
        runtime()?.block_on(writing)
    }

    /// Writes these labels until it is done; `say` hears of every failure.
    pub async fn write_at_last(
        &mut self,
        wanted: &Labels,
        mut say: impl FnMut(&Trouble),
    ) -> Written {
        loop {
            match self.write(wanted).await {
                Ok(written) => return written,
                Err(trouble) => {
                    say(&trouble);
                    sleep(trouble.pause).await;
                }
            }
        }
    }

    /// Sees to it that the object has these labels of ours and no others, as far as anything needs
    /// to be done about it now.
    ///
    /// # Errors
    /// Why it does not, and when to try again.
    pub async fn write(&mut self, wanted: &Labels) -> Result<Written, Trouble> {
        match self.try_to_write(wanted).await {
            Ok(written) => {
                self.pace.worked();
                Ok(written)
            }
            Err(refusal) => Err(self.trouble(refusal)),
        }
    }

    async fn try_to_write(&mut self, wanted: &Labels) -> Result<Written, Refusal> {
        let looked_at = self.uid.clone().filter(|_| Instant::now() < self.next_look);
        let uid = match looked_at {
            Some(uid) => uid,
            None => self.look(wanted).await?,
        };
        let there = self.there.clone().unwrap_or_default();
        let wanted = keep_time(wanted.clone(), &there);
        if self.there.is_some() && wanted == there {
            return Ok(Written::default());
        }
        let taken = match self.apply(&wanted, &uid, false).await {
            Ok(()) => None,
            Err(refusal) => {
                let Some(rivals) = conflicts(&refusal) else {
                    return Err(refusal);
                };
                self.apply(&wanted, &uid, true).await?;
                Some(rivals)
            }
        };
        self.there = Some(wanted);
        Ok(Written {
            changed: true,
            taken,
        })
    }

    /// Looks at the Node and at the object, and answers the Node's UID.
    async fn look(&mut self, wanted: &Labels) -> Result<String, Refusal> {
        let client = self.cluster.client().map_err(Refusal::of)?;
        let request = self.place.look_at_node().map_err(Refusal::of)?;
        let node: Object = send(&client, request).await?;
        let node = self.place.read(node, wanted);
        self.uid = Some(node.uid.clone());
        let uid = node.uid.clone();
        let seen = match self.place.look(client.default_namespace()) {
            None => node,
            Some(request) => {
                let object = match send::<Object>(&client, request.map_err(Refusal::of)?).await {
                    Err(refusal) if refusal.code == Some(404) => Object::default(),
                    object => object?,
                };
                self.place.read(object, wanted)
            }
        };
        self.there = Some(seen.ours.clone());
        self.plan_look(&seen);
        Ok(uid)
    }

    async fn apply(&mut self, wanted: &Labels, uid: &str, takes_over: bool) -> Result<(), Refusal> {
        let client = self.cluster.client().map_err(Refusal::of)?;
        let home = client.default_namespace();
        let request = self.place.apply(wanted, uid, home, takes_over);
        let object = send(&client, request.map_err(Refusal::of)?).await?;
        let seen = self.place.read(object, wanted);
        self.plan_look(&seen);
        Ok(())
    }

    fn plan_look(&mut self, seen: &Seen) {
        let range = if seen.contested {
            LOOKS_AT_CONTESTED
        } else {
            LOOKS
        };
        self.next_look = Instant::now() + self.pace.spread().within(range);
    }

    fn trouble(&mut self, refusal: Refusal) -> Trouble {
        // Another Node of the same name, whose UID is not to be changed, or none any more: whatever
        // was known is of no use.
        if matches!(refusal.code, Some(404 | 409 | 422)) {
            self.uid = None;
            self.there = None;
        }
        let todo = match (refusal.code, &self.place) {
            (Some(403), place) => Some(place.rules()),
            (Some(404), Place::Node(_)) => {
                Some("set --node-name to the pod's spec.nodeName".to_owned())
            }
            (Some(404), Place::NodeFeature { .. }) => Some(
                "set --node-name to the pod's spec.nodeName, and install Node Feature Discovery, \
                 or let the labels go to the Node (--labels-to node)"
                    .to_owned(),
            ),
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

/// Whose fields a refused change would have set, in words; `None` if that is not why it was
/// refused.
fn conflicts(refusal: &Refusal) -> Option<String> {
    let causes: Vec<String> = refusal
        .conflicts()
        .map(|cause| {
            let field = cause.field.split_once(".labels.");
            let key = field.map_or(cause.field.as_str(), |(_, key)| key);
            format!("{key}: {}", cause.message)
        })
        .collect();
    (!causes.is_empty()).then(|| causes.join("; "))
}
