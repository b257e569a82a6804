//! What a GPU is busy with: functions of time, so that no process has to keep them going.

use std::f64::consts::{FRAC_PI_2, PI, TAU};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock;
use super::layout::LOAD_WORDS;
use crate::node::Gpu;

/// A value over time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// Always the same.
    Constant(f64),
    /// From one value to another in a straight line, then that.
    Ramp {
        /// Value at the start.
        from: f64,
        /// Value at the end.
        to: f64,
        /// How long it takes.
        over: Duration,
    },
    /// Up and down as a sine, starting at the middle and rising.
    Wave {
        /// Lowest value.
        low: f64,
        /// Highest value.
        high: f64,
        /// Time from one peak to the next.
        period: Duration,
    },
}

impl Program {
    /// The value `seconds` after the start.
    pub fn at(self, seconds: f64) -> f64 {
        match self {
            Self::Constant(value) => value,
            Self::Ramp { from, to, over } => {
                let part = (seconds / positive(over)).clamp(0.0, 1.0);
                from + (to - from) * part
            }
            Self::Wave { low, high, period } => {
                let turn = TAU * seconds / positive(period);
                f64::midpoint(low, high) + (high - low) / 2.0 * sine(turn)
            }
        }
    }

    /// The integral over the first `seconds` seconds.
    pub fn sum(self, seconds: f64) -> f64 {
        match self {
            Self::Constant(value) => value * seconds,
            Self::Ramp { from, to, over } => {
                let over = positive(over);
                let rising = seconds.clamp(0.0, over);
                let climbed = from * rising + (to - from) * rising * rising / (2.0 * over);
                climbed + to * (seconds - rising).max(0.0)
            }
            Self::Wave { low, high, period } => {
                let speed = TAU / positive(period);
                let cosine = sine(speed * seconds + FRAC_PI_2);
                let swing = (high - low) / 2.0 * (1.0 - cosine) / speed;
                f64::midpoint(low, high) * seconds + swing
            }
        }
    }
}

/// The sine, to nine digits, without libm: a shared library of 300 KiB for one function would
/// weigh on every process that loads the simulated NVML.
fn sine(angle: f64) -> f64 {
    let turn = angle % TAU;
    let half = if turn > PI {
        turn - TAU
    } else if turn < -PI {
        turn + TAU
    } else {
        turn
    };
    // Near the ends of the half turn the series converges slowly; the sine is symmetric there.
    let near = if half > FRAC_PI_2 {
        PI - half
    } else if half < -FRAC_PI_2 {
        -PI - half
    } else {
        half
    };
    let square = near * near;
    let divisors = [156.0, 110.0, 72.0, 42.0, 20.0, 6.0];
    near * divisors
        .iter()
        .fold(1.0, |rest, divisor| 1.0 - square / divisor * rest)
}

fn positive(duration: Duration) -> f64 {
    duration.as_secs_f64().max(1e-9)
}

/// What is programmed for one GPU; what is not follows from the rest.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Load {
    /// GPU utilisation, %.
    pub(crate) utilization: Option<Program>,
    /// Memory utilisation, %.
    pub(crate) memory_utilization: Option<Program>,
    /// Used framebuffer, MiB.
    pub(crate) memory: Option<Program>,
    /// Watts.
    pub(crate) power: Option<Program>,
    /// °C.
    pub(crate) temperature: Option<Program>,
    /// Encoder utilisation, %.
    pub(crate) encoder: Option<Program>,
    /// Decoder utilisation, %.
    pub(crate) decoder: Option<Program>,
    /// When the programs started, in nanoseconds since boot.
    pub(crate) started: u64,
    /// When they end; 0 = never.
    pub(crate) until: u64,
    /// Energy used before `energy_since`, mJ.
    pub(crate) energy: f64,
    /// From when on energy is the integral of power, and work that of utilisation.
    pub(crate) energy_since: u64,
    /// Work done before `energy_since`.
    pub(crate) work: Work,
}

/// What has been done since the GPU came: the integrals of utilisation, % × s.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Work {
    /// By the SMs.
    pub(crate) busy: f64,
    /// By the memory.
    pub(crate) memory: f64,
}

/// How busy the memory is, for each percent of the SMs, where nothing else is said.
const MEMORY_PER_BUSY: f64 = 0.6;

const WORDS_PER_PROGRAM: usize = 4;

impl Load {
    fn programs(&self) -> [Option<Program>; 7] {
        [
            self.utilization,
            self.memory_utilization,
            self.memory,
            self.power,
            self.temperature,
            self.encoder,
            self.decoder,
        ]
    }

    pub(super) fn encode(&self) -> [u64; LOAD_WORDS] {
        let mut words = [0; LOAD_WORDS];
        for (chunk, program) in words
            .chunks_exact_mut(WORDS_PER_PROGRAM)
            .zip(self.programs())
        {
            chunk.copy_from_slice(&encode_program(program));
        }
        words[28..34].copy_from_slice(&[
            self.started,
            self.until,
            self.energy.to_bits(),
            self.energy_since,
            self.work.busy.to_bits(),
            self.work.memory.to_bits(),
        ]);
        words
    }

