//! Where runtimes and the distributions of Kubernetes that bring one along keep their files.

use super::report::RuntimeKind;

/// Who writes a containerd's config, and so where an edit of it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerdFlavour {
    /// The node's administrator.
    Plain,
    /// k3s or RKE2: they make the config of a template at every start.
    Rancher,
    /// `MicroK8s`: it makes the config of a template at every start.
    Microk8s,
    /// k0s: it takes drop-ins in, and may overwrite the config.
    K0s,
}

/// A runtime as it is usually installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownPlace {
    /// Its name, for people.
    pub name: &'static str,
    /// Which runtime it is.
    pub kind: RuntimeKind,
    /// Who writes its config.
    pub flavour: ContainerdFlavour,
    /// Its main config.
    pub config: &'static str,
    /// A file that the config is made of, and in which an edit lasts.
    pub template: Option<&'static str>,
    /// A directory whose files count without being imported.
    pub drop_ins: Option<&'static str>,
    /// The socket that the kubelet uses.
    pub socket: &'static str,
    /// Programs that tell the version with `--version`.
    pub programs: &'static [&'static str],
    /// The units of systemd that run it; the first that there is.
    pub units: &'static [&'static str],
}

const fn containerd(
    name: &'static str,
    flavour: ContainerdFlavour,
    config: &'static str,
    socket: &'static str,
) -> KnownPlace {
    KnownPlace {
        name,
        kind: RuntimeKind::Containerd,
        flavour,
        config,
        template: None,
        drop_ins: None,
        socket,
        programs: &["/usr/bin/containerd", "/usr/local/bin/containerd"],
        units: &["containerd"],
    }
}

/// The runtimes that are looked for. Distributions come first: they bring a containerd of their
/// own, beside which the node's may be installed for other purposes.
pub const KNOWN_PLACES: &[KnownPlace] = &[
    KnownPlace {
        template: Some("/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl"),
        programs: &["/var/lib/rancher/k3s/data/current/bin/containerd"],
        units: &["k3s", "k3s-agent"],
        ..containerd(
            "k3s",
            ContainerdFlavour::Rancher,
            "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
            "/run/k3s/containerd/containerd.sock",
        )
    },
    KnownPlace {
        template: Some("/var/lib/rancher/rke2/agent/etc/containerd/config-v3.toml.tmpl"),
        programs: &["/var/lib/rancher/rke2/bin/containerd"],
        units: &["rke2-server", "rke2-agent"],
        ..containerd(
            "RKE2",
            ContainerdFlavour::Rancher,
            "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
            "/run/k3s/containerd/containerd.sock",
        )
    },
    KnownPlace {
        template: Some("/var/snap/microk8s/current/args/containerd-template.toml"),
        programs: &["/snap/microk8s/current/bin/containerd"],
        units: &["snap.microk8s.daemon-containerd"],
        ..containerd(
            "MicroK8s",
            ContainerdFlavour::Microk8s,
            "/var/snap/microk8s/current/args/containerd.toml",
            "/var/snap/microk8s/common/run/containerd.sock",
        )
    },
    KnownPlace {
        drop_ins: Some("/etc/k0s/containerd.d"),
        programs: &["/var/lib/k0s/bin/containerd"],
        units: &["k0sworker", "k0scontroller"],
        ..containerd(
            "k0s",
            ContainerdFlavour::K0s,
            "/etc/k0s/containerd.toml",
            "/run/k0s/containerd.sock",
        )
    },
    containerd(
        "containerd",
        ContainerdFlavour::Plain,
        "/etc/containerd/config.toml",
        "/run/containerd/containerd.sock",
    ),
    KnownPlace {
        kind: RuntimeKind::Crio,
        drop_ins: Some("/etc/crio/crio.conf.d"),
        programs: &["/usr/bin/crio", "/usr/local/bin/crio"],
        units: &["crio"],
        ..containerd(
            "CRI-O",
            ContainerdFlavour::Plain,
            "/etc/crio/crio.conf",
            "/run/crio/crio.sock",
        )
    },
    KnownPlace {
        kind: RuntimeKind::Docker,
        programs: &["/usr/bin/dockerd", "/usr/local/bin/dockerd"],
        units: &["docker"],
        ..containerd(
            "Docker",
            ContainerdFlavour::Plain,
            "/etc/docker/daemon.json",
            "/run/cri-dockerd.sock",
        )
    },
];

impl KnownPlace {
    /// Whether a kubelet with this endpoint, `unix:///run/…`, uses it.
    pub fn has_socket(&self, endpoint: &str) -> bool {
        let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
        let plain = path
            .strip_prefix("/var/run/")
            .map(|rest| format!("/run/{rest}"));
        plain.as_deref().unwrap_or(path) == self.socket
    }

    /// The last directory of the config's path.
    pub(super) fn directory(&self) -> &'static str {
        self.config
            .rsplit_once('/')
            .map_or("", |(parent, _)| parent)
    }
}

/// The socket of the runtime that a kubelet was told to use: by `containerRuntimeEndpoint` in its
/// config file, or by `--container-runtime-endpoint` in kubeadm's `kubeadm-flags.env`, which
/// outranks it.
pub fn kubelet_endpoint(config: Option<&str>, flags: Option<&str>) -> Option<String> {
    let bare = |text: &str| {
        let text = text.trim_matches(['"', '\'', ' ', '\t', '\r']);
        (!text.is_empty()).then(|| text.to_owned())
    };
    let flag = flags.and_then(|flags| {
        let (_, rest) = flags.split_once("--container-runtime-endpoint")?;
        let rest = rest.strip_prefix(['=', ' '])?;
        bare(rest.split(char::is_whitespace).next()?)
    });
    flag.or_else(|| {
        let lines = config?.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix("containerRuntimeEndpoint:"));
        let value = values.next()?.split(" #").next()?;
        bare(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_tells_its_endpoint() {
        let config = "kind: KubeletConfiguration\ncontainerRuntimeEndpoint: \"unix:///run/crio/crio.sock\" # x\n";
        let flags = "KUBELET_KUBEADM_ARGS=\"--node-ip=1 --container-runtime-endpoint=unix:///run/containerd/containerd.sock\"\n";
        let endpoint = |config, flags| kubelet_endpoint(config, flags);
        assert_eq!(
            endpoint(Some(config), None).as_deref(),
            Some("unix:///run/crio/crio.sock")
        );
        assert_eq!(
            endpoint(Some(config), Some(flags)).as_deref(),
            Some("unix:///run/containerd/containerd.sock")
        );
        assert_eq!(
            endpoint(Some("containerRuntimeEndpoint: \"\"\n"), Some("")),
            None
        );
    }

    #[test]
    fn an_endpoint_is_the_socket_under_run_or_var_run() {
        let plain = KNOWN_PLACES
            .iter()
            .find(|place| place.name == "CRI-O")
            .unwrap();
        assert!(plain.has_socket("unix:///var/run/crio/crio.sock"));
        assert!(plain.has_socket("/run/crio/crio.sock"));
        assert!(!plain.has_socket("unix:///run/containerd/containerd.sock"));
        assert_eq!(plain.directory(), "/etc/crio");
    }
}
