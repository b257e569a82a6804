//! What dcgm-exporter can be told that is of no use here: it is taken, with a remark, so that
//! command lines and manifests written for it go on working.

use clap::{Arg, ArgAction, ArgMatches};

/// A flag and variable of the exporter.
#[derive(Debug, Clone, Copy)]
struct Foreign {
    flag: &'static str,
    short: Option<char>,
    variable: Option<&'static str>,
    /// Whether it takes a value.
    has_value: bool,
    /// What is the same as not given.
    default: &'static str,
    /// Why it does nothing.
    why: &'static str,
}

const fn switch(flag: &'static str, variable: &'static str, why: &'static str) -> Foreign {
    Foreign {
        flag,
        short: None,
        variable: Some(variable),
        has_value: false,
        default: "false",
        why,
    }
}

const fn value(
    flag: &'static str,
    variable: &'static str,
    default: &'static str,
    why: &'static str,
) -> Foreign {
    Foreign {
        flag,
        short: None,
        variable: Some(variable),
        has_value: true,
        default,
        why,
    }
}

const fn short(letter: char, foreign: Foreign) -> Foreign {
    Foreign {
        short: Some(letter),
        ..foreign
    }
}

const NO_DCGM: &str = "there is no DCGM";
const EVERY_GPU: &str = "every GPU and MIG device is told of; --include-gpus chooses";
const NOT_THESE: &str = "switches and CPUs are not told of";
const NO_DUMPS: &str = "there are no dumps";
const NO_POD_LABELS: &str = "the labels of pods are not told: they need rights to the API";

/// All of them.
const FOREIGN: [Foreign; 25] = [
    short(
        'p',
        value(
            "cpu-devices",
            "DCGM_EXPORTER_CPU_DEVICES_STR",
            "f",
            NOT_THESE,
        ),
    ),
    short(
        'm',
        value(
            "configmap-data",
            "DCGM_EXPORTER_CONFIGMAP_DATA",
            "none",
            "counters are read from a file: mount the ConfigMap, and give --collectors",
        ),
    ),
    short(
        'r',
        value(
            "remote-hostengine-info",
            "DCGM_REMOTE_HOSTENGINE_INFO",
            "localhost:5555",
            NO_DCGM,
        ),
    ),
    switch(
        "kubernetes-enable-pod-labels",
        "DCGM_EXPORTER_KUBERNETES_ENABLE_POD_LABELS",
        NO_POD_LABELS,
    ),
    value(
        "kubernetes-pod-label-allowlist-regex",
        "DCGM_EXPORTER_KUBERNETES_POD_LABEL_ALLOWLIST_REGEX",
        "",
        NO_POD_LABELS,
    ),
    value(
        "kubernetes-gpu-id-type",
        "DCGM_EXPORTER_KUBERNETES_GPU_ID_TYPE",
        "uid",
        "UUIDs and indices are both understood",
    ),
    short(
        'd',
        value("devices", "DCGM_EXPORTER_DEVICES_STR", "f", EVERY_GPU),
    ),
    short(
        's',
        value(
            "switch-devices",
            "DCGM_EXPORTER_OTHER_DEVICES_STR",
            "f",
            NOT_THESE,
        ),
    ),
    switch(
        "fake-gpus",
        "DCGM_EXPORTER_USE_FAKE_GPUS",
        "mizzen sim library makes simulated GPUs",
    ),
    switch(
        "debug",
        "DCGM_EXPORTER_DEBUG",
        "--log-level=debug says more",
    ),
    switch("enable-dcgm-log", "DCGM_EXPORTER_ENABLE_DCGM_LOG", NO_DCGM),
    value(
        "dcgm-log-level",
        "DCGM_EXPORTER_DCGM_LOG_LEVEL",
        "NONE",
        NO_DCGM,
    ),
    value(
        "hpc-job-mapping-dir",
        "DCGM_HPC_JOB_MAPPING_DIR",
        "",
        "jobs of HPC schedulers are not told of",
    ),
    value(
        "nvidia-resource-names",
        "NVIDIA_RESOURCE_NAMES",
        "",
        "every resource of nvidia.com is looked at",
    ),
    switch(
        "kubernetes-virtual-gpus",
        "KUBERNETES_VIRTUAL_GPUS",
        "shared GPUs have series of their own for each pod, mizzen_pod_gpu_*, always",
    ),
    switch("dump-enabled", "DCGM_EXPORTER_DUMP_ENABLED", NO_DUMPS),
    value(
        "dump-directory",
        "DCGM_EXPORTER_DUMP_DIRECTORY",
        "/tmp/dcgm-exporter-debug",
        NO_DUMPS,
    ),
    value(
        "dump-retention",
        "DCGM_EXPORTER_DUMP_RETENTION",
        "24",
        NO_DUMPS,
    ),
    Foreign {
        default: "true",
        ..switch(
            "dump-compression",
            "DCGM_EXPORTER_DUMP_COMPRESSION",
            NO_DUMPS,
        )
    },
    switch(
        "kubernetes-enable-dra",
        "KUBERNETES_ENABLE_DRA",
        "claims of dynamic resource allocation are not told of",
    ),
    switch(
        "disable-startup-validate",
        "DISABLE_STARTUP_VALIDATE",
        "a driver that is not there yet is waited for",
    ),
    switch(
        "enable-gpu-bind-unbind-watch",
        "DCGM_EXPORTER_ENABLE_GPU_BIND_UNBIND_WATCH",
        "GPUs that come and go are always noticed",
    ),
    value(
        "gpu-bind-unbind-poll-interval",
        "DCGM_EXPORTER_GPU_BIND_UNBIND_POLL_INTERVAL",
        "1s",
        "GPUs that come and go are always noticed",
    ),
    switch(
        "enable-pprof",
        "DCGM_EXPORTER_ENABLE_PPROF",
        "there are no profiles",
    ),
    switch(
        "web-systemd-socket",
        "DCGM_EXPORTER_SYSTEMD_SOCKET",
        "the address is listened on by the program itself",
    ),
];

