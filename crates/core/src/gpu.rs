//! What identifies and describes one GPU.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::mig::GpuMig;

/// A GPU's UUID as NVML prints it, `GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GpuUuid(Box<str>);

impl GpuUuid {
    /// The text as NVML prints it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A stand-in for the UUID of a GPU that does not tell it: made of its place on the bus, or
    /// of NVML's index where not even that is known. No real GPU has such a UUID.
    pub fn placeholder(index: u32, pci: Option<PciBusId>) -> Self {
        let text = match pci {
            Some(PciBusId {
                domain,
                bus,
                device,
                function,
            }) => {
                format!(
                    "GPU-00000000-0000-0000-0000-{domain:08x}{bus:02x}{:02x}",
                    device << 3 | function
                )
            }
            None => format!("GPU-00000000-0000-0000-0001-{index:012x}"),
        };
        Self(text.into())
    }
}

/// Why a text is not a GPU's UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a GPU UUID: expected GPU- and 8-4-4-4-12 hexadecimal digits")]
pub struct InvalidGpuUuid(String);

impl FromStr for GpuUuid {
    type Err = InvalidGpuUuid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("GPU-") {
            Some(rest) if is_uuid(rest) => Ok(Self(text.into())),
            _ => Err(InvalidGpuUuid(text.to_owned())),
        }
    }
}

/// Whether `text` has a UUID's shape: hexadecimal digits in groups of 8-4-4-4-12.
fn is_uuid(text: &str) -> bool {
    let mut groups = text.split('-');
    [8, 4, 4, 4, 12].iter().all(|&length| {
        groups.next().is_some_and(|group| {
            group.len() == length && group.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    }) && groups.next().is_none()
}

/// Compares as its text, so that maps keyed by it can be asked with a `&str`.
impl Borrow<str> for GpuUuid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GpuUuid {
    type Error = InvalidGpuUuid;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<GpuUuid> for String {
    fn from(uuid: GpuUuid) -> Self {
        uuid.0.into()
    }
}

impl fmt::Display for GpuUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GpuUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a device sits on the PCI bus: `domain:bus:device.function`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciBusId {
    /// PCI domain; NVML prints eight digits, sysfs at least four.
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

/// Why a text is not a PCI bus id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a PCI bus id: expected domain:bus:device.function, such as 0000:3b:00.0")]
pub struct InvalidPciBusId(String);

impl FromStr for PciBusId {
    type Err = InvalidPciBusId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (domain, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let id = Self {
                domain: u32::from_str_radix(domain, 16).ok()?,
                bus: u8::from_str_radix(bus, 16).ok()?,
                device: u8::from_str_radix(device, 16).ok()?,
                function: u8::from_str_radix(function, 16).ok()?,
            };
            (id.device < 32 && id.function < 8).then_some(id)
        };
        parse().ok_or_else(|| InvalidPciBusId(text.to_owned()))
    }
}

impl TryFrom<String> for PciBusId {
    type Error = InvalidPciBusId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciBusId> for String {
    fn from(id: PciBusId) -> Self {
        id.to_string()
    }
}

/// Writes the form of sysfs: lower case, four digits of domain unless it needs more.
impl fmt::Display for PciBusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{:x}",
            self.domain, self.bus, self.device, self.function
        )
    }
}

impl fmt::Debug for PciBusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What NVML and sysfs tell of one working GPU; all but [`mig`](Self::mig) is constant while the
/// GPU is in the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// NVML's index, which `nvidia-smi` shows; dense from 0 and not stable over restarts.
    pub index: u32,
    /// The `<minor>` of `/dev/nvidia<minor>`.
    pub minor: u32,
    /// Stable identity of the board.
    pub uuid: GpuUuid,
    /// Where it sits on the bus.
    pub pci: PciBusId,
    /// Product name, for example `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Framebuffer in MiB, as NVML reports the total.
    pub memory_mib: u64,
    /// CUDA compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// The NUMA node the board hangs on: known, non-negative, and a node that has CPUs
    /// (a kubelet hangs on the memory-only nodes of a GB200, kubernetes/kubernetes#135581).
    pub numa_node: Option<u32>,
    /// The PCI device id in the upper and the vendor's in the lower 16 bits, as NVML's
    /// `pciDeviceId`: 0x233010de. 0 where it is not known.
    #[serde(default)]
    pub device_id: u32,
    /// How it is partitioned; `None` where it cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig: Option<GpuMig>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_uuid_round_trips_and_rejects_other_shapes() {
        let text = "GPU-4d4d4d4d-0000-0000-0000-0123456789ab";
        assert_eq!(text.parse::<GpuUuid>().unwrap().to_string(), text);
        for bad in [
            "",
            "GPU-",
            "MIG-4d4d4d4d-0000-0000-0000-0123456789ab",
            "GPU-4d4d4d4d-0000-0000-0000-0123456789a",
            "GPU-4d4d4d4d-0000-0000-0000-0123456789ab-00",
            "GPU-4d4d4d4g-0000-0000-0000-0123456789ab",
        ] {
            assert!(bad.parse::<GpuUuid>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_placeholder_is_a_valid_uuid_that_differs_by_place() {
        let pci: PciBusId = "ffffffff:ff:1f.7".parse().unwrap();
        let uuids = [
            GpuUuid::placeholder(0, Some(pci)),
            GpuUuid::placeholder(0, Some(PciBusId { function: 6, ..pci })),
            GpuUuid::placeholder(0, None),
            GpuUuid::placeholder(u32::MAX, None),
        ];
        for (position, uuid) in uuids.iter().enumerate() {
            assert_eq!(uuid.as_str().parse().as_ref(), Ok(uuid));
            assert!(!uuids[..position].contains(uuid));
        }
    }

    #[test]
    fn a_pci_bus_id_is_read_in_nvmls_form_and_written_in_the_form_of_sysfs() {
        let nvml: PciBusId = "00000000:3B:00.0".parse().unwrap();
        assert_eq!(nvml.to_string(), "0000:3b:00.0");
        assert_eq!(nvml, "0000:3b:00.0".parse().unwrap());
        let wide: PciBusId = "00010000:01:1f.7".parse().unwrap();
        assert_eq!(wide.to_string(), "10000:01:1f.7");
        for bad in [
            "",
            "3b:00.0",
            "0000:3b:00",
            "0000:3b:20.0",
            "0000:3b:00.8",
            "0000:zz:00.0",
        ] {
            assert!(bad.parse::<PciBusId>().is_err(), "{bad:?} was accepted");
        }
    }
}
