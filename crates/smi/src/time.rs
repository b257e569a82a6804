//! The time of day, in UTC: without the C library's own clock, the machine's time zone is not
//! known.

use std::time::{Duration, SystemTime};

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

struct Date {
    year: u64,
    /// From 0.
    month: usize,
    day: u64,
    /// Since midnight.
    seconds: u64,
    millis: u32,
    weekday: &'static str,
}

/// `Mon Nov 24 12:53:00 2025`
pub(crate) fn long(time: SystemTime) -> String {
    let date = date(time);
    format!(
        "{} {} {:>2} {} {}",
        date.weekday,
        MONTHS[date.month],
        date.day,
        clock(date.seconds),
        date.year
    )
}

/// `2025/11/24 12:53:00.123`
pub(crate) fn short(time: SystemTime) -> String {
    let date = date(time);
    format!(
        "{}/{:02}/{:02} {}.{:03}",
        date.year,
        date.month + 1,
        date.day,
        clock(date.seconds),
        date.millis
    )
}

fn clock(seconds: u64) -> String {
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// By the Gregorian calendar, whose years are counted from March so that a leap day is the last.
fn date(time: SystemTime) -> Date {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let days = since.as_secs() / 86_400;
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = (month_from_march + 2) % 12;
    Date {
        year: era * 400 + year_of_era + u64::from(month < 2),
        month: month as usize,
        day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
        seconds: since.as_secs() % 86_400,
        millis: since.subsec_millis(),
        weekday: DAYS[(days % 7) as usize],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "Thu Jan  1 00:00:00 1970"),
            (951_782_399, "Mon Feb 28 23:59:59 2000"),
            (951_782_400, "Tue Feb 29 00:00:00 2000"),
            (1_735_689_599, "Tue Dec 31 23:59:59 2024"),
            (1_763_988_780, "Mon Nov 24 12:53:00 2025"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(long(time), text);
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_988_780_007);
        assert_eq!(short(time), "2025/11/24 12:53:00.007");
    }
}
