//! PodResources, v1: which containers of the node hold which devices.

pub use generated::pod_resources_lister_client::PodResourcesListerClient;
pub use generated::pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer};
pub use generated::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, CdiDevice, ClaimResource,
    ContainerDevices, ContainerMemory, ContainerResources, DynamicResource, GetPodResourcesRequest,
    GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse, NumaNode,
    PodResources, TopologyInfo,
};

/// Path of the socket of an ordinary kubelet.
pub const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";

/// The most that an answer may have, in bytes: what the kubelet's own client takes
/// (`defaultPodResourcesMaxSize`).
pub const ANSWER_SIZE: usize = 16 << 20;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/podresources.proto, where the documentation is"
)]
mod generated {
    tonic::include_proto!("v1");
}
