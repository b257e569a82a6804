//! Broken nodes: each break has its finding.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::{Duration, SystemTime};

use super::Node;
use super::node::bad;

/// A way to break a node.
struct Break {
    /// What is found, the first of all.
    found: &'static str,
    /// What is in the report for people, the spaces between words apart.
    words: &'static str,
    settings: &'static [&'static str],
    make: fn(&Node),
}

/// Checks that each break is told as it should be, to people and to programs, with what it means
/// and what to do.
fn check(breaks: &[Break]) {
    for Break {
        found,
        words,
        settings,
        make,
    } in breaks
    {
        let node = Node::new();
        make(&node);
        let report = node.report(settings);
        assert_eq!(
            bad(&report).first().map(String::as_str),
            Some(*found),
            "{report:#}"
        );
        let (severity, id) = found.split_once(' ').unwrap();
        let findings = report["findings"].as_array().unwrap();
        let finding = findings.iter().find(|finding| finding["id"] == id).unwrap();
        assert!(finding["meaning"].is_string(), "{finding:#}");
        let commands = finding["commands"].as_array().unwrap();
        assert!(
            !commands.is_empty() || finding["advice"].is_string(),
            "{finding:#}"
        );
        let text = node.doctor(settings);
        let told: Vec<String> = text
            .stdout()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let told = told.join(" ");
        assert!(told.contains(&format!("{severity} ")), "{told}");
        assert!(
            told.contains(words),
            "{id}: {words:?} is not in\n{}",
            text.stdout()
        );
        for command in commands {
            assert!(
                text.stdout()
                    .contains(&format!("$ {}\n", command.as_str().unwrap()))
            );
        }
    }
}

#[test]
fn a_driver_that_is_not_there_is_told_with_its_reason() {
    check(&[
        Break {
            found: "error no-gpu",
            words: "$ mizzen simulate",
            settings: &[],
            make: |node| {
                node.unload();
                fs::remove_dir_all(node.host("sys/bus/pci/devices")).unwrap();
            },
        },
        Break {
            found: "error no-gpu-on-bus",
            words: "no NVIDIA GPU is on the PCI bus",
            settings: &[],
            make: |node| fs::remove_dir_all(node.host("sys/bus/pci/devices")).unwrap(),
        },
        Break {
            found: "error nouveau",
            words: "but the kernel uses nouveau for NVIDIA hardware",
            settings: &[],
            make: |node| {
                node.unload();
                node.write("host/proc/modules", "nouveau 2334720 1 - Live 0x0\n");
            },
        },
        Break {
            found: "error driver-not-installed",
            words: "no NVIDIA module for the running kernel 6.1.0-9-amd64",
            settings: &[],
            make: |node| {
                node.unload();
                node.write("host/proc/sys/kernel/osrelease", "6.1.0-9-amd64\n");
                node.write(
                    "host/lib/modules/6.1.0-9-amd64/modules.dep",
                    "kernel/fs/ext4.ko:\n",
                );
            },
        },
        Break {
            found: "error driver-unsigned",
            words: "secure boot is on",
            settings: &[],
            make: |node| {
                node.unload();
                node.write("host/proc/sys/kernel/osrelease", "6.1.0-9-amd64\n");
                node.write(
                    "host/lib/modules/6.1.0-9-amd64/modules.dep",
                    "updates/dkms/nvidia.ko.xz: kernel/x.ko\n",
                );
                let variable = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
                let path = format!("host/sys/firmware/efi/efivars/{variable}");
                node.write(&path, [6, 0, 0, 0, 1]);
            },
        },
        Break {
            found: "error driver-not-loaded",
            words: "sudo modprobe nvidia && sudo dmesg",
            settings: &[],
            make: Node::unload,
        },
        Break {
            found: "error gpus-bound-elsewhere",
            words: "held by the kernel driver vfio-pci",
            settings: &[],
            make: |node| {
                node.unload();
                node.bind_gpus(Some("vfio-pci"));
            },
        },
        Break {
            found: "error driver-versions-differ",
            words: "the kernel has driver 999.1.2",
            settings: &[],
            make: |node| drop(node.write("host/sys/module/nvidia/version", "999.1.2\n")),
        },
    ]);
}

