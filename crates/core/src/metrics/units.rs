//! The GPUs and MIG devices that a page has series of, with their labels put together once.

use super::counters::LabelSource;
use super::holders::{Container, Holding, Tenancy};
use super::page::{HostnameLabel, PageInput};
use super::text::{push_label, push_next_label, push_number, push_whole};
use super::{Field, History, Missing};
use crate::gpu::{Gpu, PciBusId};
use crate::health::Moment;
use crate::mig::MigDevice;
use crate::sample::{GpuSample, Number, Readings, Texts};
use crate::state::KnownGpu;

/// The reason of what nobody has looked at yet.
const NOT_SAMPLED: &str = "not-sampled";

/// The reason of what nobody has looked at for long.
const STALE: &str = "stale";

/// A GPU of the page.
pub(super) struct GpuUnit<'a> {
    pub(super) known: &'a KnownGpu,
    /// Its last good sample, unless that is too old to be told as what is.
    pub(super) sample: Option<&'a GpuSample>,
    pub(super) whole: Unit<'a>,
    /// Its GPU instances, where it is partitioned.
    pub(super) instances: Vec<Unit<'a>>,
    /// Why there is nothing where there is no sample.
    silence: &'static str,
}

/// A GPU, or one GPU instance of it.
pub(super) struct Unit<'a> {
    /// The GPU instance; `None` for the GPU.
    pub(super) instance: Option<u32>,
    pub(super) readings: Option<&'a Readings>,
    /// The labels of the exporter up to those of the pod.
    pub(super) labels: String,
    pub(super) pod: PodLabels,
    /// The labels of metrics of our own.
    pub(super) short: String,
    pub(super) tenancy: Tenancy,
    pub(super) holdings: Vec<HeldDevice<'a>>,
}

/// A device that is held, of a unit that may have several.
pub(super) struct HeldDevice<'a> {
    pub(super) holding: &'a Holding,
    /// The MIG device; `None` for a GPU.
    pub(super) mig: Option<&'a MigDevice>,
}

/// The labels of a pod in two parts, since the exporter writes others between them.
#[derive(Default)]
pub(super) struct PodLabels {
    pub(super) container: String,
    pub(super) rest: String,
}

impl PodLabels {
    pub(super) fn of(container: &Container, input: &PageInput<'_>) -> Self {
        let old = input.options.old_namespace;
        let names = if old {
            ["container_name", "pod_name", "pod_namespace"]
        } else {
            ["container", "namespace", "pod"]
        };
        let rest = if old {
            [&container.pod, &container.namespace]
        } else {
            [&container.namespace, &container.pod]
        };
        let mut labels = Self::default();
        push_next_label(&mut labels.container, names[0], &container.container);
        for (name, value) in names[1..].iter().zip(rest) {
            push_next_label(&mut labels.rest, name, value);
        }
        if let Some(uid) = container.pod_uid.as_ref().filter(|_| input.options.pod_uid) {
            push_next_label(&mut labels.rest, "pod_uid", uid);
        }
        labels
    }
}

impl<'a> GpuUnit<'a> {
    pub(super) fn all(input: &PageInput<'a>) -> Vec<Self> {
        let gpus = input.state.gpus().iter();
        gpus.map(|known| Self::of(known, input)).collect()
    }

    fn of(known: &'a KnownGpu, input: &PageInput<'a>) -> Self {
        let gpu = &known.gpu;
        let (sample, silence) = last_sample(gpu, input.history, input);
        let holdings = input.holders.of_gpu(gpu).into_iter();
        let held: Vec<HeldDevice<'_>> = holdings
            .map(|holding| HeldDevice { holding, mig: None })
            .collect();
        let readings = sample.map(|sample| &sample.readings);
        let whole = Unit::of(gpu, None, readings, held, input);
        let instances = instances(gpu)
            .into_iter()
            .map(|devices| Unit::of_instance(gpu, &devices, sample, &whole, input))
            .collect();
        Self {
            known,
            sample,
            whole,
            instances,
            silence,
        }
    }

