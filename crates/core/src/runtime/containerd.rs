//! containerd's `config.toml`: versions 1 to 4, and what it imports.

use super::report::{
    CdiState, CdiSupport, DefinedRuntime, Place, Remark, RuntimeKind, RuntimeReport, SourceFile,
    SpecDirectories,
};
use super::toml::TomlFile;
use super::version::RuntimeVersion;

/// The plugin that runs containers for the kubelet, in versions 3 and 4 of the config.
const CRI_RUNTIME: &str = "io.containerd.cri.v1.runtime";
/// In version 2.
const CRI_GRPC: &str = "io.containerd.grpc.v1.cri";
/// In version 1, which is what a file without a version has.
const CRI_V1: &str = "cri";
/// The first containerd that can resolve CDI names.
const FIRST_WITH_CDI: RuntimeVersion = RuntimeVersion::new(1, 7, 0);
/// The first that does so unless it is told not to.
const FIRST_ON: RuntimeVersion = RuntimeVersion::new(2, 0, 0);

/// The name that containerd 1 gives the runtime of its table `default_runtime`.
const DEFAULT_TABLE: &str = "default";

/// What is said of `enable_cdi` where it may be set for a containerd that does not know it.
const PERHAPS_PASSED_OVER: &str = "the version of containerd is not known, and one before 1.7 \
    passes over enable_cdi without a word: see `containerd --version`";

/// The files that a config imports, as patterns of absolute paths in which `*` stands for any
/// name; a path that is not absolute begins at the directory of the config.
///
/// # Errors
/// The first mistake in the text, with its line.
pub fn import_patterns(file: &SourceFile) -> Result<Vec<String>, Remark> {
    let toml = TomlFile::parse(file).map_err(|(place, text)| Remark::unread(text, Some(place)))?;
    let imports = toml.list(&["imports"]).map(|(imports, _)| imports);
    let directory = file.path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let absolute = |path: String| {
        if path.starts_with('/') {
            path
        } else {
            format!("{directory}/{}", path.trim_start_matches("./"))
        }
    };
    Ok(imports.into_iter().flatten().map(absolute).collect())
}

/// The key of the plugin in a config of this version.
pub(super) fn plugin_key(version: i64) -> &'static str {
    match version {
        ..=1 => CRI_V1,
        2 => CRI_GRPC,
        _ => CRI_RUNTIME,
    }
}

/// The version of a config.
pub(super) fn config_version(toml: &TomlFile<'_>) -> i64 {
    let version = toml.get(&["version"]);
    let number = version.and_then(|located| located.item.as_integer());
    number.filter(|number| *number > 0).unwrap_or(1)
}

/// The keys under which a config of this version may have the plugin, the one that counts first.
/// containerd 2 moves what is under an older key, and keeps what is under the newer one.
fn plugin_keys(version: i64) -> &'static [&'static str] {
    match version {
        ..=1 => &[CRI_V1],
        _ => &[CRI_RUNTIME, CRI_GRPC],
    }
}

/// Whether an imported section replaces the whole section of earlier files, as in containerd 1,
/// and not only the keys it has.
pub(super) fn replaces_sections(version: Option<RuntimeVersion>) -> bool {
    version.is_some_and(|version| version < FIRST_ON)
}

/// Whether containerd may be one without CDI: its version is not known, and its config is one that
/// such a containerd reads.
fn is_of_unknown_age(version: Option<RuntimeVersion>, config_version: Option<i64>) -> bool {
    version.is_none() && config_version.is_none_or(|config| config <= 2)
}

/// What containerd would not start with, or not take as it was meant.
fn misfits(
    toml: &TomlFile<'_>,
    of_file: i64,
    containerd: Option<RuntimeVersion>,
) -> impl Iterator<Item = Remark> {
    let remark = |path: &[&str], is_wrong: bool, text: String| {
        let located = toml.get(path).filter(|_| is_wrong)?;
        Some(Remark::unread(text, Some(toml.place(&located))))
    };
    let version = toml.get(&["version"]);
    let is_number =
        version.is_none_or(|version| version.item.as_integer().is_some_and(|it| it > 0));
    let older = containerd.filter(|containerd| of_file > 2 && *containerd < FIRST_ON);
    let mut found = vec![
        remark(
            &["version"],
            !is_number,
            "version is no number from 1 on".to_owned(),
        ),
        older.and_then(|older| {
            let text = format!("containerd {older} does not start with config version {of_file}");
            remark(&["version"], true, text)
        }),
    ];
    for key in plugin_keys(of_file) {
        let path = ["plugins", key, "enable_cdi"];
        let is_truth = toml.truth(&path).is_some();
        found.push(remark(
            &path,
            !is_truth,
            "enable_cdi is neither true nor false".to_owned(),
        ));
    }
    found.into_iter().flatten()
}

