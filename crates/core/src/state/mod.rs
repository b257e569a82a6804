//! The one picture of the node: what is known of its driver and GPUs, and what each piece of
//! news changes about it.

mod cdi;
mod delivery;
mod faults;
mod line;
mod partitions;
mod record;
mod roster;
#[cfg(test)]
mod tests;
mod words;
mod xids;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use line::{GpuName, Line, Severity};
pub use partitions::Withheld;
pub use record::{GpuRecord, HealthRecord, MigRecord, RECORD_VERSION, UnknownRecordVersion};
pub use xids::{GpuXids, XidCount, XidKind, XidLog};

use crate::allocate::HostNodes;
use crate::config::Config;
use crate::driver::{DriverError, DriverEvent, GpuCondition};
use crate::gpu::{Gpu, GpuUuid, PciBusId};
use crate::health::{Change, DeviceHealth, GpuHealth, HealthPolicy, Moment};
use crate::inventory::{DriverVersions, Inventory};
use crate::mig::{GpuMig, MigDevice, MigUuid};
use crate::pool::{DevicePool, Offer, Share, offer};
use crate::resource::ResourceName;
use crate::runtime::AutoChoice;
use crate::topology::LinkMatrix;
use faults::Mentions;
use roster::{Difference, Roster};

pub(crate) use words::driver_advice;

/// The least time between two questions to a GPU that is sick.
const SICK_INTERVAL: Duration = Duration::from_secs(1);

/// News for the picture.
#[derive(Debug, Clone)]
pub enum Event {
    /// The driver was asked for all of its GPUs.
    Discovered(Box<Discovery>),
    /// There is no driver to ask.
    DriverAbsent(DriverError),
    /// Which device nodes there are has changed.
    HostNodes(HostNodes),
    /// The driver was told to watch GPUs for events.
    Watching {
        /// Those it watches.
        watched: Vec<GpuUuid>,
        /// Those it does not, and why.
        refused: Vec<(GpuUuid, DriverError)>,
    },
    /// Waiting for events failed.
    WaitFailed(DriverError),
    /// Waiting for events works, perhaps again.
    WaitWorks,
    /// The driver reported something unasked.
    Driver(DriverEvent),
    /// A GPU was asked how it is.
    Checked(GpuUuid, Result<GpuCondition, DriverError>),
    /// It was looked how a GPU is partitioned.
    Partitioned(GpuUuid, Option<GpuMig>),
    /// These GPUs and MIG devices, and no others, are kept back from the kubelet.
    Withhold(BTreeMap<GpuUuid, Withheld>),
    /// These CDI devices, by their full names, and no others of a device plugin are found by
    /// container runtimes.
    CdiResolved(BTreeSet<String>),
    /// Nobody has looked yet which CDI devices container runtimes find: none counts as found.
    CdiAwaited,
    /// It was looked what the node's container runtime can do, for settings that leave the way in
    /// which containers get their GPUs to the agent.
    Chosen(Box<AutoChoice>),
    /// There are new settings.
    Configured(Arc<Config>),
}

/// What a look at the driver and the machine has found.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// What the driver lists.
    pub inventory: Inventory,
    /// Which of the GPUs that the driver lists, or ever listed, are on the PCI bus; `None` where
    /// that cannot be told.
    pub on_bus: Option<BTreeSet<PciBusId>>,
    /// The device nodes besides the GPUs' own.
    pub host_nodes: HostNodes,
}

/// What is to be done about news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say this.
    Log(Box<Line>),
    /// Write [`NodeState::record`] down.
    Persist,
    /// Let everybody see the new picture.
    Publish,
    /// Ask these GPUs how they are, now.
    Check(Vec<GpuUuid>),
    /// Look how these GPUs are partitioned, now.
    LookAtPartitions(Vec<GpuUuid>),
    /// Tell the driver once more to watch all GPUs for events: one may have become fit for it.
    Watch,
}

/// What is known of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverStatus {
    /// Nobody has looked yet.
    Unknown,
    /// It cannot be used, and why.
    Absent(DriverError),
    /// It answers.
    Running(DriverVersions),
}

/// How it is noticed that something happens to a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watch {
    /// Not settled yet.
    Pending,
    /// The driver tells, and it is asked at intervals besides.
    Events,
    /// It is asked at intervals only, because of this.
    Polling(DriverError),
}

