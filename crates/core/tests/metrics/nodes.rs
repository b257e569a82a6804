//! Nodes to make pages of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::{Config, file};
use mizzen_core::driver::{DriverError, DriverEvent, DriverEventKind};
use mizzen_core::gpu::{Gpu, GpuUuid, PciBusId};
use mizzen_core::health::Moment;
use mizzen_core::inventory::{DriverVersions, Inventory};
use mizzen_core::metrics::{
    AgentFacts, ConfigFacts, Container, ContainerKey, Field, Fields, History, Holders, PageInput,
    PageOptions, ProcessFacts, TextField, render,
};
use mizzen_core::mig::{Capabilities, Engines, GpuMig, MigDevice, MigMode};
use mizzen_core::resource::ResourceName;
use mizzen_core::sample::{GpuSample, MigSample, Missing, Number, ProcessSample, Readings, Texts};
use mizzen_core::state::{Discovery, Event, NodeState};
use mizzen_core::topology::{Link, LinkMatrix, PcieRelation};

/// When the node was found.
pub(crate) const START: u64 = 1_700_000_000;

/// So many seconds after the start.
pub(crate) fn at(seconds: u64) -> Moment {
    Moment {
        monotonic: Duration::from_secs(seconds),
        wall: START + seconds,
    }
}

pub(crate) fn uuid(index: u32) -> GpuUuid {
    let text = format!("GPU-4d697a7a-656e-4000-8000-{index:012x}");
    text.parse().unwrap()
}

pub(crate) fn mig_uuid(gpu: u32, instance: u32, compute: u32) -> String {
    format!("MIG-4d697a7a-656e-5000-{compute:04x}-{gpu:06x}{instance:06x}")
}

pub(crate) fn gpu(index: u32, name: &str) -> Gpu {
    let memory = if name.contains("A100") {
        40_960
    } else {
        81_559
    };
    Gpu {
        index,
        minor: index,
        uuid: uuid(index),
        pci: PciBusId {
            domain: 0,
            bus: u8::try_from(index * 8 + 7).unwrap(),
            device: 0,
            function: 0,
        },
        name: name.to_owned(),
        memory_mib: memory,
        compute_capability: (9, 0),
        numa_node: Some(0),
        device_id: 0,
        mig: None,
    }
}

/// A GPU cut into these, by GPU instance, compute instance and profile.
pub(crate) fn cut(mut gpu: Gpu, devices: &[(u32, u32, &str)]) -> Gpu {
    let device = |(at, (instance, compute, profile)): (usize, &(u32, u32, &str))| MigDevice {
        index: u32::try_from(at).unwrap(),
        uuid: mig_uuid(gpu.index, *instance, *compute).parse().unwrap(),
        gpu_instance: *instance,
        compute_instance: *compute,
        profile: profile.parse().unwrap(),
        memory_mib: 9856,
        multiprocessors: 16,
        engines: Engines::default(),
        placement: None,
        capabilities: Capabilities::default(),
    };
    gpu.mig = Some(GpuMig {
        mode: MigMode {
            current: true,
            pending: true,
        },
        devices: devices.iter().enumerate().map(device).collect(),
    });
    gpu
}

/// What a page is made of.
pub(crate) struct Node {
    pub(crate) options: PageOptions,
    pub(crate) state: NodeState,
    pub(crate) history: History,
    pub(crate) texts: BTreeMap<GpuUuid, Texts>,
    pub(crate) holders: Holders,
    pub(crate) facts: AgentFacts,
    pub(crate) now: Moment,
}

impl Node {
    pub(crate) fn new(settings: &str, gpus: Vec<Gpu>) -> Self {
        let config: Config = file::parse(settings).validate().unwrap();
        let mut state = NodeState::new(Arc::new(config), Vec::new(), at(0));
        let texts = |gpu: &Gpu| {
            let driver = (TextField::DriverVersion, "580.65.06".to_owned());
            let serial = (TextField::Serial, format!("16530000{}", gpu.index));
            (gpu.uuid.clone(), vec![driver, serial])
        };
        let texts = gpus.iter().map(texts).collect();
        let inventory = Inventory {
            driver: DriverVersions {
                driver: "580.65.06".to_owned(),
                nvml: "13.580.65.06".to_owned(),
                cuda: (13, 0),
            },
            links: LinkMatrix::from_fn(gpus.len(), |_, _| Link {
                pcie: PcieRelation::CrossCpu,
                nvlinks: 18,
            }),
            gpus,
            broken: Vec::new(),
        };
        let discovery = Discovery {
            inventory,
            ..Discovery::default()
        };
        state.apply(Event::Discovered(Box::new(discovery)), at(0));
        Self {
            options: PageOptions {
                hostname: Some("node-1".to_owned()),
                ..PageOptions::default()
            },
            state,
            history: History::new(Duration::from_mins(5)),
            texts,
            holders: Holders::default(),
            facts: facts(),
            now: at(100),
        }
    }

    pub(crate) fn page(&self) -> String {
        render(&PageInput {
            options: &self.options,
            state: &self.state,
            history: &self.history,
            texts: &self.texts,
            holders: &self.holders,
            facts: &self.facts,
            now: self.now,
        })
    }

    pub(crate) fn sampled(&mut self, gpu: u32, sample: GpuSample, seconds: u64) {
        self.history.take(&uuid(gpu), Ok(sample), at(seconds));
    }

