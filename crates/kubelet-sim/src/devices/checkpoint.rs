//! `kubelet_internal_checkpoint`: what of the device manager survives a restart.
//!
//! The file is laid out as the kubelet's own: JSON with `PodDeviceEntries`, `RegisteredDevices`
//! and a checksum. Only the checksum is computed over other bytes (the JSON text, where the
//! kubelet hashes a dump of its Go structs).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mizzen_kubelet_api::deviceplugin::ContainerAllocateResponse;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{Holders, Holding, Ids};

/// The file's name in the plugin directory.
pub(crate) const CHECKPOINT_NAME: &str = "kubelet_internal_checkpoint";

/// What survives.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Checkpoint {
    /// Devices of the pods.
    pub(crate) holders: Holders,
    /// Healthy devices by resource.
    pub(crate) registered: BTreeMap<String, Ids>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    data: Data,
    checksum: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Option<Vec<Entry>>,
    registered_devices: BTreeMap<String, Ids>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    container_name: String,
    resource_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: BTreeMap<i64, Vec<String>>,
    alloc_resp: String,
}

impl Checkpoint {
    /// Writes the file so that a reader sees the old one or the new one whole.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let entries = self
            .holders
            .iter()
            .map(|(pod, container, resource, holding)| Entry {
                pod_uid: pod.to_owned(),
                container_name: container.to_owned(),
                resource_name: resource.to_owned(),
                device_ids: holding.by_numa.clone(),
                alloc_resp: BASE64.encode(holding.answer.encode_to_vec()),
            });
        let data = Data {
            pod_device_entries: Some(entries.collect()),
            registered_devices: self.registered.clone(),
        };
        let checksum = checksum(&data)?;
        let unfinished = dir.join(format!(".{CHECKPOINT_NAME}"));
        fs::write(&unfinished, serde_json::to_vec(&File { data, checksum })?)?;
        fs::rename(unfinished, dir.join(CHECKPOINT_NAME))
    }

    /// Reads the file. A node that has none starts empty.
    ///
    /// # Errors
    /// When there is one that cannot be read, or is damaged.
    pub(crate) fn read(dir: &Path) -> io::Result<Self> {
        let bytes = match fs::read(dir.join(CHECKPOINT_NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other?,
        };
        let File {
            data,
            checksum: expected,
        } = serde_json::from_slice(&bytes)?;
        if checksum(&data)? != expected {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "checkpoint is corrupted",
            ));
        }
        let mut holders = Holders::default();
        for entry in data.pod_device_entries.into_iter().flatten() {
            let answer = BASE64.decode(&entry.alloc_resp).map_err(io::Error::other)?;
            let answer = ContainerAllocateResponse::decode(answer.as_slice())?;
            let holding = Holding {
                by_numa: entry.device_ids,
                answer,
            };
            holders.put(
                &entry.pod_uid,
                &entry.container_name,
                &entry.resource_name,
                holding,
            );
        }
        Ok(Self {
            holders,
            registered: data.registered_devices,
        })
    }
}

/// FNV-1a, 32 bits.
fn checksum(data: &Data) -> io::Result<u32> {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    Ok(serde_json::to_vec(data)?
        .into_iter()
        .fold(0x811C_9DC5, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Checkpoint {
        let answer = ContainerAllocateResponse {
            envs: [("NVIDIA_VISIBLE_DEVICES".to_owned(), "GPU-1".to_owned())].into(),
            ..Default::default()
        };
        let mut holders = Holders::default();
        let by_numa = [(0, vec!["GPU-1".to_owned()])].into();
        holders.put("uid", "main", "nvidia.com/gpu", Holding { by_numa, answer });
        let registered = [("nvidia.com/gpu".to_owned(), Ids::from(["GPU-1".to_owned()]))].into();
        Checkpoint {
            holders,
            registered,
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Checkpoint::read(dir.path()).unwrap(), Checkpoint::default());
        filled().write(dir.path()).unwrap();
        assert_eq!(Checkpoint::read(dir.path()).unwrap(), filled());
    }

    #[test]
    fn the_file_has_the_kubelets_layout() {
        let dir = tempfile::tempdir().unwrap();
        filled().write(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join(CHECKPOINT_NAME)).unwrap();
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        let entry = &file["Data"]["PodDeviceEntries"][0];
        assert_eq!(entry["PodUID"], "uid");
        assert_eq!(entry["DeviceIDs"]["0"][0], "GPU-1");
        assert_eq!(
            file["Data"]["RegisteredDevices"]["nvidia.com/gpu"][0],
            "GPU-1"
        );
        assert!(file["Checksum"].is_u64());
    }

    #[test]
    fn a_damaged_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        filled().write(dir.path()).unwrap();
        let path = dir.path().join(CHECKPOINT_NAME);
        let text = fs::read_to_string(&path).unwrap().replace("GPU-1", "GPU-2");
        fs::write(&path, text).unwrap();
        assert_eq!(
            Checkpoint::read(dir.path()).unwrap_err().to_string(),
            "checkpoint is corrupted"
        );
    }
}
