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

/// The event in words; nothing for one that says no more than another does, or that is told with
/// the GPUs' health.
pub(crate) fn tell(what: &Happening, gpus: &[Gpu]) -> Option<Told> {
    about_kubelet(what).or_else(|| about_pods(what, gpus))
}

fn told(source: Source, tone: Tone, message: String) -> Told {
    Told {
        source,
        tone,
        message,
    }
}

fn about_kubelet(what: &Happening) -> Option<Told> {
    let kubelet = |tone, message| Some(told(Source::Kubelet, tone, message));
    match what {
        Happening::KubeletStarted => kubelet(Tone::Neutral, "takes registrations".to_owned()),
        Happening::KubeletStopped => kubelet(Tone::Warning, "stopped; pods run on".to_owned()),
        Happening::RegistrationRefused { .. } | Happening::FileTrouble { .. } => {
            kubelet(Tone::Bad, what.to_string())
        }
        Happening::PluginGone { resource } => kubelet(
            Tone::Warning,
            format!("{resource}: its device plugin is gone, 0 allocatable"),
        ),
        Happening::PluginRegistered { resource, .. } => Some(told(
            Source::Agent,
            Tone::Good,
            format!("registered {resource}"),
        )),
        _ => None,
    }
}

fn about_pods(what: &Happening, gpus: &[Gpu]) -> Option<Told> {
    let pod_is = |tone, pod: &str, what: String| {
        Some(told(Source::Pod, tone, format!("{}{what}", in_words(pod))))
    };
    match what {
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
            pod_is(tone, pod, format!(" holds {device}, which is {health}"))
        }
        Happening::PodUnschedulable { pod, message } => {
            pod_is(Tone::Warning, pod, format!(" is Pending: {message}"))
        }
        Happening::DevicesAllocated {
            pod,
            container,
            resource,
            devices,
        } => {
            let devices = devices_in_words(gpus, resource, devices);
            pod_is(Tone::Neutral, pod, format!("/{container} gets {devices}"))
        }
        Happening::PodRejected {
            pod,
            reason,
            message,
        } => pod_is(Tone::Bad, pod, format!(" failed: {reason}: {message}")),
        Happening::ContainerNotStarted {
            pod,
            container,
            message,
        } => pod_is(
            Tone::Bad,
            pod,
            format!("/{container} could not start: {message}"),
        ),
        Happening::PodSucceeded { pod } => pod_is(Tone::Good, pod, " ran to its end".to_owned()),
        _ => None,
    }
}
