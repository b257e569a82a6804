//! How often each GPU has reported each Xid.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::NodeState;
use crate::driver::{DriverEvent, DriverEventKind};
use crate::gpu::GpuUuid;
use crate::health::Moment;
use crate::xid::Xid;

/// How many kinds of Xids, by number and MIG device, are counted one by one for each GPU. A
/// driver reports a few dozen at most; what is more is counted together.
const KINDS: usize = 128;

/// How many moments at which Xids came are remembered for each GPU.
const MOMENTS: usize = 1024;

/// The Xids of all GPUs, in this process's life: a driver that is opened anew does not end it.
#[derive(Debug, Clone, Default)]
pub struct XidLog {
    gpus: BTreeMap<GpuUuid, GpuXids>,
    /// Those of which the driver could not say whose they are.
    of_nobody: GpuXids,
}

/// The Xids of one GPU.
#[derive(Debug, Clone, Default)]
pub struct GpuXids {
    counts: BTreeMap<XidKind, XidCount>,
    last: Option<Xid>,
    /// When which came, oldest first; those of one second together.
    recent: VecDeque<(Duration, Option<Xid>, u64)>,
}

/// What is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct XidKind {
    /// The number; `None` for all those that there was no room for.
    pub xid: Option<Xid>,
    /// The GPU instance and, where it was named, the compute instance that it was about.
    pub instance: Option<(u32, Option<u32>)>,
}

/// How many, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XidCount {
    /// How many.
    pub total: u64,
    /// When the last one came, in seconds since 1970.
    pub last: u64,
}

impl XidLog {
    /// Those of a GPU; `None` if it has reported none.
    pub fn of(&self, gpu: &GpuUuid) -> Option<&GpuXids> {
        self.gpus.get(gpu)
    }

    /// Those of which the driver could not say whose they are.
    pub fn of_nobody(&self) -> &GpuXids {
        &self.of_nobody
    }

    fn count(&mut self, xid: Xid, event: &DriverEvent, now: Moment) {
        let xids = match &event.gpu {
            Some(gpu) => self.gpus.entry(gpu.clone()).or_default(),
            None => &mut self.of_nobody,
        };
        let instance = event.gpu_instance;
        xids.count(
            XidKind {
                xid: Some(xid),
                instance: instance.map(|gpu_instance| (gpu_instance, event.compute_instance)),
            },
            now,
        );
        xids.last = Some(xid);
    }
}

impl GpuXids {
    /// The counts, by kind.
    pub fn counts(&self) -> impl Iterator<Item = (XidKind, XidCount)> {
        self.counts.iter().map(|(kind, count)| (*kind, *count))
    }

    /// The last one.
    pub fn last(&self) -> Option<Xid> {
        self.last
    }

    /// How many came in the last `window`, by number.
    pub fn within(&self, window: Duration, now: Duration) -> BTreeMap<Option<Xid>, u64> {
        let mut counts = BTreeMap::new();
        let recent = self.recent.iter().rev();
        for (_, xid, count) in recent.take_while(|(then, ..)| now.saturating_sub(*then) <= window) {
            *counts.entry(*xid).or_default() += count;
        }
        counts
    }

    fn count(&mut self, kind: XidKind, now: Moment) {
        let is_new = !self.counts.contains_key(&kind);
        let kind = if is_new && self.counts.len() >= KINDS {
            XidKind {
                xid: None,
                instance: None,
            }
        } else {
            kind
        };
        let count = self
            .counts
            .entry(kind)
            .or_insert(XidCount { total: 0, last: 0 });
        count.total += 1;
        count.last = now.wall;
        let second = Duration::from_secs(now.monotonic.as_secs());
        let mut latest = self.recent.iter_mut().rev();
        let same = latest
            .by_ref()
            .take_while(|(then, ..)| *then == second)
            .find(|(_, xid, _)| *xid == kind.xid);
        match same {
            Some((.., count)) => *count += 1,
            None => self.recent.push_back((second, kind.xid, 1)),
        }
        if self.recent.len() > MOMENTS {
            self.recent.pop_front();
        }
    }
}

impl NodeState {
    /// How often each GPU has reported each Xid, whatever the settings make of it.
    pub fn xids(&self) -> &XidLog {
        &self.xids
    }

    /// Drops those of GPUs that are not in the node any more.
    pub(super) fn forget_xids_of_gone(&mut self) {
        let roster = &self.roster;
        let gpus = &mut Arc::make_mut(&mut self.xids).gpus;
        gpus.retain(|gpu, _| roster.find(gpu).is_some());
    }

    /// Counts what the driver reported, if it is an Xid, and says whether it was one.
    pub(super) fn count_xid(&mut self, event: &DriverEvent, now: Moment) -> bool {
        let DriverEventKind::Xid(number) = event.kind else {
            return false;
        };
        let known = |gpu: &GpuUuid| self.roster.find(gpu).is_some();
        if !event.gpu.as_ref().is_none_or(known) {
            return false;
        }
        Arc::make_mut(&mut self.xids).count(Xid(number), event, now);
        true
    }
}
