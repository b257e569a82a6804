//! What GPUs measure, as the session tells it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking, in their helpers too"
)]
#![allow(
    unsafe_code,
    reason = "one test looks into the library beside the session"
)]

mod support;

use std::time::{Duration, Instant};

use mizzen_core::driver::{DriverError, GpuDriver};
use mizzen_core::gpu::GpuUuid;
use mizzen_core::metrics::{DEFAULT_FIELDS, Field, Fields, TextField};
use mizzen_core::sample::{GpuSample, MigSample, Missing, Number, ProcessSample, Readings, Wanted};
use mizzen_nvml::{NvmlDriver, NvmlLoader};
use mizzen_nvml_sim::Program;
use mizzen_nvml_sim::control::{
    EccKind, Fault, GpuRef, Gpus, InstanceLoad, LoadChange, ProcessLoad,
};
use nvml_wrapper_sys::bindings::NvmlLib;

use support::fixture::compile;
use support::node::{Node, on_node};

/// A deadline that calls on a busy test machine do not pass by accident.
const DEADLINE: Duration = Duration::from_secs(2);
/// Longer than two samples must lie apart.
const APART: Duration = Duration::from_millis(110);

/// A session, and the GPUs' UUIDs.
fn session() -> (NvmlDriver, Vec<GpuUuid>) {
    let loader = Node::loader().deadline(DEADLINE).build();
    let driver = loader.session().unwrap();
    let gpus = driver.snapshot().unwrap().gpus;
    (driver, gpus.into_iter().map(|gpu| gpu.uuid).collect())
}

fn fields(fields: &[Field]) -> Wanted {
    Wanted {
        fields: fields.iter().copied().collect(),
        processes: false,
    }
}

fn everything() -> Wanted {
    Wanted {
        fields: Fields::all(),
        processes: true,
    }
}

fn one(driver: &NvmlDriver, gpu: &GpuUuid, wanted: Wanted) -> GpuSample {
    let mut samples = driver.sample(std::slice::from_ref(gpu), wanted);
    samples.pop().unwrap().unwrap()
}

/// A sample that has another one before it, long enough ago.
fn second(driver: &NvmlDriver, gpu: &GpuUuid, wanted: Wanted) -> GpuSample {
    one(driver, gpu, wanted);
    pass(APART);
    one(driver, gpu, wanted)
}

/// Lets time go by: what grows with time has grown then.
fn pass(time: Duration) {
    let before = Instant::now();
    while before.elapsed() < time {
        std::thread::yield_now();
    }
}

fn load(node: &Node, change: &LoadChange) {
    node.simulator.load(&Gpus::All, change).unwrap();
}

fn busy(percent: f64) -> LoadChange {
    LoadChange {
        utilization: Some(Program::Constant(percent)),
        ..LoadChange::default()
    }
}

fn real(readings: &Readings, field: Field) -> f64 {
    match readings.get(field) {
        Some(Ok(Number::Real(value))) => *value,
        other => panic!("{field}: {other:?}"),
    }
}

fn whole(readings: &Readings, field: Field) -> u64 {
    match readings.get(field) {
        Some(Ok(Number::Whole(value))) => *value,
        other => panic!("{field}: {other:?}"),
    }
}

/// The fields that have no number, with the reason.
fn missing(readings: &Readings) -> Vec<(Field, &'static str)> {
    let missing = readings.iter().filter_map(|(field, answer)| match answer {
        Ok(_) => None,
        Err(missing) => Some((field, missing.as_str())),
    });
    missing.collect()
}

