//! What identifies a simulated GPU: its UUID and its place on the PCI bus.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A GPU's UUID, `GPU-` and 8-4-4-4-12 hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// The sixteen bytes in the order they are written.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The sixteen bytes in the order they are written.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// A UUID that depends on `seed` and `ordinal` alone, in the form of a random one
    /// (version 4, variant 1), so that a scenario's GPUs have the same UUIDs everywhere.
    pub fn derived(seed: &str, ordinal: u64) -> Self {
        let high = mix(fnv1a(seed.as_bytes()) ^ mix(ordinal));
        let low = mix(high ^ ordinal.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }
}

/// The 64-bit FNV-1a hash: small, stable over releases, and no secret depends on it.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finaliser of `SplitMix64`: spreads the bits of a counter.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid("GPU", self.0, f)
    }
}

fn write_uuid(kind: &str, bytes: [u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(kind)?;
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 0 | 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no GPU's UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a GPU UUID: expected GPU- and 8-4-4-4-12 hexadecimal digits")]
pub struct InvalidUuid(String);

impl FromStr for Uuid {
    type Err = InvalidUuid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("GPU-");
        digits
            .and_then(parse_uuid)
            .ok_or_else(|| InvalidUuid(text.to_owned()))
    }
}

fn parse_uuid(digits: &str) -> Option<Uuid> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    let mut groups = digits.split('-');
    for length in [8, 4, 4, 4, 12] {
        let group = groups.next().filter(|group| group.len() == length)?;
        if !group.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for start in (0..length).step_by(2) {
            bytes[filled] = u8::from_str_radix(&group[start..start + 2], 16).ok()?;
            filled += 1;
        }
    }
    groups.next().is_none().then_some(Uuid(bytes))
}

impl TryFrom<String> for Uuid {
    type Error = InvalidUuid;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> Self {
        uuid.to_string()
    }
}

/// A MIG device's UUID: `MIG-` and 8-4-4-4-12 hexadecimal digits in text, or with drivers before
/// R470 `MIG-GPU-<uuid>/<GPU instance>/<compute instance>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub enum MigUuid {
    /// One of its own.
    Own(Uuid),
    /// Its GPU's, and where it is on it.
    Placed {
        /// The GPU's.
        gpu: Uuid,
        /// Id of its GPU instance.
        gpu_instance: u32,
        /// Its id in the GPU instance.
        compute_instance: u32,
    },
}

impl fmt::Display for MigUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(uuid) => write_uuid("MIG", uuid.bytes(), f),
            Self::Placed {
                gpu,
                gpu_instance,
                compute_instance,
            } => write!(f, "MIG-{gpu}/{gpu_instance}/{compute_instance}"),
        }
    }
}

impl fmt::Debug for MigUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<MigUuid> for String {
    fn from(uuid: MigUuid) -> Self {
        uuid.to_string()
    }
}

/// Why a text is no MIG device's UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a MIG UUID: expected MIG- and 8-4-4-4-12 hexadecimal digits, or the old form \
     MIG-GPU-<uuid>/<GPU instance>/<compute instance>"
)]
pub struct InvalidMigUuid(String);

impl FromStr for MigUuid {
    type Err = InvalidMigUuid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("MIG-");
        rest.and_then(|rest| parse_uuid(rest).map(Self::Own).or_else(|| placed(rest)))
            .ok_or_else(|| InvalidMigUuid(text.to_owned()))
    }
}

/// `GPU-<uuid>/<GPU instance>/<compute instance>`.
fn placed(text: &str) -> Option<MigUuid> {
    let mut parts = text.split('/');
    let gpu = parts.next()?.parse().ok()?;
    let mut id = || parts.next()?.parse().ok();
    let (gpu_instance, compute_instance) = (id()?, id()?);
    parts.next().is_none().then_some(MigUuid::Placed {
        gpu,
        gpu_instance,
        compute_instance,
    })
}

/// A place on the PCI bus. Its order is the order of NVML's indices.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    /// Domain (segment).
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device number, below 32.
    pub device: u8,
}

impl PciAddress {
    /// The first function of a device; a GPU is always function 0.
    pub const fn new(domain: u32, bus: u8, device: u8) -> Self {
        Self {
            domain,
            bus,
            device,
        }
    }

