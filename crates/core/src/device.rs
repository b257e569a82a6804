//! What identifies one device offered to the kubelet.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::gpu::{GpuUuid, InvalidGpuUuid};
use crate::mig::{InvalidMigUuid, MigUuid};

/// What stands between a device's UUID and the number of its replica.
const REPLICA_SEPARATOR: &str = "::";

/// The UUID of a whole GPU or of a MIG device.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceUuid(Box<str>);

impl DeviceUuid {
    /// The text as NVML prints it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&GpuUuid> for DeviceUuid {
    fn from(uuid: &GpuUuid) -> Self {
        Self(uuid.as_str().into())
    }
}

impl From<&MigUuid> for DeviceUuid {
    fn from(uuid: &MigUuid) -> Self {
        Self(uuid.as_str().into())
    }
}

impl Borrow<str> for DeviceUuid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id under which the kubelet knows a device: the UUID of a GPU or MIG device, followed by
/// `::N` where that is shared and this is its replica `N`.
///
/// It is the UUID whatever `--device-id-strategy` says, because NVML's index changes over reboots
/// while the kubelet's checkpoint remembers ids; the strategy decides what a *container* is told
/// (see [`Allocation`](crate::allocate::Allocation)).
///
/// Sorts and compares as its text, so that maps keyed by it can be asked with a `&str`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(Box<str>);

/// Which replica of a shared GPU a device is, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId(pub u32);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl DeviceId {
    /// The id of a device that is not shared.
    pub fn whole(uuid: &DeviceUuid) -> Self {
        Self(uuid.0.clone())
    }

    /// The id of one replica of a device.
    pub fn replica_of(uuid: &DeviceUuid, replica: ReplicaId) -> Self {
        Self(Self::text_of_replica(uuid, replica).into())
    }

    /// The text of the same id. Put together by hand: a device list may have thousands of them.
    pub(crate) fn text_of_replica(uuid: &DeviceUuid, ReplicaId(number): ReplicaId) -> String {
        let log = number.checked_ilog10().unwrap_or(0);
        let length = uuid.as_str().len() + REPLICA_SEPARATOR.len() + log as usize + 1;
        let mut text = String::with_capacity(length);
        text.push_str(uuid.as_str());
        text.push_str(REPLICA_SEPARATOR);
        for place in (0..=log).rev() {
            let digit = number / 10_u32.pow(place) % 10;
            text.extend(char::from_digit(digit, 10));
        }
        text
    }

    /// The id as the kubelet writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The UUID of the GPU or MIG device that it is, or is a replica of.
    pub fn uuid(&self) -> &str {
        split_id(&self.0).0
    }

    /// Which replica it is; `None` for what is not shared.
    pub fn replica(&self) -> Option<ReplicaId> {
        split_id(&self.0)
            .1
            .and_then(|number| number.parse().ok())
            .map(ReplicaId)
    }
}

/// The UUID in a device's id as a kubelet tells it, which may be of any plugin's making: all of it,
/// or what precedes the number of a replica.
pub fn device_of(id: &str) -> &str {
    split_id(id).0
}

/// The UUID and, where there is a separator, what follows the last one.
pub(crate) fn split_id(text: &str) -> (&str, Option<&str>) {
    // Looked for by hand, since a kubelet sends thousands of ids at a time: a separator's second
    // character is the last colon there is.
    let colon = text.bytes().rposition(|byte| byte == b':');
    let separator = colon.and_then(|at| at.checked_sub(1));
    match separator.filter(|at| text.as_bytes()[*at] == b':') {
        Some(at) => (&text[..at], Some(&text[at + REPLICA_SEPARATOR.len()..])),
        None => (text, None),
    }
}

impl ReplicaId {
    /// Reads the number as it is written in an id: "+1" and "01" would read as numbers too, but
    /// not be written back as they were.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let canonical = text == "0" || !text.starts_with(['0', '+']);
        text.parse().ok().filter(|_| canonical).map(Self)
    }
}

/// Why a text is not a device's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDeviceId {
    /// The part before `::` is no GPU's UUID.
    #[error(transparent)]
    Uuid(#[from] InvalidGpuUuid),
    /// The part before `::` is no MIG device's UUID, though it begins as one.
    #[error(transparent)]
    MigUuid(#[from] InvalidMigUuid),
    /// What follows `::` is no number of a replica.
    #[error("{0:?} is not a device id: after :: it must have the number of a replica")]
    Replica(String),
}

impl FromStr for DeviceId {
    type Err = InvalidDeviceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (uuid, replica) = split_id(text);
        if uuid.starts_with("MIG-") {
            uuid.parse::<MigUuid>()?;
        } else {
            uuid.parse::<GpuUuid>()?;
        }
        match replica.map(ReplicaId::parse) {
            None | Some(Some(_)) => Ok(Self(text.into())),
            Some(None) => Err(InvalidDeviceId::Replica(text.to_owned())),
        }
    }
}

impl Borrow<str> for DeviceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DeviceId {
    type Error = InvalidDeviceId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "GPU-4d4d4d4d-0000-0000-0000-0123456789ab";

    fn uuid() -> DeviceUuid {
        DeviceUuid::from(&UUID.parse::<GpuUuid>().unwrap())
    }

    #[test]
    fn whole_gpus_and_replicas_round_trip() {
        let whole: DeviceId = UUID.parse().unwrap();
        assert_eq!(whole, DeviceId::whole(&uuid()));
        assert_eq!((whole.uuid(), whole.replica()), (UUID, None));

        let replica: DeviceId = format!("{UUID}::12").parse().unwrap();
        assert_eq!(replica, DeviceId::replica_of(&uuid(), ReplicaId(12)));
        assert_eq!(
            (replica.uuid(), replica.replica()),
            (UUID, Some(ReplicaId(12)))
        );
        assert_eq!(replica.to_string(), format!("{UUID}::12"));
    }

    #[test]
    fn the_number_of_a_replica_is_written_as_it_is_read() {
        for number in [0, 1, 9, 10, 99, 100, 909, 1000, 12_345, u32::MAX] {
            let id = DeviceId::replica_of(&uuid(), ReplicaId(number));
            assert_eq!(id.as_str(), format!("{UUID}::{number}"));
            assert_eq!(id.replica(), Some(ReplicaId(number)));
        }
    }

    #[test]
    fn mig_devices_have_ids_in_both_forms_of_their_uuids() {
        let rest = &UUID["GPU-".len()..];
        for uuid in [format!("MIG-{rest}"), format!("MIG-{UUID}/7/0")] {
            let id: DeviceId = format!("{uuid}::3").parse().unwrap();
            assert_eq!((id.uuid(), id.replica()), (&*uuid, Some(ReplicaId(3))));
            let device: MigUuid = uuid.parse().unwrap();
            let whole = DeviceId::whole(&DeviceUuid::from(&device));
            assert_eq!(whole.as_str(), uuid);
        }
        for bad in ["MIG-", "MIG-1::0"] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            String::new(),
            "0".to_owned(),
            format!("{UUID}::"),
            format!("{UUID}::x"),
            format!("{UUID}::+1"),
            format!("{UUID}::01"),
            format!("{UUID}::1::2"),
            format!("{UUID}:1"),
        ] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad:?} was accepted");
        }
    }
}