/// What `files` say, the main config first and then what it imports, in the order in which
/// containerd loads them; none where there is no config.
pub fn read_containerd(files: &[SourceFile], version: Option<RuntimeVersion>) -> RuntimeReport {
    let mut found = Found::default();
    let mut remarks = Vec::new();
    let mut main_version = None;
    for file in files {
        match TomlFile::parse(file) {
            Ok(toml) => {
                let of_file = config_version(&toml);
                let main = *main_version.get_or_insert(of_file);
                if of_file > main && version.is_none_or(|version| version >= FIRST_ON) {
                    let text = format!(
                        "{} has config version {of_file} and the file that imports it {main}: \
                         containerd does not start",
                        file.path
                    );
                    remarks.push(Remark::new(text, None));
                }
                remarks.extend(misfits(&toml, of_file, version));
                found.take(&toml, of_file, replaces_sections(version));
                if of_file <= 2 && version.is_none_or(|version| version < FIRST_ON) {
                    found.take_default_table(&toml, of_file);
                }
            }
            Err((place, text)) => {
                remarks.push(Remark::unread(format!("not TOML: {text}"), Some(place)));
            }
        }
    }
    let set = found.enable_cdi.as_ref().filter(|(on, _)| *on);
    if let Some((_, place)) = set
        && is_of_unknown_age(version, main_version)
    {
        remarks.push(Remark::new(PERHAPS_PASSED_OVER, Some(place.clone())));
    }
    let cdi = found.cdi(version, main_version);
    let by_table = found.default_table.take();
    let by_table = by_table.map(|place| (DEFAULT_TABLE.to_owned(), place));
    let default_runtime = by_table.or(found.default_runtime);
    RuntimeReport {
        kind: RuntimeKind::Containerd,
        version,
        cdi,
        spec_directories: found.spec_directories.unwrap_or_default(),
        runtimes: found.runtimes,
        default_runtime_place: default_runtime.as_ref().map(|(_, at)| at.clone()),
        default_runtime: default_runtime.map_or_else(|| "runc".to_owned(), |(name, _)| name),
        switched_off: found.disabled,
        remarks,
    }
}

/// What the files so far have set.
#[derive(Default)]
struct Found {
    enable_cdi: Option<(bool, Place)>,
    spec_directories: Option<SpecDirectories>,
    default_runtime: Option<(String, Place)>,
    runtimes: Vec<DefinedRuntime>,
    /// Where the table `default_runtime` is, if it counts.
    default_table: Option<Place>,
    disabled: Option<Place>,
}

/// The program of the runtime at this path: `BinaryName` in its options, or `runtime_engine`, which
/// containerd 1 has for runtimes of an older type.
fn program_of(toml: &TomlFile<'_>, runtime: &[&str]) -> Option<String> {
    let keys: [&[&str]; 2] = [&["options", "BinaryName"], &["runtime_engine"]];
    let mut programs = keys.iter().filter_map(|key| {
        let (program, _) = toml.text(&[runtime, key].concat())?;
        (!program.is_empty()).then_some(program)
    });
    programs.next()
}

impl Found {
    fn take(&mut self, toml: &TomlFile<'_>, version: i64, replaces: bool) {
        let keys = plugin_keys(version);
        let has_section = keys.iter().any(|key| toml.get(&["plugins", key]).is_some());
        if replaces && has_section {
            *self = Self {
                disabled: self.disabled.take(),
                ..Self::default()
            };
        }
        // The key that counts comes last.
        for key in keys.iter().rev() {
            self.take_plugin(toml, key);
        }
        if let Some((disabled, place)) = toml.list(&["disabled_plugins"]) {
            let is_cri = |name: &String| [CRI_V1, CRI_GRPC, CRI_RUNTIME].contains(&name.as_str());
            if disabled.iter().any(is_cri) {
                self.disabled = Some(place);
            }
        }
    }

