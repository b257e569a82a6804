//! What GPUs measure, asked about once a second.
//!
//! NVML is asked for no more than is wanted: field values in one call, functions that tell
//! several fields once, and what a GPU has said it does not have not again, until it is
//! partitioned anew or the session is opened again.
//!
//! Two things are not here. PCIe traffic of GPUs before Hopper, which
//! `nvmlDeviceGetPcieThroughput` tells: each call counts for 20 ms and blocks as long, 320 ms for
//! both directions on eight GPUs, in which nobody else can ask them; and what was on the bus in a
//! fiftieth of a second is not what DCGM means by the rate of a second. And the last Xid, which
//! events tell.

mod calls;
mod gpm;
mod links;
mod processes;
mod source;
mod texts;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mizzen_core::driver::DriverError;
use mizzen_core::metrics::{Field, Fields};
use mizzen_core::sample::{GpuSample, MigSample, Missing, Number, Readings, Wanted};

use crate::device::{Device, EccKind, Memory};
use crate::library::code;
use crate::mig::{CapabilityMinors, Part, Parts};
use crate::session::Session;
use calls::{Licence, Value, is_unsupported};
use gpm::Gpm;
use links::Rate;
use processes::Processes;
use source::{Source, refused_with_mig, source};

/// What is answered to a field.
type Answer = Result<Number, Missing>;
type Answers = Vec<(Field, Answer)>;

/// How long it is known how a GPU is partitioned. Who follows partitions asks once a second; only
/// if nobody does, it is asked for the sample.
const LATELY: Duration = Duration::from_secs(2);

/// What a session remembers of its GPUs from one sample to the next, by index.
#[derive(Debug, Default)]
pub(crate) struct Memories(Mutex<BTreeMap<u32, Remembered>>);

impl Memories {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the GPU of this index asked for everything again.
    pub(crate) fn forget(&self, index: u32) {
        // What it holds goes back to NVML, for which no lock is held.
        let forgotten = self.lock().remove(&index);
        drop(forgotten);
    }

    /// Gives back what is held of every GPU.
    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }
}

/// What is remembered of one GPU.
#[derive(Debug, Default)]
struct Remembered {
    /// Whether the GPU can be partitioned at all.
    whole_for_good: bool,
    parts: Parts,
    /// What the GPU does not have, and what its MIG devices do not have.
    unsupported: Fields,
    unsupported_by_parts: Fields,
    unlicensed: bool,
    gpm: Gpm,
    rates: BTreeMap<Field, Rate>,
    processes: Processes,
}

impl Session {
    /// What the GPU of this index measures. Nobody else may ask it at the same time.
    ///
    /// # Errors
    /// The GPU does not answer; that a single question fails is among the answers.
    pub(crate) fn sample(
        &self,
        index: u32,
        device: Device,
        wanted: Wanted,
        capabilities: &CapabilityMinors,
    ) -> Result<GpuSample, DriverError> {
        // Taken out, so that no lock is held in a call that hangs. What is held of a GPU that does
        // not answer is given back.
        let remembered = self.samples.lock().remove(&index);
        let mut remembered = remembered.unwrap_or_default();
        self.look(index, device, capabilities, &mut remembered)?;
        let mut asking = Asking {
            session: self,
            device,
            answers: Vec::new(),
            remembered,
        };
        let sample = asking.sample(index, wanted)?;
        self.samples.lock().insert(index, asking.remembered);
        Ok(sample)
    }

    /// How the GPU is partitioned. What was remembered of it as it was before is forgotten.
    fn look(
        &self,
        index: u32,
        device: Device,
        capabilities: &CapabilityMinors,
        remembered: &mut Remembered,
    ) -> Result<(), DriverError> {
        if remembered.whole_for_good {
            return Ok(());
        }
        let mut parts = self.mig.parts(index, LATELY);
        if parts.is_none() {
            match self.partition(index, device, capabilities) {
                Ok(None) => remembered.whole_for_good = true,
                Ok(Some(_)) => parts = self.mig.parts(index, LATELY),
                Err(error) if ends_the_sample(&error) => return Err(error),
                Err(error) => tracing::debug!(index, %error, "not told how it is partitioned"),
            }
        }
        if let Some(parts) = parts.filter(|parts| *parts != remembered.parts) {
            *remembered = Remembered {
                parts,
                ..Remembered::default()
            };
        }
        Ok(())
    }
}

