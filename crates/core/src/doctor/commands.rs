//! Commands of ours that a report proposes, with what they need of the settings to look at the
//! same machine as the report.

use std::path::Path;

use super::SettingsFacts;
use crate::config::Config;
use crate::shell::quoted;

/// A flag and its value.
type Flag = (&'static str, String);

/// The command, `sudo mizzen runtime check`, with the settings that are not as they usually are;
/// commands of others stay as they are.
pub(super) fn complete(command: &str, settings: &SettingsFacts) -> String {
    let (sudo, words) = match command.strip_prefix("sudo ") {
        Some(words) => ("sudo ", words),
        None => ("", command),
    };
    let Some(words) = words.strip_prefix("mizzen ") else {
        return command.to_owned();
    };
    let config = &settings.config;
    let (words, flags) = match words.split(' ').next() {
        Some("doctor") => (
            words.to_owned(),
            [of_file(settings), of_driver(config)].concat(),
        ),
        Some("runtime") => (words.to_owned(), of_root(config)),
        Some("mig") => (words.to_owned(), of_driver(config)),
        Some("cdi") if words.starts_with("cdi validate ") => {
            (below(words, config), of_root(config))
        }
        Some("cdi") => (
            below(words, config),
            [of_driver(config), of_specs(config)].concat(),
        ),
        Some("hook") => (below(words, config), Vec::new()),
        Some("config") => (with_file(words, settings), Vec::new()),
        _ => (words.to_owned(), Vec::new()),
    };
    let flags = flags.iter();
    let flags = flags.map(|(name, value)| format!(" --{name} {}", quoted(value)));
    format!("{sudo}mizzen {words}{}", flags.collect::<String>())
}

/// The paths among the words, which are the host's, as a process sees them that is told of the
/// host's root.
fn below(words: &str, config: &Config) -> String {
    let root = &config.host_root;
    if root == Path::new("/") {
        return words.to_owned();
    }
    let each = words.split(' ').map(|word| match word.strip_prefix('/') {
        Some(path) => quoted(&root.join(path).to_string_lossy()),
        None => word.to_owned(),
    });
    each.collect::<Vec<_>>().join(" ")
}

/// The words with the name of the config file in the place of FILE.
fn with_file(words: &str, settings: &SettingsFacts) -> String {
    match (words.strip_suffix(" FILE"), &settings.file) {
        (Some(words), Some(file)) => format!("{words} {}", quoted(file)),
        _ => words.to_owned(),
    }
}

fn of_file(settings: &SettingsFacts) -> Vec<Flag> {
    let file = settings.file.iter();
    file.map(|file| ("config-file", file.clone())).collect()
}

fn of_root(config: &Config) -> Vec<Flag> {
    differing([("host-root", &config.host_root, &Config::default().host_root)])
}

fn of_driver(config: &Config) -> Vec<Flag> {
    let usual = Config::default();
    let mut flags = of_root(config);
    flags.extend(differing([(
        "driver-root",
        &config.driver_root,
        &usual.driver_root,
    )]));
    let library = config.nvml_library.iter();
    flags.extend(library.map(|path| ("nvml-library", path.to_string_lossy().into_owned())));
    flags
}

/// What specs are made with.
fn of_specs(config: &Config) -> Vec<Flag> {
    let usual = Config::default();
    let mut flags = differing([
        ("dev-root", &config.dev_root, &config.driver_root),
        ("hook-dir", &config.hook_dir, &usual.hook_dir),
    ]);
    let program = config.cdi_hook_path.iter();
    flags.extend(program.map(|path| ("nvidia-cdi-hook-path", path.to_string_lossy().into_owned())));
    let lists = [
        ("disable-hook", &config.cdi_disable_hooks),
        ("feature-flag", &config.cdi_feature_flags),
    ];
    let given = lists.into_iter().filter(|(_, list)| !list.is_empty());
    flags.extend(given.map(|(name, list)| (name, list.join(","))));
    flags
}

/// The flags whose value is another than the second path.
fn differing<'a>(
    flags: impl IntoIterator<Item = (&'static str, &'a std::path::PathBuf, &'a std::path::PathBuf)>,
) -> Vec<Flag> {
    let other = flags.into_iter().filter(|(_, value, usual)| value != usual);
    other
        .map(|(name, value, _)| (name, value.to_string_lossy().into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SettingsFacts {
        SettingsFacts {
            config: Config {
                host_root: "/mnt/my node".into(),
                hook_dir: "/opt/hooks".into(),
                nvml_library: Some("/x/libnvidia-ml.so.1".into()),
                cdi_disable_hooks: vec!["chmod".to_owned()],
                ..Config::default()
            },
            source: String::new(),
            file: Some("/etc/m.yaml".to_owned()),
            mistakes: Vec::new(),
        }
    }

    #[test]
    fn commands_of_ours_look_at_the_same_machine() {
        let settings = settings();
        for (command, expected) in [
            (
                "mizzen runtime check",
                "mizzen runtime check --host-root '/mnt/my node'",
            ),
            (
                "sudo mizzen mig apply off --gpu 1",
                "sudo mizzen mig apply off --gpu 1 --host-root '/mnt/my node' --nvml-library \
                 /x/libnvidia-ml.so.1",
            ),
            (
                "mizzen cdi validate /etc/cdi/a.json",
                "mizzen cdi validate '/mnt/my node/etc/cdi/a.json' --host-root '/mnt/my node'",
            ),
            (
                "mizzen cdi diff --kind v.com/gpu",
                "mizzen cdi diff --kind v.com/gpu --host-root '/mnt/my node' --nvml-library \
                 /x/libnvidia-ml.so.1 --hook-dir /opt/hooks --disable-hook chmod",
            ),
            (
                "sudo mizzen hook install --dir /opt/hooks",
                "sudo mizzen hook install --dir '/mnt/my node/opt/hooks'",
            ),
            (
                "mizzen config check FILE",
                "mizzen config check /etc/m.yaml",
            ),
            (
                "sudo mizzen doctor",
                "sudo mizzen doctor --config-file /etc/m.yaml --host-root '/mnt/my node' \
                 --nvml-library /x/libnvidia-ml.so.1",
            ),
            ("mizzen simulate", "mizzen simulate"),
            ("ls -l /etc", "ls -l /etc"),
        ] {
            assert_eq!(complete(command, &settings), expected);
        }
    }

    #[test]
    fn on_the_node_itself_nothing_is_added() {
        let settings = SettingsFacts {
            config: Config::default(),
            file: None,
            ..settings()
        };
        for command in [
            "sudo mizzen runtime configure",
            "mizzen cdi validate /etc/cdi/a.json",
            "sudo mizzen cdi generate --output-dir /etc/cdi",
            "mizzen config check FILE",
        ] {
            assert_eq!(complete(command, &settings), command);
        }
    }
}