    /// Where a number of the driver is told: of the instances, if any has it, or else of the GPU,
    /// so that sums over a page are not double.
    pub(super) fn tellers(&self, field: Field) -> Vec<(&Unit<'a>, Number)> {
        let answer = |unit: &&Unit<'a>| unit.answer(field).and_then(Result::ok);
        let instances = self.instances.iter();
        let mut told: Vec<_> = instances
            .filter_map(|unit| Some((unit, answer(&unit)?)))
            .collect();
        if told.is_empty() {
            told.extend(answer(&&self.whole).map(|number| (&self.whole, number)));
        }
        told
    }

    /// Why a number of the driver is not told, where it is not: of the GPU, or where some of its
    /// instances have it, of the others.
    pub(super) fn missing(&self, field: Field) -> Vec<(&Unit<'a>, &'static str)> {
        let tellers = self.tellers(field);
        if tellers.is_empty() {
            return vec![(&self.whole, self.reason(field))];
        }
        let of_instances = tellers.iter().all(|(unit, _)| unit.instance.is_some());
        let silent = self.instances.iter().filter_map(|unit| {
            let reason = match unit.readings {
                None => NOT_SAMPLED,
                Some(_) => unit.answer(field)?.err()?.as_str(),
            };
            Some((unit, reason))
        });
        silent.filter(|_| of_instances).collect()
    }

    fn reason(&self, field: Field) -> &'static str {
        if self.sample.is_none() {
            return self.silence;
        }
        let units = std::iter::once(&self.whole).chain(&self.instances);
        let reasons = units.filter_map(|unit| unit.answer(field)?.err());
        let mut reasons: Vec<&Missing> = reasons.collect();
        // What one says of itself explains more than that another must be asked.
        reasons.sort_by_key(|reason| **reason == Missing::NotForMig);
        let first = reasons.first().copied();
        first.unwrap_or(&Missing::NotSupported).as_str()
    }
}

impl<'a> Unit<'a> {
    fn of(
        gpu: &Gpu,
        mig: Option<&MigDevice>,
        readings: Option<&'a Readings>,
        holdings: Vec<HeldDevice<'a>>,
        input: &PageInput<'_>,
    ) -> Self {
        let all: Vec<&Holding> = holdings.iter().map(|held| held.holding).collect();
        let tenancy = Tenancy::of(&all);
        let holder = match tenancy {
            Tenancy::Exclusive(key) => input.holders.get(key),
            Tenancy::Free | Tenancy::Shared => None,
        };
        let pod = holder.map(|container| PodLabels::of(container, input));
        Self {
            instance: mig.map(|mig| mig.gpu_instance),
            readings,
            labels: labels(gpu, mig, readings, input),
            pod: pod.unwrap_or_default(),
            short: short_labels(gpu, mig),
            tenancy,
            holdings,
        }
    }

    /// A GPU instance, which is held by those who hold any of its MIG devices, or the whole GPU.
    fn of_instance(
        gpu: &'a Gpu,
        devices: &[(usize, &'a MigDevice)],
        sample: Option<&'a GpuSample>,
        whole: &Self,
        input: &PageInput<'a>,
    ) -> Self {
        let mig = devices.first().map(|(_, device)| *device);
        let measured = sample.and_then(|sample| {
            let mut all = sample.mig.iter();
            all.find(|one| Some(one.gpu_instance) == mig.map(|mig| mig.gpu_instance))
        });
        let readings = measured.map(|measured| &measured.readings);
        let held = devices.iter().flat_map(|(position, device)| {
            let holdings = input.holders.of_mig(gpu, *position).into_iter();
            holdings.map(|holding| HeldDevice {
                holding,
                mig: Some(device),
            })
        });
        let mut unit = Self::of(gpu, mig, readings, held.collect(), input);
        if let (Tenancy::Free, Tenancy::Exclusive(key)) = (unit.tenancy, whole.tenancy) {
            let holder = input.holders.get(key);
            unit.pod = holder.map_or_else(PodLabels::default, |it| PodLabels::of(it, input));
            unit.tenancy = whole.tenancy;
        }
        unit
    }

    fn answer(&self, field: Field) -> Option<Result<Number, &'a Missing>> {
        let answer = self.readings?.get(field)?;
        Some(answer.as_ref().copied())
    }
}

/// The MIG devices of a GPU by their GPU instances, with their positions; none where it is whole.
fn instances(gpu: &Gpu) -> Vec<Vec<(usize, &MigDevice)>> {
    let mut instances: Vec<Vec<(usize, &MigDevice)>> = Vec::new();
    let mig = gpu.mig.as_ref().filter(|mig| mig.mode.current);
    let devices = mig.map_or(&[][..], |mig| &mig.devices);
    for (position, device) in devices.iter().enumerate() {
        let same = |of: &&mut Vec<(usize, &MigDevice)>| {
            of.iter()
                .any(|(_, other)| other.gpu_instance == device.gpu_instance)
        };
        match instances.iter_mut().find(same) {
            Some(of) => of.push((position, device)),
            None => instances.push(vec![(position, device)]),
        }
    }
    instances.sort_by_key(|devices| devices.first().map(|(_, device)| device.gpu_instance));
    instances
}

/// The last good sample if it is fresh enough, and what to say if there is none.
fn last_sample<'a>(
    gpu: &Gpu,
    history: &'a History,
    input: &PageInput<'_>,
) -> (Option<&'a GpuSample>, &'static str) {
    let Some(history) = history.of(&gpu.uuid) else {
        return (None, NOT_SAMPLED);
    };
    let silence = match history.error() {
        Some(error) => Missing::Failed(error.clone()).as_str(),
        None => STALE,
    };
    let is_fresh = |taken: &Moment| {
        input.now.monotonic.saturating_sub(taken.monotonic) <= input.options.stale_after
    };
    let last = history.last().filter(|(_, taken)| is_fresh(taken));
    (last.map(|(sample, _)| sample), silence)
}