#[test]
fn a_hopper_gpu_tells_every_default_field_from_the_second_sample_on() {
    on_node("gpus: [{model: h100-80gb, count: 2}]", |node| {
        let (driver, gpus) = session();
        load(node, &busy(80.0));
        let wanted = fields(&DEFAULT_FIELDS);
        let first = one(&driver, &gpus[1], wanted);
        let told: Vec<Field> = first.readings.iter().map(|(field, _)| field).collect();
        let asked = DEFAULT_FIELDS
            .iter()
            .filter(|field| **field != Field::XidErrors);
        assert!(asked.eq(&told), "each field once, and no Xid: {told:?}");
        let waiting = missing(&first.readings);
        assert_eq!(waiting.len(), 6, "{waiting:?}");
        assert!(waiting.iter().all(|(_, reason)| *reason == "first-sample"));

        pass(APART);
        let sample = one(&driver, &gpus[1], wanted);
        assert_eq!(missing(&sample.readings), []);
        let readings = &sample.readings;
        assert_eq!(whole(readings, Field::SmClock), 1980);
        assert_eq!(whole(readings, Field::GpuUtil), 80);
        assert!((real(readings, Field::PowerUsage) - 551.6).abs() < 10.0);
        assert!((real(readings, Field::GrEngineActive) - 0.8).abs() < 0.001);
        assert!((real(readings, Field::DramActive) - 0.48).abs() < 0.001);
        let sent = whole(readings, Field::PcieTxBytes);
        assert!((95_900_000..96_100_000).contains(&sent), "{sent}");
        // Eighteen links at four tenths of 26,562 MB/s, both ways, in DCGM's unit.
        let expected = 18.0 * 0.4 * 0.8 * 26_562.0 * 2.0 * 1000.0 / 1024.0;
        let told = whole(readings, Field::NvlinkBandwidthTotal);
        let share = f64::from(u32::try_from(told).unwrap()) / expected;
        assert!((0.9..1.1).contains(&share), "{told} of {expected}");
        assert_eq!(whole(readings, Field::VgpuLicenseStatus), 0);
        assert_eq!(whole(readings, Field::FbReserved), 551);
        assert!(sample.mig.is_empty() && sample.processes.is_empty());
    });
}

#[test]
fn what_a_gpu_does_not_have_is_said_with_its_reason() {
    let models = "gpus: [{model: a100-80gb}, {model: t4}, {model: l4}]";
    on_node(models, |_| {
        let (driver, _) = session();
        let gpus = driver.snapshot().unwrap().gpus;
        let of = |name: &str| {
            let gpu = gpus.iter().find(|gpu| gpu.name.contains(name)).unwrap();
            let sample = second(&driver, &gpu.uuid, fields(&DEFAULT_FIELDS));
            let missing = missing(&sample.readings);
            let (profiled, others): (Vec<_>, Vec<_>) = missing
                .into_iter()
                .partition(|(field, _)| field.is_profiled());
            assert_eq!(profiled.len(), 5, "{name}");
            let dcgm = |(_, reason): &(Field, &str)| *reason == "needs-dcgm";
            assert!(profiled.iter().all(dcgm), "{name}: {profiled:?}");
            assert!(others.iter().all(|(_, reason)| *reason == "not-supported"));
            others
                .into_iter()
                .map(|(field, _)| field)
                .collect::<Vec<_>>()
        };
        assert_eq!(of("A100"), []);
        let rows = [
            Field::UncorrectableRemappedRows,
            Field::CorrectableRemappedRows,
            Field::RowRemapFailure,
        ];
        let without = [Field::MemoryTemp, Field::NvlinkBandwidthTotal];
        assert_eq!(of("T4"), [&without[..], &rows].concat());
        assert_eq!(of("L4"), without);
    });
}

#[test]
fn every_field_has_an_answer_and_errors_are_counted() {
    on_node("gpus: [{model: h100-80gb}, {model: t4}]", |node| {
        let (driver, gpus) = session();
        let ecc = Fault::Ecc {
            kind: EccKind::Single,
            count: 1,
        };
        node.inject(0, &ecc);
        for gpu in &gpus {
            let sample = second(&driver, gpu, everything());
            assert_eq!(sample.readings.iter().count(), Field::ALL.len() - 1);
            for (field, reason) in missing(&sample.readings) {
                assert!(
                    ["not-supported", "needs-dcgm"].contains(&reason),
                    "{field} {reason}"
                );
            }
        }
        let readings = one(&driver, &gpus[0], everything()).readings;
        assert_eq!(whole(&readings, Field::EccSbeVolTotal), 1);
        assert_eq!(whole(&readings, Field::EccSbeAggTotal), 1);
        assert_eq!(whole(&readings, Field::EccDbeVolTotal), 0);
        assert_eq!(whole(&readings, Field::PcieMaxLinkGen), 5);
        assert_eq!(whole(&readings, Field::ClockThrottleReasons), 1);
        let used = real(&readings, Field::FbUsedPercent);
        assert!((0.0..=1.0).contains(&used));
    });
}

