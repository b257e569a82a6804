//! How much NVLinks carry.

use std::time::{Duration, Instant};

use mizzen_core::sample::{Missing, Number};

use super::Answer;
use super::calls::Value;

/// `NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX`, `..._RX`: KiB since the driver was loaded.
const SENT: u32 = 138;
const RECEIVED: u32 = 139;
/// Over a shorter time a rate says little.
const SHORTEST: Duration = Duration::from_millis(100);

/// What is asked for the traffic of a link, or of all of them.
pub(super) fn values(scope: u32) -> [Value; 2] {
    [SENT, RECEIVED].map(|id| Value { id, scope })
}

/// What a link, or all of them, carried when it was asked last.
///
/// DCGM's `NVLINK_BANDWIDTH_*`, though the exporter calls them counters, are rates: KiB of data
/// sent and received in a second, divided by a thousand, without the fraction. So are these.
#[derive(Debug, Default)]
pub(super) struct Rate {
    last: Option<(Instant, u64)>,
    told: Option<u64>,
}

impl Rate {
    /// The rate since the last time, of which `kib` is the counter now.
    pub(super) fn read(&mut self, now: Instant, kib: u64) -> Answer {
        if let Some((at, before)) = self.last {
            let between = now.duration_since(at);
            if between < SHORTEST {
                return self.told.map(Number::Whole).ok_or(Missing::FirstSample);
            }
            // Counters begin anew with the driver.
            let carried = kib.checked_sub(before);
            self.told = carried.map(|carried| megabytes_a_second(carried, between));
        }
        self.last = Some((now, kib));
        self.told.map(Number::Whole).ok_or(Missing::FirstSample)
    }
}

fn megabytes_a_second(kib: u64, between: Duration) -> u64 {
    let thousands = u128::from(kib) * 1_000_000 / between.as_nanos().max(1);
    u64::try_from(thousands).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_was_carried_in_a_second() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut rate = Rate::default();
        assert_eq!(rate.read(at(0), 5_000_000), Err(Missing::FirstSample));
        assert_eq!(rate.read(at(50), 5_500_000), Err(Missing::FirstSample));
        assert_eq!(rate.read(at(2000), 6_000_000), Ok(Number::Whole(500)));
        assert_eq!(rate.read(at(2050), 9_000_000), Ok(Number::Whole(500)));
        assert_eq!(rate.read(at(3000), 6_000_999), Ok(Number::Whole(0)));
    }

    #[test]
    fn a_counter_that_begins_anew_is_a_first_sample_again() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.read(start, 1_000), Err(Missing::FirstSample));
        let later = start + Duration::from_secs(1);
        assert_eq!(rate.read(later, 10), Err(Missing::FirstSample));
        let later = start + Duration::from_secs(2);
        assert_eq!(rate.read(later, 2_010), Ok(Number::Whole(2)));
    }
}
