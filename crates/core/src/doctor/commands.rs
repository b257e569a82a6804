//! The commands that a report proposes, with what they need of the settings to be about the same
//! machine as the report.

use std::path::Path;

use super::{Finding, SettingsFacts};
use crate::config::Config;
use crate::shell::quoted;

/// A flag and its value.
type Flag = (&'static str, String);

/// What stands around a path of the host's within a command, and in no path.
const MARK: char = '\0';
/// Programs that change files of the machine they run on and cannot be told of another root.
const CHANGING: [&str; 7] = [
    "dkms",
    "dracut",
    "mokutil",
    "nvidia-modprobe",
    "sh",
    "tee",
    "update-initramfs",
];

/// A path of the host's as a word of a command, until [`fit`] puts the host's root in front.
pub(super) fn on_host(path: &str) -> String {
    format!("{MARK}{path}{MARK}")
}

/// Makes the commands of a finding fit the settings, and says it where one is left out.
pub(super) fn fit(finding: &mut Finding, settings: &SettingsFacts) {
    let proposed = std::mem::take(&mut finding.commands);
    let count = proposed.len();
    let fitting = proposed.iter();
    finding.commands = fitting
        .filter_map(|each| complete(each, settings))
        .collect();
    if finding.commands.len() == count {
        return;
    }
    let words = format!(
        "a command for it is left out, since it would change this machine and not that below {}",
        settings.config.host_root.display()
    );
    finding.advice = Some(match finding.advice.take() {
        Some(advice) => format!("{advice}; {words}"),
        None => words,
    });
}

/// The command with the host's root before its paths and, if it is one of ours, `sudo mizzen
/// runtime check`, with the settings that are not as they usually are; nothing where it would
/// change another machine.
fn complete(command: &str, settings: &SettingsFacts) -> Option<String> {
    let config = &settings.config;
    let is_elsewhere = config.host_root != Path::new("/");
    if is_elsewhere && command.split(' ').any(|word| CHANGING.contains(&word)) {
        return None;
    }
    let command = rooted(command, &config.host_root);
    let (sudo, words) = match command.strip_prefix("sudo ") {
        Some(words) => ("sudo ", words),
        None => ("", command.as_str()),
    };
    let Some(words) = words.strip_prefix("mizzen ") else {
        return Some(command);
    };
    let (words, flags) = match words.split(' ').next() {
        Some("doctor") => (
            words.to_owned(),
            [of_file(settings), of_driver(config)].concat(),
        ),
        Some("runtime") => (words.to_owned(), of_root(config)),
        Some("mig") => (words.to_owned(), of_driver(config)),
        Some("cdi") if words.starts_with("cdi validate ") => (words.to_owned(), of_root(config)),
        Some("cdi") => (
            words.to_owned(),
            [of_driver(config), of_specs(config)].concat(),
        ),
        Some("config") => (with_file(words, settings), Vec::new()),
        _ => (words.to_owned(), Vec::new()),
    };
    let flags = flags.iter();
    let flags = flags.map(|(name, value)| format!(" --{name} {}", quoted(value)));
    let flags = flags.collect::<String>();
    Some(format!("{sudo}mizzen {words}{flags}"))
}

/// The command with the paths of the host's as this process sees them.
fn rooted(command: &str, root: &Path) -> String {
    let parts = command.split(MARK).enumerate();
    let each = parts.map(|(at, part)| {
        if at.is_multiple_of(2) {
            return part.to_owned();
        }
        let path = root.join(part.trim_start_matches('/'));
        quoted(&path.to_string_lossy())
    });
    each.collect()
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
    use super::super::{Area, Severity};
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
                &format!("mizzen cdi validate {}", on_host("/etc/cdi/a.json")),
                "mizzen cdi validate '/mnt/my node/etc/cdi/a.json' --host-root '/mnt/my node'",
            ),
            (
                "mizzen cdi diff --kind v.com/gpu",
                "mizzen cdi diff --kind v.com/gpu --host-root '/mnt/my node' --nvml-library \
                 /x/libnvidia-ml.so.1 --hook-dir /opt/hooks --disable-hook chmod",
            ),
            (
                &format!("sudo mizzen hook install --dir {}", on_host("/opt/hooks")),
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
            ("ls -l /here", "ls -l /here"),
            (
                &format!("sudo rm -f {0} && ls {0}", on_host("/etc/cdi/a b.json")),
                "sudo rm -f '/mnt/my node/etc/cdi/a b.json' && ls '/mnt/my node/etc/cdi/a b.json'",
            ),
        ] {
            assert_eq!(complete(command, &settings).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_command_that_would_change_another_machine_is_left_out_and_that_is_said() {
        let mut finding = Finding {
            area: Area::Nodes,
            id: "node-missing",
            severity: Severity::Error,
            found: String::new(),
            meaning: None,
            advice: None,
            commands: vec![
                "sudo nvidia-modprobe -c 0 -u".to_owned(),
                "lspci -nn".to_owned(),
            ],
        };
        fit(&mut finding, &settings());
        assert_eq!(finding.commands, ["lspci -nn"]);
        let advice = finding.advice.unwrap();
        assert!(advice.contains("not that below /mnt/my node"), "{advice}");
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
            "sudo mizzen cdi generate --kind nvidia.com/gpu",
            "mizzen config check FILE",
            "sudo nvidia-modprobe -c 0 -u",
        ] {
            assert_eq!(complete(command, &settings).as_deref(), Some(command));
        }
        let command = format!("mizzen cdi validate {}", on_host("/etc/cdi/a.json"));
        let expected = "mizzen cdi validate /etc/cdi/a.json";
        assert_eq!(complete(&command, &settings).as_deref(), Some(expected));
    }
}