#[test]
fn profiling_follows_the_load_and_holds_between_samples_that_are_too_near() {
    on_node("gpus: [{model: h100-80gb}]", |node| {
        let (driver, gpus) = session();
        let wanted = fields(&[Field::GrEngineActive, Field::SmActive]);
        let active = |sample: &GpuSample| real(&sample.readings, Field::GrEngineActive);
        load(node, &busy(20.0));
        let told = second(&driver, &gpus[0], wanted);
        assert!((active(&told) - 0.2).abs() < 0.05, "{told:?}");
        load(node, &busy(90.0));
        let again = one(&driver, &gpus[0], wanted);
        assert_eq!(
            active(&again).to_bits(),
            active(&told).to_bits(),
            "too near"
        );
        pass(APART);
        let told = one(&driver, &gpus[0], wanted);
        assert!((active(&told) - 0.9).abs() < 0.05, "{told:?}");
    });
}

#[test]
fn a_gpu_that_hangs_or_is_lost_costs_the_others_nothing() {
    on_node("gpus: [{model: h100-80gb, count: 4}]", |node| {
        let (driver, gpus) = session();
        assert!(driver.sample(&gpus, everything()).iter().all(Result::is_ok));
        node.inject(1, &Fault::Hang);
        node.inject(2, &Fault::Lost);
        let before = Instant::now();
        let samples = driver.sample(&gpus, everything());
        assert!(before.elapsed() < DEADLINE * 2, "{:?}", before.elapsed());
        assert!(samples[0].is_ok() && samples[3].is_ok());
        assert_eq!(samples[1], Err(DriverError::Hung { after: DEADLINE }));
        assert_eq!(samples[2], Err(DriverError::GpuLost));
        let before = Instant::now();
        let samples = driver.sample(&gpus, everything());
        assert!(before.elapsed() < DEADLINE / 2, "{:?}", before.elapsed());
        assert_eq!(samples[1], Err(DriverError::Hung { after: DEADLINE }));
        node.heal();
        let healed = Instant::now();
        while !driver.sample(&gpus, everything()).iter().all(Result::is_ok) {
            assert!(healed.elapsed() < DEADLINE * 5, "it stays away");
        }
    });
}

const HALVES: &str = "gpus: [{model: h100-80gb, mig: {instances: [3g.40gb, 3g.40gb]}}]";

#[test]
fn a_partitioned_gpu_tells_what_its_parts_do_and_what_is_told_of_the_whole() {
    on_node(HALVES, |node| {
        let (driver, gpus) = session();
        let process = |pid, gpu_instance| ProcessLoad {
            pid,
            memory_mib: 1024 * u64::from(pid),
            utilization: 30,
            instance: Some((gpu_instance, 0)),
            ..ProcessLoad::default()
        };
        let change = LoadChange {
            instances: vec![InstanceLoad {
                gpu_instance: 2,
                utilization: Program::Constant(60.0),
            }],
            processes: vec![process(5, 1), process(6, 2)],
            ..LoadChange::default()
        };
        load(node, &change);
        let sample = second(&driver, &gpus[0], everything());
        let whole_gpu = &sample.readings;
        let refused = whole_gpu.get(Field::GpuUtil);
        assert_eq!(refused, Some(&Err(Missing::NotForMig)));
        assert_eq!(whole(whole_gpu, Field::FbUsed), 11 * 1024);
        assert!((real(whole_gpu, Field::GrEngineActive) - 0.9 * 3.0 / 7.0).abs() < 0.01);

        let instances: Vec<_> = sample
            .mig
            .iter()
            .map(|part| (part.gpu_instance, part.compute_instance))
            .collect();
        assert_eq!(instances, [(1, 0), (2, 0)]);
        let active = |part: &MigSample| real(&part.readings, Field::GrEngineActive);
        assert!((active(&sample.mig[0]) - 0.3).abs() < 0.01);
        assert!((active(&sample.mig[1]) - 0.6).abs() < 0.01);
        for (part, used) in sample.mig.iter().zip([5, 6]) {
            assert_eq!(whole(&part.readings, Field::FbUsed), used * 1024);
            assert_eq!(part.readings.iter().count(), Field::ALL.len() - 1);
            for (field, reason) in missing(&part.readings) {
                assert_eq!(reason, "not-for-mig", "{field}");
            }
            let bus = part.readings.get(Field::PcieTxBytes);
            assert_eq!(bus, Some(&Err(Missing::NotForMig)));
        }
        let on = |pid, instance, mib: u64| ProcessSample {
            pid,
            instance: Some((instance, 0)),
            memory: Some(mib << 20),
            sm_util: None,
            mem_util: None,
        };
        assert_eq!(sample.processes, [on(5, 1, 5120), on(6, 2, 6144)]);
    });
}