/// A GPU of the node.
#[derive(Debug, Clone)]
pub struct KnownGpu {
    /// Its last description.
    pub gpu: Gpu,
    /// Its health.
    pub health: GpuHealth,
    /// How it is watched.
    pub watch: Watch,
    /// The health of those of its MIG devices of which a fault was reported. A fault of the GPU
    /// is not repeated here.
    pub instances: BTreeMap<MigUuid, GpuHealth>,
}

impl KnownGpu {
    /// One that nothing is known of but its description.
    fn new(gpu: Gpu, health: GpuHealth) -> Self {
        Self {
            gpu,
            health,
            watch: Watch::Pending,
            instances: BTreeMap::new(),
        }
    }

    /// Its MIG devices.
    pub fn mig_devices(&self) -> &[MigDevice] {
        self.gpu.mig.as_ref().map_or(&[], |mig| &mig.devices)
    }
}

/// The picture. Only [`apply`](Self::apply) changes it.
#[derive(Debug, Clone)]
pub struct NodeState {
    /// The settings in force.
    config: Arc<Config>,
    /// The settings as they were given, in which the way to containers may be left open.
    given: Arc<Config>,
    /// What was chosen for that.
    choice: Option<AutoChoice>,
    driver: DriverStatus,
    /// Why waiting for events fails, while it does.
    wait_error: Option<DriverError>,
    roster: Roster,
    host_nodes: Arc<HostNodes>,
    offer: Arc<Offer>,
    mentions: Mentions,
    /// What is kept back from the kubelet.
    withheld: BTreeMap<GpuUuid, Withheld>,
    /// The CDI devices that runtimes find; `None` where nobody looks.
    cdi: Option<BTreeSet<String>>,
    /// Whether anybody has looked for them.
    cdi_was_looked_at: bool,
    /// How often each GPU has reported each Xid.
    xids: Arc<XidLog>,
}

impl NodeState {
    /// The picture before anybody has looked, with what a former process left behind.
    pub fn new(config: Arc<Config>, remembered: Vec<GpuRecord>, now: Moment) -> Self {
        Self {
            given: config.clone(),
            config,
            choice: None,
            driver: DriverStatus::Unknown,
            wait_error: None,
            roster: Roster::restored(remembered, now),
            host_nodes: Arc::default(),
            offer: Arc::default(),
            mentions: Mentions::default(),
            withheld: BTreeMap::new(),
            cdi: None,
            cdi_was_looked_at: false,
            xids: Arc::default(),
        }
    }

    /// What is known of the driver.
    pub fn driver(&self) -> &DriverStatus {
        &self.driver
    }

    /// The known GPUs in the order in which they are offered; the position is that of
    /// [`Share::gpu`](crate::pool::Share::gpu).
    pub fn gpus(&self) -> &[KnownGpu] {
        &self.roster.gpus
    }

    /// How well the known GPUs are connected, by their positions.
    pub fn links(&self) -> &LinkMatrix {
        &self.roster.links
    }

    /// The resources to offer, none before the first look at the driver.
    pub fn pools(&self) -> &BTreeMap<ResourceName, DevicePool> {
        &self.offer.pools
    }

    /// The GPUs that the settings leave out, by position, and what of the settings does not suit
    /// this node.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The device nodes besides the GPUs' own.
    pub fn host_nodes(&self) -> &HostNodes {
        &self.host_nodes
    }

    /// The settings.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Why waiting for events fails at the moment.
    pub fn wait_error(&self) -> Option<&DriverError> {
        self.wait_error.as_ref()
    }

    /// What the kubelet is told of the devices of a GPU or MIG device.
    pub fn health(&self, share: &Share) -> DeviceHealth {
        let running = matches!(self.driver, DriverStatus::Running(_));
        let known = self.roster.gpus.get(share.gpu).filter(|_| running);
        let fit = known.is_some_and(|known| {
            let device = share.device(known);
            let own = device.and_then(|device| known.instances.get(&device.uuid));
            self.is_fit(&known.health)
                && own.is_none_or(|health| self.is_fit(health))
                && !self.is_withheld(known, device)
                && self.is_found_by_runtimes(known, device)
        });
        if fit {
            DeviceHealth::Healthy
        } else {
            DeviceHealth::Unhealthy
        }
    }

    fn is_fit(&self, health: &GpuHealth) -> bool {
        health.is_healthy() || (!self.is_health_watched() && health.is_usable())
    }

