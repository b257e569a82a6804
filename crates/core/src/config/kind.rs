//! The kinds of values that settings have, and how each is read.

use core::net::SocketAddr;
use core::time::Duration;

use super::duration::parse_duration;

/// What a setting's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; a flag without a value means true.
    Boolean,
    /// Any text.
    Text,
    /// A path.
    Path,
    /// One of a fixed set of words.
    Choice(&'static [&'static str]),
    /// Several texts, separated by commas or given repeatedly; where words are named, only those.
    List(&'static [&'static str]),
    /// A span of time such as `30s`.
    Duration,
    /// A span of time, or `infinite`.
    Interval,
    /// A span of time, or a whole number of milliseconds as dcgm-exporter takes it.
    Milliseconds,
    /// An address and port such as `127.0.0.1:8080`.
    Address,
}

impl Kind {
    /// Whether a text, or one item of a list, is such a value.
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::Boolean => parse_boolean(text).is_some(),
            Self::Text | Self::Path | Self::List([]) => true,
            Self::Choice(words) | Self::List(words) => words.contains(&text),
            Self::Duration => parse_duration(text).is_ok(),
            Self::Interval => text == INFINITE || parse_duration(text).is_ok(),
            Self::Milliseconds => parse_milliseconds(text).is_some(),
            Self::Address => text.is_empty() || parse_address(text).is_some(),
        }
    }

    /// What such a value is, in words.
    pub fn expected(self) -> String {
        match self {
            Self::Boolean => "true or false".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List([]) => "a text, or a list of texts".to_owned(),
            Self::List([word]) => format!("nothing, or {word} alone"),
            Self::List(words) => format!("a list of {}", words.join(", ")),
            Self::Duration => "numbers with units, such as 30s or 1m30s".to_owned(),
            Self::Interval => "numbers with units, such as 30s or 1m30s, or infinite".to_owned(),
            Self::Milliseconds => {
                "numbers with units, such as 1s or 500ms, or a number of milliseconds".to_owned()
            }
            Self::Address => "an address and port, such as 127.0.0.1:8080".to_owned(),
            Self::Text | Self::Path => "a text".to_owned(),
        }
    }

    /// The words that are valid, where they are a fixed set.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Self::Boolean => &["true", "false"],
            // A list of one word: "did you mean 0?" helps nobody.
            Self::Text
            | Self::Path
            | Self::Duration
            | Self::Milliseconds
            | Self::Address
            | Self::List([_]) => &[],
            Self::Interval => &[INFINITE],
            Self::Choice(words) | Self::List(words) => words,
        }
    }
}

/// The interval after which nothing comes.
pub(super) const INFINITE: &str = "infinite";

/// Reads a switch in the spellings of Go's `strconv.ParseBool`, which the reference takes from
/// flags and the environment, and of YAML 1.1, which it takes from its file; empty is false.
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" | "yes" | "Yes" | "YES" | "y" | "Y" | "on"
        | "On" | "ON" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" | "no" | "No" | "NO" | "n" | "N" | "off"
        | "Off" | "OFF" | "" => Some(false),
        _ => None,
    }
}

/// Reads a whole number as the reference's reader of YAML 1.1 does: `10`, `1_000`, `0x10`, `0o10`,
/// `010` (octal), and `4.0`.
pub(crate) fn parse_integer(text: &str) -> Option<u32> {
    let digits = text.replace('_', "");
    let octal = digits.strip_prefix("0o").or(digits.strip_prefix('0'));
    if let Some(hexadecimal) = digits.strip_prefix("0x") {
        u32::from_str_radix(hexadecimal, 16).ok()
    } else if let Some(octal) = octal.filter(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
        && !octal.is_empty()
    {
        u32::from_str_radix(octal, 8).ok()
    } else {
        let whole = match digits.split_once('.') {
            Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole,
            _ => digits.as_str(),
        };
        whole.parse().ok()
    }
}

/// Reads a span of time, where a number without a unit counts milliseconds.
pub(super) fn parse_milliseconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        parse_duration(&format!("{text}ms")).ok()
    } else {
        parse_duration(text).ok()
    }
}

/// Reads an address and port. `:8080` is how Kubernetes' own components are told to listen on
/// every address.
pub(super) fn parse_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}").parse().ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_in_the_spellings_of_yaml() {
        for (text, number) in [
            ("0", 0),
            ("10", 10),
            ("1_000", 1000),
            ("0x10", 16),
            ("0o10", 8),
            ("010", 8),
            ("4.0", 4),
        ] {
            assert_eq!(parse_integer(text), Some(number), "{text}");
        }
        for bad in ["", "-1", "4.5", "1e3", "0x", "09", "ten", "4294967296"] {
            assert_eq!(parse_integer(bad), None, "{bad}");
        }
    }
}
