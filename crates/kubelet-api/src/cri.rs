//! The Container Runtime Interface, v1, as far as a runtime is asked what it is and how it is set
//! up.

pub use generated::runtime_service_client::RuntimeServiceClient;
pub use generated::runtime_service_server::{RuntimeService, RuntimeServiceServer};
pub use generated::{StatusRequest, StatusResponse, VersionRequest, VersionResponse};

/// The version of the interface that the kubelet names in `Version`.
pub const KUBELET_VERSION: &str = "0.1.0";

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/cri.proto, where the documentation is"
)]
mod generated {
    tonic::include_proto!("runtime.v1");
}
