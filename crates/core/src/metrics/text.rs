//! The Prometheus text exposition format, version 0.0.4.
//!
//! Written by hand: the crate `prometheus-client` writes `OpenMetrics`, in which every counter's name
//! must end in `_total`, so that the exporter's names could not be kept. A page has thousands of
//! series and is written often, so nothing but huge fractions goes through `std::fmt`.

use std::fmt::Write as _;

use crate::sample::Number;

/// The content type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The type of a family of series, as its `# TYPE` line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// It goes up and down.
    Gauge,
    /// It only goes up.
    Counter,
    /// Counts by upper bounds, a sum and a count.
    Histogram,
    /// Nobody says.
    Untyped,
}

impl MetricKind {
    /// The word of the format.
    pub fn word(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
            Self::Untyped => "untyped",
        }
    }
}

/// One family of series, which stands together under its `# HELP` and `# TYPE`. Nothing is written
/// of a family without a series.
pub(super) struct Family<'a> {
    page: &'a mut String,
    name: &'a str,
    kind: MetricKind,
    help: &'a str,
    has_begun: bool,
}

impl<'a> Family<'a> {
    pub(super) fn new(
        page: &'a mut String,
        name: &'a str,
        kind: MetricKind,
        help: &'a str,
    ) -> Self {
        Self {
            page,
            name,
            kind,
            help,
            has_begun: false,
        }
    }

    /// Writes a series: its labels, which [`push_label`] has put together, and its value.
    pub(super) fn series(&mut self, labels: &[&str], value: Number) {
        self.suffixed("", labels, value);
    }

    /// Writes a series whose name is the family's and a suffix, as histograms have them.
    pub(super) fn suffixed(&mut self, suffix: &str, labels: &[&str], value: Number) {
        self.begin();
        self.page.push_str(self.name);
        self.page.push_str(suffix);
        if labels.iter().any(|part| !part.is_empty()) {
            self.page.push('{');
            for part in labels {
                self.page.push_str(part);
            }
            self.page.push('}');
        }
        self.page.push(' ');
        push_number(self.page, value);
        self.page.push('\n');
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        self.page.push_str("# HELP ");
        self.page.push_str(self.name);
        self.page.push(' ');
        push_help(self.page, self.help);
        self.page.push_str("\n# TYPE ");
        self.page.push_str(self.name);
        self.page.push(' ');
        self.page.push_str(self.kind.word());
        self.page.push('\n');
    }
}

/// Appends `name="value"`, after a comma if there is something before it.
pub(super) fn push_label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    push_further_label(labels, name, value);
}

/// Appends `,name="value"`, for labels that always follow others.
pub(super) fn push_next_label(labels: &mut String, name: &str, value: &str) {
    labels.push(',');
    push_further_label(labels, name, value);
}

fn push_further_label(labels: &mut String, name: &str, value: &str) {
    labels.push_str(name);
    labels.push_str("=\"");
    push_escaped(labels, value, true);
    labels.push('"');
}

/// A single label, as [`push_next_label`] writes it.
pub(super) fn next_label(name: &str, value: &str) -> String {
    let mut label = String::with_capacity(name.len() + value.len() + 4);
    push_next_label(&mut label, name, value);
    label
}

/// The exporter's help may hold anything; a line of the format ends with its line.
fn push_help(page: &mut String, help: &str) {
    push_escaped(page, help, false);
}

