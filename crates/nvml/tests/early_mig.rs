//! MIG with a driver of its first branch, and with one that tells little of it.
#![allow(
    clippy::unwrap_used,
    reason = "tests fail by panicking, in their helpers too"
)]

mod support;

use mizzen_core::driver::{DriverError, GpuDriver};
use mizzen_core::gpu::Gpu;
use mizzen_core::mig::{MigStep, Placement};
use mizzen_nvml::{NvmlDriver, NvmlLoader};

use support::fixture::compile;

/// A session with the driver of these words, and its GPU. The directory lasts as long.
fn early(words: &[(&str, &str)]) -> (tempfile::TempDir, NvmlDriver, Gpu) {
    let directory = tempfile::tempdir().unwrap();
    let library = compile("early_mig_driver.rs", directory.path(), words);
    let loader = NvmlLoader::builder().library(library).build();
    let driver = loader.session().unwrap();
    let mut gpus = driver.snapshot().unwrap().gpus;
    let gpu = gpus.pop().unwrap();
    (directory, driver, gpu)
}

fn plain() -> MigStep {
    MigStep::CreateGpuInstance {
        profile: "1g.5gb".parse().unwrap(),
        placement: Placement { start: 0, size: 1 },
        slices: vec![1],
    }
}

#[test]
fn the_first_versions_of_the_functions_tell_as_much() {
    let (_directory, driver, gpu) = early(&[]);
    assert_eq!(gpu.device_id, 0x20b0_10de);
    let mig = gpu.mig.clone().unwrap();
    let [device] = &mig.devices[..] else {
        panic!("one MIG device, not {:?}", mig.devices);
    };
    assert_eq!(device.index, 2);
    assert_eq!(device.uuid.to_string(), format!("MIG-{}/7/0", gpu.uuid));
    assert_eq!((device.gpu_instance, device.compute_instance), (7, 0));
    assert_eq!(device.profile.to_string(), "1g.5gb+me");
    assert_eq!((device.memory_mib, device.multiprocessors), (4864, 14));
    assert_eq!(device.placement, Some(Placement { start: 6, size: 1 }));
    let answers = driver.partitions(std::slice::from_ref(&gpu.uuid));
    assert_eq!(answers, [Ok(Some(mig))]);

    let (table, layout) = driver.mig_layout(&gpu.uuid).unwrap();
    let names = table.profiles.iter().map(|info| info.profile.to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["1g.5gb", "1g.5gb+me"]);
    let starts = table.profiles[0].placements.iter().map(|place| place.start);
    assert_eq!(starts.collect::<Vec<_>>(), [0, 6]);
    // Without placements the compute instances are one beside the other.
    let compute = layout.instances[0].compute.iter();
    let placed = compute.map(|one| (one.id, one.placement.to_string()));
    let expected = [(0, "0:1".to_owned()), (1, "1:1".to_owned())];
    assert_eq!(placed.collect::<Vec<_>>(), expected);

    assert_eq!(driver.change_mig(&gpu.uuid, &plain()), Ok(()));
    let missing = driver.change_mig(&gpu.uuid, &MigStep::SetMode(false));
    assert_eq!(missing, Err(DriverError::NotSupported));
}

#[test]
fn where_instances_may_not_be_asked_the_devices_are_named_all_the_same() {
    let (_directory, driver, gpu) = early(&[("INSTANCES", "hidden")]);
    assert_eq!(gpu.memory_mib, 0);
    let device = &gpu.mig.as_ref().unwrap().devices[0];
    assert_eq!(device.profile.to_string(), "1g.5gb+me");
    assert_eq!(device.memory_mib, 4864);
    assert_eq!(device.placement, None);
    // But nobody takes the GPU for an empty one.
    let refused = Err(DriverError::NoPermission);
    assert_eq!(driver.mig_layout(&gpu.uuid).map(|_| ()), refused);
    assert_eq!(driver.change_mig(&gpu.uuid, &plain()), refused);
}

#[test]
fn a_gpu_whose_partitions_cannot_be_read_is_a_gpu_all_the_same() {
    let (_directory, driver, gpu) = early(&[("MIG", "broken")]);
    let mig = gpu.mig.unwrap();
    assert!(mig.mode.current && mig.devices.is_empty());
    let answers = driver.partitions(std::slice::from_ref(&gpu.uuid));
    let [Err(DriverError::Nvml { code: 999, .. })] = &answers[..] else {
        panic!("{answers:?}");
    };
}
