//! What a page of metrics costs, from plain data to text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mizzen_core::config::file;
use mizzen_core::gpu::{Gpu, PciBusId};
use mizzen_core::health::Moment;
use mizzen_core::inventory::Inventory;
use mizzen_core::metrics::{
    AgentFacts, Container, Field, History, Holders, PageInput, PageOptions, TextField, render_into,
};
use mizzen_core::mig::{Capabilities, Engines, GpuMig, MigDevice, MigMode};
use mizzen_core::sample::{GpuSample, MigSample, Missing, Number, ProcessSample, Readings};
use mizzen_core::state::{Discovery, Event, NodeState};

use super::samples::Samples;

const NOW: Moment = Moment {
    monotonic: Duration::from_secs(1000),
    wall: 1_700_000_000,
};

/// The node that a page is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) gpus: u32,
    /// MIG devices of each GPU.
    pub(super) instances: u32,
    /// Processes on each GPU, each in a pod of its own.
    pub(super) processes: u32,
}

/// What was measured.
pub(super) struct Cost {
    pub(super) times: Samples,
    /// The page's length.
    pub(super) bytes: usize,
    pub(super) series: usize,
}

/// Makes the page of such a node again and again.
pub(super) fn run(size: Size, runs: usize) -> Result<Cost> {
    let gpus: Result<Vec<Gpu>> = (0..size.gpus).map(|index| gpu(index, size)).collect();
    let gpus = gpus?;
    let settings = "flags: {migStrategy: mixed}";
    let config = file::parse(settings).validate();
    let config = config.ok().context("the config of the benchmark")?;
    let mut state = NodeState::new(Arc::new(config), Vec::new(), NOW);
    let mut history = History::new(Duration::ZERO);
    let mut holders = Holders::default();
    let mut texts = BTreeMap::new();
    for gpu in &gpus {
        history.take(&gpu.uuid, Ok(sample(gpu, size)), NOW);
        hold(&mut holders, gpu, size);
        let driver = (TextField::DriverVersion, "580.65.06".to_owned());
        texts.insert(gpu.uuid.clone(), vec![driver]);
    }
    let inventory = Inventory {
        gpus,
        ..Inventory::default()
    };
    let discovery = Discovery {
        inventory,
        ..Discovery::default()
    };
    state.apply(Event::Discovered(Box::new(discovery)), NOW);
    let options = PageOptions {
        hostname: Some("a-node-with-a-name.example.com".to_owned()),
        ..PageOptions::default()
    };
    let input = PageInput {
        options: &options,
        state: &state,
        history: &history,
        texts: &texts,
        holders: &holders,
        facts: &AgentFacts::default(),
        now: NOW,
    };
    Ok(measure(&input, runs))
}

fn measure(input: &PageInput<'_>, runs: usize) -> Cost {
    let mut page = String::new();
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        render_into(input, &mut page);
        times.push(start.elapsed());
    }
    Cost {
        times: Samples::new(times),
        bytes: page.len(),
        series: page.lines().filter(|line| !line.starts_with('#')).count(),
    }
}

fn gpu(index: u32, size: Size) -> Result<Gpu> {
    let device = |at: u32| -> Result<MigDevice> {
        let uuid = format!("MIG-4d697a7a-656e-5000-8000-{index:06x}{at:06x}");
        Ok(MigDevice {
            index: at,
            uuid: uuid.parse()?,
            gpu_instance: 7 + at,
            compute_instance: 0,
            profile: "1g.10gb".parse()?,
            memory_mib: 9856,
            multiprocessors: 16,
            engines: Engines::default(),
            placement: None,
            capabilities: Capabilities::default(),
        })
    };
    let devices: Result<Vec<MigDevice>> = (0..size.instances).map(device).collect();
    let is_cut = size.instances > 0;
    let uuid = format!("GPU-4d697a7a-656e-4000-8000-{index:012x}");
    Ok(Gpu {
        index,
        minor: index,
        uuid: uuid.parse()?,
        pci: PciBusId {
            domain: 0,
            bus: u8::try_from(index)?,
            device: 0,
            function: 0,
        },
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        memory_mib: 81_559,
        compute_capability: (9, 0),
        numa_node: Some(0),
        device_id: 0,
        mig: Some(GpuMig {
            mode: MigMode {
                current: is_cut,
                pending: is_cut,
            },
            devices: devices?,
        }),
    })
}

fn sample(gpu: &Gpu, size: Size) -> GpuSample {
    let devices = gpu.mig.as_ref().map_or(&[][..], |mig| &mig.devices);
    let process = |number| ProcessSample {
        pid: pid(gpu, number),
        instance: None,
        memory: Some(1 << 30),
        sm_util: Some(2),
        mem_util: Some(1),
    };
    GpuSample {
        readings: readings(),
        mig: devices
            .iter()
            .map(|device| MigSample {
                gpu_instance: device.gpu_instance,
                compute_instance: device.compute_instance,
                readings: readings_of_instance(),
            })
            .collect(),
        processes: (0..size.processes).map(process).collect(),
    }
}

fn answer(field: Field) -> Result<Number, Missing> {
    match field {
        Field::VgpuLicenseStatus => Err(Missing::NotSupported),
        Field::PowerUsage => Ok(Number::Real(251.537)),
        _ if field.is_profiled() => Ok(Number::Real(0.437_561)),
        Field::ClockThrottleReasons => Ok(Number::Whole(4)),
        _ => Ok(Number::Whole(123_456)),
    }
}

fn readings() -> Readings {
    let fields = Field::ALL.iter();
    fields.map(|field| (*field, answer(*field))).collect()
}

/// As many as GPM and NVML count for an instance.
fn readings_of_instance() -> Readings {
    let is_counted =
        |field: Field| field.is_profiled() || matches!(field, Field::FbFree | Field::FbUsed);
    let of_instance = |field: &Field| {
        let answer = is_counted(*field).then(|| answer(*field));
        (*field, answer.unwrap_or(Err(Missing::NotForMig)))
    };
    Field::ALL.iter().map(of_instance).collect()
}

fn pid(gpu: &Gpu, number: u32) -> u32 {
    1000 * (gpu.index + 1) + number
}

fn hold(holders: &mut Holders, gpu: &Gpu, size: Size) {
    let container = |number: u32| Container {
        namespace: "research".to_owned(),
        pod: format!("training-job-{}-{number}-abcde", gpu.index),
        pod_uid: None,
        container: "main".to_owned(),
    };
    let devices = gpu.mig.as_ref().map_or(&[][..], |mig| &mig.devices);
    for device in devices {
        let key = holders.container(container(device.index));
        holders.hold(key, device.uuid.as_str(), Some(NOW.wall - 100));
    }
    for number in 0..size.processes {
        let key = holders.container(container(number));
        let replica = format!("{}::{number}", gpu.uuid);
        holders.hold(key, &replica, Some(NOW.wall - 100));
        holders.process(pid(gpu, number), key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_that_is_measured_has_what_it_is_said_to_have() {
        let cut = Size {
            gpus: 2,
            instances: 7,
            processes: 0,
        };
        let whole = Size {
            gpus: 2,
            instances: 0,
            processes: 48,
        };
        for (size, least) in [(cut, 2 * 7 * 7), (whole, 2 * 48 * 5)] {
            let cost = run(size, 1).unwrap();
            assert!(cost.series > least, "{} series", cost.series);
        }
    }
}
