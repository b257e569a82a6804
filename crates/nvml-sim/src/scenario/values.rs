//! Values of a scenario that have a form of their own.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{NvLink, Wiring};
use crate::model::{GpuModel, MODELS};

/// A built-in model, by its key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Model(pub &'static GpuModel);

impl Default for Model {
    fn default() -> Self {
        let default = MODELS.iter().find(|model| model.key == "h100-80gb");
        Self(default.unwrap_or(&MODELS[0]))
    }
}

/// Why a text names no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no built-in GPU model {0:?}; {meant}there are {known}",
    meant = did_you_mean(.0), known = known_models()
)]
pub struct UnknownModel(String);

/// The models that were probably meant: those that have the longest beginning in common with the
/// text, if that is all of it or more than two letters.
fn did_you_mean(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    let common = |key: &str| {
        let pairs = key.bytes().zip(text.bytes());
        pairs.take_while(|(a, b)| a == b).count()
    };
    let most = MODELS.iter().map(|model| common(model.key)).max();
    let most = most.filter(|most| *most > 2 || *most == text.len() && !text.is_empty());
    let alike = MODELS
        .iter()
        .filter(|model| Some(common(model.key)) == most);
    let alike: Vec<&str> = alike.map(|model| model.key).collect();
    match alike.as_slice() {
        [] => String::new(),
        [only] => format!("did you mean {only}? "),
        [rest @ .., last] => format!("did you mean {} or {last}? ", rest.join(", ")),
    }
}

fn known_models() -> String {
    let keys: Vec<&str> = MODELS.iter().map(|model| model.key).collect();
    keys.join(", ")
}

impl FromStr for Model {
    type Err = UnknownModel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        GpuModel::by_key(text)
            .map(Self)
            .ok_or_else(|| UnknownModel(text.to_owned()))
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.key)
    }
}

impl Serialize for Model {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.key)
    }
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// An amount of memory in MiB: a number of MiB, or a text with the unit `MiB` or `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mebibytes(pub u64);

/// Why a text is no amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an amount of memory: expected MiB, or a number with its unit, such as 80GiB")]
pub struct InvalidMebibytes(String);

impl FromStr for Mebibytes {
    type Err = InvalidMebibytes;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, factor) = match (text.strip_suffix("GiB"), text.strip_suffix("MiB")) {
            (Some(number), _) => (number, 1024),
            (_, Some(number)) => (number, 1),
            _ => (text, 1),
        };
        let amount: Option<u64> = number.trim().parse().ok();
        amount
            .and_then(|amount| amount.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| InvalidMebibytes(text.to_owned()))
    }
}

impl Serialize for Mebibytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}MiB", self.0))
    }
}

/// Reads a text or a number with the text's parser: YAML turns `9.0` and `40960` into numbers.
struct Scalar<T>(&'static str, std::marker::PhantomData<T>);

impl<T> Scalar<T> {
    fn expecting(what: &'static str) -> Self {
        Self(what, std::marker::PhantomData)
    }
}

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Scalar<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        format!("{number:?}").parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Mebibytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar::expecting("MiB, or a text such as 80GiB"))
    }
}

/// A version of two numbers, such as a compute capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the dot.
    pub major: u32,
    /// After the dot.
    pub minor: u32,
}

/// Why a text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version of two numbers, such as 9.0")]
pub struct InvalidVersion(String);

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (major, minor) = text.split_once('.')?;
            let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
            (major < 1000 && minor < 10).then_some(Self { major, minor })
        };
        parse().ok_or_else(|| InvalidVersion(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Scalar::expecting("a version such as 9.0"))
    }
}

impl<'de> Deserialize<'de> for NvLink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NvLinkVisitor)
    }
}

/// Tells a word from a list itself: an untagged enum would lose the position of a mistake.
struct NvLinkVisitor;

impl<'de> Visitor<'de> for NvLinkVisitor {
    type Value = NvLink;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("auto, nvswitch, none, or a list of {gpus: [0, 1], links: 4}")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<NvLink, E> {
        match word {
            "auto" => Ok(NvLink::All(Wiring::Auto)),
            "nvswitch" => Ok(NvLink::All(Wiring::NvSwitch)),
            "none" => Ok(NvLink::All(Wiring::None)),
            _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<NvLink, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = list.next_element()? {
            pairs.push(pair);
        }
        Ok(NvLink::Pairs(pairs))
    }
}

/// A parser's message without the place, which is printed in front of it.
pub(super) fn explain(message: &str) -> String {
    let end = message.find(" at line ").unwrap_or(message.len());
    message[..end].to_owned()
}
