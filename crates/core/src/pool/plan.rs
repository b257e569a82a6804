//! Which GPU or MIG device is offered as what: the config's filters, names and sharing, applied to a node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::ids::Finder;
use super::units::{Position, units};
use super::{DevicePool, PoolTerms, Share, Unit};
use crate::allocate::AllocationRules;
use crate::config::{
    AllocationPolicy, Choice as _, Config, DeviceRef, GpuSelector, NamePattern, ReplicaPlacement,
    SharedDevices, SharedResource,
};
use crate::gpu::Gpu;
use crate::mig::MigDevice;
use crate::prefer::AlignedChooser;
use crate::resource::ResourceName;
use crate::topology::LinkMatrix;

/// The most devices of one resource. A kubelet's gRPC client takes messages of 4 MiB (grpc-go's
/// default), and a device takes up to 80 bytes in a list.
const MOST_DEVICES: usize = 4 * 1024 * 1024 / 80;

/// What a node offers.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// The resources and their devices.
    pub pools: BTreeMap<ResourceName, DevicePool>,
    /// The positions of GPUs that the config leaves out.
    pub left_out: Vec<usize>,
    /// What of the config does not suit this node.
    pub remarks: Vec<Remark>,
}

/// Something in the config that does not suit the node it is applied to: no mistake, since one
/// config serves many nodes, but perhaps not what its writer expects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark(String);

impl From<String> for Remark {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a node with these GPUs offers by this config.
///
/// `gpus` are all GPUs that are known, in order of their index, the lost and broken ones with
/// their last known description: they stay devices, reported unhealthy. `links` connects them by
/// position; what is not known of a lost GPU's links is [`Link::UNKNOWN`](crate::topology::Link).
///
/// Each GPU that the filter admits is offered once, whole or as its MIG devices by
/// `migStrategy`: as the resource that the name of its model or profile gives it, shared as the
/// first entry says that names this resource and holds the device.
pub fn offer(gpus: &[Gpu], links: &LinkMatrix, config: &Config) -> Offer {
    let mut plan = Plan::new(gpus, config);
    for (position, gpu) in gpus.iter().enumerate() {
        if !config.gpus.admits(gpu) {
            plan.left_out.push(position);
        }
    }
    plan.name_units();
    plan.share_units();
    plan.judge_filter();
    plan.judge_capabilities();
    plan.judge_mixtures();
    plan.keep_lists_short();
    plan.pools(links)
}

/// How GPUs are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    TimeSlicing,
    Mps,
}

/// An entry of the config that shares devices.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    way: Way,
    /// Its place in its list.
    number: usize,
    resource: &'a SharedResource,
}

impl<'a> Entry<'a> {
    fn all(way: Way, resources: &'a [SharedResource]) -> impl Iterator<Item = Self> {
        let numbered = resources.iter().enumerate();
        numbered.map(move |(number, resource)| Self {
            way,
            number,
            resource,
        })
    }

    /// What it makes of a device that is otherwise offered as `name`. This build does not run MPS:
    /// what is meant for it goes to one container at a time.
    fn offers(&self, name: &ResourceName) -> (ResourceName, Option<u32>) {
        match self.way {
            Way::TimeSlicing => (
                self.resource.shared_name.clone(),
                Some(self.resource.replicas),
            ),
            Way::Mps => (name.clone(), None),
        }
    }
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Way::TimeSlicing => "timeSlicing",
            Way::Mps => "mps",
        };
        write!(f, "sharing.{way}.resources[{}]", self.number)
    }
}

/// How a resource came to be.
#[derive(Debug, Default)]
struct Sketch {
    shares: Vec<Share>,
    /// The entries whose replicas are in it, by their place among all.
    entries: BTreeSet<usize>,
}

struct Plan<'a> {
    gpus: &'a [Gpu],
    config: &'a Config,
    /// MPS's first: it outranks time-slicing where both hold a GPU.
    entries: Vec<Entry<'a>>,
    left_out: Vec<usize>,
    /// The resource of each GPU or MIG device that is offered, before sharing.
    names: BTreeMap<Position, ResourceName>,
    sketches: BTreeMap<ResourceName, Sketch>,
    remarks: Vec<Remark>,
}

