//! Docker's `daemon.json`.

use super::json::{Json, Value};
use super::report::{
    CdiState, CdiSupport, DefinedRuntime, Place, Remark, RuntimeKind, RuntimeReport, SourceFile,
    SpecDirectories,
};
use super::toml::line_of;
use super::version::RuntimeVersion;

/// The first Docker that can resolve CDI names.
const FIRST_WITH_CDI: RuntimeVersion = RuntimeVersion::new(25, 0, 0);
/// The first that does so unless it is told not to.
const FIRST_ON: RuntimeVersion = RuntimeVersion::new(28, 2, 0);

/// What `daemon.json` says; `None` where there is no such file.
pub fn read_docker(file: Option<&SourceFile>, version: Option<RuntimeVersion>) -> RuntimeReport {
    let mut remarks = Vec::new();
    let json = file
        .filter(|file| !file.text.trim().is_empty())
        .map(|file| {
            let json = Json::parse(&file.text).unwrap_or_else(|(at, expected)| {
                let place = Place {
                    file: file.path.clone(),
                    line: line_of(&file.text, at),
                };
                remarks.push(Remark::unread(format!("not JSON: {expected}"), Some(place)));
                Json {
                    span: 0..0,
                    value: Value::Null,
                }
            });
            (file, json)
        });
    let get = |path: &[&str]| {
        let (file, json) = json.as_ref()?;
        let value = json.get(path)?;
        let place = Place {
            file: file.path.clone(),
            line: line_of(&file.text, value.span.start),
        };
        Some((value, place))
    };
    let default = get(&["default-runtime"])
        .and_then(|(value, place)| Some((value.text()?.to_owned(), place)));
    let spec_directories = get(&["cdi-spec-dirs"]).and_then(|(value, place)| {
        let directories = value.texts()?;
        Some(SpecDirectories {
            directories: directories
                .into_iter()
                .filter(|path| !path.is_empty())
                .collect(),
            place: Some(place),
        })
    });
    let set = get(&["features", "cdi"]);
    let wrong = set.as_ref().filter(|(value, _)| value.truth().is_none());
    let wrong = wrong.map(|(_, place)| {
        Remark::unread(
            "features.cdi is neither true nor false",
            Some(place.clone()),
        )
    });
    let set = set.and_then(|(value, place)| Some((value.truth()?, place)));
    let runtimes = get(&["runtimes"]).map_or_else(Vec::new, |(value, _)| {
        value
            .members()
            .iter()
            .map(|member| DefinedRuntime {
                name: member.name.clone(),
                program: member
                    .value
                    .get(&["path"])
                    .and_then(|path| path.text().map(str::to_owned)),
                place: get(&["runtimes", &member.name]).map(|(_, place)| place),
            })
            .collect()
    });
    RuntimeReport {
        kind: RuntimeKind::Docker,
        version,
        cdi: support(set, version),
        spec_directories: spec_directories.unwrap_or_default(),
        runtimes,
        default_runtime_place: default.as_ref().map(|(_, place)| place.clone()),
        default_runtime: default.map_or_else(|| "runc".to_owned(), |(name, _)| name),
        switched_off: None,
        remarks: remarks.into_iter().chain(wrong).collect(),
    }
}

/// Whether `daemon.json` has containers go on while Docker is restarted (`live-restore`), which
/// they do not by default. A daemon may be told so by a flag of its own, too.
pub fn has_live_restore(file: Option<&SourceFile>) -> bool {
    let json = file.and_then(|file| Json::parse(&file.text).ok());
    json.and_then(|json| json.get(&["live-restore"])?.truth()) == Some(true)
}

fn support(set: Option<(bool, Place)>, version: Option<RuntimeVersion>) -> CdiSupport {
    let of = |state, why| CdiSupport {
        state,
        why,
        place: None,
    };
    match (version, set) {
        (Some(version), _) if version < FIRST_WITH_CDI => of(
            CdiState::Unsupported,
            format!("Docker {version} does not resolve CDI names; 25 is the first that can"),
        ),
        (_, Some((on, place))) => CdiSupport {
            state: if on { CdiState::On } else { CdiState::Off },
            why: format!("features.cdi is {on} in {place}"),
            place: Some(place),
        },
        (Some(version), None) if version >= FIRST_ON => of(
            CdiState::On,
            format!("Docker {version} has it on unless it is told otherwise"),
        ),
        (Some(version), None) => of(
            CdiState::Off,
            format!("Docker {version} has it off unless features.cdi is set"),
        ),
        (None, None) => of(
            CdiState::Unknown,
            "features.cdi is not set, and the default depends on the version of Docker, which is \
             not known"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, version: Option<RuntimeVersion>) -> RuntimeReport {
        let file = SourceFile {
            path: "/etc/docker/daemon.json".to_owned(),
            text: text.to_owned(),
        };
        read_docker(Some(&file), version)
    }

    #[test]
    fn the_setting_counts_and_then_the_version() {
        let v24 = Some(RuntimeVersion::new(24, 0, 7));
        let v27 = Some(RuntimeVersion::new(27, 5, 1));
        let v28 = Some(RuntimeVersion::new(28, 2, 0));
        let on = "{\n  \"features\": {\n    \"cdi\": true\n  }\n}\n";
        assert_eq!(read(on, v27).cdi.state, CdiState::On);
        assert_eq!(read(on, v27).cdi.place.unwrap().line, 3);
        assert_eq!(read(on, v24).cdi.state, CdiState::Unsupported);
        assert_eq!(read("{}", v27).cdi.state, CdiState::Off);
        assert_eq!(read("", v28).cdi.state, CdiState::On);
        assert_eq!(
            read(&on.replace("true", "false"), v28).cdi.state,
            CdiState::Off
        );
        assert_eq!(read_docker(None, None).cdi.state, CdiState::Unknown);
    }

    #[test]
    fn runtimes_and_directories_are_read() {
        let report = read(
            "{\"default-runtime\": \"nvidia\", \"cdi-spec-dirs\": [\"/a\"],\n\
             \"runtimes\": {\"nvidia\": {\"path\": \"nvidia-container-runtime\", \"args\": []}}}",
            None,
        );
        assert!(report.nvidia_by_default());
        assert_eq!(report.runtimes[0].place.as_ref().unwrap().line, 2);
        assert!(!report.spec_directories.hold_ours());
    }

    #[test]
    fn containers_outlive_a_restart_with_live_restore_alone() {
        let has = |text: &str| {
            has_live_restore(Some(&SourceFile {
                path: "/etc/docker/daemon.json".to_owned(),
                text: text.to_owned(),
            }))
        };
        assert!(has("{\"live-restore\": true}"));
        assert!(!has("{\"live-restore\": false}") && !has("{}") && !has(""));
        assert!(!has_live_restore(None));
    }

    #[test]
    fn a_broken_file_is_remarked() {
        let report = read("{\n  x\n}", None);
        assert_eq!(report.remarks[0].place.as_ref().unwrap().line, 2);
    }
}
