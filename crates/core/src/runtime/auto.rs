//! How containers get their GPUs where nobody has said how.

use super::report::{CdiState, RuntimeKind, RuntimeReport};
use crate::cdi::SPEC_DIRECTORIES;
use crate::config::{DeviceListStrategies, DeviceListStrategy};

/// What the choice depends on.
#[derive(Debug, Clone, Copy)]
pub struct AutoInputs<'a> {
    /// What is known of the runtime that the kubelet uses; `None` if none was found.
    pub report: Option<&'a RuntimeReport>,
    /// The setting `--pass-device-specs`.
    pub pass_device_specs: bool,
}

/// How containers get their GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoChoice {
    /// The CDI strategy of a runtime that resolves CDI names; it counts as long as the specs can
    /// be written and are found.
    pub cdi: Option<DeviceListStrategy>,
    /// Whether the kubelet is told device nodes where CDI is not used.
    pub pass_device_specs: bool,
    /// Why CDI is used or not, in words.
    pub why: String,
    /// What is done without CDI, and why, in words.
    pub otherwise: String,
}

impl AutoChoice {
    /// The strategies, given whether CDI names can be used.
    pub fn strategies(&self, cdi_is_usable: bool) -> DeviceListStrategies {
        let cdi = self.cdi.filter(|_| cdi_is_usable);
        let strategy = cdi.unwrap_or(DeviceListStrategy::Envvar);
        DeviceListStrategies::chosen(strategy, self.cdi.is_some())
    }
}

/// CDI where the runtime resolves CDI names; else what works there: the environment where
/// NVIDIA's runtime reads it, and device nodes where nothing else does. Where nothing is known it
/// stays at what the settings say.
pub fn choose(inputs: AutoInputs<'_>) -> AutoChoice {
    let Some(report) = inputs.report else {
        return AutoChoice {
            cdi: None,
            pass_device_specs: inputs.pass_device_specs,
            why: "no container runtime was found".to_owned(),
            otherwise: if inputs.pass_device_specs {
                "the environment and device nodes".to_owned()
            } else {
                "the environment".to_owned()
            },
        };
    };
    let (cdi, why) = cdi(report);
    let (pass_device_specs, otherwise) = otherwise(report, inputs.pass_device_specs);
    AutoChoice {
        cdi,
        pass_device_specs,
        why,
        otherwise,
    }
}

fn cdi(report: &RuntimeReport) -> (Option<DeviceListStrategy>, String) {
    let name = report.name();
    let directories = &report.spec_directories;
    if report.kind == RuntimeKind::Docker {
        let why = format!("{name}: not every cri-dockerd passes CDI names on");
        return (None, why);
    }
    match report.cdi.state {
        CdiState::On if !directories.hold_ours() => (
            None,
            format!(
                "{name} reads CDI specs in {} and not in {}",
                directories.directories.join(", "),
                SPEC_DIRECTORIES[1]
            ),
        ),
        CdiState::On => {
            let strategy = if report.takes_cri_field() {
                DeviceListStrategy::CdiCri
            } else {
                DeviceListStrategy::CdiAnnotations
            };
            let why = format!("{name} resolves CDI names: {}", report.cdi.why);
            (Some(strategy), why)
        }
        CdiState::Off => (
            None,
            format!(
                "{name} has CDI off: {}; `mizzen runtime configure` turns it on",
                report.cdi.why
            ),
        ),
        CdiState::Unsupported => (None, report.cdi.why.clone()),
        CdiState::Unknown => (
            None,
            format!("whether {name} has CDI on is not known: {}", report.cdi.why),
        ),
    }
}

fn otherwise(report: &RuntimeReport, pass_device_specs: bool) -> (bool, String) {
    if report.nvidia_by_default() {
        let words = "the environment, which NVIDIA's runtime reads for every container";
        return (pass_device_specs, words.to_owned());
    }
    if let Some(runtime) = report.nvidia_runtimes().next() {
        let words = format!(
            "the environment, which NVIDIA's runtime reads for pods whose RuntimeClass has the \
             handler {}",
            runtime.name
        );
        return (pass_device_specs, words);
    }
    if report.cdi.state == CdiState::Unknown && !pass_device_specs {
        return (false, "the environment".to_owned());
    }
    (
        true,
        "device nodes, without the driver's libraries, which an image must bring along".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::containerd::read_containerd;
    use super::super::crio::read_crio;
    use super::super::report::SourceFile;
    use super::super::version::RuntimeVersion;
    use super::*;

    fn chosen(report: Option<&RuntimeReport>) -> AutoChoice {
        choose(AutoInputs {
            report,
            pass_device_specs: false,
        })
    }

    fn containerd(text: &str, version: RuntimeVersion) -> RuntimeReport {
        let file = SourceFile {
            path: "/etc/containerd/config.toml".to_owned(),
            text: text.to_owned(),
        };
        read_containerd(&[file], Some(version))
    }

    #[test]
    fn a_runtime_with_cdi_gets_cdi_names() {
        let new = read_containerd(&[], Some(RuntimeVersion::new(2, 3, 4)));
        assert_eq!(chosen(Some(&new)).cdi, Some(DeviceListStrategy::CdiCri));
        let cri_o = read_crio(&[], Some(RuntimeVersion::new(1, 25, 0)));
        let choice = chosen(Some(&cri_o));
        assert_eq!(choice.cdi, Some(DeviceListStrategy::CdiAnnotations));
        let falls_back = choice.strategies(false);
        assert!(falls_back.includes(DeviceListStrategy::Envvar) && !falls_back.any_cdi());
    }

    #[test]
    fn without_cdi_nvidias_runtime_gets_the_environment_and_others_get_nodes() {
        let off = RuntimeVersion::new(1, 7, 24);
        let nodes = chosen(Some(&containerd("version = 2\n", off)));
        assert!(nodes.cdi.is_none() && nodes.pass_device_specs);
        assert!(nodes.otherwise.contains("libraries"));
        let nvidia = "version = 2\n\
            [plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"nvidia\"\n";
        let environment = chosen(Some(&containerd(nvidia, off)));
        assert!(environment.cdi.is_none() && !environment.pass_device_specs);
    }

    #[test]
    fn specs_in_a_directory_that_is_not_read_are_of_no_use() {
        let text =
            "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\ncdi_spec_dirs = ['/etc/cdi']\n";
        let choice = chosen(Some(&containerd(text, RuntimeVersion::new(2, 0, 0))));
        assert!(choice.cdi.is_none());
        assert!(choice.why.contains("/var/run/cdi"), "{}", choice.why);
    }

    #[test]
    fn where_nothing_is_known_the_settings_count() {
        for pass_device_specs in [false, true] {
            let choice = choose(AutoInputs {
                report: None,
                pass_device_specs,
            });
            assert_eq!(choice.pass_device_specs, pass_device_specs);
            assert!(choice.strategies(true).includes(DeviceListStrategy::Envvar));
        }
    }
}
