//! What GPUs measure at one moment: the plain data that metrics are made of.

use crate::driver::DriverError;
use crate::metrics::{Field, Fields, TextField};

/// What a GPU is asked in one sample: each field is a call of the driver or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The numbers.
    pub fields: Fields,
    /// Whether to list the processes on it and what each of them uses.
    pub processes: bool,
}

/// A number as the driver gives it: whole numbers stay whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number.
    Whole(u64),
    /// A ratio, or a number that has been divided to the field's unit.
    Real(f64),
}

/// Why a GPU gives no number for a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// This GPU, or its driver, does not have it.
    NotSupported,
    /// GPUs before Hopper give it to DCGM alone.
    NeedsDcgm,
    /// The hardware counts it for the whole GPU and not for MIG devices, or, on a GPU that is
    /// partitioned, for MIG devices only.
    NotForMig,
    /// It is told of what was between two samples, and there was one only.
    FirstSample,
    /// The driver answered with an error.
    Failed(DriverError),
}

impl Missing {
    /// One word for it, as metrics have it in the label `reason`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotSupported => "not-supported",
            Self::NeedsDcgm => "needs-dcgm",
            Self::NotForMig => "not-for-mig",
            Self::FirstSample => "first-sample",
            Self::Failed(DriverError::NoPermission) => "no-permission",
            Self::Failed(DriverError::GpuLost) => "gpu-lost",
            Self::Failed(DriverError::Hung { .. }) => "hung",
            Self::Failed(_) => "error",
        }
    }
}

/// What was answered to the fields that were asked, in the fields' order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Readings(Vec<(Field, Result<Number, Missing>)>);

impl Readings {
    /// The answer to a field; `None` if it was not asked.
    pub fn get(&self, field: Field) -> Option<&Result<Number, Missing>> {
        let place = self.0.binary_search_by_key(&field, |(field, _)| *field);
        place.ok().map(|at| &self.0[at].1)
    }

    /// Every answer.
    pub fn iter(&self) -> impl Iterator<Item = (Field, &Result<Number, Missing>)> {
        self.0.iter().map(|(field, answer)| (*field, answer))
    }
}

impl FromIterator<(Field, Result<Number, Missing>)> for Readings {
    /// Of several answers to one field the last one counts.
    fn from_iter<I: IntoIterator<Item = (Field, Result<Number, Missing>)>>(answers: I) -> Self {
        let mut sorted = Self::default();
        for (field, answer) in answers {
            match sorted.0.binary_search_by_key(&field, |(field, _)| *field) {
                Ok(at) => sorted.0[at].1 = answer,
                Err(at) => sorted.0.insert(at, (field, answer)),
            }
        }
        sorted
    }
}

/// What a GPU measures at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GpuSample {
    /// Of the GPU as a whole. Where it is partitioned, what the hardware does not tell of the
    /// whole is [`Missing::NotForMig`].
    pub readings: Readings,
    /// Of its MIG devices, in the order of their instances; empty where it is not partitioned.
    pub mig: Vec<MigSample>,
    /// The processes on it; empty if they were not asked for or the driver does not tell.
    pub processes: Vec<ProcessSample>,
}

/// What one MIG device measures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MigSample {
    /// Its GPU instance.
    pub gpu_instance: u32,
    /// Its compute instance.
    pub compute_instance: u32,
    /// What it answers; a field that the hardware does not count for instances is
    /// [`Missing::NotForMig`].
    pub readings: Readings,
}

/// A process that uses a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessSample {
    /// Its id, in the host's numbers.
    pub pid: u32,
    /// The GPU instance and compute instance it runs on, where the GPU is partitioned.
    pub instance: Option<(u32, u32)>,
    /// Framebuffer memory it holds, in bytes; `None` where the driver cannot tell.
    pub memory: Option<u64>,
    /// How busy it keeps the SMs, in percent, since the sample before; `None` where the driver
    /// does not count (on partitioned GPUs).
    pub sm_util: Option<u32>,
    /// How busy it keeps the memory, in percent, since the sample before.
    pub mem_util: Option<u32>,
}

/// Words that stay the same, of one GPU; what it cannot tell is left out.
pub type Texts = Vec<(TextField, String)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_by_its_field_and_the_last_one_counts() {
        let readings: Readings = [
            (Field::GpuTemp, Ok(Number::Whole(40))),
            (Field::SmClock, Ok(Number::Whole(1))),
            (Field::SmClock, Err(Missing::NotSupported)),
        ]
        .into_iter()
        .collect();
        let temperature = readings.get(Field::GpuTemp);
        assert_eq!(temperature, Some(&Ok(Number::Whole(40))));
        let clock = readings.get(Field::SmClock);
        assert_eq!(clock, Some(&Err(Missing::NotSupported)));
        assert_eq!(readings.get(Field::FbUsed), None);
        let order: Vec<_> = readings.iter().map(|(field, _)| field).collect();
        assert_eq!(order, [Field::SmClock, Field::GpuTemp]);
    }
}
