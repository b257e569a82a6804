//! What a scripted driver's GPUs measure.

use std::collections::BTreeMap;

use mizzen_core::driver::DriverError;
use mizzen_core::gpu::GpuUuid;
use mizzen_core::metrics::{Field, Fields};
use mizzen_core::sample::{GpuSample, MigSample, Missing, Number, Readings, Texts, Wanted};

use crate::driver::{FakeDriver, Script};

/// What GPUs measure, and how often they were asked.
#[derive(Debug, Default)]
pub(crate) struct SampleScript {
    answers: BTreeMap<GpuUuid, Result<GpuSample, DriverError>>,
    texts: BTreeMap<GpuUuid, Texts>,
    hang: bool,
    begun: usize,
    wanted: Option<Wanted>,
}

impl FakeDriver {
    /// What this GPU measures from now on. Of its fields those are told that are wanted; a wanted
    /// one that it does not have is [`Missing::NotSupported`], or [`Missing::NotForMig`] of a MIG
    /// device.
    pub fn set_sample(&self, gpu: &GpuUuid, answer: Result<GpuSample, DriverError>) {
        self.change(|script| {
            script.samples.answers.insert(gpu.clone(), answer);
        });
    }

    /// What this GPU answers to one field from now on, besides what it measures already.
    pub fn set_reading(&self, gpu: &GpuUuid, field: Field, answer: Result<Number, Missing>) {
        self.change(|script| {
            let known = script.samples.answers.remove(gpu);
            let mut sample = known.and_then(Result::ok).unwrap_or_default();
            let old = sample.readings.iter().map(owned);
            sample.readings = old.chain([(field, answer)]).collect();
            script.samples.answers.insert(gpu.clone(), Ok(sample));
        });
    }

    /// The words of this GPU.
    pub fn set_texts(&self, gpu: &GpuUuid, texts: Texts) {
        self.change(|script| {
            script.samples.texts.insert(gpu.clone(), texts);
        });
    }

    /// No sample that is asked for returns, until this is taken back.
    pub fn hang_samples(&self, hang: bool) {
        self.change(|script| script.samples.hang = hang);
    }

    /// How often somebody began to take a sample.
    pub fn samples(&self) -> usize {
        self.lock().samples.begun
    }

    /// What was wanted of the last sample.
    pub fn sampled(&self) -> Option<Wanted> {
        self.lock().samples.wanted
    }

    /// Answers a session whose GPUs are these.
    pub(crate) fn sample(
        &self,
        gpus: &[GpuUuid],
        wanted: Wanted,
        knows: impl Fn(&Script, &GpuUuid) -> Result<(), DriverError>,
    ) -> Vec<Result<GpuSample, DriverError>> {
        self.change(|script| {
            script.samples.begun += 1;
            script.samples.wanted = Some(wanted);
        });
        let mut script = self.lock();
        while script.samples.hang {
            script = self.wait(script);
        }
        let one = |gpu| {
            knows(&script, gpu)?;
            let answer = script.samples.answers.get(gpu).cloned();
            Ok(asked(
                answer.unwrap_or_else(|| Ok(GpuSample::default()))?,
                wanted,
            ))
        };
        gpus.iter().map(one).collect()
    }

    /// Answers a session whose GPUs are these.
    pub(crate) fn texts(
        &self,
        gpus: &[GpuUuid],
        knows: impl Fn(&Script, &GpuUuid) -> Result<(), DriverError>,
    ) -> Vec<Result<Texts, DriverError>> {
        let script = self.lock();
        let one = |gpu| {
            knows(&script, gpu)?;
            Ok(script.samples.texts.get(gpu).cloned().unwrap_or_default())
        };
        gpus.iter().map(one).collect()
    }
}

/// What is not asked for is not told.
fn asked(sample: GpuSample, wanted: Wanted) -> GpuSample {
    let device = |device: MigSample| MigSample {
        readings: answers(&device.readings, wanted.fields, &Missing::NotForMig),
        ..device
    };
    GpuSample {
        readings: answers(&sample.readings, wanted.fields, &Missing::NotSupported),
        mig: sample.mig.into_iter().map(device).collect(),
        processes: if wanted.processes {
            sample.processes
        } else {
            Vec::new()
        },
    }
}

/// An answer to each wanted field that a driver can answer: the last Xid is told by events.
fn answers(known: &Readings, wanted: Fields, otherwise: &Missing) -> Readings {
    let answer = |field| {
        let known = known.get(field).cloned();
        (field, known.unwrap_or_else(|| Err(otherwise.clone())))
    };
    let fields = wanted.iter().filter(|&field| field != Field::XidErrors);
    fields.map(answer).collect()
}

fn owned((field, answer): (Field, &Result<Number, Missing>)) -> (Field, Result<Number, Missing>) {
    (field, answer.clone())
}

#[cfg(test)]
mod tests {
    use mizzen_core::driver::DriverLoader;
    use mizzen_core::sample::ProcessSample;

    use super::*;
    use crate::gpus;

    const PROCESS: ProcessSample = ProcessSample {
        pid: 7,
        instance: None,
        memory: Some(1 << 20),
        sm_util: None,
        mem_util: None,
    };

    fn wanted(fields: &[Field], processes: bool) -> Wanted {
        Wanted {
            fields: fields.iter().copied().collect(),
            processes,
        }
    }

    #[test]
    fn a_gpu_answers_what_it_was_told_of_what_is_wanted() {
        let gpus = gpus(2);
        let uuids: Vec<_> = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
        let driver = FakeDriver::new(gpus);
        driver.set_sample(
            &uuids[0],
            Ok(GpuSample {
                processes: vec![PROCESS],
                ..GpuSample::default()
            }),
        );
        driver.set_reading(&uuids[0], Field::GpuTemp, Ok(Number::Whole(40)));
        driver.set_reading(&uuids[0], Field::SmClock, Ok(Number::Whole(345)));
        driver.break_gpu(1, DriverError::GpuLost);
        let session = driver.open().unwrap();
        let fields = [Field::GpuTemp, Field::FbUsed, Field::XidErrors];
        let answers = session.sample(&uuids, wanted(&fields, false));
        let sample = answers[0].as_ref().unwrap();
        let answered: Vec<_> = sample.readings.iter().map(owned).collect();
        assert_eq!(
            answered,
            [
                (Field::GpuTemp, Ok(Number::Whole(40))),
                (Field::FbUsed, Err(Missing::NotSupported)),
            ]
        );
        assert!(sample.processes.is_empty());
        assert_eq!(answers[1], Err(DriverError::GpuLost));
        assert_eq!(driver.samples(), 1);
        assert_eq!(driver.sampled(), Some(wanted(&fields, false)));

        let answers = session.sample(&uuids, wanted(&[], true));
        assert_eq!(answers[0].as_ref().unwrap().processes, [PROCESS]);
    }
}