#[test]
fn an_nvml_that_cannot_be_used_is_told() {
    check(&[
        Break {
            found: "error nvml-missing",
            words: "there is no no-such-file",
            settings: &["--nvml-library", "no-such-file"],
            make: |_| {},
        },
        Break {
            found: "error nvml-missing",
            words: "libnvidia-ml.so.1 is in none of",
            settings: &[],
            make: |node| {
                node.remove_libraries("libnvidia-ml.so");
                node.remove("host/etc/ld.so.cache");
            },
        },
        Break {
            found: "error nvml-unusable",
            words: "file -L",
            settings: &["--nvml-library", "broken.so"],
            make: |node| drop(node.write("broken.so", "no library")),
        },
    ]);
}

#[test]
fn sick_gpus_are_told_and_a_hanging_one_hangs_nothing() {
    check(&[
        Break {
            found: "error gpu-lost",
            words: "is on the PCI bus, and NVML does not know it",
            settings: &[],
            make: |node| drop(node.write("node.yaml", "gpus:\n- {model: h100-80gb}\n")),
        },
        Break {
            found: "error gpu-broken",
            words: "GPU 1",
            settings: &[],
            make: |node| node.sim(&["inject", "lost", "--gpu", "1"]),
        },
        Break {
            found: "error gpu-hung",
            words: "gave no answer within",
            settings: &["--nvml-call-timeout", "200ms"],
            make: |node| node.sim(&["inject", "hang", "--gpu", "1"]),
        },
        Break {
            found: "error gpu-needs-recovery",
            words: "the driver asks for a reset of the GPU",
            settings: &[],
            make: |node| node.sim(&["inject", "recovery-action", "gpu-reset", "--gpu", "1"]),
        },
        Break {
            found: "warning mig-strategy-none",
            words: "MIG is on on GPU 1, and --mig-strategy is none",
            settings: &[],
            make: |node| node.sim(&["mig", "enable", "--gpu", "1"]),
        },
        Break {
            found: "hint mig-strategy-idle",
            words: "no GPU has MIG on",
            settings: &["--mig-strategy=mixed"],
            make: |_| {},
        },
        Break {
            found: "warning settings-do-not-suit",
            words: "gpus.include: 7 is no GPU of this node",
            settings: &["--include-gpus=7"],
            make: |_| {},
        },
    ]);
}

#[test]
fn device_nodes_that_are_missing_or_wrong_are_told() {
    check(&[
        Break {
            found: "error node-missing",
            words: "missing: /dev/nvidia-uvm, /dev/nvidia1",
            settings: &[],
            make: |node| {
                node.remove("host/dev/nvidia1");
                node.remove("host/dev/nvidia-uvm");
            },
        },
        Break {
            found: "hint node-optional",
            words: "not there: /dev/nvidia-modeset",
            settings: &[],
            make: |node| node.remove("host/dev/nvidia-modeset"),
        },
        Break {
            found: "error node-wrong",
            words: "/dev/nvidia1 is no device node",
            settings: &[],
            make: |node| {
                node.remove("host/dev/nvidia1");
                node.write("host/dev/nvidia1", "");
            },
        },
        Break {
            found: "error node-wrong",
            words: "the running driver's are 77:0",
            settings: &[],
            make: |node| {
                node.write(
                    "host/proc/devices",
                    "Character devices:\n195 nvidia\n 77 nvidia-uvm\n",
                );
            },
        },
        Break {
            found: "warning dev-char-links",
            words: "no link in /dev/char to 6 of the nodes: 195:255",
            settings: &[],
            make: |node| fs::create_dir_all(node.host("run/systemd/system")).unwrap(),
        },
    ]);
}

