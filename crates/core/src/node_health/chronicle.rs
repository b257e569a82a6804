//! What has been told of a node's health in Events, and what may be told now.
//!
//! A change is told once it has had a second for company: a GPU that falls off the bus mostly
//! gives several signs of it, and several GPUs mostly share a cause. What changes faster than it
//! may be told is counted and told together; what could not be told is told later, as it is then.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::words::{are, count, headlines, names, shortened, story};
use super::{Bucket, DriverSight, GpuSight, NodeHealth, Standing};
use crate::gpu::GpuUuid;
use crate::health::Moment;

/// How long a change waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// Events about one GPU, or the driver: so many at once, and one more in each interval.
const OF_ONE: (u32, Duration) = (4, Duration::from_mins(10));
/// Events about all of the node.
const OF_ALL: (u32, Duration) = (10, Duration::from_secs(30));
/// The most that the API takes as an Event's message, in bytes, with some room for counts.
const LIMIT: usize = 900;

/// An Event about the Node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HealthEvent {
    /// Whether something is wrong.
    pub is_warning: bool,
    /// What happened, in a word for machines.
    pub reason: &'static str,
    /// What happened, for people.
    pub message: String,
}

/// An Event that may be sent now, and what will have been told with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// The Event.
    pub event: HealthEvent,
    about: About,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum About {
    /// The driver, and whether it answers.
    Driver(bool),
    /// GPUs, how they were then, and how often each had become sick.
    Gpus(Vec<(GpuUuid, Option<GpuSight>, u32)>),
}

/// What was told, for another process to go on from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Told {
    /// Whether the driver answers; `None` before anything was told.
    driver: Option<bool>,
    gpus: Vec<GpuSight>,
}

/// What has happened to a GPU, or the driver, since it was last told.
#[derive(Debug, Clone)]
struct Course {
    /// When it became something else than what was told.
    since: Option<Duration>,
    /// How often it became sick.
    falls: u32,
    bucket: Bucket,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            since: None,
            falls: 0,
            bucket: Bucket::new(OF_ONE.0, OF_ONE.1),
        }
    }
}

impl Course {
    /// When it may be told.
    fn due(&self) -> Option<Duration> {
        Some((self.since? + GATHER).max(self.bucket.ready()))
    }

    fn differs(&mut self, differs: bool, now: Duration) {
        if differs || self.falls > 0 {
            self.since.get_or_insert(now);
        } else {
            self.since = None;
        }
    }
}

/// What was told and what is to be told. Changes are taken in by [`see`](Self::see);
/// [`next`](Self::next) is the next Event, which counts as told after [`told`](Self::told).
#[derive(Debug, Clone)]
pub struct Chronicle {
    told: Told,
    seen: NodeHealth,
    courses: BTreeMap<GpuUuid, Course>,
    driver: Course,
    all: Bucket,
}

impl Chronicle {
    /// One that goes on from what a former process has told.
    pub fn new(told: Told) -> Self {
        let seen = NodeHealth {
            driver: DriverSight::NotAsked,
            gpus: told.gpus.clone(),
            left_out: Vec::new(),
        };
        Self {
            told,
            seen,
            courses: BTreeMap::new(),
            driver: Course::default(),
            all: Bucket::new(OF_ALL.0, OF_ALL.1),
        }
    }

    /// Whether the driver was looked for: before that there is nothing worth keeping.
    pub fn has_begun(&self) -> bool {
        self.told.driver.is_some()
    }

    /// What has been told.
    pub fn what_was_told(&self) -> &Told {
        &self.told
    }

    /// Takes in how the node is now.
    pub fn see(&mut self, health: NodeHealth, now: Duration) {
        let running = match health.driver {
            DriverSight::NotAsked => return,
            DriverSight::Away { .. } => false,
            DriverSight::Running { .. } => true,
        };
        self.take_in_what_is_no_news(&health, running);
        let before = std::mem::replace(&mut self.seen, health);
        for uuid in self.known(&before) {
            let was_well = standing(before.find(&uuid)) == Standing::Well;
            let is_well = standing(self.seen.find(&uuid)) == Standing::Well;
            let differs = self.differs(&uuid);
            let is_nothing = self.sight(&uuid).is_none();
            let course = self.courses.entry(uuid).or_default();
            if was_well && !is_well {
                course.falls += 1;
            }
            if is_nothing {
                // It came and went before anybody heard of it.
                course.falls = 0;
            }
            course.differs(differs, now);
        }
        // A node without GPUs misses no driver.
        let differs = self.told.driver.unwrap_or(true) != running && !self.seen.gpus.is_empty();
        self.driver.differs(differs, now);
        let is_idle = |course: &Course| course.since.is_none() && course.bucket.is_full(now);
        self.courses.retain(|_, course| !is_idle(course));
    }

