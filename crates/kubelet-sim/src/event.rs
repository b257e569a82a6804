//! What happens in the kubelet, as it happens.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Time since the embedded kubelet was made.
    pub at: Duration,
    /// What it was.
    #[serde(flatten)]
    pub what: Happening,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.3}s  {}", self.at.as_secs_f64(), self.what)
    }
}

/// The kinds of things that happen. Pods are named `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    tag = "event"
)]
pub enum Happening {
    /// The kubelet takes registrations.
    KubeletStarted,
    /// The kubelet has gone; pods run on.
    KubeletStopped,
    /// A plugin speaks for a resource from now on.
    PluginRegistered {
        /// The resource.
        resource: String,
        /// File name of the plugin's socket.
        endpoint: String,
    },
    /// A registration was refused.
    RegistrationRefused {
        /// The resource it was for.
        resource: String,
        /// The answer that the plugin got.
        message: String,
    },
    /// A plugin has sent its list.
    DevicesReported {
        /// The resource.
        resource: String,
        /// Devices that can be given out.
        healthy: usize,
        /// Devices that cannot.
        unhealthy: usize,
    },
    /// A plugin's list has ended, or its connection.
    PluginGone {
        /// The resource.
        resource: String,
    },
    /// A device that a pod holds has become sick or well.
    DeviceHealthChanged {
        /// The resource.
        resource: String,
        /// The device.
        device: String,
        /// How it is now.
        healthy: bool,
        /// The pod that holds it.
        pod: String,
    },
    /// A pod was taken by the API server.
    PodCreated {
        /// The pod.
        pod: String,
    },
    /// A pod does not fit on the node now.
    PodUnschedulable {
        /// The pod.
        pod: String,
        /// The scheduler's message.
        message: String,
    },
    /// A pod was given to the node.
    PodScheduled {
        /// The pod.
        pod: String,
    },
    /// A container has got its devices.
    DevicesAllocated {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// The resource.
        resource: String,
        /// The devices.
        devices: Vec<String>,
    },
    /// The kubelet refused a pod: it has failed for good.
    PodRejected {
        /// The pod.
        pod: String,
        /// One word.
        reason: String,
        /// The kubelet's message.
        message: String,
    },
    /// A container runs.
    ContainerStarted {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
    /// A container could not be started and will be tried again.
    ContainerNotStarted {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// Why.
        message: String,
    },
    /// A container has exited with 0.
    ContainerFinished {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
    /// A pod has done its work.
    PodSucceeded {
        /// The pod.
        pod: String,
    },
    /// A pod is gone, its devices free.
    PodDeleted {
        /// The pod.
        pod: String,
    },
    /// The kubelet could not use its own files.
    FileTrouble {
        /// What it tried and what the system said.
        message: String,
    },
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KubeletStarted => f.write_str("kubelet started"),
            Self::KubeletStopped => f.write_str("kubelet stopped"),
            Self::PluginRegistered { resource, endpoint } => {
                write!(f, "{endpoint} registered for {resource}")
            }
            Self::RegistrationRefused { resource, message } => {
                write!(f, "registration for {resource} refused: {message}")
            }
            Self::DevicesReported {
                resource,
                healthy,
                unhealthy,
            } => {
                write!(f, "{resource}: {healthy} healthy, {unhealthy} unhealthy")
            }
            Self::PluginGone { resource } => write!(f, "{resource}: the plugin has gone"),
            Self::DeviceHealthChanged {
                resource,
                device,
                healthy,
                pod,
            } => {
                let health = if *healthy { "healthy" } else { "unhealthy" };
                write!(f, "{pod}: {resource} {device} is {health}")
            }
            Self::PodCreated { pod } => write!(f, "{pod} created"),
            Self::PodUnschedulable { pod, message } => write!(f, "{pod} is pending: {message}"),
            Self::PodScheduled { pod } => write!(f, "{pod} scheduled"),
            Self::DevicesAllocated {
                pod,
                container,
                resource,
                devices,
            } => {
                write!(f, "{pod} {container}: {resource} {}", devices.join(", "))
            }
            Self::PodRejected {
                pod,
                reason,
                message,
            } => write!(f, "{pod}: {reason}: {message}"),
            Self::ContainerStarted { pod, container } => write!(f, "{pod} {container} started"),
            Self::ContainerNotStarted {
                pod,
                container,
                message,
            } => {
                write!(f, "{pod} {container} could not start: {message}")
            }
            Self::ContainerFinished { pod, container } => write!(f, "{pod} {container} finished"),
            Self::PodSucceeded { pod } => write!(f, "{pod} succeeded"),
            Self::PodDeleted { pod } => write!(f, "{pod} deleted"),
            Self::FileTrouble { message } => f.write_str(message),
        }
    }
}