    pub(crate) fn failed(&mut self, gpu: u32, error: DriverError, seconds: u64) {
        self.history.take(&uuid(gpu), Err(error), at(seconds));
    }

    pub(crate) fn xid(&mut self, gpu: u32, number: u64, seconds: u64) {
        let event = DriverEvent {
            gpu: Some(uuid(gpu)),
            kind: DriverEventKind::Xid(number),
            gpu_instance: None,
            compute_instance: None,
        };
        self.state.apply(Event::Driver(event), at(seconds));
    }

    pub(crate) fn container(&mut self, pod: &str) -> ContainerKey {
        self.holders.container(Container {
            namespace: "research".to_owned(),
            pod: pod.to_owned(),
            pod_uid: Some(format!("uid-of-{pod}")),
            container: "main".to_owned(),
        })
    }

    pub(crate) fn hold(&mut self, pod: &str, id: &str) -> ContainerKey {
        let container = self.container(pod);
        self.holders.hold(container, id, Some(START + 20));
        container
    }
}

fn facts() -> AgentFacts {
    let mut facts = AgentFacts {
        version: "0.1.0".to_owned(),
        revision: "9de824f".to_owned(),
        process: Some(ProcessFacts {
            resident: 9 * 1024 * 1024,
            virtual_size: 64 * 1024 * 1024,
            cpu: Duration::from_millis(1250),
            open_fds: 23,
            max_fds: Some(1_048_576),
            threads: 4,
            started: START - 5,
        }),
        registrations: BTreeMap::from([(ResourceName::gpu(), 2)]),
        allocate_failures: 1,
        config: ConfigFacts {
            generation: 1,
            hash: "5d41402a".to_owned(),
            since: START,
        },
        ..AgentFacts::default()
    };
    for micros in [80, 120, 7000] {
        facts.allocate.observe(Duration::from_micros(micros));
    }
    facts
}

/// What a GPU at work answers to the default counters: GPM where it has that.
pub(crate) fn readings(seed: u64, has_gpm: bool) -> Readings {
    let fields = Fields::all().iter();
    fields
        .map(|field| (field, answer(field, seed, has_gpm)))
        .collect()
}

fn real(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

fn answer(field: Field, seed: u64, has_gpm: bool) -> Result<Number, Missing> {
    let whole = |number: u64| Ok(Number::Whole(number));
    match field {
        Field::VgpuLicenseStatus | Field::NvlinkBandwidthL0 => Err(Missing::NotSupported),
        Field::PcieTxBytes | Field::PcieRxBytes if has_gpm => whole(1_048_576 * (seed + 3)),
        Field::NvlinkTxBytes | Field::NvlinkRxBytes if has_gpm => whole(2_097_152 * (seed + 1)),
        _ if field.is_profiled() && has_gpm => Ok(Number::Real(0.125 * real(1 + seed))),
        _ if field.is_profiled() => Err(Missing::NeedsDcgm),
        Field::SmClock => whole(1410 + seed),
        Field::GpuTemp => whole(41 + seed),
        Field::GpuUtil => whole(87),
        Field::PowerUsage => Ok(Number::Real(251.5 + real(seed))),
        Field::TotalEnergy => whole(98_765_432_101 + seed),
        Field::ClockThrottleReasons => whole(4),
        Field::FbUsed => whole(20_000 + 100 * seed),
        Field::FbFree => whole(10_000),
        _ => whole(seed),
    }
}

pub(crate) fn sample(seed: u64, has_gpm: bool) -> GpuSample {
    GpuSample {
        readings: readings(seed, has_gpm),
        ..GpuSample::default()
    }
}

/// What the hardware counts for each instance of a GPU with GPM.
const OF_INSTANCES: [Field; 6] = [
    Field::FbFree,
    Field::FbUsed,
    Field::FbReserved,
    Field::GrEngineActive,
    Field::PipeTensorActive,
    Field::DramActive,
];

/// A sample of a GPU that is cut into these instances.
pub(crate) fn mig_sample(seed: u64, devices: &[(u32, u32)]) -> GpuSample {
    let not_for_whole = |(field, answer): (Field, &Result<Number, Missing>)| {
        let is_util = matches!(
            field,
            Field::GpuUtil | Field::MemCopyUtil | Field::EncUtil | Field::DecUtil
        );
        let answer = if is_util {
            Err(Missing::NotForMig)
        } else {
            answer.clone()
        };
        (field, answer)
    };
    let of_instance = |seed| {
        let all = readings(seed, true);
        let answers = all.iter().map(|(field, answer)| {
            let is_counted = OF_INSTANCES.contains(&field);
            let answer = is_counted.then(|| answer.clone());
            (field, answer.unwrap_or(Err(Missing::NotForMig)))
        });
        answers.collect()
    };
    GpuSample {
        readings: readings(seed, true).iter().map(not_for_whole).collect(),
        mig: devices
            .iter()
            .map(|(instance, compute)| MigSample {
                gpu_instance: *instance,
                compute_instance: *compute,
                readings: of_instance(u64::from(*instance)),
            })
            .collect(),
        processes: Vec::new(),
    }
}

pub(crate) fn process(pid: u32, memory_mib: u64, sm_util: u32) -> ProcessSample {
    ProcessSample {
        pid,
        instance: None,
        memory: Some(memory_mib * 1024 * 1024),
        sm_util: Some(sm_util),
        mem_util: Some(sm_util / 2),
    }
}
