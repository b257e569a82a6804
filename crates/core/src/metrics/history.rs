//! What has been sampled so far: the last good sample of each GPU, and what only several samples
//! together can tell.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::throttle::ClockEvent;
use super::{Field, Missing};
use crate::driver::DriverError;
use crate::gpu::GpuUuid;
use crate::health::Moment;
use crate::sample::{GpuSample, Number, ProcessSample, Readings};

/// A ratio below this counts as idle: GPM's ratios are quotients of counters, of which a few ticks
/// are the driver's own.
const IDLE_RATIO: f64 = 0.001;

/// Everything that is remembered of samples. It is fed with each one, whether it went well or not.
#[derive(Debug, Clone, Default)]
pub struct History {
    gpus: BTreeMap<GpuUuid, GpuHistory>,
    /// How far back clock events are kept; zero if nobody wants them.
    window: Duration,
}

/// What is remembered of one GPU.
#[derive(Debug, Clone, Default)]
pub struct GpuHistory {
    last: Option<(GpuSample, Moment)>,
    /// Why the last attempt failed; `None` if it went well.
    error: Option<DriverError>,
    errors: u64,
    /// When the GPU, or a GPU instance of it, was last seen at work, or first seen at all.
    active: BTreeMap<Option<u32>, Moment>,
    /// When which clock events were seen, oldest first.
    clock_events: VecDeque<(Duration, u64)>,
}

impl History {
    /// Nothing remembered; clock events are kept for `window`, which is zero where nobody counts
    /// them.
    pub fn new(window: Duration) -> Self {
        Self {
            gpus: BTreeMap::new(),
            window,
        }
    }

    /// Takes in what came of an attempt to sample a GPU.
    pub fn take(&mut self, gpu: &GpuUuid, sample: Result<GpuSample, DriverError>, now: Moment) {
        let window = self.window;
        let history = self.gpus.entry(gpu.clone()).or_default();
        match sample {
            Ok(sample) => history.remember(sample, window, now),
            Err(error) => {
                history.errors += 1;
                history.error = Some(error);
            }
        }
    }

    /// Forgets every other GPU: those are not there any more.
    pub fn keep_only(&mut self, gpus: impl Fn(&GpuUuid) -> bool) {
        self.gpus.retain(|gpu, _| gpus(gpu));
    }

    /// What is remembered of a GPU.
    pub fn of(&self, gpu: &GpuUuid) -> Option<&GpuHistory> {
        self.gpus.get(gpu)
    }

    /// How many attempts have failed since the start, of the GPUs that there are.
    pub fn errors(&self) -> u64 {
        self.gpus.values().map(|gpu| gpu.errors).sum()
    }

    /// How far back clock events are kept.
    pub fn window(&self) -> Duration {
        self.window
    }
}

impl GpuHistory {
    fn remember(&mut self, sample: GpuSample, window: Duration, now: Moment) {
        self.error = None;
        for (unit, is_active) in activity(&sample) {
            let seen = self.active.entry(unit).or_insert(now);
            if is_active {
                *seen = now;
            }
        }
        let instance = |unit: &u32| sample.mig.iter().any(|mig| mig.gpu_instance == *unit);
        self.active
            .retain(|unit, _| unit.as_ref().is_none_or(instance));
        if let Some(Ok(Number::Whole(bits))) = sample.readings.get(Field::ClockThrottleReasons) {
            self.remember_clock_events(*bits, window, now);
        }
        self.last = Some((sample, now));
    }

    fn remember_clock_events(&mut self, bits: u64, window: Duration, now: Moment) {
        let is_over = |then: Duration| now.monotonic.saturating_sub(then) > window;
        while self
            .clock_events
            .front()
            .is_some_and(|(then, _)| is_over(*then))
        {
            self.clock_events.pop_front();
        }
        if !window.is_zero() && bits != 0 {
            self.clock_events.push_back((now.monotonic, bits));
        }
    }

    /// The last good sample, and when it was taken.
    pub fn last(&self) -> Option<&(GpuSample, Moment)> {
        self.last.as_ref()
    }

    /// Why there was no sample at the last attempt.
    pub fn error(&self) -> Option<&DriverError> {
        self.error.as_ref()
    }

    /// How many attempts have failed.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// For how long the GPU, or a GPU instance of it, has done nothing up to the last good sample;
    /// what was before it was first seen is not known and does not count.
    pub fn idle(&self, instance: Option<u32>) -> Option<Duration> {
        let (_, last) = self.last.as_ref()?;
        let active = self.active.get(&instance)?;
        Some(last.monotonic.saturating_sub(active.monotonic))
    }

