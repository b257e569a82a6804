//! A partitioned GPU: which instances it has, and what still fits.

use crate::identity::Uuid;
use crate::model::mig::{ComputeProfile, GpuProfile, MigTable, Placement, compute_placements};
use crate::node::Gpu;

/// Why a GPU cannot be partitioned so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MigError {
    /// The model has no MIG.
    #[error("the GPU cannot be partitioned")]
    NotCapable,
    /// MIG is off.
    #[error("MIG is disabled")]
    Disabled,
    /// The model, or the GPU instance, has no such profile.
    #[error("there is no such profile")]
    NoSuchProfile,
    /// The profile does not go there.
    #[error("the profile cannot be placed there")]
    NoSuchPlacement,
    /// Other instances have the slices or the engines.
    #[error("no room is left for it")]
    NoRoom,
    /// There is no such instance.
    #[error("there is no such instance")]
    NoSuchInstance,
    /// It has instances, or processes use it.
    #[error("it is in use")]
    InUse,
}

/// One GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuInstance {
    /// Id, unique on the GPU at any time.
    pub id: u32,
    /// What it has.
    pub profile: &'static GpuProfile,
    /// Its memory slices.
    pub place: Placement,
    /// Tells it from others that had its id before; 0 for one that is only planned.
    pub(crate) serial: u32,
}

/// One compute instance, which is one MIG device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComputeInstance {
    /// Id of its GPU instance.
    pub gpu_instance: u32,
    /// Id, unique in its GPU instance at any time.
    pub id: u32,
    /// What it has.
    pub profile: ComputeProfile,
    /// Its compute slices, counted in the GPU instance.
    pub place: Placement,
    /// Tells it from others that had its ids before; 0 for one that is only planned.
    pub(crate) serial: u32,
}

/// What a GPU is partitioned into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// How it can be.
    pub table: &'static MigTable,
    /// The GPU instances by id.
    pub gpu_instances: Vec<GpuInstance>,
    /// The compute instances by the id of the GPU instance and their own.
    pub compute_instances: Vec<ComputeInstance>,
}

impl Partition {
    /// An empty GPU.
    pub fn empty(table: &'static MigTable) -> Self {
        Self {
            table,
            gpu_instances: Vec::new(),
            compute_instances: Vec::new(),
        }
    }

    /// Adds a GPU instance where the driver would place it.
    ///
    /// # Errors
    /// There is no room.
    pub fn add(&mut self, profile: &'static GpuProfile) -> Result<GpuInstance, MigError> {
        let place = self.place(profile, None)?;
        let instance = GpuInstance {
            id: self.table.instance_id(place),
            profile,
            place,
            serial: 0,
        };
        self.gpu_instances.push(instance);
        Ok(instance)
    }