#[test]
fn cdi_specs_that_do_not_resolve_or_lie_are_told() {
    const CDI: &[&str] = &["--device-list-strategy=cdi-cri"];
    const KIND: &str = "--kind=k8s.device-plugin.nvidia.com/gpu";
    check(&[
        Break {
            found: "error cdi-unresolved",
            words: "2 of 2 names resolve nowhere: k8s.device-plugin.nvidia.com/gpu=GPU-",
            settings: CDI,
            make: |_| {},
        },
        Break {
            found: "error cdi-conflict",
            words: "is in several files: /var/run/cdi/",
            settings: CDI,
            make: |node| {
                node.specs(&[KIND, "--disable-hook=all"]);
                node.specs(&[KIND, "--disable-hook=all", "--format=yaml"]);
            },
        },
        Break {
            found: "warning cdi-invalid",
            words: "/etc/cdi/odd.yaml",
            settings: &[],
            make: |node| drop(node.write("host/etc/cdi/odd.yaml", "kind: nvidia.com/gpu\n")),
        },
        Break {
            found: "error cdi-stale",
            words: "nvidia.com-gpu.json names files that are not there: /usr/lib/",
            settings: &[],
            make: |node| {
                node.specs(&["--disable-hook=all"]);
                node.remove_libraries("libnvcuvid.so");
            },
        },
        Break {
            found: "error cdi-old-driver",
            words: "is of driver 550.54.15; 580.95.05 is running",
            settings: &[],
            make: |node| {
                node.specs(&["--disable-hook=all"]);
                let path = node.host("var/run/cdi/nvidia.com-gpu.json");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(path, text.replace("580.95.05", "550.54.15")).unwrap();
            },
        },
        Break {
            found: "error cdi-hook-missing",
            words: "has runtimes run /opt/hook, which is not there",
            settings: &[],
            make: |node| node.specs(&["--nvidia-cdi-hook-path=/opt/hook"]),
        },
        Break {
            found: "error cdi-hook-not-executable",
            words: "/host/opt/hook",
            settings: &[],
            make: |node| {
                node.specs(&["--nvidia-cdi-hook-path=/opt/hook"]);
                let hook = node.write("host/opt/hook", "");
                fs::set_permissions(hook, Permissions::from_mode(0o644)).unwrap();
            },
        },
    ]);
}

#[test]
fn a_runtime_that_gives_containers_nothing_or_too_much_is_told() {
    const CONFIG: &str = "host/etc/containerd/config.toml";
    check(&[
        Break {
            found: "error runtime-cdi-off",
            words: "$ sudo mizzen runtime configure",
            settings: &["--device-list-strategy=cdi-cri", "--cdi-disable-hooks=all"],
            make: |node| {
                node.specs(&[
                    "--kind=k8s.device-plugin.nvidia.com/gpu",
                    "--disable-hook=all",
                ]);
                node.write(
                    CONFIG,
                    "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n",
                );
            },
        },
        Break {
            found: "warning runtime-gives-nothing",
            words: "has none",
            settings: &["--device-list-strategy=envvar"],
            make: |node| drop(node.write(CONFIG, "version = 3\n")),
        },
        Break {
            found: "warning runtime-gives-nothing",
            words: "resolves no CDI names of ours, and has no runtime of NVIDIA's",
            settings: &[],
            make: |node| {
                let text =
                    "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n";
                node.write(CONFIG, text);
            },
        },
        Break {
            found: "error runtime-refuses-variable",
            words: "is told to heed no variable",
            settings: &["--device-list-strategy=envvar"],
            make: |node| {
                let text = "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n";
                node.write("host/etc/nvidia-container-runtime/config.toml", text);
            },
        },
        Break {
            found: "hint runtime-unknown",
            words: "no container runtime was found",
            settings: &[],
            make: |node| node.remove(CONFIG),
        },
    ]);
    // Last of all, after what a node without a kubelet lacks.
    let node = Node::new();
    let config = fs::read_to_string(node.path(CONFIG)).unwrap();
    let table = "[plugins.'io.containerd.cri.v1.runtime'.containerd]\n";
    node.write(
        CONFIG,
        format!("{config}{table}default_runtime_name = 'nvidia'\n"),
    );
    let report = node.report(&[]);
    assert_eq!(bad(&report).last().unwrap(), "warning pods-may-take-gpus");
    let told = node.doctor(&[]).ended_with(1).stdout();
    assert!(told.contains("/etc/containerd/config.toml:7"), "{told}");
    assert!(told.contains("NVIDIA_VISIBLE_DEVICES=all"), "{told}");
}