#[test]
fn what_was_refused_is_asked_again_when_the_gpu_was_partitioned_anew() {
    on_node(HALVES, |node| {
        let (driver, gpus) = session();
        let wanted = fields(&[Field::GpuUtil, Field::SmActive, Field::FbUsed]);
        assert_eq!(second(&driver, &gpus[0], wanted).mig.len(), 2);
        // Somebody else does it, and nobody tells the session.
        let gpu = Gpus::from(GpuRef::Index(0));
        node.simulator.destroy_gpu_instances(&gpu, None).unwrap();
        node.simulator.set_mig_mode(&gpu, false).unwrap();
        let done = Instant::now();
        let told = loop {
            let sample = one(&driver, &gpus[0], wanted);
            if sample.mig.is_empty() && sample.readings.get(Field::GpuUtil).unwrap().is_ok() {
                break sample;
            }
            assert!(done.elapsed() < DEADLINE * 5, "{sample:?}");
            pass(Duration::from_millis(50));
        };
        assert_eq!(whole(&told.readings, Field::GpuUtil), 0);
    });
}

#[test]
fn processes_are_told_with_what_each_of_them_uses() {
    on_node("gpus: [{model: h100-80gb}]", |node| {
        let (driver, gpus) = session();
        let process = |pid: u32| ProcessLoad {
            pid,
            memory_mib: u64::from(pid),
            utilization: if pid.is_multiple_of(2) { 40 } else { 0 },
            graphics: pid == 48,
            ..ProcessLoad::default()
        };
        let change = LoadChange {
            processes: (1..=48).map(process).collect(),
            ..LoadChange::default()
        };
        load(node, &change);
        let wanted = Wanted {
            fields: Fields::default(),
            processes: true,
        };
        let sample = one(&driver, &gpus[0], wanted);
        assert_eq!(sample.readings.iter().count(), 0);
        let expected = |pid: u32| ProcessSample {
            pid,
            instance: None,
            memory: Some(u64::from(pid) << 20),
            sm_util: Some(if pid.is_multiple_of(2) { 40 } else { 0 }),
            mem_util: Some(if pid.is_multiple_of(2) { 20 } else { 0 }),
        };
        assert!(sample.processes.iter().copied().eq((1..=48).map(expected)));
        let end = LoadChange {
            end_all_processes: true,
            ..LoadChange::default()
        };
        load(node, &end);
        assert_eq!(one(&driver, &gpus[0], wanted).processes, []);
    });
}

#[test]
fn the_words_of_a_gpu_are_told_as_far_as_it_has_them() {
    on_node("gpus: [{model: h100-80gb, count: 2}]", |node| {
        let (driver, gpus) = session();
        let texts = driver.texts(&gpus);
        let told = texts[1].as_ref().unwrap();
        let text = |field| {
            let found = told.iter().find(|(told, _)| *told == field);
            found.map(|(_, text)| text.as_str())
        };
        assert_eq!(text(TextField::DriverVersion), Some("580.95.05"));
        assert_eq!(text(TextField::Brand), Some("NVIDIA"));
        let plan = node.simulator.node().unwrap();
        assert_eq!(text(TextField::Serial), Some(plan.gpus[1].serial.as_str()));
        assert_eq!(text(TextField::EccInforomVersion), Some("7.16"));
        assert_eq!(text(TextField::PowerInforomVersion), None);
        node.inject(0, &Fault::Lost);
        assert_eq!(driver.texts(&gpus)[0], Err(DriverError::GpuLost));
    });
}