    /// The profiles that these names mean.
    ///
    /// # Errors
    /// There is no such profile, or not all of them fit, one after the other; the text says which
    /// and what would.
    pub fn plan<T: AsRef<str>>(mut self, names: &[T]) -> Result<Vec<&'static GpuProfile>, String> {
        let plan = self.table.named(names)?;
        for (profile, place) in plan.iter().zip(1..) {
            self.add(profile).map_err(|_| {
                let (name, fitting) = (profile.name, self.fitting());
                format!("there is no room for {name}, number {place} of the list: {fitting}")
            })?;
        }
        Ok(plan)
    }

    /// What still fits, in words.
    fn fitting(&self) -> String {
        let fitting = self.table.profiles.iter().filter_map(|profile| {
            let count = self.capacity(profile);
            (count > 0).then(|| format!("{} ({count})", profile.name))
        });
        let fitting: Vec<String> = fitting.collect();
        if fitting.is_empty() {
            "nothing else fits either".to_owned()
        } else {
            format!("what still fits is {}", fitting.join(", "))
        }
    }

    /// What a GPU is partitioned into when it comes; none if it is not.
    pub fn initial(gpu: &Gpu) -> Option<Self> {
        let mut partition = Self::empty(gpu.model.mig.filter(|_| gpu.mig.enabled)?);
        for kind in &gpu.mig.instances {
            let profile = partition.table.by_kind(*kind as u32)?;
            let parent = partition.add(profile).ok()?;
            let whole = partition.table.compute_profiles(profile).pop()?;
            let (place, id) = partition.place_compute(&parent, &whole, None).ok()?;
            partition.compute_instances.push(ComputeInstance {
                gpu_instance: parent.id,
                id,
                profile: whole,
                place,
                serial: 0,
            });
        }
        Some(partition)
    }

    fn taken(&self) -> Vec<(&'static GpuProfile, Placement)> {
        let all = self.gpu_instances.iter();
        all.map(|instance| (instance.profile, instance.place))
            .collect()
    }

    /// How many more instances of a profile fit.
    pub fn capacity(&self, profile: &GpuProfile) -> u32 {
        self.table.fitting(profile, &self.taken())
    }

    /// Where the next instance of a profile goes: where it was asked for, or where it takes the
    /// least room from all other profiles.
    ///
    /// # Errors
    /// It cannot be there, or there is no room.
    pub fn place(
        &self,
        profile: &'static GpuProfile,
        wanted: Option<Placement>,
    ) -> Result<Placement, MigError> {
        let taken = self.taken();
        let misplaced = |place| !self.table.placements(profile).contains(&place);
        if wanted.is_some_and(misplaced) {
            return Err(MigError::NoSuchPlacement);
        }
        if self.table.fitting(profile, &taken) == 0 {
            return Err(MigError::NoRoom);
        }
        let mut free = self.table.free(profile, &taken);
        free.retain(|place| wanted.is_none_or(|wanted| *place == wanted));
        let room_left = |place: &Placement| -> u32 {
            let mut then = taken.clone();
            then.push((profile, *place));
            let profiles = self.table.profiles.iter();
            profiles.map(|other| self.table.fitting(other, &then)).sum()
        };
        // The first of equals: `max_by_key` would take the last.
        free.into_iter()
            .rev()
            .max_by_key(room_left)
            .ok_or(MigError::NoRoom)
    }

    /// The GPU instance with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn gpu_instance(&self, id: u32) -> Result<&GpuInstance, MigError> {
        let found = self.gpu_instances.iter().find(|found| found.id == id);
        found.ok_or(MigError::NoSuchInstance)
    }

    /// The compute instances of a GPU instance.
    pub fn inside(&self, gpu_instance: u32) -> impl Iterator<Item = &ComputeInstance> {
        let all = self.compute_instances.iter();
        all.filter(move |instance| instance.gpu_instance == gpu_instance)
    }

    /// The profile of compute instances with this id.
    ///
    /// # Errors
    /// The GPU instance has none.
    pub fn compute_profile(
        &self,
        gpu_instance: &GpuInstance,
        id: u32,
    ) -> Result<ComputeProfile, MigError> {
        let profiles = self.table.compute_profiles(gpu_instance.profile);
        let mut profiles = profiles.into_iter();
        profiles
            .find(|profile| profile.id == id)
            .ok_or(MigError::NoSuchProfile)
    }

    /// Where compute instances of a profile still fit.
    pub fn compute_room(
        &self,
        gpu_instance: &GpuInstance,
        profile: &ComputeProfile,
    ) -> Vec<Placement> {
        let all = gpu_instance.profile.kind.slices();
        let mut places = compute_placements(all, profile.slices);
        let taken = |place: &Placement| {
            self.inside(gpu_instance.id)
                .any(|other| other.place.overlaps(*place))
        };
        places.retain(|place| !taken(place));
        places
    }

    /// Where the next compute instance of a profile goes, and its id.
    ///
    /// # Errors
    /// It cannot be there, or there is no room.
    pub fn place_compute(
        &self,
        gpu_instance: &GpuInstance,
        profile: &ComputeProfile,
        wanted: Option<Placement>,
    ) -> Result<(Placement, u32), MigError> {
        let all = gpu_instance.profile.kind.slices();
        if wanted.is_some_and(|place| !compute_placements(all, profile.slices).contains(&place)) {
            return Err(MigError::NoSuchPlacement);
        }
        let mut room = self.compute_room(gpu_instance, profile).into_iter();
        let place = room
            .find(|place| wanted.is_none_or(|wanted| *place == wanted))
            .ok_or(MigError::NoRoom)?;
        let taken = |id: &u32| self.inside(gpu_instance.id).any(|other| other.id == *id);
        let id = (0..all).find(|id| !taken(id)).ok_or(MigError::NoRoom)?;
        Ok((place, id))
    }
}

/// What a MIG device is called: `1g.10gb`, or `1c.3g.20gb` if it has a part of its GPU instance.
pub fn name_of(gpu_instance: &GpuInstance, profile: &ComputeProfile) -> String {
    let name = gpu_instance.profile.name;
    if profile.slices == gpu_instance.profile.kind.slices() {
        name.to_owned()
    } else {
        format!("{}c.{name}", profile.slices)
    }
}

/// GPUs, GPU instances of one and compute instances of one of those that the driver numbers
/// capabilities for, whether they exist or not.
pub(crate) const CAPABILITIES: (u32, u32, u32) = (32, 15, 8);
/// The first of them; those before it configure and watch MIG.
const FIRST_CAPABILITY: u32 = 3;

/// The `<m>` of `/dev/nvidia-caps/nvidia-cap<m>` for a GPU instance, or a compute instance in
/// it. Only GPUs with minor numbers below 32 have them.
pub fn capability(gpu_minor: u32, gpu_instance: u32, compute_instance: Option<u32>) -> Option<u32> {
    let (gpus, instances, inside) = CAPABILITIES;
    let of_gpu_instance = (gpu_minor * instances + gpu_instance) * (inside + 1);
    let offset = compute_instance.map_or(0, |id| id + 1);
    (gpu_minor < gpus).then_some(FIRST_CAPABILITY + of_gpu_instance + offset)
}

