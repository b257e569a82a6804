//! Durations as people write them: `30s`, `500ms`, `1m30s`.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected numbers with units (ms, s, m, h), such as 30s or 1m30s, ten years at most")]
pub struct InvalidDuration;

/// The longest time that can be asked for: ten years. No sum of a moment and this is out of range.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// Reads whole numbers with units, largest unit first or not, such as `1m30s`.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| InvalidDuration)?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let millis_each = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(InvalidDuration),
        };
        rest = &rest[letters..];
        let millis = number.checked_mul(millis_each).ok_or(InvalidDuration)?;
        total = total
            .checked_add(Duration::from_millis(millis))
            .ok_or(InvalidDuration)?;
    }
    if text.is_empty() || total > LONGEST {
        Err(InvalidDuration)
    } else {
        Ok(total)
    }
}

/// The duration as people write it, in whole milliseconds: `1m30s`.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    if rest == 0 {
        return "0s".to_owned();
    }
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let part = |(unit, millis)| {
        let number = rest / millis;
        rest %= millis;
        (number > 0).then(|| format!("{number}{unit}"))
    };
    units.into_iter().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("30s", 30_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["0s", "30s", "500ms", "1m30s", "2h", "1h1ms", "1h2m3s4ms"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(format_duration(duration), text);
        }
        let days = Duration::from_hours(49);
        assert_eq!(format_duration(days), "49h");
    }

    #[test]
    fn texts_without_a_unit_or_number_are_refused() {
        for bad in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "30 s",
            "1d",
            "99999999999999999999s",
            "5124095576030432h",
            "87601h",
        ] {
            assert_eq!(parse_duration(bad), Err(InvalidDuration), "{bad:?}");
        }
    }
}
