use std::sync::Mutex;
use std::time::Duration;

use mizzen_core::driver::{DriverError, DriverEvent, GpuCondition, Questions};
use mizzen_core::gpu::{Gpu, GpuUuid};
use mizzen_core::inventory::Inventory;
use mizzen_core::mig::{
    ComputeInstance, Engines, GpuInstance, Layout, MigTable, Placement, ProfileInfo,
};

use super::*;

/// A driver of one GPU, which tells no profile before MIG is on, and refuses one step.
#[derive(Default)]
struct Driver {
    layout: Mutex<Layout>,
    refused: Option<MigStep>,
}

impl GpuDriver for Driver {
    fn snapshot(&self) -> Result<Inventory, DriverError> {
        Err(DriverError::NotSupported)
    }

    fn check(&self, _: &GpuUuid, _: Questions) -> Result<GpuCondition, DriverError> {
        Err(DriverError::NotSupported)
    }

    fn watch_events(&self, _: &[GpuUuid]) -> Result<Vec<(GpuUuid, DriverError)>, DriverError> {
        Err(DriverError::NotSupported)
    }

    fn next_event(&self, _: Duration) -> Result<Option<DriverEvent>, DriverError> {
        Err(DriverError::NotSupported)
    }

    fn mig_layout(&self, _: &GpuUuid) -> Result<(MigTable, Layout), DriverError> {
        let layout = self.layout.lock().unwrap().clone();
        let table = if layout.mode.current {
            table()
        } else {
            MigTable::default()
        };
        Ok((table, layout))
    }

    fn change_mig(&self, _: &GpuUuid, step: &MigStep) -> Result<(), DriverError> {
        if self.refused.as_ref() == Some(step) {
            return Err(DriverError::InUse);
        }
        let mut layout = self.layout.lock().unwrap();
        match step {
            MigStep::SetMode(on) => {
                layout.mode.current = *on;
                layout.mode.pending = *on;
            }
            MigStep::DestroyComputeInstance { gpu_instance, .. } => {
                let mut instances = layout.instances.iter_mut();
                let found = instances.find(|instance| instance.id == *gpu_instance);
                found.unwrap().compute.clear();
            }
            MigStep::DestroyGpuInstance { id } => {
                layout.instances.retain(|instance| instance.id != *id);
            }
            MigStep::CreateGpuInstance {
                profile, placement, ..
            } => layout.instances.push(instance(*placement, *profile)),
            MigStep::CreateComputeInstances { .. } => return Err(DriverError::NotSupported),
        }
        Ok(())
    }
}

fn instance(placement: Placement, profile: mizzen_core::mig::MigProfile) -> GpuInstance {
    GpuInstance {
        id: 7 + placement.start,
        profile,
        placement,
        compute: vec![ComputeInstance {
            id: 0,
            slices: profile.gpu_slices,
            placement: Placement {
                start: 0,
                size: profile.gpu_slices,
            },
        }],
    }
}

fn table() -> MigTable {
    let profile = |name: &str, size: u32, starts: &[u32]| ProfileInfo {
        profile: name.parse().unwrap(),
        number: size,
        id: size,
        memory_mib: u64::from(size) * 6_000,
        multiprocessors: 14 * size,
        engines: Engines::default(),
        most: u32::try_from(starts.len()).unwrap(),
        placements: starts
            .iter()
            .map(|&start| Placement { start, size })
            .collect(),
    };
    MigTable {
        profiles: vec![
            profile("1g.6gb", 1, &[0, 1, 2, 3]),
            profile("2g.12gb", 2, &[0, 2]),
            profile("4g.24gb", 4, &[0]),
        ],
    }
}

fn card() -> Card {
    Card {
        gpu: Gpu {
            index: 0,
            minor: 0,
            uuid: GpuUuid::placeholder(0, None),
            pci: "0000:3b:00.0".parse().unwrap(),
            name: "Test GPU".to_owned(),
            memory_mib: 24_576,
            compute_capability: (9, 0),
            numa_node: None,
            device_id: 0,
            mig: None,
        },
        mig: Ok((MigTable::default(), Layout::default())),
    }
}

/// What comes of a change, the steps that were taken, and how the GPU is cut then.
fn changed(driver: &Driver, target: &str) -> (Result<Outcome, String>, usize, Vec<String>) {
    let card = card();
    let mut work = Work {
        driver,
        card: &card,
        holders: &Holders::default(),
        terminal: None,
        done: Vec::new(),
    };
    let outcome = work.rounds(&target.parse().unwrap()).unwrap();
    let layout = driver.layout.lock().unwrap().clone();
    let instances = layout.instances.iter();
    let names = instances.map(|instance| format!("{} {}", instance.profile, instance.placement));
    (outcome, work.done.len(), names.collect())
}

#[test]
fn a_driver_that_tells_profiles_only_with_mig_on_is_asked_again_then() {
    let driver = Driver::default();
    let (outcome, steps, instances) = changed(&driver, "2g.12gb,1g.6gb");
    assert_eq!(outcome, Ok(Outcome::Changed));
    assert_eq!(steps, 3);
    assert_eq!(instances.len(), 2);
    // What does not fit is found then, too.
    let (outcome, _, _) = changed(&driver, "1g.6gb*5");
    assert!(outcome.unwrap_err().contains("at most 4"));
}

#[test]
fn the_first_step_that_is_refused_ends_it_and_says_what_could_not_be_done() {
    let place = Placement { start: 0, size: 4 };
    let mut driver = Driver::default();
    {
        let mut layout = driver.layout.lock().unwrap();
        layout.mode.current = true;
        layout.mode.pending = true;
        layout.instances = vec![instance(place, "4g.24gb".parse().unwrap())];
    }
    driver.refused = Some(MigStep::DestroyGpuInstance { id: 7 });
    let (outcome, steps, instances) = changed(&driver, "1g.6gb");
    let reason = outcome.unwrap_err();
    assert!(
        reason.starts_with("cannot destroy GPU instance 7 (4g.24gb at 0:4): it is in use"),
        "{reason}"
    );
    assert_eq!(steps, 1);
    assert_eq!(instances, ["4g.24gb 0:4"]);
}