/// The UUID of its own that a MIG device has: of its GPU, of where and what it is. It is the same again when the
/// same device is made again.
pub(crate) fn uuid(gpu: Uuid, parent: &GpuInstance, instance: &ComputeInstance) -> Uuid {
    let parts = [
        parent.id,
        parent.profile.kind as u32,
        instance.id,
        instance.profile.id,
        instance.place.start,
    ];
    let seed = parts
        .iter()
        .fold(gpu.to_string(), |seed, part| format!("{seed}/{part}"));
    Uuid::derived(&seed, 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{GpuModel, MODELS};

    fn empty(key: &str) -> Partition {
        Partition::empty(GpuModel::by_key(key).unwrap().mig.unwrap())
    }

    fn created(key: &str, names: &[&str]) -> Vec<(u32, String)> {
        let mut partition = empty(key);
        let each = names.iter().map(|name| {
            let profile = partition.table.by_name(name).unwrap();
            let instance = partition.add(profile).unwrap();
            (instance.id, instance.place.to_string())
        });
        each.collect()
    }

    #[test]
    fn instances_are_placed_and_numbered_as_the_driver_does() {
        let pairs = |list: &[(u32, &str)]| -> Vec<(u32, String)> {
            list.iter()
                .map(|(id, at)| (*id, (*at).to_owned()))
                .collect()
        };
        assert_eq!(
            created("a100-40gb", &["1g.5gb", "2g.10gb", "4g.20gb"]),
            pairs(&[(13, "6:1"), (5, "4:2"), (1, "0:4")])
        );
        assert_eq!(
            created("a100-40gb", &["3g.20gb", "3g.20gb"]),
            pairs(&[(2, "4:4"), (1, "0:4")])
        );
        assert_eq!(
            created("a100-40gb", &["3g.20gb", "2g.10gb", "1g.5gb"]),
            pairs(&[(2, "4:4"), (3, "0:2"), (9, "2:1")])
        );
        let all: Vec<u32> = created("h100-80gb", &["1g.10gb"; 7])
            .iter()
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(all, [13, 11, 12, 7, 8, 9, 10]);
        assert_eq!(created("h100-80gb", &["7g.80gb"]), pairs(&[(0, "0:8")]));
    }

    #[test]
    fn an_instance_with_all_media_engines_leaves_room_for_those_without() {
        let mut partition = empty("rtx-pro-6000");
        let profile = |name| partition.table.by_name(name).unwrap();
        let (all, none, usual) = (
            profile("1g.24gb+me.all"),
            profile("1g.24gb-me"),
            profile("1g.24gb"),
        );
        partition.add(all).unwrap();
        assert_eq!(partition.capacity(usual), 0);
        assert_eq!(partition.place(usual, None), Err(MigError::NoRoom));
        assert_eq!(partition.capacity(none), 3);
    }

    proptest! {
        #[test]
        fn whatever_is_created_and_destroyed_the_capacity_is_what_can_be_created(
            model in proptest::sample::select(MODELS.iter().filter(|m| m.mig.is_some()).collect::<Vec<_>>()),
            steps in proptest::collection::vec((any::<bool>(), any::<proptest::sample::Index>()), 1..40),
        ) {
            let mut partition = empty(model.key);
            for (creates, index) in steps {
                if creates {
                    let profile = index.get(partition.table.profiles);
                    let capacity = partition.capacity(profile);
                    let created = partition.add(profile);
                    prop_assert_eq!(created.is_ok(), capacity > 0);
                    if created.is_ok() {
                        prop_assert_eq!(partition.capacity(profile), capacity - 1);
                    }
                } else if !partition.gpu_instances.is_empty() {
                    let gone = index.index(partition.gpu_instances.len());
                    partition.gpu_instances.remove(gone);
                }
                for (position, one) in partition.gpu_instances.iter().enumerate() {
                    prop_assert!(partition.table.placements(one.profile).contains(&one.place));
                    for other in &partition.gpu_instances[position + 1..] {
                        prop_assert!(!one.place.overlaps(other.place));
                        prop_assert_ne!(one.id, other.id);
                    }
                }
                let slices: u32 = partition.gpu_instances.iter().map(|i| i.profile.kind.slices()).sum();
                let sms: u32 = partition.gpu_instances.iter().map(|i| i.profile.multiprocessors).sum();
                prop_assert!(slices <= partition.table.slices);
                prop_assert!(sms <= model.multiprocessors);
            }
            partition.gpu_instances.clear();
            for profile in partition.table.profiles {
                prop_assert_eq!(partition.capacity(profile), partition.table.count(profile));
            }
        }
    }
}