    /// NVML's own form: `00000000:3B:00.0`.
    pub fn nvml(self) -> String {
        format!("{:08X}:{:02X}:{:02X}.0", self.domain, self.bus, self.device)
    }

    /// NVML's old form, with four digits of domain: `0000:3B:00.0`.
    pub fn nvml_legacy(self) -> String {
        format!("{:04X}:{:02X}:{:02X}.0", self.domain, self.bus, self.device)
    }
}

/// The form of sysfs: `0000:3b:00.0`.
impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.0",
            self.domain, self.bus, self.device
        )
    }
}

impl fmt::Debug for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a GPU's PCI address: expected domain:bus:device.0, such as 0000:3b:00.0")]
pub struct InvalidPciAddress(String);

impl FromStr for PciAddress {
    type Err = InvalidPciAddress;

    /// Takes what NVML takes: `domain:bus:device.function`, and both `bus:device.function`
    /// and a missing function, in hexadecimal of any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_pci(text).ok_or_else(|| InvalidPciAddress(text.to_owned()))
    }
}

fn parse_pci(text: &str) -> Option<PciAddress> {
    let (place, function) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = place.rsplit(':');
    let device = u8::from_str_radix(parts.next()?, 16).ok()?;
    let bus = u8::from_str_radix(parts.next()?, 16).ok()?;
    let domain = match parts.next() {
        Some(domain) => u32::from_str_radix(domain, 16).ok()?,
        None => 0,
    };
    let valid = function == "0" && device < 32 && parts.next().is_none();
    valid.then_some(PciAddress::new(domain, bus, device))
}

impl TryFrom<String> for PciAddress {
    type Error = InvalidPciAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_round_trips_through_its_text() {
        let uuid = Uuid::derived("node", 3);
        assert_eq!(uuid.to_string().parse::<Uuid>().unwrap(), uuid);
        assert_eq!(uuid, Uuid::derived("node", 3));
    }

    #[test]
    fn a_mig_uuid_round_trips_through_its_text_and_is_no_gpus() {
        let gpu = Uuid::derived("node", 3);
        let placed = MigUuid::Placed {
            gpu,
            gpu_instance: 7,
            compute_instance: 0,
        };
        assert_eq!(placed.to_string(), format!("MIG-{gpu}/7/0"));
        for uuid in [MigUuid::Own(gpu), placed] {
            let text = uuid.to_string();
            assert!(text.starts_with("MIG-"));
            assert_eq!(text.parse(), Ok(uuid));
            assert!(text.parse::<Uuid>().is_err());
        }
        for text in [
            format!("MIG-{gpu}"),
            format!("MIG-{gpu}/7"),
            format!("MIG-{gpu}/7/0/"),
        ] {
            assert!(text.parse::<MigUuid>().is_err(), "{text}");
        }
        assert!(
            Uuid::derived("node", 3)
                .to_string()
                .parse::<MigUuid>()
                .is_err()
        );
    }

    #[test]
    fn derived_uuids_differ_by_ordinal_and_by_node() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in ["a", "b", ""] {
            for ordinal in 0..200 {
                assert!(seen.insert(Uuid::derived(seed, ordinal)));
            }
        }
    }

    #[test]
    fn texts_that_are_no_uuid_are_refused() {
        for text in [
            "",
            "GPU-",
            "GPU-é",
            "MIG-4d4d4d4d-0000-0000-0000-0123456789ab",
        ] {
            assert!(text.parse::<Uuid>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_pci_address_is_read_in_every_form_nvml_takes() {
        let address = PciAddress::new(0, 0x3b, 0);
        for text in ["00000000:3B:00.0", "0000:3b:00.0", "3b:00.0", "0000:3b:00"] {
            assert_eq!(text.parse::<PciAddress>().unwrap(), address);
        }
        assert_eq!(address.nvml(), "00000000:3B:00.0");
        for text in [
            "",
            "3b",
            "0000:3b:20.0",
            "0:0:0:0.0",
            "0000:3b:00.1",
            "x:y:z.0",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text:?} was accepted");
        }
    }
}