    /// In how many samples of the window a clock event was seen.
    pub fn clock_events(&self, event: ClockEvent, window: Duration, now: Moment) -> u64 {
        let counts = |(then, bits): &&(Duration, u64)| {
            now.monotonic.saturating_sub(*then) <= window && bits & event.bit() != 0
        };
        self.clock_events.iter().filter(counts).count() as u64
    }
}

/// The GPU and its GPU instances, and whether each is at work.
fn activity(sample: &GpuSample) -> Vec<(Option<u32>, bool)> {
    let mut units = vec![(None, false)];
    for mig in &sample.mig {
        let unit = Some(mig.gpu_instance);
        if units.iter().any(|(known, _)| *known == unit) {
            continue;
        }
        let of_instance = |process: &&ProcessSample| {
            process.instance.map(|(gpu_instance, _)| gpu_instance) == unit
        };
        let mut processes = sample.processes.iter().filter(of_instance);
        let is_active = is_at_work(&mig.readings, &[Field::GrEngineActive, Field::SmActive])
            .unwrap_or_else(|| processes.next().is_some());
        units.push((unit, is_active));
    }
    let partly = units.iter().any(|(_, is_active)| *is_active);
    let whole = is_at_work(&sample.readings, &[Field::GpuUtil, Field::GrEngineActive]);
    units[0].1 = partly || whole.unwrap_or(!sample.processes.is_empty());
    units
}

/// Whether any of these fields says so; `None` if none says anything.
fn is_at_work(readings: &Readings, fields: &[Field]) -> Option<bool> {
    let answers = fields.iter().filter_map(|field| readings.get(*field));
    let known = answers.filter_map(|answer: &Result<Number, Missing>| answer.as_ref().ok());
    known
        .map(|number| match number {
            Number::Whole(number) => *number > 0,
            Number::Real(number) => *number >= IDLE_RATIO,
        })
        .reduce(|a, b| a || b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment {
            monotonic: Duration::from_secs(seconds),
            wall: 1_700_000_000 + seconds,
        }
    }

    fn uuid(number: u32) -> GpuUuid {
        GpuUuid::placeholder(number, None)
    }

    fn throttled(bits: u64) -> GpuSample {
        let answer = (Field::ClockThrottleReasons, Ok(Number::Whole(bits)));
        GpuSample {
            readings: [answer].into_iter().collect(),
            ..GpuSample::default()
        }
    }

    #[test]
    fn clock_events_are_kept_as_long_as_their_window() {
        let window = Duration::from_secs(10);
        let mut history = History::new(window);
        for second in 0..1000 {
            let bits = if second % 2 == 0 { 0b101 } else { 0b001 };
            history.take(&uuid(0), Ok(throttled(bits)), at(second));
        }
        let gpu = history.of(&uuid(0)).unwrap();
        let count = |event, now| gpu.clock_events(event, window, at(now));
        assert_eq!(count(ClockEvent::GpuIdle, 999), 11);
        assert_eq!(count(ClockEvent::PowerCap, 999), 5);
        assert_eq!(count(ClockEvent::HwSlowdown, 999), 0);
        assert_eq!(count(ClockEvent::GpuIdle, 1005), 5);
        assert_eq!(gpu.clock_events.len(), 11);
    }

    #[test]
    fn clock_events_that_nobody_counts_are_not_kept() {
        let mut history = History::new(Duration::ZERO);
        history.take(&uuid(0), Ok(throttled(1)), at(0));
        assert!(history.of(&uuid(0)).unwrap().clock_events.is_empty());
    }

    #[test]
    fn an_attempt_that_fails_leaves_the_last_good_sample() {
        let mut history = History::default();
        history.take(&uuid(0), Ok(throttled(1)), at(0));
        history.take(&uuid(0), Err(DriverError::GpuLost), at(1));
        history.take(&uuid(1), Err(DriverError::GpuLost), at(1));
        let gpu = history.of(&uuid(0)).unwrap();
        assert_eq!(gpu.last(), Some(&(throttled(1), at(0))));
        assert_eq!(gpu.error(), Some(&DriverError::GpuLost));
        assert_eq!(history.errors(), 2);
        history.keep_only(|gpu| *gpu == uuid(1));
        assert!(history.of(&uuid(0)).is_none());
        assert!(history.of(&uuid(1)).is_some());
    }
}