/// The flags, which the help does not show.
pub(super) fn flags() -> impl Iterator<Item = Arg> {
    FOREIGN.iter().map(|foreign| {
        let arg = Arg::new(foreign.flag)
            .long(foreign.flag)
            .hide(true)
            .action(ArgAction::Set);
        let arg = match foreign.short {
            Some(letter) => arg.short(letter),
            None => arg,
        };
        if foreign.has_value {
            return arg;
        }
        arg.num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    })
}

/// Those that were given as flags, with what they were given.
pub(super) fn given(matches: &ArgMatches) -> Vec<(&'static str, String)> {
    let given = |foreign: &Foreign| {
        let value = matches.get_one::<String>(foreign.flag)?;
        Some((foreign.flag, value.clone()))
    };
    FOREIGN.iter().filter_map(given).collect()
}

/// What to say of those that were given, as flags or in the environment.
pub(super) fn remarks(
    flags: &[(&'static str, String)],
    variable: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let remark = |foreign: &Foreign| {
        let flag = flags.iter().find(|(flag, _)| *flag == foreign.flag);
        let (name, value) = if let Some((flag, value)) = flag {
            (format!("--{flag}"), value.clone())
        } else {
            let name = foreign.variable?;
            let value = variable(name).filter(|value| !value.is_empty())?;
            (format!("environment variable {name}"), value)
        };
        (value != foreign.default).then(|| format!("{name}: it does nothing here: {}", foreign.why))
    };
    FOREIGN.iter().filter_map(remark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_remarked_on_unless_it_is_the_default() {
        let flags = [
            ("devices", "f".to_owned()),
            ("remote-hostengine-info", "dcgm:5555".to_owned()),
        ];
        let remarks = remarks(&flags, |name| {
            let value = match name {
                "DCGM_EXPORTER_ENABLE_DCGM_LOG" | "DCGM_EXPORTER_DUMP_COMPRESSION" => "true",
                "DCGM_REMOTE_HOSTENGINE_INFO" => "other:1",
                _ => return None,
            };
            Some(value.to_owned())
        });
        assert_eq!(
            remarks,
            [
                "--remote-hostengine-info: it does nothing here: there is no DCGM",
                "environment variable DCGM_EXPORTER_ENABLE_DCGM_LOG: it does nothing here: there \
                 is no DCGM",
            ]
        );
    }
}