impl<'a> Plan<'a> {
    fn new(gpus: &'a [Gpu], config: &'a Config) -> Self {
        let sharing = &config.sharing;
        let mps = Entry::all(Way::Mps, sharing.mps.as_deref().unwrap_or_default());
        let time_slicing = Entry::all(Way::TimeSlicing, &sharing.time_slicing);
        Self {
            gpus,
            config,
            entries: mps.chain(time_slicing).collect(),
            left_out: Vec::new(),
            names: BTreeMap::new(),
            sketches: BTreeMap::new(),
            remarks: Vec::new(),
        }
    }

    fn name_units(&mut self) {
        let admitted: Vec<usize> = (0..self.gpus.len())
            .filter(|position| !self.left_out.contains(position))
            .collect();
        let units = units(self.gpus, &admitted, self.config.mig_strategy);
        self.remarks.extend(units.remarks);
        for position in units.list {
            let naming = &self.config.naming;
            let unit = self.unit(position);
            let name = match unit.mig {
                Some(device) => naming.of_mig(device.profile, self.config.mig_strategy),
                None => naming.of_gpu(unit.gpu),
            };
            self.names.insert(position, name);
        }
    }

    fn unit(&self, Position { gpu, mig }: Position) -> Unit<'a> {
        let share = Share {
            gpu,
            mig,
            replicas: None,
        };
        share.unit(self.gpus)
    }

    fn share_units(&mut self) {
        let mut unshared = self.names.clone();
        let mut shared: BTreeMap<Position, usize> = BTreeMap::new();
        for (at, entry) in self.entries.clone().into_iter().enumerate() {
            for position in self.held_by(&entry, &unshared) {
                unshared.remove(&position);
                shared.insert(position, at);
            }
        }
        for (&position, name) in &self.names {
            let entry = shared.get(&position).copied();
            let (name, replicas) = match entry {
                Some(at) => self.entries[at].offers(name),
                None => (name.clone(), None),
            };
            let sketch = self.sketches.entry(name).or_default();
            sketch.shares.push(Share {
                gpu: position.gpu,
                mig: position.mig,
                replicas,
            });
            sketch.entries.extend(entry.filter(|_| replicas.is_some()));
        }
    }

    /// The positions of what a sharing entry holds for, of what no entry before it does.
    fn held_by(
        &mut self,
        entry: &Entry<'a>,
        unshared: &BTreeMap<Position, ResourceName>,
    ) -> Vec<Position> {
        let resource = entry.resource;
        let of_resource: Vec<Position> = unshared
            .iter()
            .filter(|(_, name)| **name == resource.name)
            .map(|(position, _)| *position)
            .collect();
        if !self.names.values().any(|name| *name == resource.name) {
            let offered: BTreeSet<&str> = self.names.values().map(ResourceName::as_str).collect();
            let offered: Vec<&str> = offered.into_iter().collect();
            if !offered.is_empty() {
                self.remark(
                    entry,
                    &format!(
                        "nothing on this node is offered as {}, but as {}",
                        resource.name,
                        offered.join(", ")
                    ),
                );
            }
            return Vec::new();
        }
        match &resource.devices {
            SharedDevices::All => of_resource,
            SharedDevices::Count(count) => {
                let count = *count as usize;
                if count > of_resource.len() {
                    let there = of_resource.len();
                    self.remark(
                        entry,
                        &format!(
                            "{count} devices of {} are to be shared, and there are {there}",
                            resource.name
                        ),
                    );
                }
                of_resource.into_iter().take(count).collect()
            }
            SharedDevices::These(devices) => {
                let mut held = BTreeSet::new();
                for device in devices {
                    match self.named(device, resource, unshared) {
                        Ok(position) => {
                            held.insert(position);
                        }
                        Err(why) => self.remark(entry, &why),
                    }
                }
                held.into_iter().collect()
            }
        }
    }

    /// The position of a device that an entry names, or why it cannot be shared.
    fn named(
        &self,
        device: &DeviceRef,
        entry: &SharedResource,
        unshared: &BTreeMap<Position, ResourceName>,
    ) -> Result<Position, String> {
        let Some(position) = self.find(device) else {
            return Err(format!("this node has no device {device}"));
        };
        if self.left_out.contains(&position.gpu) {
            return Err(format!("GPU {device} is left out by the filter of GPUs"));
        }
        let what = if position.mig.is_some() {
            "MIG device"
        } else {
            "GPU"
        };
        match (self.names.get(&position), unshared.get(&position)) {
            (None, _) => Err(format!(
                "{what} {device} is not offered as such with migStrategy {}",
                self.config.mig_strategy.word()
            )),
            (Some(name), _) if *name != entry.name => Err(format!(
                "{what} {device} is offered as {name}, not as {}",
                entry.name
            )),
            (Some(_), None) => Err(format!(
                "{what} {device} is shared by an entry before this one"
            )),
            (Some(_), Some(_)) => Ok(position),
        }
    }

    /// The position of a device of the node, whether it is offered or not.
    fn find(&self, device: &DeviceRef) -> Option<Position> {
        let mut gpus = self.gpus.iter().enumerate();
        let mig_device = |(gpu, of): (usize, &Gpu), is_meant: &dyn Fn(&MigDevice) -> bool| {
            let mig = of.mig.as_ref()?.devices.iter().position(is_meant)?;
            let mig = Some(mig);
            Some(Position { gpu, mig })
        };
        match device {
            DeviceRef::Index(index) => gpus.find(|(_, gpu)| gpu.index == *index),
            DeviceRef::Uuid(uuid) => gpus.find(|(_, gpu)| gpu.uuid == *uuid),
            DeviceRef::MigIndex(index, mig) => {
                let gpu = gpus.find(|(_, gpu)| gpu.index == *index)?;
                return mig_device(gpu, &|device| device.index == *mig);
            }
            DeviceRef::MigUuid(uuid) => {
                return gpus.find_map(|gpu| mig_device(gpu, &|device| device.uuid == *uuid));
            }
        }
        .map(|(gpu, _)| Position { gpu, mig: None })
    }

    fn remark(&mut self, entry: &Entry<'_>, text: &str) {
        self.remarks.push(Remark(format!("{entry}: {text}")));
    }

    fn judge_filter(&mut self) {
        let filter = &self.config.gpus;
        let each = |list: &'static str, selectors: &'a [GpuSelector]| {
            selectors.iter().map(move |selector| (list, selector))
        };
        let all = each("include", &filter.include).chain(each("exclude", &filter.exclude));
        for (list, selector) in all {
            if self.gpus.is_empty() || self.gpus.iter().any(|gpu| selector.picks(gpu)) {
                continue;
            }
            let hint = self
                .nearly(selector)
                .map_or_else(String::new, |meant| format!("; did you mean \"{meant}\"?"));
            self.remarks.push(Remark(format!(
                "gpus.{list}: {selector} is no GPU of this node{hint}"
            )));
        }
        if !self.gpus.is_empty() && self.left_out.len() == self.gpus.len() {
            self.remarks.push(Remark(
                "gpus.include and gpus.exclude leave no GPU of this node to offer".to_owned(),
            ));
        }
    }

    /// A container cannot open a MIG device without the nodes of its capabilities.
    fn judge_capabilities(&mut self) {
        if !self.config.pass_device_specs {
            return;
        }
        let unknown = self.names.keys().find_map(|position| {
            let unit = self.unit(*position);
            let known = unit.mig?.capabilities;
            let both = known.gpu_instance.and(known.compute_instance);
            both.is_none().then_some(unit.gpu.index)
        });
        if let Some(index) = unknown {
            self.remarks.push(Remark(format!(
                "passDeviceSpecs: the capability nodes of the MIG devices of GPU {index} are not \
                 known, so containers are not given them; /proc/driver/nvidia-caps/mig-minors of \
                 the host must be readable below --host-root"
            )));
        }
    }

    /// A model's name that stands for some of the node's GPUs if any text may stand around it.
    fn nearly(&self, selector: &GpuSelector) -> Option<String> {
        let GpuSelector::Model(pattern) = selector else {
            return None;
        };
        let wider = format!("*{pattern}*");
        let picks = |gpu: &Gpu| NamePattern::from(wider.as_str()).matches(&gpu.name);
        self.gpus.iter().any(picks).then_some(wider)
    }

    /// A pod that asks for a resource cannot say whether it wants a whole GPU or a share.
    fn judge_mixtures(&mut self) {
        for (name, sketch) in &self.sketches {
            let shared = |share: &&Share| share.replicas.is_some();
            let count = sketch.shares.iter().filter(shared).count();
            if count > 0 && count < sketch.shares.len() {
                self.remarks.push(Remark(format!(
                    "{name} has whole devices and shared ones, and a pod cannot tell which it gets; \
                     give the shared ones a name of their own with rename"
                )));
            }
        }
    }

    /// Offers fewer replicas of a resource whose device list a kubelet would not take.
    fn keep_lists_short(&mut self) {
        for (name, sketch) in &mut self.sketches {
            let asked: usize = sketch.shares.iter().map(Share::devices).sum();
            if asked <= MOST_DEVICES {
                continue;
            }
            let each = u32::try_from(MOST_DEVICES / sketch.shares.len()).unwrap_or(u32::MAX);
            for share in &mut sketch.shares {
                share.replicas = share.replicas.map(|replicas| replicas.min(each));
            }
            self.remarks.push(Remark(format!(
                "{name} would have {asked} devices, and a kubelet takes no list of more than \
                 {MOST_DEVICES}; no GPU of it has more than {each} replicas"
            )));
        }
    }

    fn pools(mut self, links: &LinkMatrix) -> Offer {
        let gpus: Arc<[Gpu]> = self.gpus.into();
        let rules = Arc::new(AllocationRules::new(self.config));
        let mut choosers = Choosers::new(self.gpus, links);
        let mut pools = BTreeMap::new();
        for (resource, sketch) in std::mem::take(&mut self.sketches) {
            let terms = self.terms(&resource, &sketch);
            let pool = DevicePool {
                finder: Finder::new(&sketch.shares, &gpus),
                shares: sketch.shares,
                terms,
                gpus: gpus.clone(),
                chooser: choosers.get(terms.policy),
                rules: rules.clone(),
                resource: resource.clone(),
            };
            pools.insert(resource, pool);
        }
        Offer {
            pools,
            left_out: self.left_out,
            remarks: self.remarks,
        }
    }

    /// What holds for a resource's devices: what its first sharing entry says.
    fn terms(&mut self, resource: &ResourceName, sketch: &Sketch) -> PoolTerms {
        let mut each = sketch.entries.iter().map(|number| {
            let entry = self.entries[*number].resource;
            PoolTerms {
                policy: entry
                    .policy
                    .unwrap_or(self.config.shared_devices_allocation_policy),
                placement: entry.placement,
                fail_requests_greater_than_one: entry.fail_requests_greater_than_one,
            }
        });
        let Some(terms) = each.next() else {
            let mig = sketch.shares.iter().any(|share| share.mig.is_some());
            return PoolTerms {
                policy: if mig {
                    self.config.shared_devices_allocation_policy
                } else {
                    self.config.gpu_allocation_policy
                },
                placement: ReplicaPlacement::Any,
                fail_requests_greater_than_one: false,
            };
        };
        if each.any(|other| other != terms) {
            self.remarks.push(Remark(format!(
                "several entries of sharing.timeSlicing.resources offer {resource} on different \
                 terms (allocationPolicy, replicaPlacement, failRequestsGreaterThanOne); the first \
                 one's hold"
            )));
        }
        terms
    }
}

/// The choosers of a node, made when they are needed and shared by its pools.
struct Choosers<'a> {
    gpus: &'a [Gpu],
    links: &'a LinkMatrix,
    aligned: Option<Arc<AlignedChooser>>,
    numa_first: Option<Arc<AlignedChooser>>,
}

impl<'a> Choosers<'a> {
    fn new(gpus: &'a [Gpu], links: &'a LinkMatrix) -> Self {
        Self {
            gpus,
            links,
            aligned: None,
            numa_first: None,
        }
    }

    fn get(&mut self, policy: AllocationPolicy) -> Arc<AlignedChooser> {
        let (gpus, links) = (self.gpus, self.links);
        let chooser = if policy == AllocationPolicy::Numa {
            let nodes: Vec<_> = gpus.iter().map(|gpu| gpu.numa_node).collect();
            self.numa_first
                .get_or_insert_with(|| Arc::new(AlignedChooser::numa_first(&nodes, links)))
        } else {
            self.aligned
                .get_or_insert_with(|| Arc::new(AlignedChooser::new(gpus, links)))
        };
        chooser.clone()
    }
}
