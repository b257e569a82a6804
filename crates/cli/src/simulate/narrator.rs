//! The kubelet's events in words, as far as they are worth a line.

use mizzen_kubelet_sim::Happening;

use super::picture::{Gpu, devices_in_words, in_words};
use super::timeline::{Source, Tone};

/// An event in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// Who it is about.
    pub(crate) source: Source,
    /// What it means.
    pub(crate) tone: Tone,
    /// One line.
    pub(crate) message: String,
}

/// The event in words; nothing for one that says no more than another does.
pub(crate) fn tell(what: &Happening, gpus: &[Gpu]) -> Option<Told> {
    let (source, tone, message) = match what {
        Happening::KubeletStarted => (Source::Kubelet, Tone::Neutral, "takes registrations".into()),
        Happening::KubeletStopped => (
            Source::Kubelet,
            Tone::Warning,
            "stopped; pods run on".to_owned(),
        ),
        Happening::PluginRegistered { resource, .. } => {
            (Source::Agent, Tone::Good, format!("registered {resource}"))
        }
        Happening::RegistrationRefused { .. } | Happening::FileTrouble { .. } => {
            (Source::Kubelet, Tone::Bad, what.to_string())
        }
        Happening::PluginGone { resource } => (
            Source::Kubelet,
            Tone::Warning,
            format!("{resource}: the agent is gone, 0 allocatable"),
        ),
        Happening::DeviceHealthChanged {
            resource,
            device,
            healthy,
            pod,
        } => {
            let device = devices_in_words(gpus, resource, std::slice::from_ref(device));
            let (tone, health) = if *healthy {
                (Tone::Good, "healthy again")
            } else {
                (Tone::Bad, "unhealthy")
            };
            (
                Source::Pod,
                tone,
                format!("{} holds {device}, which is {health}", in_words(pod)),
            )
        }
        Happening::PodUnschedulable { pod, message } => (
            Source::Pod,
            Tone::Warning,
            format!("{} is Pending: {message}", in_words(pod)),
        ),
        Happening::DevicesAllocated {
            pod,
            container,
            resource,
            devices,
        } => {
            let devices = devices_in_words(gpus, resource, devices);
            (
                Source::Pod,
                Tone::Neutral,
                format!("{}/{container} gets {devices}", in_words(pod)),
            )
        }
        Happening::PodRejected {
            pod,
            reason,
            message,
        } => (
            Source::Pod,
            Tone::Bad,
            format!("{} failed: {reason}: {message}", in_words(pod)),
        ),
        Happening::ContainerNotStarted {
            pod,
            container,
            message,
        } => {
            let pod = in_words(pod);
            (
                Source::Pod,
                Tone::Bad,
                format!("{pod}/{container} could not start: {message}"),
            )
        }
        Happening::PodSucceeded { pod } => (
            Source::Pod,
            Tone::Good,
            format!("{} ran to its end", in_words(pod)),
        ),
        // Told with the GPUs' health.
        Happening::DevicesReported { .. }
        | Happening::PodCreated { .. }
        | Happening::PodScheduled { .. }
        | Happening::ContainerStarted { .. }
        | Happening::ContainerFinished { .. }
        | Happening::PodDeleted { .. } => return None,
    };
    Some(Told {
        source,
        tone,
        message,
    })
}
