//! GPU performance monitoring (GPM): what was between two samples of a GPU, from Hopper on.
#![allow(unsafe_code, reason = "calls the library's functions")]

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mizzen_core::driver::DriverError;
use mizzen_core::metrics::{Field, Fields};
use mizzen_core::sample::{Missing, Number};
use nvml_wrapper_sys::bindings::{nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlGpmSupport_t};

use super::calls::is_unsupported;
use super::source::{Source, source};
use super::{Answer, Answers};
use crate::device::{Device, call, unexpected};
use crate::library::{Library, code};

/// `NVML_GPM_SUPPORT_VERSION`, `NVML_GPM_METRICS_GET_VERSION`: bare numbers, without the size.
const VERSION: u32 = 1;
/// How far two samples must lie apart: the counters are refreshed no more often (nvml.h).
const SHORTEST: Duration = Duration::from_millis(100);
const MIB: f64 = 1_048_576.0;

/// A sample of NVML's, freed when it is dropped.
#[derive(Debug)]
struct Sample {
    library: Arc<Library>,
    handle: nvmlGpmSample_t,
}

// SAFETY: a handle is an opaque token that is never dereferenced here, and NVML's functions may
// be called from any thread.
unsafe impl Send for Sample {}

impl Sample {
    fn alloc(library: &Arc<Library>) -> Result<Self, DriverError> {
        let mut handle: nvmlGpmSample_t = std::ptr::null_mut();
        let code = call!(library, gpm_sample_alloc(&raw mut handle));
        library.checked("nvmlGpmSampleAlloc", code)?;
        Ok(Self {
            library: library.clone(),
            handle,
        })
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let library = &self.library;
        let code = call!(library, gpm_sample_free(self.handle));
        if let Err(error) = library.checked("nvmlGpmSampleFree", code) {
            tracing::debug!(%error, "a GPM sample is not freed");
        }
    }
}

/// What is measured of one GPU and of its instances.
#[derive(Debug, Default)]
pub(super) struct Gpm {
    /// Whether the GPU and its driver offer it, once that was asked.
    offered: Option<Offer>,
    whole: Meter,
    instances: BTreeMap<u32, Meter>,
}

/// Who tells a GPU's profiling counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    /// NVML does.
    Here,
    /// DCGM does.
    Dcgm,
    /// GPUs before Volta have none.
    Nobody,
}

impl Gpm {
    /// What the GPU answers to these fields, or one GPU instance of it. Where NVML does not offer
    /// them it is said why not.
    ///
    /// # Errors
    /// The GPU does not answer.
    pub(super) fn read(
        &mut self,
        library: &Arc<Library>,
        device: Device,
        gpu_instance: Option<u32>,
        fields: Fields,
    ) -> Result<Answers, DriverError> {
        if let Some(why) = self.refusal(library, device)? {
            let refused = |field| (field, Err(why.clone()));
            return Ok(fields.iter().map(refused).collect());
        }
        let Some(id) = gpu_instance else {
            return self.whole.read(library, fields, |sample| {
                let code = call!(library, gpm_sample_get(device.0, sample));
                library.checked("nvmlGpmSampleGet", code)
            });
        };
        let meter = self.instances.entry(id).or_default();
        meter.read(library, fields, |sample| {
            let code = call!(library, gpm_mig_sample_get(device.0, id, sample));
            library.checked("nvmlGpmMigSampleGet", code)
        })
    }

    /// Why NVML does not tell the GPU's profiling counters; `None` if it does.
    fn refusal(
        &mut self,
        library: &Library,
        device: Device,
    ) -> Result<Option<Missing>, DriverError> {
        let offer = match self.offered {
            Some(offer) => offer,
            None => *self.offered.insert(library.gpm_offer(device)?),
        };
        Ok(match offer {
            Offer::Here => None,
            Offer::Dcgm => Some(Missing::NeedsDcgm),
            Offer::Nobody => Some(Missing::NotSupported),
        })
    }
}

/// The last sample of a GPU or of an instance, and what it told.
#[derive(Debug, Default)]
struct Meter {
    last: Option<(Instant, Sample)>,
    /// Room for the next sample.
    spare: Option<Sample>,
    told: Answers,
    /// Fields that are not counted for it.
    unsupported: Fields,
}

