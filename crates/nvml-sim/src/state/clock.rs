//! The clock that all processes of the machine share.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds since the machine started, suspended time included.
pub(crate) fn now() -> u64 {
    nanoseconds(clock_gettime(ClockId::Boottime))
}

/// Microseconds since the epoch, for what NVML dates by the wall clock.
pub(crate) fn wall_microseconds() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime)) / 1000
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// The moment `duration` from now; 0, which means never, if there is no duration.
pub(crate) fn deadline(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| {
        now().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    })
}

/// Whether a deadline lies in the past; 0 never does.
pub(crate) fn has_passed(deadline: u64) -> bool {
    deadline != 0 && now() >= deadline
}

/// A number of nanoseconds for the kernel.
pub(crate) fn timespec(nanoseconds: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanoseconds % 1_000_000_000).unwrap_or(0),
    }
}
