//! Versions of the format, and which one a spec needs.

use std::fmt;
use std::str::FromStr;

use super::spec::{CdiSpec, ContainerEdits};

/// A released version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CdiVersion {
    /// 0.1.0
    V0_1,
    /// 0.2.0
    V0_2,
    /// 0.3.0, the earliest that readers still know.
    V0_3,
    /// 0.4.0: types of mounts.
    V0_4,
    /// 0.5.0: host paths of device nodes, device names that begin with a digit.
    V0_5,
    /// 0.6.0: annotations, dots in classes.
    V0_6,
    /// 0.7.0: additional groups, Intel RDT.
    V0_7,
    /// 0.8.0
    V0_8,
    /// 1.0.0
    V1_0,
    /// 1.1.0: network devices, more of Intel RDT.
    V1_1,
}

impl CdiVersion {
    const ALL: [(&'static str, Self); 10] = [
        ("0.1.0", Self::V0_1),
        ("0.2.0", Self::V0_2),
        ("0.3.0", Self::V0_3),
        ("0.4.0", Self::V0_4),
        ("0.5.0", Self::V0_5),
        ("0.6.0", Self::V0_6),
        ("0.7.0", Self::V0_7),
        ("0.8.0", Self::V0_8),
        ("1.0.0", Self::V1_0),
        ("1.1.0", Self::V1_1),
    ];
}

impl fmt::Display for CdiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::ALL.iter().find(|(_, version)| version == self);
        f.write_str(known.map_or("", |(text, _)| text))
    }
}

/// Why a text is no version of the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version of the CDI format: known are 0.1.0 to 0.8.0, 1.0.0 and 1.1.0")]
pub struct UnknownVersion(String);

impl FromStr for CdiVersion {
    type Err = UnknownVersion;

    /// As readers do, with or without a `v` before it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix('v').unwrap_or(text);
        let known = Self::ALL.iter().find(|(known, _)| *known == number);
        known
            .map(|(_, version)| *version)
            .ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

/// The lowest version that has everything the spec uses: the more readers know it the better, and
/// a reader refuses a file that says a lower one.
pub fn minimum_version(spec: &CdiSpec) -> CdiVersion {
    let devices = spec.devices.iter();
    let of_names = devices.clone().map(|device| {
        let digit = device
            .name
            .starts_with(|first: char| first.is_ascii_digit());
        let by_name = if digit {
            CdiVersion::V0_5
        } else {
            CdiVersion::V0_3
        };
        if device.annotations.is_empty() {
            by_name
        } else {
            CdiVersion::V0_6
        }
    });
    let of_edits = devices
        .map(|device| &device.container_edits)
        .chain([&spec.container_edits])
        .map(of_edits);
    let class = spec.kind.split_once('/').map_or("", |(_, class)| class);
    let of_spec = if class.contains('.') || !spec.annotations.is_empty() {
        CdiVersion::V0_6
    } else {
        CdiVersion::V0_3
    };
    of_names.chain(of_edits).fold(of_spec, Ord::max)
}

fn of_edits(edits: &ContainerEdits) -> CdiVersion {
    let rdt = edits.intel_rdt.as_ref();
    let newest_rdt = rdt.is_some_and(|rdt| !rdt.schemata.is_empty() || rdt.enable_monitoring);
    if newest_rdt || !edits.net_devices.is_empty() {
        CdiVersion::V1_1
    } else if rdt.is_some() || !edits.additional_gids.is_empty() {
        CdiVersion::V0_7
    } else if edits
        .device_nodes
        .iter()
        .any(|node| !node.host_path.is_empty())
    {
        CdiVersion::V0_5
    } else if edits
        .mounts
        .iter()
        .any(|mount| !mount.mount_type.is_empty())
    {
        CdiVersion::V0_4
    } else {
        CdiVersion::V0_3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdi::{CdiDevice, DeviceNode, IntelRdt, Mount, NetDevice};

    fn minimum(change: impl Fn(&mut CdiSpec)) -> String {
        let mut spec = CdiSpec {
            kind: "v.com/c".to_owned(),
            devices: vec![CdiDevice {
                name: "d".to_owned(),
                ..CdiDevice::default()
            }],
            ..CdiSpec::default()
        };
        change(&mut spec);
        minimum_version(&spec).to_string()
    }

    #[test]
    fn each_use_of_something_newer_needs_the_version_that_brought_it() {
        assert_eq!(minimum(|_| {}), "0.3.0");
        let typed = Mount {
            mount_type: "tmpfs".to_owned(),
            ..Mount::default()
        };
        let elsewhere = DeviceNode {
            host_path: "/x".to_owned(),
            ..DeviceNode::default()
        };
        let monitored = IntelRdt {
            enable_monitoring: true,
            ..IntelRdt::default()
        };
        assert_eq!(
            minimum(|spec| spec.container_edits.mounts.push(typed.clone())),
            "0.4.0"
        );
        assert_eq!(
            minimum(|spec| {
                let edits = &mut spec.devices[0].container_edits;
                edits.device_nodes.push(elsewhere.clone());
            }),
            "0.5.0"
        );
        assert_eq!(
            minimum(|spec| spec.devices[0].name = "0".to_owned()),
            "0.5.0"
        );
        assert_eq!(minimum(|spec| spec.kind = "v.com/c.d".to_owned()), "0.6.0");
        let remark = ("a".to_owned(), "b".to_owned());
        assert_eq!(
            minimum(|spec| spec.annotations.extend([remark.clone()])),
            "0.6.0"
        );
        assert_eq!(
            minimum(|spec| spec.devices[0].annotations.extend([remark.clone()])),
            "0.6.0"
        );
        assert_eq!(
            minimum(|spec| spec.container_edits.additional_gids.push(44)),
            "0.7.0"
        );
        let rdt = Some(IntelRdt::default());
        assert_eq!(
            minimum(|spec| spec.container_edits.intel_rdt.clone_from(&rdt)),
            "0.7.0"
        );
        assert_eq!(
            minimum(|spec| spec.container_edits.intel_rdt = Some(monitored.clone())),
            "1.1.0"
        );
        assert_eq!(
            minimum(|spec| spec.container_edits.net_devices.push(NetDevice::default())),
            "1.1.0"
        );
    }

    #[test]
    fn versions_are_read_with_and_without_a_v() {
        assert_eq!("v0.7.0".parse(), Ok(CdiVersion::V0_7));
        assert_eq!("1.1.0".parse(), Ok(CdiVersion::V1_1));
        for bad in ["", "0.7", "0.9.0", "vv0.7.0"] {
            assert!(bad.parse::<CdiVersion>().is_err(), "{bad:?}");
        }
    }
}