    fn take_plugin(&mut self, toml: &TomlFile<'_>, key: &str) {
        if let Some(set) = toml.truth(&["plugins", key, "enable_cdi"]) {
            self.enable_cdi = Some(set);
        }
        if let Some((directories, place)) = toml.list(&["plugins", key, "cdi_spec_dirs"]) {
            self.spec_directories = Some(SpecDirectories {
                directories,
                place: Some(place),
            });
        }
        let default = ["plugins", key, "containerd", "default_runtime_name"];
        if let Some(set) = toml.text(&default) {
            self.default_runtime = Some(set);
        }
        let runtimes = ["plugins", key, "containerd", "runtimes"];
        for name in toml.keys(&runtimes) {
            let one = [&runtimes[..], &[name.as_str()]].concat();
            let place = toml.get(&one).map(|located| toml.place(&located));
            let program = program_of(toml, &one);
            self.define(name, program, place);
        }
    }

    /// Takes in the runtime that containerd 1 has in a table of its own, `default_runtime`: it is
    /// named `default` and outranks `default_runtime_name`. A table without a type, as containerd
    /// prints it with its defaults, sets nothing. containerd 2.0 took the table away.
    fn take_default_table(&mut self, toml: &TomlFile<'_>, version: i64) {
        for key in plugin_keys(version) {
            let table = ["plugins", key, "containerd", "default_runtime"];
            let of_type = toml.text(&[&table[..], &["runtime_type"]].concat());
            if of_type.is_none_or(|(of_type, _)| of_type.is_empty()) {
                continue;
            }
            let place = toml.get(&table).map(|located| toml.place(&located));
            self.define(
                DEFAULT_TABLE.to_owned(),
                program_of(toml, &table),
                place.clone(),
            );
            self.default_table = place;
        }
    }

    fn define(&mut self, name: String, program: Option<String>, place: Option<Place>) {
        let program = program.filter(|program| !program.is_empty());
        match self.runtimes.iter_mut().find(|known| known.name == name) {
            Some(known) => {
                known.program = program.or_else(|| known.program.take());
                known.place = place;
            }
            None => self.runtimes.push(DefinedRuntime {
                name,
                program,
                place,
            }),
        }
    }