    pub(super) fn decode(words: &[u64; LOAD_WORDS]) -> Self {
        let program = |index: usize| decode_program(&words[index * WORDS_PER_PROGRAM..]);
        Self {
            utilization: program(0),
            memory_utilization: program(1),
            memory: program(2),
            power: program(3),
            temperature: program(4),
            encoder: program(5),
            decoder: program(6),
            started: words[28],
            until: words[29],
            energy: f64::from_bits(words[30]),
            energy_since: words[31],
            work: Work {
                busy: f64::from_bits(words[32]),
                memory: f64::from_bits(words[33]),
            },
        }
    }

    /// Whether the programs are over.
    fn is_over(&self) -> bool {
        clock::has_passed(self.until)
    }

    /// What the GPU does now, if this is its load.
    pub(crate) fn sample(&self, gpu: &Gpu) -> Sample {
        self.sample_at(gpu, clock::now())
    }

    fn sample_at(&self, gpu: &Gpu, now: u64) -> Sample {
        let over = self.until != 0 && now >= self.until;
        let seconds = seconds(now.saturating_sub(self.started));
        let value =
            |program: Option<Program>| program.filter(|_| !over).map(|program| program.at(seconds));
        let percent = |program| value(program).unwrap_or(0.0).clamp(0.0, 100.0);
        let utilization = percent(self.utilization);
        let limit = f64::from(gpu.model.power.max.max(gpu.power_limit));
        Sample {
            utilization,
            memory_utilization: value(self.memory_utilization)
                .unwrap_or(utilization * MEMORY_PER_BUSY)
                .clamp(0.0, 100.0),
            memory_mib: value(self.memory).map(|mib| mib.max(0.0)),
            power: value(self.power)
                .unwrap_or_else(|| idle(gpu) + full(gpu) * utilization / 100.0)
                .clamp(0.0, limit),
            temperature: value(self.temperature)
                .unwrap_or(30.0 + utilization * 0.38)
                .clamp(0.0, 120.0),
            encoder: percent(self.encoder),
            decoder: percent(self.decoder),
        }
    }

    /// Energy used until now, mJ.
    pub(crate) fn energy_now(&self, gpu: &Gpu) -> f64 {
        self.energy_at(gpu, clock::now())
    }

    fn energy_at(&self, gpu: &Gpu, now: u64) -> f64 {
        let end = if self.until == 0 {
            now
        } else {
            now.min(self.until)
        };
        let busy_from = self.energy_since.max(self.started);
        let joules = if end > busy_from {
            let used = |time: u64| self.joules(gpu, seconds(time - self.started));
            used(end) - used(busy_from)
        } else {
            0.0
        };
        let idle_seconds = seconds(now.saturating_sub(end.max(self.energy_since)));
        self.energy + 1000.0 * (joules.max(0.0) + idle(gpu) * idle_seconds)
    }

    /// The integral of power over the first `seconds` of the programs.
    fn joules(&self, gpu: &Gpu, seconds: f64) -> f64 {
        match (self.power, self.utilization) {
            (Some(power), _) => power.sum(seconds),
            (None, Some(busy)) => idle(gpu) * seconds + full(gpu) * busy.sum(seconds) / 100.0,
            (None, None) => idle(gpu) * seconds,
        }
    }

    /// Work done until now.
    pub(crate) fn work_now(&self) -> Work {
        self.work_at(clock::now())
    }

    fn work_at(&self, now: u64) -> Work {
        let done = |program: Option<Program>, before: f64| {
            program.map_or(before, |program| self.worked_at(program, before, now))
        };
        let busy = done(self.utilization, self.work.busy);
        let memory = match self.memory_utilization {
            Some(program) => self.worked_at(program, self.work.memory, now),
            None => self.work.memory + (busy - self.work.busy) * MEMORY_PER_BUSY,
        };
        Work { busy, memory }
    }

    /// The integral of a program under this load until now, of which `before` was done before
    /// `energy_since`.
    pub(crate) fn worked(&self, program: Program, before: f64) -> f64 {
        self.worked_at(program, before, clock::now())
    }

    fn worked_at(&self, program: Program, before: f64, now: u64) -> f64 {
        let end = if self.until == 0 {
            now
        } else {
            now.min(self.until)
        };
        let from = self.energy_since.max(self.started);
        if end <= from {
            return before;
        }
        let done = |time: u64| program.sum(seconds(time - self.started));
        before + (done(end) - done(from)).max(0.0)
    }

    /// What an instance's program says now; nothing when the load is over.
    pub(crate) fn value_now(&self, program: Program) -> f64 {
        if self.is_over() {
            return 0.0;
        }
        program.at(seconds(clock::now().saturating_sub(self.started)))
    }