fn push_escaped(text: &mut String, value: &str, is_quoted: bool) {
    let needs = |c: char| matches!(c, '\\' | '\n') || (is_quoted && c == '"');
    let mut rest = value;
    while let Some(at) = rest.find(needs) {
        text.push_str(&rest[..at]);
        text.push_str(match rest.as_bytes()[at] {
            b'\n' => "\\n",
            b'"' => "\\\"",
            _ => "\\\\",
        });
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
}

/// Writes a number as the exporter does: whole ones whole, others with six decimals.
pub(super) fn push_number(text: &mut String, number: Number) {
    match number {
        Number::Whole(number) => push_whole(text, number),
        Number::Real(number) => push_real(text, number),
    }
}

/// Writes the decimal digits of a number.
pub(super) fn push_whole(text: &mut String, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + digit(number % 10);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend(digits[at..].iter().map(|&digit| char::from(digit)));
}

fn digit(number: u64) -> u8 {
    u8::try_from(number).unwrap_or_default()
}

/// Six decimals.
const DECIMALS: f64 = 1e6;

/// Up to here a number times [`DECIMALS`] has no fraction that a double could not hold.
const EXACT: f64 = 9e9;

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number is positive and below 2^53"
)]
fn push_real(text: &mut String, number: f64) {
    if number.is_nan() {
        text.push_str("NaN");
        return;
    }
    if number.is_sign_negative() && number != 0.0 {
        text.push('-');
    }
    let size = number.abs();
    if size.is_infinite() {
        text.push_str(if number > 0.0 { "+Inf" } else { "Inf" });
    } else if size > EXACT {
        // Rates of bytes: their fractions are noise.
        let _ = write!(text, "{size:.6}");
    } else {
        let scaled = (size * DECIMALS).round_ties_even() as u64;
        push_whole(text, scaled / 1_000_000);
        text.push('.');
        let mut place = 100_000;
        while place > 0 {
            text.push(char::from(b'0' + digit(scaled / place % 10)));
            place /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(number: Number) -> String {
        let mut text = String::new();
        push_number(&mut text, number);
        text
    }

    #[test]
    fn numbers_read_as_the_exporter_writes_them() {
        for (number, text) in [
            (Number::Whole(0), "0"),
            (Number::Whole(1980), "1980"),
            (Number::Whole(u64::MAX), "18446744073709551615"),
            (Number::Real(0.0), "0.000000"),
            (Number::Real(66.525), "66.525000"),
            (Number::Real(0.999_999_9), "1.000000"),
            (Number::Real(-1.5), "-1.500000"),
            (Number::Real(1e15), "1000000000000000.000000"),
            (Number::Real(f64::NAN), "NaN"),
            (Number::Real(f64::INFINITY), "+Inf"),
            (Number::Real(f64::NEG_INFINITY), "-Inf"),
        ] {
            assert_eq!(written(number), text);
        }
    }

    #[test]
    fn what_the_format_needs_escaped_is() {
        let mut labels = String::new();
        push_label(&mut labels, "a", "x\\y\"z\n");
        push_label(&mut labels, "b", "ü{}");
        assert_eq!(labels, r#"a="x\\y\"z\n",b="ü{}""#);
        let mut page = String::new();
        let help = "one \"line\"\nand \\ more";
        let mut family = Family::new(&mut page, "m", MetricKind::Gauge, help);
        family.series(&[], Number::Whole(1));
        family.series(&[&labels], Number::Whole(2));
        assert_eq!(
            page,
            "# HELP m one \"line\"\\nand \\\\ more\n# TYPE m gauge\nm 1\n\
             m{a=\"x\\\\y\\\"z\\n\",b=\"ü{}\"} 2\n"
        );
    }

    #[test]
    fn nothing_is_written_of_a_family_without_a_series() {
        let mut page = String::new();
        let _ = Family::new(&mut page, "m", MetricKind::Gauge, "");
        assert_eq!(page, "");
    }

    proptest! {
        #[test]
        fn a_number_is_written_as_the_standard_library_writes_it(number in any::<u64>()) {
            prop_assert_eq!(written(Number::Whole(number)), number.to_string());
        }

        #[test]
        fn six_decimals_are_right_but_for_ties(number in -1e10..1e10_f64) {
            let read: f64 = written(Number::Real(number)).parse().unwrap();
            prop_assert!((read - number).abs() <= 0.6e-6 + number.abs() * 1e-15);
        }
    }
}
