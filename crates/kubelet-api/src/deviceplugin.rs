//! Device plugins, v1beta1: the kubelet's registration and the plugin's own service.

use std::time::Duration;

pub use generated::device_plugin_client::DevicePluginClient;
pub use generated::device_plugin_server::{DevicePlugin, DevicePluginServer};
pub use generated::registration_client::RegistrationClient;
pub use generated::registration_server::{Registration, RegistrationServer};
pub use generated::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateRequest,
    ContainerAllocateResponse, ContainerPreferredAllocationRequest,
    ContainerPreferredAllocationResponse, Device, DevicePluginOptions, DeviceSpec, Empty,
    ListAndWatchResponse, Mount, NumaNode, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse, RegisterRequest, TopologyInfo,
};

/// The one version of the interface that kubelets speak.
pub const VERSION: &str = "v1beta1";

/// Where an ordinary kubelet looks for plugins' sockets.
pub const PLUGIN_DIR: &str = "/var/lib/kubelet/device-plugins";

/// File name of the registration socket in the plugin directory.
pub const KUBELET_SOCKET_NAME: &str = "kubelet.sock";

/// Path of the registration socket of an ordinary kubelet.
pub const KUBELET_SOCKET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";

/// [`Device::health`] of a device that may be given out.
pub const HEALTHY: &str = "Healthy";

/// [`Device::health`] of a device that may not.
pub const UNHEALTHY: &str = "Unhealthy";

/// How long a kubelet waits for `PreStartContainer`.
pub const PRE_START_TIMEOUT: Duration = Duration::from_secs(30);

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/deviceplugin.proto, where the documentation is"
)]
mod generated {
    tonic::include_proto!("v1beta1");
}