/// Whether a GPU that answers so answers nothing.
fn ends_the_sample(error: &DriverError) -> bool {
    matches!(error, DriverError::GpuLost | DriverError::NotRunning(_))
}

/// Whether what a handle stood for is not there any more.
fn is_gone(error: &DriverError) -> bool {
    let gone = [code::INVALID_ARGUMENT, code::NOT_FOUND];
    matches!(error, DriverError::Nvml { code, .. } if gone.contains(code))
}

/// One sample of one GPU.
struct Asking<'a> {
    session: &'a Session,
    device: Device,
    answers: Answers,
    remembered: Remembered,
}

impl Asking<'_> {
    fn sample(&mut self, index: u32, wanted: Wanted) -> Result<GpuSample, DriverError> {
        let known = self.remembered.unsupported;
        for field in wanted.fields.iter().filter(|field| known.contains(*field)) {
            self.answers.push((field, Err(self.unsupported(field))));
        }
        let asked: Fields = wanted
            .fields
            .iter()
            .filter(|field| !known.contains(*field))
            .collect();
        self.ask_one_by_one(asked)?;
        self.ask_values(asked)?;
        self.ask_utilization(asked)?;
        self.ask_memory(asked)?;
        self.ask_licence(asked)?;
        self.ask_gpm(asked)?;
        let readings = self.answers.drain(..).collect();
        let mig = self.ask_parts(index, wanted.fields)?;
        let processes = if wanted.processes {
            let library = &self.session.library;
            let Remembered {
                processes, parts, ..
            } = &mut self.remembered;
            processes.read(library, self.device, parts)?
        } else {
            Vec::new()
        };
        Ok(GpuSample {
            readings,
            mig,
            processes,
        })
    }

    /// What is said of a field that the GPU does not have.
    fn unsupported(&self, field: Field) -> Missing {
        if self.remembered.parts.on && refused_with_mig(field) {
            Missing::NotForMig
        } else {
            Missing::NotSupported
        }
    }

    /// Takes down what was answered to a field.
    fn note(&mut self, field: Field, told: Result<Number, DriverError>) -> Result<(), DriverError> {
        let answer = match told {
            Ok(number) => Ok(number),
            Err(error) if ends_the_sample(&error) => return Err(error),
            Err(error) if is_unsupported(&error) => {
                self.remembered.unsupported.insert(field);
                Err(self.unsupported(field))
            }
            Err(error) => Err(Missing::Failed(error)),
        };
        self.answers.push((field, answer));
        Ok(())
    }

    fn ask_one_by_one(&mut self, asked: Fields) -> Result<(), DriverError> {
        for field in asked.iter().filter(|field| source(*field) == Source::Call) {
            self.note(field, self.session.library.ask(self.device, field))?;
        }
        Ok(())
    }

    /// Field values, and the traffic over NVLinks, which are two each.
    fn ask_values(&mut self, asked: Fields) -> Result<(), DriverError> {
        let mut fields = Vec::new();
        let mut values = Vec::new();
        for field in asked.iter() {
            match source(field) {
                Source::Value(id) => values.push(Value { id, scope: 0 }),
                Source::Links(scope) => values.extend(links::values(scope)),
                _ => continue,
            }
            fields.push(field);
        }
        if fields.is_empty() {
            return Ok(());
        }
        let told = match self.session.library.values(self.device, &values) {
            Ok(told) => told,
            Err(error) => {
                let mut fields = fields.into_iter();
                return fields.try_for_each(|field| self.note(field, Err(error.clone())));
            }
        };
        let now = Instant::now();
        let mut told = told.into_iter();
        let mut next = || told.next().unwrap_or(Err(DriverError::NotSupported));
        for field in fields {
            match source(field) {
                Source::Links(_) => {
                    let (sent, received) = (next(), next());
                    match sent.and_then(|sent| Ok(sent.saturating_add(received?))) {
                        Ok(kib) => {
                            let rate = self.remembered.rates.entry(field).or_default();
                            let answer = rate.read(now, kib);
                            self.answers.push((field, answer));
                        }
                        Err(error) => self.note(field, Err(error))?,
                    }
                }
                _ => self.note(field, next().map(Number::Whole))?,
            }
        }
        Ok(())
    }

    fn ask_utilization(&mut self, asked: Fields) -> Result<(), DriverError> {
        const BOTH: [Field; 2] = [Field::GpuUtil, Field::MemCopyUtil];
        if !asked.contains_any(BOTH) {
            return Ok(());
        }
        let told = self.session.library.utilization(self.device);
        for (field, place) in BOTH.into_iter().zip(0..) {
            if asked.contains(field) {
                let told = told.clone().map(|percent: [u32; 2]| percent[place]);
                self.note(field, told.map(|percent| Number::Whole(percent.into())))?;
            }
        }
        Ok(())
    }

    fn ask_memory(&mut self, asked: Fields) -> Result<(), DriverError> {
        let fields: Vec<_> = of_memory(asked).collect();
        if fields.is_empty() {
            return Ok(());
        }
        let memory = self.session.library.memory(self.device);
        for field in fields {
            let told = memory.clone();
            self.note(field, told.and_then(|memory| framebuffer(&memory, field)))?;
        }
        Ok(())
    }

    fn ask_licence(&mut self, asked: Fields) -> Result<(), DriverError> {
        let field = Field::VgpuLicenseStatus;
        if !asked.contains(field) {
            return Ok(());
        }
        let told = if self.remembered.unlicensed {
            Ok(Licence::NotNeeded)
        } else {
            self.session.library.licence(self.device)
        };
        self.remembered.unlicensed = told == Ok(Licence::NotNeeded);
        let licensed = |licence| u64::from(licence == Licence::Needed(true));
        self.note(field, told.map(|licence| Number::Whole(licensed(licence))))
    }

    fn ask_gpm(&mut self, asked: Fields) -> Result<(), DriverError> {
        let fields: Fields = asked.iter().filter(|field| field.is_profiled()).collect();
        if fields.is_empty() {
            return Ok(());
        }
        let library = &self.session.library;
        match self.remembered.gpm.read(library, self.device, None, fields) {
            Ok(answers) => self.answers.extend(answers),
            Err(error) => {
                for field in fields.iter() {
                    self.note(field, Err(error.clone()))?;
                }
            }
        }
        Ok(())
    }

    /// What each MIG device measures.
    fn ask_parts(&mut self, index: u32, wanted: Fields) -> Result<Vec<MigSample>, DriverError> {
        let parts = self.remembered.parts.devices.clone();
        let mut of_instances: BTreeMap<u32, Answers> = BTreeMap::new();
        let mut samples = Vec::new();
        for part in parts {
            if let Entry::Vacant(instance) = of_instances.entry(part.gpu_instance) {
                instance.insert(self.ask_instance(part.gpu_instance, wanted)?);
            }
            let told = of_instances.get(&part.gpu_instance).cloned();
            match self.ask_part(part, wanted, told.unwrap_or_default()) {
                Ok(readings) => samples.push(MigSample {
                    gpu_instance: part.gpu_instance,
                    compute_instance: part.compute_instance,
                    readings,
                }),
                // It went meanwhile: the next sample looks again.
                Err(error) if is_gone(&error) => self.session.mig.forget(index),
                Err(error) => return Err(error),
            }
        }
        samples.sort_by_key(|sample| (sample.gpu_instance, sample.compute_instance));
        Ok(samples)
    }

    /// What GPM tells of a GPU instance.
    fn ask_instance(&mut self, gpu_instance: u32, wanted: Fields) -> Result<Answers, DriverError> {
        let fields = wanted
            .iter()
            .filter(|field| matches!(source(*field), Source::Ratio(_)));
        let fields: Fields = fields.collect();
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        let library = &self.session.library;
        let gpm = &mut self.remembered.gpm;
        match gpm.read(library, self.device, Some(gpu_instance), fields) {
            Ok(answers) => Ok(answers),
            Err(error) if ends_the_sample(&error) => Err(error),
            Err(error) if is_unsupported(&error) && !is_gone(&error) => {
                Ok(all(fields, &Missing::NotForMig))
            }
            Err(error) => Ok(all(fields, &Missing::Failed(error))),
        }
    }

    /// What a MIG device answers, besides what its GPU instance has told.
    ///
    /// # Errors
    /// The GPU does not answer, or the device is gone ([`is_gone`]).
    fn ask_part(
        &mut self,
        part: Part,
        wanted: Fields,
        mut answers: Answers,
    ) -> Result<Readings, DriverError> {
        let library = &self.session.library;
        let mut memory = None;
        for field in wanted.iter() {
            let told = match source(field) {
                Source::Events | Source::Ratio(_) => continue,
                _ if self.remembered.unsupported_by_parts.contains(field) => {
                    Err(DriverError::NotSupported)
                }
                Source::Memory => {
                    let told = memory.get_or_insert_with(|| library.memory(part.handle));
                    if let Err(error) = told
                        && is_gone(error)
                    {
                        return Err(error.clone());
                    }
                    told.clone().and_then(|memory| framebuffer(&memory, field))
                }
                _ => self.ask_errors(part, field),
            };
            answers.push((field, self.of_part(field, told)?));
        }
        Ok(answers.into_iter().collect())
    }

    /// Memory errors since the driver was loaded, which some drivers tell of MIG devices.
    fn ask_errors(&self, part: Part, field: Field) -> Result<Number, DriverError> {
        let kind = match field {
            Field::EccSbeVolTotal => EccKind::Corrected,
            Field::EccDbeVolTotal => EccKind::Uncorrected,
            _ => return Err(DriverError::NotSupported),
        };
        let told = self.session.library.ecc_errors(part.handle, kind)?;
        told.map(Number::Whole).ok_or(DriverError::NotSupported)
    }

    fn of_part(
        &mut self,
        field: Field,
        told: Result<Number, DriverError>,
    ) -> Result<Answer, DriverError> {
        Ok(match told {
            Ok(number) => Ok(number),
            Err(error) if ends_the_sample(&error) => return Err(error),
            Err(error) if is_unsupported(&error) => {
                self.remembered.unsupported_by_parts.insert(field);
                Err(Missing::NotForMig)
            }
            Err(error) => Err(Missing::Failed(error)),
        })
    }
}

fn all(fields: Fields, why: &Missing) -> Answers {
    fields
        .iter()
        .map(|field| (field, Err(why.clone())))
        .collect()
}

fn of_memory(fields: Fields) -> impl Iterator<Item = Field> {
    fields
        .iter()
        .filter(|field| source(*field) == Source::Memory)
}

/// What a field tells of a framebuffer; MiB without the fraction, as DCGM tells them.
fn framebuffer(memory: &Memory, field: Field) -> Result<Number, DriverError> {
    let reserved = memory.reserved.ok_or(DriverError::NotSupported);
    let bytes = match field {
        Field::FbTotal => memory.total,
        Field::FbFree => memory.free,
        Field::FbUsed => memory.used,
        Field::FbReserved => reserved?,
        _ => {
            let usable = memory.total.saturating_sub(reserved.unwrap_or(0));
            return Ok(Number::Real(ratio(memory.used, usable)));
        }
    };
    Ok(Number::Whole(bytes >> 20))
}

#[allow(clippy::cast_precision_loss, reason = "a ratio of bytes")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}
