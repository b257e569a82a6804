//! Settings of runtimes by which a pod may take GPUs that it did not ask for.

use super::report::{Place, Remark, RuntimeReport, SourceFile};
use super::toml::TomlFile;

/// NVIDIA's toolkit's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolkitConfig {
    /// The file, by its path on the host, which need not exist.
    pub path: String,
    /// `accept-nvidia-visible-devices-envvar-when-unprivileged`: whether any container may name
    /// GPUs in its environment. The toolkit's default is that it may.
    pub accepts_envvar: bool,
    /// Where it is set.
    pub accepts_envvar_place: Option<Place>,
    /// `accept-nvidia-visible-devices-as-volume-mounts`: whether mounts may name GPUs.
    pub accepts_mounts: bool,
    /// Where it is set.
    pub accepts_mounts_place: Option<Place>,
    /// `nvidia-container-runtime.mode`: `auto`, `legacy`, `cdi`, `csv`, `jit-cdi`.
    pub mode: String,
    /// What is wrong with the file.
    pub remark: Option<Remark>,
}

/// Where those settings are, unless they are beside the program.
pub const TOOLKIT_CONFIG: &str = "/etc/nvidia-container-runtime/config.toml";

/// Where the settings of NVIDIA's runtime are if a container has installed it, as the GPU Operator
/// does: in a directory beside the program, which hides the one in `/etc` from it. `None` for a
/// program without a directory.
pub fn config_beside(program: &str) -> Option<String> {
    let (directory, _) = program.rsplit_once('/')?;
    let is_absolute = program.starts_with('/');
    is_absolute.then(|| format!("{directory}/.config/nvidia-container-runtime/config.toml"))
}

/// What the toolkit's config says; without one, its defaults.
pub fn read_toolkit(file: Option<&SourceFile>) -> ToolkitConfig {
    let mut config = ToolkitConfig {
        path: file.map_or_else(|| TOOLKIT_CONFIG.to_owned(), |file| file.path.clone()),
        accepts_envvar: true,
        accepts_envvar_place: None,
        accepts_mounts: false,
        accepts_mounts_place: None,
        mode: "auto".to_owned(),
        remark: None,
    };
    let Some(file) = file else { return config };
    match TomlFile::parse(file) {
        Ok(toml) => {
            if let Some((accepts, place)) =
                toml.truth(&["accept-nvidia-visible-devices-envvar-when-unprivileged"])
            {
                config.accepts_envvar = accepts;
                config.accepts_envvar_place = Some(place);
            }
            if let Some((accepts, place)) =
                toml.truth(&["accept-nvidia-visible-devices-as-volume-mounts"])
            {
                config.accepts_mounts = accepts;
                config.accepts_mounts_place = Some(place);
            }
            if let Some((mode, _)) = toml.text(&["nvidia-container-runtime", "mode"]) {
                config.mode = mode;
            }
        }
        Err((place, text)) => {
            config.remark = Some(Remark::unread(format!("not TOML: {text}"), Some(place)));
        }
    }
    config
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RiskLevel {
    /// Only pods that name something can do it.
    Note,
    /// Any pod can, and images do so without their user's knowledge.
    Warning,
}

/// A setting by which a pod may take GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivacyRisk {
    /// How bad it is.
    pub level: RiskLevel,
    /// What can happen.
    pub what: String,
    /// The setting, if it is written down.
    pub place: Option<Place>,
    /// What mends it.
    pub fix: String,
}

/// The setting that takes the envvar away from containers.
const REFUSE_ENVVAR: &str = "accept-nvidia-visible-devices-envvar-when-unprivileged = false";