#[test]
fn a_kubelet_that_cannot_be_reached_is_told() {
    const SOCKET: &str = "kubelet/device-plugins/kubelet.sock";
    check(&[
        Break {
            found: "error kubelet-missing",
            words: "$ systemctl status kubelet k3s rke2-agent",
            settings: &[],
            make: |_| {},
        },
        Break {
            found: "error kubelet-elsewhere",
            words: "a kubelet's socket is at /var/lib/k0s/kubelet/device-plugins/kubelet.sock",
            settings: &[],
            make: |node| {
                let directory = node.host("var/lib/k0s/kubelet/device-plugins");
                fs::create_dir_all(&directory).unwrap();
                drop(UnixListener::bind(directory.join("kubelet.sock")).unwrap());
            },
        },
        Break {
            found: "error kubelet-no-socket",
            words: "is no socket",
            settings: &[],
            make: |node| drop(node.write(SOCKET, "")),
        },
        Break {
            found: "error kubelet-refused",
            words: "$ sudo systemctl restart kubelet",
            settings: &[],
            make: |node| {
                let path = node.path(SOCKET);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                drop(UnixListener::bind(path).unwrap());
            },
        },
        Break {
            found: "hint kubelet-not-asked",
            words: "the agent does not register",
            settings: &["--kubelet-socket", ""],
            make: |_| {},
        },
    ]);
}

#[test]
fn what_the_process_may_not_do_and_a_wrong_clock_are_told() {
    // Without a kubelet, which is a finding of its own, before.
    const ALONE: &[&str] = &["--kubelet-socket", "", "--state-dir", "state/there"];
    let node = Node::new();
    node.write("state", "a file");
    let report = node.report(ALONE);
    assert_eq!(bad(&report)[1], "error directory-missing", "{report:#}");
    let told = node.doctor(ALONE).ended_with(1).stdout();
    assert!(
        told.contains("state/there is no directory, and none can be made"),
        "{told}"
    );

    let node = Node::new();
    let cache = File::options()
        .append(true)
        .open(node.host("etc/ld.so.cache"))
        .unwrap();
    cache
        .set_modified(SystemTime::now() + Duration::from_mins(3 * 24 * 60 + 1))
        .unwrap();
    fs::create_dir_all(node.host("run/systemd/timesync")).unwrap();
    node.write("host/sys/class/rtc/rtc0/since_epoch", "86400\n");
    let report = node.report(ALONE);
    let expected = [
        "error clock-behind",
        "warning clock-hardware",
        "hint clock-unsynchronised",
    ];
    assert_eq!(bad(&report)[1..4], expected, "{report:#}");
    let told = node.doctor(ALONE).ended_with(1).stdout();
    let words = "the clock is 3 days behind the time at which /etc/ld.so.cache was written";
    assert!(told.contains(words), "{told}");
}

#[test]
fn what_depends_on_a_broken_driver_is_not_looked_at_and_says_so() {
    let node = Node::new();
    node.unload();
    let report = node.report(&[]);
    let findings = report["findings"].as_array().unwrap().iter();
    let skipped: Vec<&str> = findings
        .filter(|finding| finding["severity"] == "skipped")
        .map(|finding| finding["area"].as_str().unwrap())
        .collect();
    assert_eq!(skipped[..4], ["nvml", "gpus", "device-nodes", "cdi"]);
    let told = node.doctor(&[]).ended_with(1).stdout();
    assert!(
        told.contains("not looked at, since the kernel driver is not loaded"),
        "{told}"
    );
}
