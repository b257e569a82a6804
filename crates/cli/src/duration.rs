//! Durations as people type and read them: `3s`, `500ms`, `1m30s`, `0.5s`.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a duration: write a number and a unit (ms, s, m or h), such as 3s, 500ms, 1m30s"
)]
pub(crate) struct InvalidDuration(String);

/// Reads a duration: one or more numbers, each with its unit, as in `1m30s`.
pub(crate) fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_owned());
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, after) = rest.split_at(digits.ok_or_else(invalid)?);
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let seconds = number.parse::<f64>().map_err(|_| invalid())?
            * unit_seconds(unit).ok_or_else(invalid)?;
        let part = Duration::try_from_secs_f64(seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = after;
    }
    if text.is_empty() {
        Err(invalid())
    } else {
        Ok(total)
    }
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

/// A moment of a run: seconds with three decimals, `3.042 s`.
pub(crate) fn moment(at: Duration) -> String {
    format!("{:.3} s", at.as_secs_f64())
}

/// How long something took, in the unit that reads best: `0.42 ms`, `12.3 ms`, `1.04 s`.
pub(crate) fn short(took: Duration) -> String {
    let millis = took.as_secs_f64() * 1e3;
    match millis {
        ..10.0 => format!("{millis:.2} ms"),
        10.0..1000.0 => format!("{millis:.1} ms"),
        _ => format!("{:.2} s", took.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_units_and_their_sums() {
        for (text, millis) in [
            ("3s", 3000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("0.5s", 500),
            ("2h", 7_200_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_an_example() {
        for text in [
            "",
            "3",
            "s",
            "3 s",
            "-3s",
            "3x",
            "1..2s",
            "1e400s",
            "99999999999999999999h",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains("such as 3s"), "{text}: {error}");
        }
    }

    #[test]
    fn times_are_written_in_the_unit_that_reads_best() {
        assert_eq!(moment(Duration::from_millis(3042)), "3.042 s");
        assert_eq!(short(Duration::from_micros(420)), "0.42 ms");
        assert_eq!(short(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(short(Duration::from_millis(1040)), "1.04 s");
    }
}