/// What of these settings lets a pod take GPUs that the kubelet did not give it.
///
/// `toolkit` is what [`read_toolkit`] found; `hooks` are the files of OCI hooks on the host
/// (`/usr/share/containers/oci/hooks.d`, `/etc/containers/oci/hooks.d`), which CRI-O and Podman
/// run for every container that they match.
pub fn privacy_risks(
    report: &RuntimeReport,
    toolkit: &ToolkitConfig,
    hooks: &[SourceFile],
) -> Vec<PrivacyRisk> {
    let mut risks = Vec::new();
    let config = &toolkit.path;
    let hook = hooks.iter().find(|file| is_nvidia_hook(file));
    let by_default = report.nvidia_by_default();
    if toolkit.accepts_envvar && by_default {
        risks.push(PrivacyRisk {
            level: RiskLevel::Warning,
            what: format!(
                "NVIDIA's runtime ({}) runs every container of {}, and gives a container the GPUs \
                 that its environment names: a pod that asked for none takes all with \
                 NVIDIA_VISIBLE_DEVICES=all, which CUDA images have set",
                report.default_runtime, report.kind
            ),
            place: report
                .default_runtime_place
                .clone()
                .or_else(|| toolkit.accepts_envvar_place.clone()),
            fix: format!(
                "let pods have GPUs by CDI (mizzen runtime check) and make runc the default \
                 runtime again, or set {REFUSE_ENVVAR} in {config}"
            ),
        });
    } else if toolkit.accepts_envvar
        && let Some(runtime) = report.nvidia_runtimes().next()
    {
        risks.push(PrivacyRisk {
            level: RiskLevel::Note,
            what: format!(
                "a pod with a RuntimeClass whose handler is {} takes the GPUs that its \
                 environment names",
                runtime.name
            ),
            place: runtime.place.clone(),
            fix: format!(
                "remove the runtime if nothing needs it, or set {REFUSE_ENVVAR} in {config}"
            ),
        });
    }
    if toolkit.accepts_envvar
        && let Some(hook) = hook
    {
        risks.push(PrivacyRisk {
            level: RiskLevel::Warning,
            what: "NVIDIA's hook runs for every container that it matches, and gives a container \
                   the GPUs that its environment names"
                .to_owned(),
            place: Some(Place {
                file: hook.path.clone(),
                line: 1,
            }),
            fix: format!("remove the file, or set {REFUSE_ENVVAR} in {config}"),
        });
    }
    let is_used = hook.is_some() || report.nvidia_runtimes().next().is_some() || by_default;
    if toolkit.accepts_mounts && is_used {
        risks.push(PrivacyRisk {
            level: RiskLevel::Note,
            what: "a pod that may mount host paths names GPUs by mounts below \
                   /var/run/nvidia-container-devices"
                .to_owned(),
            place: toolkit.accepts_mounts_place.clone(),
            fix: "unless the device-list strategy is volume-mounts, set \
                  accept-nvidia-visible-devices-as-volume-mounts = false"
                .to_owned(),
        });
    }
    risks
}

fn is_nvidia_hook(file: &SourceFile) -> bool {
    let is_program = |name: &str| file.text.contains(name);
    is_program("nvidia-container-runtime-hook") || is_program("nvidia-container-toolkit")
}

#[cfg(test)]
mod tests {
    use super::super::containerd::read_containerd;
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    fn report(default: &str) -> RuntimeReport {
        let text = format!(
            "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\n\
             default_runtime_name = '{default}'\n\
             [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]\n\
             BinaryName = '/usr/bin/nvidia-container-runtime'\n"
        );
        read_containerd(&[file("/c.toml", &text)], None)
    }

    #[test]
    fn nvidias_runtime_as_the_default_lets_every_pod_take_gpus() {
        let risks = privacy_risks(&report("nvidia"), &read_toolkit(None), &[]);
        assert_eq!(risks.len(), 1);
        assert_eq!(risks[0].level, RiskLevel::Warning);
        assert_eq!(risks[0].place.as_ref().unwrap().to_string(), "/c.toml:3");
        let refuses = file(TOOLKIT_CONFIG, REFUSE_ENVVAR);
        let toolkit = read_toolkit(Some(&refuses));
        assert_eq!(privacy_risks(&report("nvidia"), &toolkit, &[]), []);
    }

    #[test]
    fn a_runtime_that_a_pod_must_name_is_a_note() {
        let risks = privacy_risks(&report("runc"), &read_toolkit(None), &[]);
        assert_eq!(risks.len(), 1);
        assert_eq!(risks[0].level, RiskLevel::Note);
        let plain = read_containerd(&[], None);
        assert_eq!(privacy_risks(&plain, &read_toolkit(None), &[]), []);
    }

    #[test]
    fn the_file_that_counts_is_named() {
        let beside = config_beside("/usr/local/nvidia/toolkit/nvidia-container-runtime").unwrap();
        assert_eq!(
            beside,
            "/usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml"
        );
        let toolkit = read_toolkit(Some(&file(&beside, "")));
        let risks = privacy_risks(&report("nvidia"), &toolkit, &[]);
        assert!(risks[0].fix.contains(&beside), "{}", risks[0].fix);
        assert_eq!(config_beside("nvidia-container-runtime"), None);
    }

    #[test]
    fn hooks_and_mounts_are_seen() {
        let plain = read_containerd(&[], None);
        let hook = file(
            "/usr/share/containers/oci/hooks.d/oci-nvidia-hook.json",
            "{\"hook\": {\"path\": \"/usr/bin/nvidia-container-runtime-hook\"}}",
        );
        let other = file("/usr/share/containers/oci/hooks.d/x.json", "{}");
        let mounts = file(
            TOOLKIT_CONFIG,
            "accept-nvidia-visible-devices-as-volume-mounts = true\n\
             [nvidia-container-runtime]\nmode = \"cdi\"\n",
        );
        let toolkit = read_toolkit(Some(&mounts));
        assert_eq!(toolkit.mode, "cdi");
        let risks = privacy_risks(&plain, &toolkit, &[other.clone(), hook]);
        assert_eq!(risks.len(), 2);
        assert_eq!(risks[1].place.as_ref().unwrap().line, 1);
        assert_eq!(privacy_risks(&plain, &toolkit, &[other]), []);
    }
}
