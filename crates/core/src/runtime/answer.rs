//! What a running runtime tells of itself over the CRI.

use super::json::Json;
use super::report::{
    CdiState, DefinedRuntime, Remark, RuntimeKind, RuntimeReport, SpecDirectories,
};
use super::version::RuntimeVersion;

/// What a runtime answered to `Version` and `Status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CriAnswer {
    /// `runtime_name` of `Version`: `containerd`, `cri-o`, `docker`.
    pub name: String,
    /// `runtime_version` of `Version`.
    pub version: String,
    /// `info["config"]` of a verbose `Status`, which containerd fills with its config as JSON.
    pub config: Option<String>,
}

impl CriAnswer {
    /// Which runtime it is, if it is a known one.
    pub fn kind(&self) -> Option<RuntimeKind> {
        match self.name.as_str() {
            "containerd" => Some(RuntimeKind::Containerd),
            "cri-o" => Some(RuntimeKind::Crio),
            "docker" => Some(RuntimeKind::Docker),
            _ => None,
        }
    }

    /// The numbers of its version.
    pub fn version(&self) -> Option<RuntimeVersion> {
        RuntimeVersion::find(&self.version)
    }

    /// Corrects what the files say by what the running process tells: it may have been started
    /// with other files, or before they were changed.
    pub fn correct(&self, report: &mut RuntimeReport) {
        let json = self.config.as_deref().map(Json::parse);
        let Some(Ok(config)) = json else { return };
        if report.cdi.state == CdiState::Unsupported && report.switched_off.is_none() {
            return;
        }
        if let Some(on) = config.get(&["enableCDI"]).and_then(Json::truth) {
            let state = if on { CdiState::On } else { CdiState::Off };
            // What answers a kubelet's questions has its service for Kubernetes on.
            let switched_off = report.switched_off.take();
            let said = &report.cdi;
            let files_say = matches!(said.state, CdiState::On | CdiState::Off);
            if (files_say || switched_off.is_some()) && said.state != state {
                let text = format!(
                    "the running {} has CDI {}, its files say otherwise ({}): it has to be \
                     restarted, or reads other files",
                    report.kind,
                    if on { "on" } else { "off" },
                    said.why
                );
                report.remarks.push(Remark::new(text, said.place.clone()));
            }
            let by_file = said.state == state && said.place.is_some();
            report.cdi.state = state;
            report.cdi.why = if by_file {
                format!("the running {} says so; {}", report.kind, report.cdi.why)
            } else {
                format!("the running {} says so", report.kind)
            };
        }
        if let Some(directories) = config.get(&["cdiSpecDirs"]).and_then(Json::texts)
            && directories != report.spec_directories.directories
        {
            report.spec_directories = SpecDirectories {
                directories,
                place: None,
            };
        }
        correct_runtimes(&config, report);
    }
}

fn correct_runtimes(config: &Json, report: &mut RuntimeReport) {
    let default = config.get(&["containerd", "defaultRuntimeName"]);
    if let Some(name) = default.and_then(Json::text).filter(|name| !name.is_empty())
        && name != report.default_runtime
    {
        name.clone_into(&mut report.default_runtime);
        report.default_runtime_place = None;
    }
    let Some(runtimes) = config.get(&["containerd", "runtimes"]) else {
        return;
    };
    let known = core::mem::take(&mut report.runtimes);
    for member in runtimes.members() {
        let program = member.value.get(&["options", "BinaryName"]);
        let place = known.iter().find(|known| known.name == member.name);
        report.runtimes.push(DefinedRuntime {
            name: member.name.clone(),
            program: program
                .and_then(Json::text)
                .filter(|program| !program.is_empty())
                .map(str::to_owned),
            place: place.and_then(|known| known.place.clone()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::containerd::read_containerd;
    use super::super::report::SourceFile;
    use super::*;

    fn answer(config: &str) -> CriAnswer {
        CriAnswer {
            name: "containerd".to_owned(),
            version: "v2.3.4".to_owned(),
            config: Some(config.to_owned()),
        }
    }

    #[test]
    fn the_running_process_outranks_its_files() {
        let file = SourceFile {
            path: "/c.toml".to_owned(),
            text: "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = true\n"
                .to_owned(),
        };
        let mut report = read_containerd(&[file], None);
        answer(
            "{\"enableCDI\": false, \"cdiSpecDirs\": [\"/a\"], \"containerd\": \
             {\"defaultRuntimeName\": \"nvidia\", \"runtimes\": {\"nvidia\": {\"options\": \
             {\"BinaryName\": \"/usr/bin/nvidia-container-runtime\"}}}}}",
        )
        .correct(&mut report);
        assert_eq!(report.cdi.state, CdiState::Off);
        assert_eq!(report.remarks.len(), 1);
        assert_eq!(report.spec_directories.directories, ["/a"]);
        assert!(report.nvidia_by_default());
    }

    #[test]
    fn a_containerd_that_answers_has_its_service_on() {
        let file = SourceFile {
            path: "/c.toml".to_owned(),
            text: "version = 3\ndisabled_plugins = ['io.containerd.cri.v1.runtime']\n".to_owned(),
        };
        let mut report = read_containerd(&[file], None);
        answer("{\"enableCDI\": true}").correct(&mut report);
        assert_eq!(report.cdi.state, CdiState::On);
        assert_eq!(report.switched_off, None);
        assert!(report.remarks[0].text.contains("disabled_plugins"));
    }

    #[test]
    fn an_answer_that_says_nothing_of_cdi_changes_nothing() {
        let mut report = read_containerd(&[], None);
        let before = report.clone();
        answer("{\"containerd\": {}}").correct(&mut report);
        answer("no json").correct(&mut report);
        assert_eq!(report, before);
        assert_eq!(answer("").kind(), Some(RuntimeKind::Containerd));
        assert_eq!(answer("").version(), Some(RuntimeVersion::new(2, 3, 4)));
    }
}