    /// What needs no Event: the GPUs that a node begins with, as far as they are well, and what
    /// the settings leave out or no longer leave out.
    fn take_in_what_is_no_news(&mut self, health: &NodeHealth, running: bool) {
        let left_out = |uuid: &GpuUuid| health.left_out.contains(uuid);
        self.told.gpus.retain(|gpu| !left_out(&gpu.uuid));
        self.seen.gpus.retain(|gpu| !left_out(&gpu.uuid));
        self.courses.retain(|uuid, _| !left_out(uuid));
        let first = self.told.driver.is_none();
        if first && running {
            self.told.driver = Some(true);
        }
        for gpu in health.gpus.iter().filter(|gpu| gpu.is_well()) {
            let came = first || self.seen.left_out.contains(&gpu.uuid);
            if came && self.told_of(&gpu.uuid).is_none() {
                self.told.gpus.push(gpu.clone());
            }
        }
        self.told.gpus.sort_by_key(|gpu| (gpu.index, gpu.pci));
    }

    /// When there is something to be told next.
    pub fn due(&self) -> Option<Duration> {
        let courses = self.courses.values().chain([&self.driver]);
        let due = courses.filter_map(Course::due).min()?;
        Some(due.max(self.all.ready()))
    }

    /// The Event that may be sent now.
    pub fn next(&self, now: Moment) -> Option<Telling> {
        if self.due().is_none_or(|due| due > now.monotonic) {
            return None;
        }
        let is_due = |course: &Course| course.due().is_some_and(|due| due <= now.monotonic);
        if is_due(&self.driver) {
            return Some(self.of_driver());
        }
        let may =
            |course: &Course| course.since.is_some() && course.bucket.ready() <= now.monotonic;
        let due = self.courses.iter().filter(|(_, course)| is_due(course));
        let worst = due.map(|(uuid, _)| self.kind(uuid)).max()?;
        let kin = self.courses.iter().filter(|(_, course)| may(course));
        let mut uuids: Vec<&GpuUuid> = kin
            .map(|(uuid, _)| uuid)
            .filter(|uuid| self.kind(uuid) == worst)
            .collect();
        uuids.sort_by_key(|uuid| self.sight(uuid).map(|gpu| (gpu.index, gpu.pci)));
        Some(self.of_gpus(worst, &uuids, now.wall))
    }

    /// Takes note that an Event was sent.
    pub fn told(&mut self, telling: Telling, now: Duration) {
        self.all.take(now);
        match telling.about {
            About::Driver(runs) => {
                self.told.driver = Some(runs);
                self.driver.falls = 0;
                self.driver.bucket.take(now);
                let running = matches!(self.seen.driver, DriverSight::Running { .. });
                self.driver.since = None;
                self.driver.differs(running != runs, now);
            }
            About::Gpus(gpus) => {
                for (uuid, sight, falls) in gpus {
                    self.told.gpus.retain(|gpu| gpu.uuid != uuid);
                    self.told.gpus.extend(sight);
                    let differs = self.differs(&uuid);
                    let course = self.courses.entry(uuid).or_default();
                    course.falls = course.falls.saturating_sub(falls);
                    course.bucket.take(now);
                    course.since = None;
                    course.differs(differs, now);
                }
                self.told.gpus.sort_by_key(|gpu| (gpu.index, gpu.pci));
            }
        }
    }

    fn told_of(&self, uuid: &GpuUuid) -> Option<&GpuSight> {
        self.told.gpus.iter().find(|gpu| gpu.uuid == *uuid)
    }

    /// Every GPU that there is, was or was told of.
    fn known(&self, before: &NodeHealth) -> Vec<GpuUuid> {
        let all = self.seen.gpus.iter().chain(&before.gpus);
        let all = all.chain(&self.told.gpus);
        let mut uuids: Vec<GpuUuid> = all.map(|gpu| gpu.uuid.clone()).collect();
        uuids.sort();
        uuids.dedup();
        uuids
    }

    fn sight(&self, uuid: &GpuUuid) -> Option<&GpuSight> {
        self.seen.find(uuid).or_else(|| self.told_of(uuid))
    }

    /// Whether a GPU is otherwise than what was told, in a way that somebody must know: it stands
    /// otherwise, or there is a reason of which nobody knows.
    fn differs(&self, uuid: &GpuUuid) -> bool {
        let (told, seen) = (self.told_of(uuid), self.seen.find(uuid));
        let causes = told.map(GpuSight::causes).unwrap_or_default();
        let is_new = |gpu: &GpuSight| gpu.causes().iter().any(|cause| !causes.contains(cause));
        standing(told) != standing(seen) || seen.is_some_and(is_new)
    }

    fn kind(&self, uuid: &GpuUuid) -> Kind {
        let told = standing(self.told_of(uuid));
        match standing(self.seen.find(uuid)) {
            Standing::Lost => Kind::Lost,
            Standing::Unhealthy => Kind::Unhealthy,
            Standing::Absent => Kind::Gone,
            Standing::Well if told == Standing::Absent => Kind::Added,
            Standing::Well => Kind::Well,
        }
    }

