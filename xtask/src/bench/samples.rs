//! Repeated measurements of one figure.

use std::time::Duration;

/// Durations, sorted.
#[derive(Debug, Clone)]
pub(super) struct Samples(Vec<Duration>);

impl Samples {
    pub(super) fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// The smallest sample that `percent` of all are not above.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1) - 1;
        self.0.get(rank).copied().unwrap_or_default()
    }

    pub(super) fn median(&self) -> Duration {
        self.percentile(50)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn worst(&self) -> Duration {
        self.percentile(100)
    }
}

/// Milliseconds, with as many digits as mean something.
pub(super) fn ms(duration: Duration) -> String {
    let value = duration.as_secs_f64() * 1e3;
    match value {
        ..1.0 => format!("{value:.3} ms"),
        1.0..100.0 => format!("{value:.1} ms"),
        _ => format!("{value:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_and_the_hundredth_is_the_worst() {
        let samples = Samples::new((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(samples.median(), Duration::from_millis(100));
        assert_eq!(samples.percentile(99), Duration::from_millis(198));
        assert_eq!(samples.worst(), Duration::from_millis(200));
        assert_eq!(Samples::new(Vec::new()).median(), Duration::ZERO);
    }
}
