//! Keys and values of labels, always such that Kubernetes takes them.

use std::fmt;
use std::str::FromStr;

use crate::dns::{LONGEST_LABEL, is_label_key, is_label_value};

/// The key of a label: a DNS subdomain and a slash, and at most 63 characters of `[A-Za-z0-9-_.]`
/// that begin and end with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelKey(Box<str>);

/// Why a text is not the key of a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no key that Kubernetes takes for a label")]
pub struct InvalidLabelKey(String);

impl LabelKey {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key below `prefix` of what a model is called. A name that is too long is cut as
    /// [`LabelValue::of_text`] cuts it; one that has nothing that a key may have is `unknown`.
    pub(super) fn of_model(prefix: &str, model: &str) -> Result<Self, InvalidLabelKey> {
        let name = fitted(&sanitised(model), "");
        let name = if name.is_empty() { UNKNOWN } else { &name };
        format!("{prefix}/{name}").parse()
    }
}

/// What is said of something that nobody tells.
pub(super) const UNKNOWN: &str = "unknown";

impl FromStr for LabelKey {
    type Err = InvalidLabelKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_label_key(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidLabelKey(text.to_owned()))
        }
    }
}

impl fmt::Display for LabelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a label: nothing, or at most 63 characters of `[A-Za-z0-9-_.]` that begin and end
/// with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LabelValue(Box<str>);

/// Why a text is not the value of a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no value that Kubernetes takes for a label")]
pub struct InvalidLabelValue(String);

impl LabelValue {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A text as the reference writes it: what a label may not have is left out, spaces become
    /// one dash.
    ///
    /// Where the reference's value would not be valid, it is made so: dashes, dots and underscores
    /// at the ends go, and a text that is too long is cut to make room for a dash and eight
    /// hexadecimal digits of a hash of the whole, so that two long texts that begin alike stay two.
    pub fn of_text(text: &str) -> Self {
        Self(fitted(&sanitised(text), "").into())
    }

    /// The name of a product and what is said of it, joined by dashes. Where the whole is too
    /// long, the name is cut as by [`of_text`](Self::of_text): what follows it, the MIG profile
    /// and `SHARED`, is what selectors look for.
    pub(super) fn of_product<'a>(name: &str, parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut tail = String::new();
        for part in parts {
            tail.push('-');
            tail.push_str(&sanitised(part));
        }
        Self(fitted(&sanitised(name), &tail).into())
    }
}

impl FromStr for LabelValue {
    type Err = InvalidLabelValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_label_value(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidLabelValue(text.to_owned()))
        }
    }
}

impl fmt::Display for LabelValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<bool> for LabelValue {
    fn from(value: bool) -> Self {
        Self(if value { "true" } else { "false" }.into())
    }
}

impl From<u32> for LabelValue {
    fn from(value: u32) -> Self {
        u64::from(value).into()
    }
}

impl From<u64> for LabelValue {
    fn from(value: u64) -> Self {
        Self(value.to_string().into())
    }
}

impl From<usize> for LabelValue {
    fn from(value: usize) -> Self {
        Self(value.to_string().into())
    }
}

/// The text without what a label may not have, its words joined by dashes.
fn sanitised(text: &str) -> String {
    let may_stay = |c: &char| c.is_ascii_alphanumeric() || "-_. ".contains(*c);
    let kept: String = text.chars().filter(may_stay).collect();
    kept.split_whitespace().collect::<Vec<_>>().join("-")
}

/// Two sanitised texts as one value, of which the first is cut where both are too long.
fn fitted(head: &str, tail: &str) -> String {
    let whole = format!("{head}{tail}");
    let whole = whole.trim_matches(is_no_end);
    if whole.len() <= LONGEST_LABEL {
        return whole.to_owned();
    }
    let (mark, head) = (format!("-{:08x}", hash(head)), head.trim_matches(is_no_end));
    let tail = tail.trim_end_matches(is_no_end);
    match LONGEST_LABEL.checked_sub(tail.len() + mark.len()) {
        Some(room) if room > 0 && !head.is_empty() => {
            let kept = &head[..room.min(head.len())];
            format!("{}{mark}{tail}", kept.trim_end_matches(is_no_end))
        }
        _ => {
            let mark = format!("-{:08x}", hash(whole));
            let kept = &whole[..LONGEST_LABEL - mark.len()];
            format!("{}{mark}", kept.trim_end_matches(is_no_end))
        }
    }
}

/// Whether a label may neither begin nor end with it.
fn is_no_end(c: char) -> bool {
    !c.is_ascii_alphanumeric()
}

/// FNV-1a in 32 bits: the same on every machine and in every version.
fn hash(text: &str) -> u32 {
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(PRIME);
    text.bytes().fold(OFFSET, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest name that is sold.
    const LONG: &str = "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition";

    #[test]
    fn keys_and_values_round_trip_and_reject_others() {
        for text in ["nvidia.com/gpu.count", "gpu.mizzen.dev/Tesla-T4", "a"] {
            assert_eq!(text.parse::<LabelKey>().unwrap().to_string(), text);
        }
        assert!("nvidia.com/".parse::<LabelKey>().is_err());
        for text in ["", "Tesla-T4", "550.54.15"] {
            assert_eq!(text.parse::<LabelValue>().unwrap().to_string(), text);
        }
        assert!("a b".parse::<LabelValue>().is_err());
    }

    #[test]
    fn texts_become_what_the_reference_makes_of_them() {
        for (text, value) in [
            ("Tesla T4", "Tesla-T4"),
            ("NVIDIA  A100-SXM4-40GB ", "NVIDIA-A100-SXM4-40GB"),
            ("ProLiant DL380 Gen10 (2 HE)", "ProLiant-DL380-Gen10-2-HE"),
            ("a\tb/c", "abc"),
            ("", ""),
        ] {
            assert_eq!(LabelValue::of_text(text).as_str(), value);
        }
    }

    #[test]
    fn a_value_neither_begins_nor_ends_with_a_dash() {
        assert_eq!(LabelValue::of_text("-_Board (rev. )").as_str(), "Board-rev");
        assert_eq!(LabelValue::of_text("...").as_str(), "");
        let nameless = LabelValue::of_product("", ["MIG", "1g.5gb"]);
        assert_eq!(nameless.as_str(), "MIG-1g.5gb");
    }

    #[test]
    fn a_long_product_keeps_its_profile_and_stays_different_from_others_that_begin_alike() {
        let parts = ["MIG", "1g.24gb.me.all", "SHARED"];
        let value = LabelValue::of_product(LONG, parts);
        assert_eq!(
            value.as_str(),
            "NVIDIA-RTX-PRO-6000-Blackwel-3b0955aa-MIG-1g.24gb.me.all-SHARED"
        );
        assert_eq!(value.as_str().len(), 63);
        let server = LabelValue::of_product(&LONG.replace("Max-Q", "Server"), parts);
        assert_ne!(value, server);
        let whole = LabelValue::of_product(LONG, []);
        assert_eq!(whole.as_str(), LONG.replace(' ', "-"));
    }

    #[test]
    fn a_text_that_is_too_long_whatever_is_cut_of_its_head_is_cut_as_a_whole() {
        let tail = "x".repeat(80);
        let values = ["a", "b", ""].map(|head| LabelValue::of_product(head, [tail.as_str()]));
        for (at, value) in values.iter().enumerate() {
            assert_eq!(value.as_str().len(), 63);
            assert!(is_label_value(value.as_str()), "{value}");
            assert!(!values[..at].contains(value));
        }
    }
}