    fn of_driver(&self) -> Telling {
        let gpus = count(self.seen.gpus.len());
        let (runs, reason, message) = match &self.seen.driver {
            DriverSight::Away { error, advice } => (
                false,
                "GPUDriverGone",
                format!("no driver answers for {gpus}; to do: {advice}. It says: {error}"),
            ),
            DriverSight::Running { version } => (
                true,
                "GPUDriverBack",
                format!("the NVIDIA driver {version} answers, and has {gpus}"),
            ),
            // Nobody takes this in.
            DriverSight::NotAsked => (true, "GPUDriverBack", String::new()),
        };
        Telling {
            event: HealthEvent {
                is_warning: !runs,
                reason,
                message: shortened(&message, LIMIT),
            },
            about: About::Driver(runs),
        }
    }

    fn of_gpus(&self, kind: Kind, uuids: &[&GpuUuid], wall: u64) -> Telling {
        let sights: Vec<&GpuSight> = uuids.iter().filter_map(|uuid| self.sight(uuid)).collect();
        let falls = |uuid: &&GpuUuid| self.courses.get(*uuid).map_or(0, |course| course.falls);
        let message = match kind {
            Kind::Lost | Kind::Unhealthy => story(&sights, LIMIT),
            Kind::Gone => {
                let (who, are) = (names(&sights), are(sights.len()));
                format!("{who} {are} not there any more")
            }
            Kind::Added => {
                let (who, are) = (names(&sights), are(sights.len()));
                let models: Vec<&str> = sights.iter().map(|gpu| gpu.model.as_str()).collect();
                let same = models.windows(2).all(|pair| pair[0] == pair[1]);
                let model = models.first().filter(|_| same);
                let model = model.map_or_else(String::new, |model| format!(": {model}"));
                format!("{who} {are} there now{model}")
            }
            Kind::Well => self.recovered(&sights, wall),
        };
        // What the message tells of by itself is the last time that each became sick.
        let total: u32 = uuids.iter().map(falls).sum();
        let told = u32::try_from(uuids.len()).unwrap_or_default();
        let unsaid = match kind {
            Kind::Lost | Kind::Unhealthy | Kind::Gone => total.saturating_sub(told),
            Kind::Added | Kind::Well => total,
        };
        let message = match unsaid {
            0 => message,
            1 => format!("{message}. Sick once more since the last Event of it"),
            _ => format!("{message}. Sick {unsaid} times more since the last Event of it"),
        };
        let about = uuids.iter().map(|uuid| {
            let sight = self.seen.find(uuid).cloned();
            ((*uuid).clone(), sight, falls(uuid))
        });
        Telling {
            event: HealthEvent {
                is_warning: kind.is_warning(),
                reason: kind.reason(),
                message,
            },
            about: About::Gpus(about.collect()),
        }
    }

    fn recovered(&self, gpus: &[&GpuSight], wall: u64) -> String {
        let (who, are) = (names(gpus), are(gpus.len()));
        let before = gpus.iter().filter_map(|gpu| self.told_of(&gpu.uuid));
        let before: Vec<&GpuSight> = before.filter(|gpu| !gpu.is_well()).collect();
        let troubles = before.iter().flat_map(|gpu| &gpu.troubles);
        let Some(since) = troubles.map(|trouble| trouble.since).min() else {
            return format!("{who} {are} healthy");
        };
        let lasted = wall.saturating_sub(since);
        let why = headlines(before[0]);
        let alike = before.iter().all(|gpu| gpu.causes() == before[0].causes());
        let why = if alike {
            format!(" ({why})")
        } else {
            String::new()
        };
        shortened(
            &format!("{who} {are} healthy again after {lasted} s{why}"),
            LIMIT,
        )
    }
}

/// What an Event is about; the worst is told first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Added,
    Well,
    Gone,
    Unhealthy,
    Lost,
}

impl Kind {
    fn reason(self) -> &'static str {
        match self {
            Self::Added => "GPUAdded",
            Self::Well => "GPUHealthy",
            Self::Gone => "GPURemoved",
            Self::Unhealthy => "GPUUnhealthy",
            Self::Lost => "GPULost",
        }
    }

    fn is_warning(self) -> bool {
        matches!(self, Self::Gone | Self::Unhealthy | Self::Lost)
    }
}

fn standing(gpu: Option<&GpuSight>) -> Standing {
    gpu.map_or(Standing::Absent, GpuSight::standing)
}

#[cfg(test)]
impl Told {
    /// The GPUs that are told of, and how they stand.
    pub(super) fn gpus_by_standing(&self) -> BTreeMap<GpuUuid, Standing> {
        by_standing(&self.gpus)
    }
}

#[cfg(test)]
impl Chronicle {
    /// The GPUs that are seen, and how they stand.
    pub(super) fn seen_by_standing(&self) -> BTreeMap<GpuUuid, Standing> {
        by_standing(&self.seen.gpus)
    }
}

#[cfg(test)]
fn by_standing(gpus: &[GpuSight]) -> BTreeMap<GpuUuid, Standing> {
    let pair = |gpu: &GpuSight| (gpu.uuid.clone(), gpu.standing());
    gpus.iter().map(pair).collect()
}