/// How many GPM samples of the library are allocated: it numbers them, and gives the lowest free
/// number away first.
fn allocated(nvml: &NvmlLib) -> usize {
    const MORE: usize = 32;
    let more: Vec<_> = (0..MORE)
        .map(|_| {
            let mut sample = std::ptr::null_mut();
            // SAFETY: The pointer is valid.
            assert_eq!(unsafe { nvml.nvmlGpmSampleAlloc(&raw mut sample) }, 0);
            sample
        })
        .collect();
    for sample in &more {
        // SAFETY: The handle is the library's own.
        assert_eq!(unsafe { nvml.nvmlGpmSampleFree(*sample) }, 0);
    }
    let highest = more.iter().map(|sample| sample.addr() & 0xffff).max();
    highest.unwrap() + 1 - MORE
}

#[test]
fn no_gpm_sample_is_left_behind() {
    let partitioned = "gpus: [{model: h100-80gb, mig: {instances: [3g.40gb, 3g.40gb]}}, \
        {model: h100-80gb, count: 3}]";
    on_node(partitioned, |node| {
        // SAFETY: The library's initialisers do nothing; it is initialised before it is asked.
        let nvml = unsafe { NvmlLib::new(Node::library()).unwrap() };
        // SAFETY: The function takes nothing.
        assert_eq!(unsafe { nvml.nvmlInit_v2() }, 0);
        let (driver, gpus) = session();
        for _ in 0..3 {
            driver.sample(&gpus, everything());
            pass(APART);
        }
        // Two for each GPU and for each instance.
        assert_eq!(allocated(&nvml), 2 * 6);
        node.inject(1, &Fault::Lost);
        driver.sample(&gpus, everything());
        assert_eq!(
            allocated(&nvml),
            2 * 5,
            "those of the lost GPU are given back"
        );
        let gpu = Gpus::from(GpuRef::Index(0));
        node.simulator.destroy_gpu_instances(&gpu, None).unwrap();
        driver.partitions(&gpus);
        driver.sample(&gpus, everything());
        assert_eq!(allocated(&nvml), 1 + 2 * 2, "the first GPU begins anew");
        drop(driver);
        assert_eq!(allocated(&nvml), 0);
    });
}

#[test]
fn an_old_driver_has_only_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let library = compile("old_driver.rs", directory.path(), &[]);
    let loader = NvmlLoader::builder().library(&library).build();
    let driver = loader.session().unwrap();
    let gpus = driver.snapshot().unwrap().gpus;
    for _ in 0..2 {
        let sample = one(&driver, &gpus[0].uuid, everything());
        assert_eq!(whole(&sample.readings, Field::FbTotal), 5760);
        for (field, reason) in missing(&sample.readings) {
            assert_eq!(reason, "not-supported", "{field}");
        }
        assert!(sample.mig.is_empty() && sample.processes.is_empty());
    }
}

#[test]
fn what_a_gpu_does_not_have_is_not_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    let library = compile("old_driver.rs", directory.path(), &[]);
    let loader = NvmlLoader::builder().library(&library).build();
    let driver = loader.session().unwrap();
    let gpus = driver.snapshot().unwrap().gpus;
    let fan = |gpu: usize| {
        let sample = one(&driver, &gpus[gpu].uuid, fields(&[Field::FanSpeed]));
        sample.readings.get(Field::FanSpeed).cloned().unwrap()
    };
    assert_eq!(fan(0), Err(Missing::NotSupported));
    assert_eq!(fan(0), Err(Missing::NotSupported), "it would answer now");
    assert_eq!(fan(1), Ok(Number::Whole(30)), "another GPU has it");
}
