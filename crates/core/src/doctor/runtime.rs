//! The container runtime: whether it gives containers what they were promised, and to whom else.

use super::RuntimeFacts;
use super::finding::Notes;
use crate::config::{Config, DeviceListStrategy};
use crate::runtime::{CdiState, Place, RiskLevel, RuntimeKind, RuntimeReport};

const CONFIGURE: &str = "sudo mizzen runtime configure";
const CHECK: &str = "mizzen runtime check";
const MEANS: &str = "containers are given no GPU, or do not start, although the kubelet has given \
                     them one";

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
            // That it is needed, and may be off, was said.
            _ if config.device_list_strategies.any_cdi() => return,
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
    cdi_state(report, notes);
    ways_of_names(report, config, notes);
    spec_directories(report, notes);
}

/// Whether it resolves names of devices at all.
fn cdi_state(report: &RuntimeReport, notes: &mut Notes) {
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
}

/// Whether the names reach it in the way that the settings choose.
fn ways_of_names(report: &RuntimeReport, config: &Config, notes: &mut Notes) {
    let name = report.name();
    if report.kind == RuntimeKind::Docker {
        docker(&name, config, notes);
    } else if report.version.is_some()
        && !report.takes_cri_field()
        && !config
            .device_list_strategies
            .includes(DeviceListStrategy::CdiAnnotations)
    {
        notes
            .error(
                "runtime-no-cri-field",
                format!("{name} resolves CDI names in annotations alone"),
            )
            .means(MEANS)
            .advise("set --device-list-strategy=cdi-annotations, or upgrade the runtime");
    }
}

/// Whether it reads the specs where the agent writes them.
fn spec_directories(report: &RuntimeReport, notes: &mut Notes) {
    if !report.spec_directories.hold_ours() {
        let name = report.name();
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

/// Docker, which is told of CDI names by cri-dockerd, if at all, and reads no annotations.
fn docker(name: &str, config: &Config, notes: &mut Notes) {
    let by_field = DeviceListStrategy::CdiCri;
    if !config.device_list_strategies.includes(by_field) {
        notes
            .error(
                "runtime-no-annotations",
                format!("{name} resolves no CDI names in annotations"),
            )
            .means(MEANS)
            .advise(
                "set --device-list-strategy=cdi-cri (DEVICE_LIST_STRATEGY) with a cri-dockerd \
                 newer than 0.4.3, or envvar with NVIDIA's runtime as Docker's default",
            );
        return;
    }
    notes
        .hint(
            "runtime-cri-dockerd",
            format!("{name} is told of CDI names by cri-dockerd, if that is newer than 0.4.3"),
        )
        .means("older ones drop the names without a word, and containers are given no GPU")
        .advise(
            "upgrade it if it is older, or set --device-list-strategy=envvar \
             (DEVICE_LIST_STRATEGY) with NVIDIA's runtime as Docker's default",
        )
        .run("cri-dockerd --version");
}

/// A runtime that is told of devices in ways that only NVIDIA's understands.
fn nvidia(facts: &RuntimeFacts, config: &Config, notes: &mut Notes) {
    let report = &facts.report;
    let by_variable = config
        .device_list_strategies
        .includes(DeviceListStrategy::Envvar);
    if report.nvidia_runtimes().next().is_none() && !report.nvidia_by_default() {
        gives_nothing(report, config, notes);
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

/// A runtime that gives containers device nodes at the most.
fn gives_nothing(report: &RuntimeReport, config: &Config, notes: &mut Notes) {
    let name = report.name();
    let is_auto = config.device_list_strategies.is_auto();
    let is_docker = report.kind == RuntimeKind::Docker;
    let found = if is_auto && is_docker {
        format!("{name} is not given CDI names by auto, and has no runtime of NVIDIA's")
    } else if is_auto {
        format!("{name} resolves no CDI names of ours, and has no runtime of NVIDIA's")
    } else {
        format!("the device-list strategy is one of NVIDIA's runtime, and {name} has none")
    };
    let finding = notes.warning("runtime-gives-nothing", found).means(
        "containers with a GPU get no library of the driver, so nvidia-smi and CUDA are not found \
         in them",
    );
    if is_docker {
        finding
            .advise(
                "with a cri-dockerd newer than 0.4.3, which passes CDI names on, set \
                 --device-list-strategy=cdi-cri (DEVICE_LIST_STRATEGY); or install NVIDIA's \
                 runtime and make it Docker's default",
            )
            .run("cri-dockerd --version");
    } else {
        finding
            .advise(
                "turn CDI on if it is off, and leave the device-list strategy at auto \
                 (DEVICE_LIST_STRATEGY), which then uses it",
            )
            .run(CONFIGURE);
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
