//! The state in the words of the kubelet's interface.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::PathBuf;

use mizzen_core::allocate::{Allocation, AnnotationId};
use mizzen_core::health::DeviceHealth;
use mizzen_core::pool::Listed;
use mizzen_kubelet_api::deviceplugin::{
    CdiDevice, ContainerAllocateResponse, Device as ListedDevice, DeviceSpec, HEALTHY,
    ListAndWatchResponse, Mount, NumaNode, TopologyInfo, UNHEALTHY,
};

/// The message that tells the kubelet of these devices.
pub(super) fn device_list(listed: &[Listed]) -> ListAndWatchResponse {
    let mut devices = Vec::with_capacity(listed.iter().map(Listed::devices).sum());
    for of_gpu in listed {
        let health = match of_gpu.health {
            DeviceHealth::Healthy => HEALTHY,
            DeviceHealth::Unhealthy => UNHEALTHY,
        };
        devices.extend(of_gpu.ids().map(|id| ListedDevice {
            id: id.into(),
            health: health.to_owned(),
            topology: of_gpu.numa_node.map(|node| TopologyInfo {
                nodes: vec![NumaNode { id: node.into() }],
            }),
        }));
    }
    ListAndWatchResponse { devices }
}

/// What a container is given.
pub(super) fn container(allocation: Allocation) -> ContainerAllocateResponse {
    let mounts = allocation.mounts.into_iter().map(|mount| Mount {
        container_path: text(mount.container_path),
        host_path: text(mount.host_path),
        read_only: mount.read_only,
    });
    let devices = allocation.device_nodes.into_iter().map(|node| DeviceSpec {
        container_path: text(node.container_path),
        host_path: text(node.host_path),
        permissions: node.permissions.to_owned(),
    });
    let cdi_devices = allocation
        .cdi_devices
        .into_iter()
        .map(|name| CdiDevice { name });
    ContainerAllocateResponse {
        envs: allocation.env.into_iter().collect(),
        mounts: mounts.collect(),
        devices: devices.collect(),
        annotations: allocation.annotations.into_iter().collect(),
        cdi_devices: cdi_devices.collect(),
    }
}

/// Paths come from settings, which are text.
fn text(path: PathBuf) -> String {
    path.into_os_string()
        .into_string()
        .unwrap_or_else(|path| path.to_string_lossy().into_owned())
}

/// An id that no other annotation has. The standard library's hasher is keyed with the system's
/// random numbers once and differently for each hasher, so this asks the system for nothing.
pub(super) fn annotation_id() -> AnnotationId {
    let half = || RandomState::new().build_hasher().finish().to_ne_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&half());
    bytes[8..].copy_from_slice(&half());
    AnnotationId::from_random(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn annotation_ids_do_not_repeat() {
        let ids: BTreeSet<String> = (0..1000).map(|_| annotation_id().to_string()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