    /// This load with its energy and work counted up to now, so that the programs can be changed.
    pub(crate) fn settled(self, gpu: &Gpu) -> Self {
        let now = clock::now();
        let base = Self {
            energy: self.energy_at(gpu, now),
            energy_since: now,
            work: self.work_at(now),
            ..self
        };
        if base.is_over() {
            return Self {
                energy: base.energy,
                energy_since: now,
                work: base.work,
                started: now,
                ..Self::default()
            };
        }
        base
    }
}

fn idle(gpu: &Gpu) -> f64 {
    f64::from(gpu.model.power.idle)
}

/// Watts that full utilisation adds.
fn full(gpu: &Gpu) -> f64 {
    (f64::from(gpu.power_limit) * 0.96 - idle(gpu)).max(0.0)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a microsecond in a century is precise enough"
)]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

pub(super) fn encode_program(program: Option<Program>) -> [u64; WORDS_PER_PROGRAM] {
    let length = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    match program {
        None => [0; WORDS_PER_PROGRAM],
        Some(Program::Constant(value)) => [1, value.to_bits(), 0, 0],
        Some(Program::Ramp { from, to, over }) => [2, from.to_bits(), to.to_bits(), length(over)],
        Some(Program::Wave { low, high, period }) => {
            [3, low.to_bits(), high.to_bits(), length(period)]
        }
    }
}

pub(super) fn decode_program(words: &[u64]) -> Option<Program> {
    let (first, second) = (f64::from_bits(words[1]), f64::from_bits(words[2]));
    let length = Duration::from_nanos(words[3]);
    match words[0] {
        1 => Some(Program::Constant(first)),
        2 => Some(Program::Ramp {
            from: first,
            to: second,
            over: length,
        }),
        3 => Some(Program::Wave {
            low: first,
            high: second,
            period: length,
        }),
        _ => None,
    }
}

/// What a GPU does at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) utilization: f64,
    pub(crate) memory_utilization: f64,
    /// Used framebuffer, if it was programmed.
    pub(crate) memory_mib: Option<f64>,
    pub(crate) power: f64,
    pub(crate) temperature: f64,
    pub(crate) encoder: f64,
    pub(crate) decoder: f64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::Scenario;

    fn program() -> impl Strategy<Value = Program> {
        let value = || 0.0..100.0_f64;
        let length = || (1_u64..100_000).prop_map(Duration::from_millis);
        prop_oneof![
            value().prop_map(Program::Constant),
            (value(), value(), length()).prop_map(|(from, to, over)| Program::Ramp {
                from,
                to,
                over
            }),
            (value(), value(), length()).prop_map(|(low, high, period)| Program::Wave {
                low,
                high,
                period
            }),
        ]
    }

    proptest! {
        #[test]
        fn the_sum_of_a_program_is_the_area_under_it(program in program(), end in 0.1..200.0_f64) {
            const STEPS: u32 = 4_000;
            let step = end / f64::from(STEPS);
            let area: f64 = (0..STEPS)
                .map(|index| program.at((f64::from(index) + 0.5) * step) * step)
                .sum();
            prop_assert!((area - program.sum(end)).abs() < 0.002 * area.abs() + 0.1 * end.max(1.0));
        }

        #[test]
        fn a_load_survives_the_way_through_its_words(
            utilization in proptest::option::of(program()),
            power in proptest::option::of(program()),
            started: u64,
            energy in 0.0..1e15_f64,
        ) {
            let load = Load { utilization, power, started, energy, ..Load::default() };
            prop_assert_eq!(Load::decode(&load.encode()), load);
        }

        #[test]
        fn energy_never_falls(
            utilization in program(),
            until in 0_u64..100,
            times in proptest::collection::vec(0_u64..200_000_000_000, 2..20),
        ) {
            let node = Scenario::default().plan().unwrap();
            let load = Load {
                utilization: Some(utilization),
                started: 1_000_000_000,
                until: until * 1_000_000_000,
                ..Load::default()
            };
            let mut times = times;
            times.sort_unstable();
            let energies: Vec<f64> =
                times.iter().map(|&time| load.energy_at(&node.gpus[0], time)).collect();
            prop_assert!(energies.windows(2).all(|pair| pair[0] <= pair[1] + 1e-3));
        }
    }

    #[test]
    fn the_sine_is_the_sine() {
        for step in -10_000..10_000 {
            let angle = f64::from(step) * 0.01;
            assert!((sine(angle) - angle.sin()).abs() < 1e-9, "{angle}");
        }
    }

    #[test]
    fn an_idle_gpu_draws_its_idle_power_and_a_busy_one_nearly_its_limit() {
        let node = Scenario::default().plan().unwrap();
        let gpu = &node.gpus[0];
        assert!((Load::default().sample(gpu).power - 70.0).abs() < 1e-9);
        let busy = Load {
            utilization: Some(Program::Constant(100.0)),
            ..Load::default()
        };
        assert!((busy.sample(gpu).power - 672.0).abs() < 1e-9);
    }
}
