//! Amounts of resources as Kubernetes writes them: `500m`, `2`, `16Gi`, `1e3`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Fractions finer than this are rounded up, as Kubernetes does.
const NANOS: i128 = 1_000_000_000;

/// An amount, exact to 10⁻⁹, that prints as the API server prints it.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Decimal,
    Exponent,
    Binary,
}

impl Quantity {
    /// A whole number.
    pub fn whole(value: i64) -> Self {
        Self {
            nanos: i128::from(value) * NANOS,
            format: Format::Decimal,
        }
    }

    /// The amount, rounded up to a whole number.
    pub fn value(&self) -> i64 {
        self.scaled(NANOS)
    }

    /// The amount in thousandths, rounded up: milli-CPUs.
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANOS / 1000)
    }

    /// Whether it is without a fraction, to the thousandth that the API server looks at.
    pub fn is_whole(&self) -> bool {
        self.milli_value() % 1000 == 0
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    fn scaled(&self, unit: i128) -> i64 {
        let rounded_up = -(-self.nanos).div_euclid(unit);
        i64::try_from(rounded_up).unwrap_or(if rounded_up < 0 { i64::MIN } else { i64::MAX })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// Why a text is no quantity, in the API server's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not number and suffix at all.
    #[error(
        "quantities must match the regular expression \
         '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The number is none.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number_end = text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(number_end);
        if !number.contains(|c: char| c.is_ascii_digit()) {
            return Err(QuantityError::Format);
        }
        let (scale, format) = scale(suffix)?;
        let nanos = parse_decimal(number, scale)?;
        Ok(Self { nanos, format })
    }
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Two(u32),
}

fn scale(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    let decimal = |power| Ok((Scale::Ten(power), Format::Decimal));
    let binary = |power| Ok((Scale::Two(power), Format::Binary));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => match suffix.strip_prefix(['e', 'E']).map(str::parse::<i32>) {
            Some(Ok(power)) if (-18..=18).contains(&power) => {
                Ok((Scale::Ten(power), Format::Exponent))
            }
            _ => Err(QuantityError::Suffix),
        },
    }
}

fn parse_decimal(number: &str, scale: Scale) -> Result<i128, QuantityError> {
    let (negative, digits) = match number.as_bytes().first() {
        Some(b'-') => (true, &number[1..]),
        Some(b'+') => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || all.len() > 30 || !all.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Number);
    }
    let mantissa: i128 = all.parse().map_err(|_| QuantityError::Number)?;
    let places = i32::try_from(fraction.len()).map_err(|_| QuantityError::Number)?;
    let (factor, power) = match scale {
        Scale::Ten(power) => (1_i128, power + 9 - places),
        Scale::Two(bits) => (1_i128 << bits, 9 - places),
    };
    let scaled = mantissa.checked_mul(factor).ok_or(QuantityError::Number)?;
    let ten = 10_i128
        .checked_pow(power.unsigned_abs())
        .ok_or(QuantityError::Number)?;
    let nanos = if power >= 0 {
        scaled.checked_mul(ten).ok_or(QuantityError::Number)?
    } else {
        -(-scaled).div_euclid(ten)
    };
    Ok(if negative { -nanos } else { nanos })
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that leaves none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.format == Format::Binary && self.nanos.abs() >= 1024 * NANOS {
            let (mantissa, power) = strip(i128::from(self.value()), 1024, 6);
            return write!(
                f,
                "{mantissa}{}",
                ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]
            );
        }
        let (mantissa, power) = strip(self.nanos, 1000, 9);
        match self.format {
            Format::Exponent if power != 3 => {
                // Powers of a thousand, the first of them 10⁻⁹.
                write!(
                    f,
                    "{mantissa}e{}",
                    [-9, -6, -3, 0, 3, 6, 9, 12, 15, 18][power]
                )
            }
            _ => {
                write!(
                    f,
                    "{mantissa}{}",
                    ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power]
                )
            }
        }
    }
}

/// Divides by `base` as often as it goes without a remainder, at most `limit` times.
fn strip(mut mantissa: i128, base: i128, limit: usize) -> (i128, usize) {
    let mut power = 0;
    while power < limit && mantissa % base == 0 {
        mantissa /= base;
        power += 1;
    }
    (mantissa, power)
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Numbers are taken as they are written, as the API server takes JSON's.
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text.trim().parse().map_err(de::Error::custom),
            serde_json::Value::Number(number) => {
                number.to_string().parse().map_err(de::Error::custom)
            }
            _ => Err(de::Error::custom(QuantityError::Format)),
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().unwrap().to_string()
    }

    #[test]
    fn quantities_print_as_the_api_server_prints_them() {
        let cases = [
            ("0", "0"),
            ("2", "2"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("500m", "500m"),
            ("1000m", "1"),
            ("1000", "1k"),
            ("0.0000000001", "1n"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("16Gi", "16Gi"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("12E", "12E"),
            ("-1", "-1"),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn values_round_up() {
        let quantity: Quantity = "1500m".parse().unwrap();
        assert_eq!((quantity.value(), quantity.milli_value()), (2, 1500));
        assert!(!quantity.is_whole());
        assert!("3".parse::<Quantity>().unwrap().is_whole());
    }

    #[test]
    fn what_is_no_quantity_is_refused_in_kubernetes_words() {
        assert_eq!("".parse::<Quantity>(), Err(QuantityError::Format));
        assert_eq!("many".parse::<Quantity>(), Err(QuantityError::Format));
        assert_eq!("1.2.3".parse::<Quantity>(), Err(QuantityError::Number));
        assert_eq!("2 GPUs".parse::<Quantity>(), Err(QuantityError::Suffix));
    }
}
