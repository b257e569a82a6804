//! Drivers unlike the simulated one: too old, broken, sick.

mod support;

use std::time::{Duration, Instant};

use mizzen_core::driver::{DriverError, DriverEvent, DriverEventKind, DriverLoader, Questions};
use mizzen_core::topology::Link;
use mizzen_nvml::NvmlLoader;

use support::fixture::compile;

#[test]
fn an_old_driver_is_used_as_far_as_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let library = compile("old_driver.rs", directory.path(), &[]);
    let loader = NvmlLoader::builder().library(&library).build();
    let driver = loader.open().unwrap();

    let inventory = driver.snapshot().unwrap();
    assert_eq!(inventory.driver.driver, "319.37");
    assert_eq!(inventory.driver.nvml, "5.319.37");
    assert_eq!(inventory.driver.cuda, (5, 5));
    assert!(inventory.broken.is_empty(), "{:?}", inventory.broken);
    let gpus = &inventory.gpus;
    assert_eq!(gpus.len(), 2);
    assert_eq!(gpus[1].index, 1);
    assert_eq!(gpus[1].minor, 1);
    assert_eq!(gpus[1].pci.to_string(), "0000:03:00.0");
    assert_eq!(gpus[1].name, "Tesla K20Xm");
    assert_eq!(gpus[1].memory_mib, 5760);
    assert_eq!(gpus[1].compute_capability, (3, 5));
    assert_eq!(inventory.links.get(0, 1), Link::UNKNOWN);

    let condition = driver.check(&gpus[0].uuid, Questions::default()).unwrap();
    assert_eq!(condition.recovery_action, None);
    assert_eq!(condition.double_bit_ecc, None);

    let all: Vec<_> = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    let refused = driver.watch_events(&all).unwrap();
    assert_eq!(refused, [(all[1].clone(), DriverError::NotSupported)]);
    let event = driver.next_event(Duration::from_secs(1)).unwrap();
    let expected = DriverEvent {
        gpu: Some(all[0].clone()),
        kind: DriverEventKind::Xid(48),
        gpu_instance: None,
        compute_instance: None,
    };
    assert_eq!(event, Some(expected));
    assert_eq!(driver.next_event(Duration::ZERO), Ok(None));
}

#[test]
fn a_library_without_the_functions_that_matter_is_named_unusable() {
    let directory = tempfile::tempdir().unwrap();
    let library = compile("no_nvml.rs", directory.path(), &[]);
    let loader = NvmlLoader::builder().library(&library).build();
    let Err(DriverError::LibraryUnusable { path, reason }) = loader.open().map(|_| ()) else {
        panic!("it was used");
    };
    assert_eq!(path, library.display().to_string());
    assert_eq!(reason, "it has no function nvmlInit_v2");
}

#[test]
fn a_broken_file_is_named_with_the_linkers_words_and_a_good_one_behind_it_is_used() {
    let root = tempfile::tempdir().unwrap();
    let first = root.path().join("usr/lib64");
    std::fs::create_dir_all(&first).unwrap();
    std::fs::write(first.join("libnvidia-ml.so.1"), "").unwrap();
    let loader = NvmlLoader::builder().driver_root(root.path()).build();
    let Err(DriverError::LibraryUnusable { path, reason }) = loader.open().map(|_| ()) else {
        panic!("an empty file was used");
    };
    assert!(path.ends_with("usr/lib64/libnvidia-ml.so.1"), "{path}");
    assert!(reason.contains("too short"), "{reason}");

    let second = root.path().join("home/kubernetes/bin/nvidia/lib64");
    std::fs::create_dir_all(&second).unwrap();
    compile("old_driver.rs", &second, &[]);
    assert_eq!(loader.open().unwrap().snapshot().unwrap().gpus.len(), 2);
}

#[test]
fn no_library_anywhere_is_an_error_that_lists_the_places() {
    let root = tempfile::tempdir().unwrap();
    let loader = NvmlLoader::builder().driver_root(root.path()).build();
    let Err(error @ DriverError::LibraryNotFound { .. }) = loader.open().map(|_| ()) else {
        panic!("something was found");
    };
    let place = root.path().join("usr/lib64/libnvidia-ml.so.1");
    assert!(error.to_string().contains(&place.display().to_string()));

    let missing = root.path().join("libnvidia-ml.so.550");
    let loader = NvmlLoader::builder().library(&missing).build();
    let searched = vec![missing.display().to_string()];
    assert_eq!(
        loader.open().map(|_| ()),
        Err(DriverError::LibraryNotFound { searched })
    );
}

#[test]
fn a_machine_without_the_library_is_no_machine_with_a_broken_one() {
    let loader = NvmlLoader::builder().build();
    let Err(DriverError::LibraryNotFound { searched }) = loader.open().map(|_| ()) else {
        // This machine has a driver, well or sick; then the library was found.
        let everywhere = "/usr/lib64:/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu:/usr/lib";
        let there = |place: &str| {
            std::path::Path::new(place)
                .join("libnvidia-ml.so.1")
                .exists()
        };
        assert!(everywhere.split(':').any(there), "what was found, then?");
        return;
    };
    assert!(searched.contains(&"/usr/lib64/libnvidia-ml.so.1".to_owned()));
    assert!(searched.contains(&"/etc/ld.so.cache".to_owned()));
    assert!(
        searched
            .iter()
            .any(|place| place.ends_with("by the dynamic linker"))
    );
}

#[test]
fn a_start_that_fails_says_why() {
    let cases = [
        ("9", DriverError::NotRunning("in NVML's words".to_owned())),
        ("18", DriverError::NotRunning("in NVML's words".to_owned())),
        ("4", DriverError::NoPermission),
        (
            "999",
            DriverError::Nvml {
                call: "nvmlInit_v2",
                code: 999,
                message: "in NVML's words".to_owned(),
            },
        ),
    ];
    for (code, expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        let library = compile("sick_driver.rs", directory.path(), &[("SICK_DRIVER", code)]);
        let loader = NvmlLoader::builder().library(library).build();
        assert_eq!(loader.open().map(|_| ()), Err(expected), "code {code}");
        assert_eq!(loader.stuck_calls(), 0);
    }
}

#[test]
fn a_start_that_hangs_costs_its_deadline_once_and_one_thread() {
    let directory = tempfile::tempdir().unwrap();
    let library = compile(
        "sick_driver.rs",
        directory.path(),
        &[("SICK_DRIVER", "hang")],
    );
    let deadline = Duration::from_millis(200);
    let loader = NvmlLoader::builder()
        .library(library)
        .init_deadline(deadline)
        .build();
    let hung = Err(DriverError::Hung { after: deadline });
    assert_eq!(loader.open().map(|_| ()), hung);
    let before = Instant::now();
    for _ in 0..100 {
        assert_eq!(loader.open().map(|_| ()), hung);
    }
    assert!(before.elapsed() < deadline * 10, "{:?}", before.elapsed());
    assert_eq!(loader.stuck_calls(), 1);
}