fn labels(
    gpu: &Gpu,
    mig: Option<&MigDevice>,
    readings: Option<&Readings>,
    input: &PageInput<'_>,
) -> String {
    let options = input.options;
    let mut labels = String::with_capacity(320);
    let mut index = String::new();
    push_whole(&mut index, u64::from(gpu.index));
    push_label(&mut labels, "gpu", &index);
    let uuid = if options.old_namespace {
        "uuid"
    } else {
        "UUID"
    };
    push_label(&mut labels, uuid, gpu.uuid.as_str());
    push_label(&mut labels, "pci_bus_id", &nvml_form(gpu.pci));
    push_label(&mut labels, "device", &format!("nvidia{index}"));
    if options.model_name_without_blanks {
        let words: Vec<&str> = gpu.name.split_whitespace().collect();
        push_label(&mut labels, "modelName", &words.join("-"));
    } else {
        push_label(&mut labels, "modelName", &gpu.name);
    }
    push_instance(&mut labels, mig);
    if let Some(hostname) = &options.hostname {
        let name = match options.hostname_label {
            HostnameLabel::Lower => "hostname",
            HostnameLabel::Upper => "Hostname",
        };
        push_label(&mut labels, name, hostname);
    }
    let none = Texts::new();
    let texts = input.texts.get(&gpu.uuid).unwrap_or(&none);
    for (name, source) in options.counters.labels() {
        match source {
            LabelSource::Text(field) => {
                let text = texts.iter().find(|(known, _)| known == field);
                if let Some((_, text)) = text {
                    push_label(&mut labels, name, text);
                }
            }
            LabelSource::Field(field) => {
                let answer = readings.and_then(|readings| readings.get(*field));
                if let Some(Ok(number)) = answer {
                    let mut text = String::new();
                    push_number(&mut text, *number);
                    push_label(&mut labels, name, &text);
                }
            }
        }
    }
    labels
}

fn short_labels(gpu: &Gpu, mig: Option<&MigDevice>) -> String {
    let mut labels = String::with_capacity(120);
    let mut index = String::new();
    push_whole(&mut index, u64::from(gpu.index));
    push_label(&mut labels, "gpu", &index);
    push_label(&mut labels, "UUID", gpu.uuid.as_str());
    push_instance(&mut labels, mig);
    labels
}

fn push_instance(labels: &mut String, mig: Option<&MigDevice>) {
    if let Some(mig) = mig {
        let profile = mig.profile.gpu_instance().to_string();
        push_label(labels, "GPU_I_PROFILE", &profile);
        push_label(labels, "GPU_I_ID", &mig.gpu_instance.to_string());
    }
}

/// A place on the bus in the form of NVML, which is the exporter's.
fn nvml_form(pci: PciBusId) -> String {
    let PciBusId {
        domain,
        bus,
        device,
        function,
    } = pci;
    format!("{domain:08X}:{bus:02X}:{device:02X}.{function:X}")
}