    /// Whether GPUs are watched at all: `DP_DISABLE_HEALTHCHECKS=all` means that none is, and
    /// that all that can be used count as healthy.
    pub fn is_health_watched(&self) -> bool {
        self.config.xid_policy.any_enabled()
    }

    /// What each fault counts for.
    fn policy(&self) -> HealthPolicy<'_> {
        HealthPolicy::of(&self.config)
    }

    /// What to write down, for the boot `boot_id` of the machine.
    pub fn record(&self, boot_id: &str) -> HealthRecord {
        let record = |known: &KnownGpu| GpuRecord {
            gpu: known.gpu.clone(),
            signs: known.health.signs().to_vec(),
            mig: MigRecord::of(known),
        };
        HealthRecord {
            version: RECORD_VERSION,
            boot_id: boot_id.to_owned(),
            gpus: self.roster.gpus.iter().map(record).collect(),
        }
    }

    /// How long until the GPUs are to be asked how they are; `None` if not at all.
    pub fn next_check(&self, now: Duration) -> Option<Duration> {
        let running = matches!(self.driver, DriverStatus::Running(_));
        if !running || !self.is_health_watched() || self.roster.gpus.is_empty() {
            return None;
        }
        let tuning = &self.config.health;
        let gpus = self.roster.gpus.iter();
        let each = gpus.flat_map(|known| {
            let instances = known.instances.values();
            std::iter::once(&known.health).chain(instances)
        });
        let sick = each.filter(|health| !health.is_healthy());
        let soonest = sick.map(|health| {
            let interval = tuning
                .check_interval
                .min(tuning.hold_down.max(SICK_INTERVAL));
            match health.hold_down_left(now, self.policy()) {
                // Over, and yet unhealthy: only time and a reset can tell.
                Some(left) if !left.is_zero() => left.min(interval),
                _ => interval,
            }
        });
        Some(
            soonest
                .min()
                .unwrap_or(tuning.check_interval)
                .min(tuning.check_interval),
        )
    }

    /// Takes in a piece of news and says what is to be done about it.
    pub fn apply(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        match event {
            Event::Discovered(discovery) => self.discovered(*discovery, now),
            Event::DriverAbsent(error) => self.driver_absent(error),
            Event::HostNodes(nodes) => self.take_host_nodes(nodes),
            Event::Watching { watched, refused } => self.watching(&watched, &refused),
            Event::WaitFailed(error) => self.wait_failed(error),
            Event::WaitWorks => self.wait_works(),
            Event::Driver(event) => self.driver_event(&event, now),
            Event::Checked(uuid, answer) => self.checked(&uuid, answer, now),
            Event::Partitioned(uuid, mig) => self.partitioned(&uuid, mig),
            Event::Withhold(withheld) => self.withhold(withheld),
            Event::CdiResolved(names) => self.cdi_resolved(names),
            Event::CdiAwaited => {
                self.cdi = Some(BTreeSet::new());
                Vec::new()
            }
            Event::Chosen(choice) => self.chosen(*choice),
            Event::Configured(config) => self.reconfigured(config),
        }
    }

    fn discovered(&mut self, discovery: Discovery, now: Moment) -> Vec<Effect> {
        let Discovery {
            inventory,
            on_bus,
            host_nodes,
        } = discovery;
        if matches!(
            self.driver,
            DriverStatus::Absent(DriverError::NotRunning(_))
        ) {
            // A kernel driver that was not there and is there now has begun anew with every GPU.
            for known in &mut self.roster.gpus {
                known.health.reset_seen();
                for health in known.instances.values_mut() {
                    health.reset_seen();
                }
            }
        }
        let news = DriverStatus::Running(inventory.driver.clone());
        let driver_changed = self.driver != news;
        let first = !matches!(self.driver, DriverStatus::Running(_));
        self.driver = news;
        let difference = self.roster.join(inventory, on_bus.as_ref(), now);
        self.host_nodes = Arc::new(self.with_unresolved(host_nodes));
        if !difference.removed.is_empty() {
            self.forget_xids_of_gone();
        }

        let mut effects = Vec::new();
        if driver_changed {
            effects.push(log(words::driver(&self.driver, self.roster.gpus.len())));
        }
        if !first {
            effects.extend(self.difference_lines(&difference));
        }
        effects.extend(self.health_lines(&difference.health, now));
        if difference.any || driver_changed {
            effects.extend(self.renew_offer());
            effects.extend([Effect::Persist, Effect::Publish]);
        } else {
            effects.push(Effect::Publish);
        }
        effects
    }

    fn difference_lines(&self, difference: &Difference) -> Vec<Effect> {
        let added = difference
            .added
            .iter()
            .filter_map(|uuid| self.roster.find(uuid));
        let added = added.map(|known| {
            let gpu = &known.gpu;
            let text = format!("added: {}", gpu.name);
            log(Line::new(Severity::Info, "gpu-added", text).about(gpu))
        });
        let removed = difference.removed.iter().map(|gpu| {
            let text = format!("removed: {}", gpu.name);
            log(Line::new(Severity::Warning, "gpu-removed", text).about(gpu))
        });
        added.chain(removed).collect()
    }

    fn health_lines(&self, changes: &[(GpuUuid, Change)], now: Moment) -> Vec<Effect> {
        let line = |(uuid, change): &(GpuUuid, Change)| {
            let known = self.roster.find(uuid)?;
            let line = Line::health(&known.gpu, change, now.wall, self.policy());
            Some(log(line))
        };
        changes.iter().filter_map(line).collect()
    }

    fn driver_absent(&mut self, error: DriverError) -> Vec<Effect> {
        let news = DriverStatus::Absent(error);
        if self.driver == news {
            return Vec::new();
        }
        self.driver = news;
        self.wait_error = None;
        for known in &mut self.roster.gpus {
            known.watch = Watch::Pending;
        }
        let mut effects = self.renew_offer();
        if let DriverStatus::Absent(error) = &self.driver {
            effects.push(log(words::no_driver(error)));
        }
        effects.push(Effect::Publish);
        effects
    }

    fn take_host_nodes(&mut self, nodes: HostNodes) -> Vec<Effect> {
        let nodes = self.with_unresolved(nodes);
        if *self.host_nodes == nodes {
            return Vec::new();
        }
        self.host_nodes = Arc::new(nodes);
        vec![Effect::Publish]
    }

    fn watching(&mut self, watched: &[GpuUuid], refused: &[(GpuUuid, DriverError)]) -> Vec<Effect> {
        let interval = self.config.health.check_interval;
        let mut effects = Vec::new();
        for known in &mut self.roster.gpus {
            let uuid = &known.gpu.uuid;
            let error = refused
                .iter()
                .find(|(gpu, _)| gpu == uuid)
                .map(|(_, error)| error);
            let watch = match error {
                Some(error) => Watch::Polling(error.clone()),
                None if watched.contains(uuid) => Watch::Events,
                None => continue,
            };
            if known.watch == watch {
                continue;
            }
            // A GPU that is sick anyway has had its line.
            if let Watch::Polling(error) = &watch
                && known.health.is_healthy()
            {
                effects.push(log(words::polled(&known.gpu, error, interval)));
            }
            known.watch = watch;
            effects.push(Effect::Publish);
        }
        effects
    }

    fn wait_failed(&mut self, error: DriverError) -> Vec<Effect> {
        if self.wait_error.is_some() {
            return Vec::new();
        }
        let text = format!("the driver does not report events: {error}");
        self.wait_error = Some(error);
        let line = Line::new(Severity::Warning, "events-failing", text)
            .meaning("every GPU is asked at intervals instead, and the wait is tried again")
            .advice("see the kernel log (dmesg); restart the driver if this lasts");
        vec![Effect::Check(self.every_gpu()), log(line), Effect::Publish]
    }

    fn wait_works(&mut self) -> Vec<Effect> {
        if self.wait_error.take().is_none() {
            return Vec::new();
        }
        let line = Line::new(
            Severity::Info,
            "events-working",
            "the driver reports events again",
        );
        vec![log(line), Effect::Publish]
    }

    /// Works out anew what is offered; what does not suit the node is said once.
    fn renew_offer(&mut self) -> Vec<Effect> {
        let gpus: Vec<Gpu> = self
            .roster
            .gpus
            .iter()
            .map(|known| known.gpu.clone())
            .collect();
        let offer = offer(&gpus, &self.roster.links, &self.config);
        let known = &self.offer.remarks;
        let news = offer
            .remarks
            .iter()
            .filter(|remark| !known.contains(remark));
        let effects = news.map(|remark| log(words::unsuitable(remark))).collect();
        self.offer = Arc::new(offer);
        effects
    }
}

fn log(line: Line) -> Effect {
    Effect::Log(Box::new(line))
}