impl Meter {
    /// Takes a sample, unless the last one is too young, and answers for the time between the
    /// two. `take` writes a sample.
    fn read(
        &mut self,
        library: &Arc<Library>,
        fields: Fields,
        take: impl FnOnce(nvmlGpmSample_t) -> Result<(), DriverError>,
    ) -> Result<Answers, DriverError> {
        let now = Instant::now();
        let young = |(at, _): &(Instant, Sample)| now.duration_since(*at) < SHORTEST;
        if self.last.as_ref().is_some_and(young) {
            return Ok(fields.iter().map(|field| self.again(field)).collect());
        }
        let new = match self.spare.take() {
            Some(spare) => spare,
            None => Sample::alloc(library)?,
        };
        if let Err(error) = take(new.handle) {
            self.spare = Some(new);
            return Err(error);
        }
        self.told = match &self.last {
            Some((_, old)) => self.between(library, fields, old, &new)?,
            None => fields.iter().map(first).collect(),
        };
        for (field, answer) in &self.told {
            if *answer == Err(Missing::NotSupported) {
                self.unsupported.insert(*field);
            }
        }
        self.spare = self.last.replace((now, new)).map(|(_, old)| old);
        Ok(self.told.clone())
    }

    /// What was told last.
    fn again(&self, field: Field) -> (Field, Answer) {
        let mut told = self.told.iter();
        let found = told.find(|(told, _)| *told == field);
        found.cloned().unwrap_or_else(|| first(field))
    }

    fn between(
        &self,
        library: &Library,
        fields: Fields,
        old: &Sample,
        new: &Sample,
    ) -> Result<Answers, DriverError> {
        let unsupported = self.unsupported;
        let (known, asked): (Vec<Field>, Vec<Field>) = fields
            .iter()
            .partition(|field| unsupported.contains(*field));
        let known = known
            .into_iter()
            .map(|field| (field, Err(Missing::NotSupported)));
        let mut answers: Vec<_> = known.collect();
        if !asked.is_empty() {
            answers.extend(library.gpm_metrics(&asked, old, new)?);
        }
        Ok(answers)
    }
}

fn first(field: Field) -> (Field, Answer) {
    (field, Err(Missing::FirstSample))
}

impl Library {
    /// Who tells the profiling counters of the GPU.
    fn gpm_offer(&self, device: Device) -> Result<Offer, DriverError> {
        let mut support = nvmlGpmSupport_t {
            version: VERSION,
            isSupportedDevice: 0,
        };
        let code = call!(self, gpm_support(device.0, &raw mut support));
        match self.checked("nvmlGpmQueryDeviceSupport", code) {
            Ok(()) if support.isSupportedDevice != 0 => return Ok(Offer::Here),
            Ok(()) => {}
            Err(error) if is_unsupported(&error) => {}
            Err(error) => return Err(error),
        }
        let volta = (7, 0);
        Ok(if self.compute_capability(device)? >= volta {
            Offer::Dcgm
        } else {
            Offer::Nobody
        })
    }

    /// The metrics of these fields between two samples.
    fn gpm_metrics(
        &self,
        fields: &[Field],
        old: &Sample,
        new: &Sample,
    ) -> Result<Answers, DriverError> {
        let call = "nvmlGpmMetricsGet";
        // SAFETY: numbers and pointers that may be NULL, for which zero bytes are a value.
        let mut get: nvmlGpmMetricsGet_t = unsafe { mem::zeroed() };
        let asked = fields
            .iter()
            .filter_map(|&field| Some((field, metric(field)?)));
        let asked: Vec<_> = asked.collect();
        for (place, (_, (id, _))) in get.metrics.iter_mut().zip(&asked) {
            place.metricId = *id;
        }
        get.version = VERSION;
        get.numMetrics = u32::try_from(asked.len()).map_err(|error| unexpected(call, &error))?;
        (get.sample1, get.sample2) = (old.handle, new.handle);
        self.checked(call, call!(self, gpm_metrics_get(&raw mut get)))?;
        let answers = asked.iter().zip(&get.metrics);
        let answers = answers.map(|((field, (_, read)), told)| {
            let answer = match self.checked(call, told.nvmlReturn) {
                Ok(()) if told.value.is_finite() => Ok(read(told.value)),
                Ok(()) => Err(Missing::Failed(unexpected(
                    call,
                    &"a value that is no number",
                ))),
                Err(error) if is_unsupported(&error) => Err(Missing::NotSupported),
                Err(error) => Err(Missing::Failed(error)),
            };
            (*field, answer)
        });
        Ok(answers.collect())
    }
}

/// Reads a metric's value.
type Read = fn(f64) -> Number;

/// The metric of a field, and how its value is to be read.
fn metric(field: Field) -> Option<(u32, Read)> {
    match source(field) {
        Source::Ratio(id) => Some((id, |percent| Number::Real(percent / 100.0))),
        Source::Traffic(id) => Some((id, |mib| Number::Whole(bytes(mib)))),
        _ => None,
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what a bus carries in a second"
)]
fn bytes(mib: f64) -> u64 {
    (mib.max(0.0) * MIB).round() as u64
}
