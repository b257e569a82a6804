//! The names of devices: `vendor/class=device`.

use std::fmt;
use std::str::FromStr;

/// A kind of devices, `vendor.com/class`, valid by the rules of the CDI specification.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CdiKind {
    text: Box<str>,
    /// Where the slash is.
    slash: usize,
}

/// The name of a device by which a runtime is asked for it, `vendor.com/class=device`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CdiName {
    kind: CdiKind,
    device: Box<str>,
}

/// Why a text is not a name, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCdiName {
    /// There is no slash between vendor and class.
    #[error("{0:?} is not a kind of CDI devices: expected vendor/class, such as nvidia.com/gpu")]
    Kind(String),
    /// A vendor, class or device has a letter that it must not have.
    #[error("{text:?} is not the {part} of a CDI name: {rule}")]
    Part {
        /// What it should be the name of.
        part: &'static str,
        /// The text.
        text: String,
        /// What is asked of it.
        rule: &'static str,
    },
    /// There is no device after the kind.
    #[error("{0:?} is not the name of a CDI device: expected vendor/class=device")]
    Name(String),
}

const KIND_RULE: &str = "it must begin with a letter, end with a letter or digit, and have letters, digits, _, - and . \
     between";
const DEVICE_RULE: &str =
    "it must begin and end with a letter or digit, and have letters, digits, _, -, . and : between";

impl CdiKind {
    /// The kind of this vendor and class.
    ///
    /// # Errors
    /// One of them is not valid.
    pub fn new(vendor: &str, class: &str) -> Result<Self, InvalidCdiName> {
        for (part, text) in [("vendor", vendor), ("class", class)] {
            if !is_part(text, u8::is_ascii_alphabetic, b"_-.") {
                return Err(invalid(part, text, KIND_RULE));
            }
        }
        Ok(Self {
            text: format!("{vendor}/{class}").into(),
            slash: vendor.len(),
        })
    }

    /// The kind of a vendor and class that are known to be valid.
    pub(super) fn of_valid(vendor: &'static str, class: &'static str) -> Self {
        debug_assert!(Self::new(vendor, class).is_ok());
        Self {
            text: format!("{vendor}/{class}").into(),
            slash: vendor.len(),
        }
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the slash.
    pub fn vendor(&self) -> &str {
        &self.text[..self.slash]
    }

    /// The part after the slash.
    pub fn class(&self) -> &str {
        &self.text[self.slash + 1..]
    }

    /// The name of a device of this kind.
    ///
    /// # Errors
    /// It is not valid; the UUIDs of MIG devices that drivers before R470 gave are not.
    pub fn device(&self, device: &str) -> Result<CdiName, InvalidCdiName> {
        check_device(device)?;
        Ok(CdiName {
            kind: self.clone(),
            device: device.into(),
        })
    }

    /// The name of the file that holds the spec of this kind, as NVIDIA's device plugin names it:
    /// `nvidia.com-gpu.json`.
    pub fn file_name(&self, extension: &str) -> String {
        format!("{}-{}.{extension}", self.vendor(), self.class())
    }
}

impl CdiName {
    /// The kind of the device.
    pub fn kind(&self) -> &CdiKind {
        &self.kind
    }

    /// Its name among those of its kind.
    pub fn device(&self) -> &str {
        &self.device
    }
}

/// Whether a device of any kind may be named so.
pub(super) fn check_device(device: &str) -> Result<(), InvalidCdiName> {
    if is_part(device, u8::is_ascii_alphanumeric, b"_-.:") {
        Ok(())
    } else {
        Err(invalid("device", device, DEVICE_RULE))
    }
}

fn invalid(part: &'static str, text: &str, rule: &'static str) -> InvalidCdiName {
    InvalidCdiName::Part {
        part,
        text: text.to_owned(),
        rule,
    }
}

fn is_part(text: &str, may_begin: fn(&u8) -> bool, between: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || between.contains(byte);
    bytes.first().is_some_and(may_begin)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(inner)
}

impl FromStr for CdiKind {
    type Err = InvalidCdiName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (vendor, class) = text
            .split_once('/')
            .ok_or_else(|| InvalidCdiName::Kind(text.to_owned()))?;
        Self::new(vendor, class)
    }
}

impl FromStr for CdiName {
    type Err = InvalidCdiName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, device) = text
            .split_once('=')
            .ok_or_else(|| InvalidCdiName::Name(text.to_owned()))?;
        kind.parse::<CdiKind>()?.device(device)
    }
}

impl fmt::Display for CdiKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for CdiKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for CdiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

impl fmt::Debug for CdiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_other_texts_are_refused() {
        for good in [
            "nvidia.com/gpu=0",
            "k8s.device-plugin.nvidia.com/imex-channel=2047",
            "nvidia.com/gpu=0:13",
            "nvidia.com/gpu=MIG-4d4d4d4d-0000-0000-0000-0123456789ab",
            "v/c=d",
        ] {
            assert_eq!(good.parse::<CdiName>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "nvidia.com",
            "nvidia.com/gpu",
            "nvidia.com/gpu=",
            "/gpu=0",
            "nvidia.com/=0",
            "0nvidia.com/gpu=0",
            "nvidia.com/gpu-=0",
            "nvidia.com/gpu=0:",
            "nvidia.com/gpu=:0",
            "nvidia.com/g/u=0",
            "nvidia.com/gpu=MIG-GPU-4d4d4d4d-0000-0000-0000-0123456789ab/7/0",
        ] {
            assert!(bad.parse::<CdiName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_kind_knows_its_parts_and_the_file_of_its_spec() {
        let kind: CdiKind = "k8s.device-plugin.nvidia.com/gpu".parse().unwrap();
        assert_eq!(
            (kind.vendor(), kind.class()),
            ("k8s.device-plugin.nvidia.com", "gpu")
        );
        assert_eq!(
            kind.file_name("json"),
            "k8s.device-plugin.nvidia.com-gpu.json"
        );
    }
}