    fn cdi(&self, version: Option<RuntimeVersion>, main: Option<i64>) -> CdiSupport {
        let support = |state, why: String, place: Option<&Place>| CdiSupport {
            state,
            why,
            place: place.cloned(),
        };
        if let Some(version) = version.filter(|version| *version < FIRST_WITH_CDI) {
            return support(
                CdiState::Unsupported,
                format!(
                    "containerd {version} passes over CDI devices without a word; 1.7 is the first \
                     that resolves them"
                ),
                self.enable_cdi.as_ref().map(|(_, place)| place),
            );
        }
        if let Some(place) = &self.disabled {
            return support(
                CdiState::Unsupported,
                format!(
                    "the plugin for Kubernetes is switched off by disabled_plugins in {place}: the \
                     kubelet cannot use this containerd"
                ),
                Some(place),
            );
        }
        if let Some((on, place)) = &self.enable_cdi {
            let state = if *on { CdiState::On } else { CdiState::Off };
            return support(state, format!("enable_cdi = {on} in {place}"), Some(place));
        }
        match (version, main) {
            (Some(version), _) if version >= FIRST_ON => support(
                CdiState::On,
                format!("containerd {version} has it on unless it is told otherwise"),
                None,
            ),
            (Some(version), _) => support(
                CdiState::Off,
                format!("containerd {version} has it off unless enable_cdi is set"),
                None,
            ),
            (None, Some(3..)) => support(
                CdiState::On,
                "its config has a version that only containerd 2 reads, which has CDI on unless \
                 it is told otherwise"
                    .to_owned(),
                None,
            ),
            (None, _) => support(
                CdiState::Unknown,
                "enable_cdi is not set, and the default depends on the version of containerd, \
                 which is not known"
                    .to_owned(),
                None,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1_6: RuntimeVersion = RuntimeVersion::new(1, 6, 20);
    const V1_7: RuntimeVersion = RuntimeVersion::new(1, 7, 24);
    const V2_3: RuntimeVersion = RuntimeVersion::new(2, 3, 4);

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    fn state(text: &str, version: Option<RuntimeVersion>) -> CdiState {
        read_containerd(&[file("/etc/containerd/config.toml", text)], version)
            .cdi
            .state
    }

    #[test]
    fn the_version_decides_where_nothing_is_set() {
        assert_eq!(read_containerd(&[], Some(V2_3)).cdi.state, CdiState::On);
        assert_eq!(read_containerd(&[], Some(V1_7)).cdi.state, CdiState::Off);
        assert_eq!(
            read_containerd(&[], Some(V1_6)).cdi.state,
            CdiState::Unsupported
        );
        assert_eq!(read_containerd(&[], None).cdi.state, CdiState::Unknown);
        assert_eq!(state("version = 2\n", None), CdiState::Unknown);
        assert_eq!(state("version = 3\n", None), CdiState::On);
    }

    #[test]
    fn every_version_of_the_config_has_its_key() {
        let v1 = "[plugins.cri]\nenable_cdi = true\n";
        assert_eq!(state(v1, Some(V1_7)), CdiState::On);
        let v2 = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = true\n";
        assert_eq!(state(v2, Some(V1_7)), CdiState::On);
        let v3 = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n";
        assert_eq!(state(v3, Some(V2_3)), CdiState::Off);
        let inline = "version = 2\nplugins.\"io.containerd.grpc.v1.cri\" = {enable_cdi = false}\n";
        assert_eq!(state(inline, Some(V2_3)), CdiState::Off);
        // Not the key of this version.
        let wrong = "[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = true\n";
        assert_eq!(state(wrong, Some(V1_7)), CdiState::Off);
        // As containerd 2.3.4 was seen to do.
        let both = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = false\n\
                    [plugins.\"io.containerd.cri.v1.runtime\"]\nenable_cdi = true\n";
        assert_eq!(state(both, Some(V2_3)), CdiState::On);
    }

    #[test]
    fn a_containerd_of_unknown_version_may_know_nothing_of_cdi() {
        let on = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = true\n";
        let remarks = |text: &str, version| {
            let report = read_containerd(&[file("/c.toml", text)], version);
            assert_eq!(report.cdi.state, CdiState::On, "{text}");
            let remarks = report.remarks.iter().map(ToString::to_string);
            remarks.collect::<Vec<_>>()
        };
        let [remark] = remarks(on, None).try_into().unwrap();
        assert!(
            remark.starts_with("/c.toml:3: the version of containerd is not known"),
            "{remark}"
        );
        assert_eq!(remarks(on, Some(V1_7)), [""; 0]);
        let new = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = true\n";
        assert_eq!(remarks(new, None), [""; 0], "containerd 1 does not read it");
    }

    #[test]
    fn a_setting_is_told_with_its_line() {
        let text = "version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  # why\n  enable_cdi = false\n";
        let report = read_containerd(&[file("/c.toml", text)], Some(V2_3));
        assert_eq!(report.cdi.place.unwrap().to_string(), "/c.toml:5");
        assert_eq!(report.cdi.why, "enable_cdi = false in /c.toml:5");
    }

    #[test]
    fn containerd_1_replaces_sections_and_containerd_2_merges_them() {
        let main = file(
            "/main.toml",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"nvidia\"\n",
        );
        let dropped = file(
            "/conf.d/a.toml",
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\ncdi_spec_dirs = [\"/b\"]\n",
        );
        let files = [main, dropped];
        let merged = read_containerd(&files, Some(V2_3));
        assert_eq!(merged.cdi.state, CdiState::On);
        assert_eq!(merged.default_runtime, "nvidia");
        assert_eq!(merged.spec_directories.directories, ["/b"]);
        let replaced = read_containerd(&files, Some(V1_7));
        assert_eq!(replaced.cdi.state, CdiState::Off);
        assert_eq!(replaced.default_runtime, "runc");
    }

    #[test]
    fn runtimes_have_the_programs_of_their_options() {
        let text = "version = 3\n\
            [plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'gpu'\n\
            [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n\
            runtime_type = 'io.containerd.runc.v2'\n\
            [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gpu]\n\
            runtime_type = 'io.containerd.runc.v2'\n\
            [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gpu.options]\n\
            BinaryName = '/usr/bin/nvidia-container-runtime'\n";
        let report = read_containerd(&[file("/c.toml", text)], None);
        assert!(report.nvidia_by_default());
        let names: Vec<_> = report.nvidia_runtimes().map(|known| &known.name).collect();
        assert_eq!(names, ["gpu"]);
        assert_eq!(report.default_runtime_place.unwrap().line, 3);
        assert_eq!(report.runtimes[1].place.as_ref().unwrap().line, 6);
    }

    #[test]
    fn containerd_1_has_its_default_in_a_table_of_its_own_too() {
        let table = |text: &str| {
            format!(
                "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n\
                 default_runtime_name = \"runc\"\n\
                 [plugins.\"io.containerd.grpc.v1.cri\".containerd.default_runtime]\n{text}"
            )
        };
        let by = |text: &str, version| read_containerd(&[file("/c.toml", text)], version);
        let options = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.default_runtime.options]\n\
            BinaryName = \"/usr/bin/nvidia-container-runtime\"\n";
        let nvidia = table(&format!(
            "runtime_type = \"io.containerd.runc.v2\"\n{options}"
        ));
        for version in [Some(V1_7), None] {
            let report = by(&nvidia, version);
            assert_eq!(report.default_runtime, "default");
            assert_eq!(report.default_runtime_place.as_ref().unwrap().line, 4);
            assert!(report.nvidia_by_default());
        }
        assert!(!by(&nvidia, Some(V2_3)).nvidia_by_default());
        // As containerd prints its defaults.
        let empty = by(&table("runtime_type = \"\"\n"), Some(V1_7));
        assert_eq!(empty.default_runtime, "runc");
        let engine = "[plugins.cri.containerd.default_runtime]\n\
            runtime_type = \"io.containerd.runtime.v1.linux\"\n\
            runtime_engine = \"/usr/bin/nvidia-container-runtime\"\n";
        assert!(by(engine, Some(V1_6)).nvidia_by_default());
    }

    #[test]
    fn imports_that_are_not_absolute_begin_at_the_config() {
        let patterns = import_patterns(&file(
            "/etc/containerd/config.toml",
            "imports = ['conf.d/*.toml', './x.toml', '/a/b.toml']\n",
        ));
        assert_eq!(
            patterns.unwrap(),
            [
                "/etc/containerd/conf.d/*.toml",
                "/etc/containerd/x.toml",
                "/a/b.toml"
            ]
        );
        assert!(import_patterns(&file("/c", "imports = [")).is_err());
    }

    #[test]
    fn a_containerd_without_its_plugin_for_kubernetes_has_no_cdi() {
        for name in [CRI_V1, CRI_GRPC, CRI_RUNTIME] {
            let text = format!("version = 2\ndisabled_plugins = [\"{name}\"]\n");
            let report = read_containerd(&[file("/m", &text)], Some(V2_3));
            assert_eq!(report.cdi.state, CdiState::Unsupported, "{name}");
            assert_eq!(report.switched_off.unwrap().to_string(), "/m:2");
            assert!(report.cdi.why.contains("disabled_plugins in /m:2"));
        }
        let other = "version = 2\ndisabled_plugins = [\"io.containerd.internal.v1.opt\"]\n";
        assert_eq!(state(other, Some(V2_3)), CdiState::On);
    }

    #[test]
    fn what_keeps_containerd_from_serving_is_remarked() {
        let newer = [file("/m", "version = 2\n"), file("/d", "version = 3\n")];
        assert_eq!(read_containerd(&newer, Some(V2_3)).remarks.len(), 1);
        let broken = [file("/m", "version = 3\nx = [\n")];
        assert!(
            read_containerd(&broken, None).remarks[0]
                .text
                .starts_with("not TOML")
        );
    }
}
