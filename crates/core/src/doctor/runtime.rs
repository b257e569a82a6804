//! The container runtime: whether it gives containers what they were promised, and to whom else.

use super::RuntimeFacts;
use super::finding::Notes;
use crate::config::{Config, DeviceListStrategy};
use crate::runtime::{CdiState, Place, RiskLevel, RuntimeKind, RuntimeReport};

const CONFIGURE: &str = "sudo mizzen runtime configure";
const CHECK: &str = "mizzen runtime check";

pub(super) fn judge(facts: Option<&RuntimeFacts>, config: &Config, notes: &mut Notes) {
    let Some(facts) = facts else {
        notes
            .hint("runtime-unknown", "no container runtime was found")
            .means(
                "there is none here, its files are elsewhere, or this container does not see them",
            )
            .run(CHECK);
        return;
    };
    let report = &facts.report;
    if config.device_list_strategies.any_cdi() {
        cdi(report, config, notes);
    } else {
        nvidia(facts, config, notes);
    }
    for remark in &report.remarks {
        notes
            .hint(
                "runtime-remark",
                format!("{}{}", at(remark.place.as_ref()), remark.text),
            )
            .means(format!("the runtime is {}, {}", report.name(), facts.why))
            .run(CHECK);
    }
    if let Some(error) = &facts.unasked {
        notes
            .hint(
                "runtime-not-asked",
                format!("{} was not asked: {error}", facts.name),
            )
            .means("what is said of it is what its files say, which it may not have read yet");
    }
    if notes.is_clean() {
        let state = match report.cdi.state {
            CdiState::On => "CDI is on",
            CdiState::Off => "CDI is off, and not needed",
            CdiState::Unsupported => "it has no CDI, and needs none",
            CdiState::Unknown => "whether CDI is on is not known, and it is not needed",
        };
        let (known, installed) = (report.name(), &facts.name);
        let is_plain = known.starts_with(installed.as_str());
        let by = if is_plain {
            known
        } else {
            format!("{known} of {installed}")
        };
        notes.ok("runtime", format!("{by}: {state}"));
    }
}

/// A runtime that is told of devices by CDI.
fn cdi(report: &RuntimeReport, config: &Config, notes: &mut Notes) {
    const MEANS: &str = "containers are given no GPU, or do not start, although the kubelet has \
                         given them one";
    let name = report.name();
    let why = &report.cdi.why;
    match report.cdi.state {
        CdiState::On => {}
        CdiState::Off => {
            notes
                .error(
                    "runtime-cdi-off",
                    format!("{name} does not resolve CDI names: {why}"),
                )
                .means(MEANS)
                .advise("turn CDI on, and restart the runtime")
                .run(CONFIGURE);
        }
        CdiState::Unsupported if report.switched_off.is_some() => {
            notes
                .error(
                    "runtime-cdi-unsupported",
                    format!("{name} resolves no CDI names for a kubelet: {why}"),
                )
                .means(MEANS)
                .advise(
                    "take the plugin out of disabled_plugins and restart containerd, or name the \
                     runtime that the kubelet uses with --runtime",
                )
                .run(CHECK);
        }
        CdiState::Unsupported => {
            notes
                .error("runtime-cdi-unsupported", format!("{name} knows nothing of CDI: {why}"))
                .means(MEANS)
                .advise("upgrade it (containerd 1.7, CRI-O 1.24), or use the strategy envvar with NVIDIA's runtime")
                .run(CHECK);
        }
        CdiState::Unknown => {
            notes
                .hint(
                    "runtime-cdi-unknown",
                    format!("whether {name} resolves CDI names is not known: {why}"),
                )
                .means("if it does not, containers are given no GPU")
                .run(CHECK);
        }
    }
    let in_annotations = DeviceListStrategy::CdiAnnotations;
    let is_known = report.version.is_some() || report.kind == RuntimeKind::Docker;
    if is_known
        && !report.takes_cri_field()
        && !config.device_list_strategies.includes(in_annotations)
    {
        notes
            .error(
                "runtime-no-cri-field",
                format!("{name} resolves CDI names in annotations alone"),
            )
            .means(MEANS)
            .advise("set --device-list-strategy=cdi-annotations, or upgrade the runtime");
    }
    if !report.spec_directories.hold_ours() {
        let directories = report.spec_directories.directories.join(", ");
        let place = at(report.spec_directories.place.as_ref());
        notes
            .error(
                "runtime-spec-directories",
                format!("{place}{name} reads CDI specs in {directories}, not in /var/run/cdi"),
            )
            .means("the agent writes them to /var/run/cdi, where this runtime does not find them")
            .advise("add /var/run/cdi to the runtime's cdi_spec_dirs, and restart it");
    }
}

/// A runtime that is told of devices in ways that only NVIDIA's understands.
fn nvidia(facts: &RuntimeFacts, config: &Config, notes: &mut Notes) {
    let report = &facts.report;
    let by_variable = config
        .device_list_strategies
        .includes(DeviceListStrategy::Envvar);
    if report.nvidia_runtimes().next().is_none() && !report.nvidia_by_default() {
        let name = report.name();
        let found = if config.device_list_strategies.is_auto() {
            format!("{name} resolves no CDI names of ours, and has no runtime of NVIDIA's")
        } else {
            format!("the device-list strategy is one of NVIDIA's runtime, and {name} has none")
        };
        notes
            .warning("runtime-gives-nothing", found)
            .means(
                "containers with a GPU get no library of the driver, so nvidia-smi and CUDA are \
                 not found in them",
            )
            .advise(
                "turn CDI on if it is off, and leave the device-list strategy at auto \
                 (DEVICE_LIST_STRATEGY), which then uses it",
            )
            .run(CONFIGURE);
    } else if by_variable && !facts.accepts_variable {
        notes
            .error(
                "runtime-refuses-variable",
                "the device-list strategy is envvar, and NVIDIA's runtime is told to heed no variable",
            )
            .means("containers that are not privileged get no GPU, although the kubelet has given them one")
            .advise(
                "set --device-list-strategy=cdi-cri (DEVICE_LIST_STRATEGY); or volume-mounts, with \
                 accept-nvidia-visible-devices-as-volume-mounts = true in \
                 /etc/nvidia-container-runtime/config.toml",
            );
    }
}

pub(super) fn privacy(facts: Option<&RuntimeFacts>, notes: &mut Notes) {
    let Some(facts) = facts else {
        return notes.skipped("no container runtime was found");
    };
    for risk in &facts.risks {
        let found = format!("{}{}", at(risk.place.as_ref()), risk.what);
        match risk.level {
            RiskLevel::Warning => notes
                .warning("pods-may-take-gpus", found)
                .means("a pod that asked for no GPU, or for one, uses those of others"),
            RiskLevel::Note => notes
                .hint("pods-may-ask-for-gpus", found)
                .means("a pod whose author wants to uses GPUs that the kubelet did not give it"),
        }
        .advise(risk.fix.clone());
    }
    if facts.risks.is_empty() {
        notes.ok(
            "privacy",
            format!(
                "no setting of {} lets a pod take GPUs that it was not given",
                facts.report.name()
            ),
        );
    }
}

/// A place in front of what is there.
fn at(place: Option<&Place>) -> String {
    place.map_or_else(String::new, |place| format!("{place}: "))
}
