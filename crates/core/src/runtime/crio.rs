//! CRI-O's `crio.conf` and the files in `crio.conf.d`.

use super::report::{
    CdiState, CdiSupport, DefinedRuntime, Place, Remark, RuntimeKind, RuntimeReport, SourceFile,
    SpecDirectories,
};
use super::toml::TomlFile;
use super::version::RuntimeVersion;

/// The first CRI-O that resolves CDI names; it has no switch for it.
const FIRST_WITH_CDI: RuntimeVersion = RuntimeVersion::new(1, 24, 0);

/// What `files` say, in the order in which CRI-O reads them: `crio.conf`, then those in
/// `crio.conf.d` by name. A later file replaces the keys it has.
pub fn read_crio(files: &[SourceFile], version: Option<RuntimeVersion>) -> RuntimeReport {
    let mut report = RuntimeReport {
        kind: RuntimeKind::Crio,
        version,
        cdi: support(version),
        spec_directories: SpecDirectories::default(),
        runtimes: Vec::new(),
        default_runtime: "crun".to_owned(),
        default_runtime_place: None,
        switched_off: None,
        remarks: Vec::new(),
    };
    for file in files {
        match TomlFile::parse(file) {
            Ok(toml) => take(&mut report, &toml),
            Err((place, text)) => {
                let text = format!("not TOML: {text}");
                report.remarks.push(Remark::unread(text, Some(place)));
            }
        }
    }
    report
}

fn support(version: Option<RuntimeVersion>) -> CdiSupport {
    let (state, why) = match version {
        Some(version) if version < FIRST_WITH_CDI => (
            CdiState::Unsupported,
            format!("CRI-O {version} does not resolve CDI names; 1.24 is the first that does"),
        ),
        Some(version) => (
            CdiState::On,
            format!("CRI-O {version} always resolves CDI names"),
        ),
        None => (
            CdiState::On,
            "CRI-O resolves CDI names since 1.24, and its version is not known".to_owned(),
        ),
    };
    CdiSupport {
        state,
        why,
        place: None,
    }
}

fn take(report: &mut RuntimeReport, toml: &TomlFile<'_>) {
    if let Some((directories, place)) = toml.list(&["crio", "runtime", "cdi_spec_dirs"]) {
        report.spec_directories = SpecDirectories {
            directories,
            place: Some(place),
        };
    }
    if let Some((name, place)) = toml.text(&["crio", "runtime", "default_runtime"]) {
        report.default_runtime = name;
        report.default_runtime_place = Some(place);
    }
    let runtimes = ["crio", "runtime", "runtimes"];
    for name in toml.keys(&runtimes) {
        let [a, b, c] = runtimes;
        let place = toml.get(&[a, b, c, &name]).map(|at| toml.place(&at));
        let program = toml.text(&[a, b, c, &name, "runtime_path"]);
        define(report, name, program.map(|(path, _)| path), place);
    }
}

fn define(report: &mut RuntimeReport, name: String, program: Option<String>, place: Option<Place>) {
    let program = program.filter(|path| !path.is_empty());
    report.runtimes.retain(|known| known.name != name);
    report.runtimes.push(DefinedRuntime {
        name,
        program,
        place,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn later_files_replace_the_keys_they_have() {
        let files = [
            file(
                "/etc/crio/crio.conf",
                "[crio.runtime]\ndefault_runtime = \"runc\"\ncdi_spec_dirs = [\"/etc/cdi\"]\n",
            ),
            file(
                "/etc/crio/crio.conf.d/99-nvidia.toml",
                "[crio]\n  [crio.runtime]\n    default_runtime = \"nvidia\"\n\
                 [crio.runtime.runtimes.nvidia]\n\
                 runtime_path = \"/usr/bin/nvidia-container-runtime\"\n",
            ),
        ];
        let report = read_crio(&files, Some(RuntimeVersion::new(1, 30, 0)));
        assert_eq!(report.cdi.state, CdiState::On);
        assert!(report.nvidia_by_default());
        assert_eq!(
            report.default_runtime_place.as_ref().unwrap().to_string(),
            "/etc/crio/crio.conf.d/99-nvidia.toml:3"
        );
        assert!(!report.spec_directories.hold_ours());
        assert_eq!(report.spec_directories.place.unwrap().line, 3);
    }

    #[test]
    fn there_is_no_switch_but_the_version() {
        let old = read_crio(&[], Some(RuntimeVersion::new(1, 22, 0)));
        assert_eq!(old.cdi.state, CdiState::Unsupported);
        assert_eq!(read_crio(&[], None).cdi.state, CdiState::On);
        assert!(read_crio(&[], None).spec_directories.hold_ours());
    }
}
