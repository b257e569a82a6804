//! Looks at what need not be there.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::doctor::{DirectoryState, Looked, Reach};
use mizzen_testkit::HostTree;

use super::*;

#[test]
fn a_look_that_hangs_is_left_behind() {
    let (_never, wait) = channel::<()>();
    let limit = Duration::from_millis(10);
    assert_eq!(
        within(limit, move || wait.recv().is_ok()),
        Looked::Late(limit)
    );
    assert_eq!(within(Duration::from_mins(1), || 7), Looked::Seen(7));
}

#[test]
fn in_the_agents_container_the_hosts_files_are_below_the_driver_root() {
    let host = HostTree::new();
    let mut config = Config {
        driver_root_ctr_path: host.path().to_owned(),
        ..Config::default()
    };
    let seen = Host::of(&config);
    assert_eq!(seen.kernel.as_path(), Path::new("/"));
    assert_eq!(seen.files.as_path(), host.path());
    assert_eq!(
        seen.shown(&host.path().join("etc/cdi/a.json")),
        "/etc/cdi/a.json"
    );
    assert_eq!(seen.shown(Path::new("/var/run/cdi")), "/var/run/cdi");

    // A driver in a container has not the host's other files.
    config.driver_root = "/run/nvidia/driver".into();
    assert_eq!(Host::of(&config).files.as_path(), Path::new("/"));
    config.driver_root = "/".into();
    config.driver_root_ctr_path = "/no/such/place".into();
    assert_eq!(Host::of(&config).files.as_path(), Path::new("/"));
    config.host_root = host.path().to_owned();
    assert_eq!(Host::of(&config).files.as_path(), host.path());
}

#[test]
fn the_directory_of_the_hooks_is_looked_at_where_the_agent_writes_to_it() {
    let host = HostTree::new();
    let mut config = Config {
        host_root: host.path().to_owned(),
        driver_root_ctr_path: "/no/such/place".into(),
        cdi_kinds: vec!["nvidia.com/gpu".parse().unwrap()],
        hook_dir: "/opt/hooks".into(),
        ..Config::default()
    };
    host.file("opt", "no directory");
    let state = |config: &Config| {
        let facts = here::permissions(config, &Host::of(config));
        let mut each = facts.directories.into_iter();
        let found = each.find(|directory| directory.path == "/opt/hooks");
        found.map(|directory| directory.state)
    };
    assert_eq!(state(&config), Some(DirectoryState::NoDirectory));
    config.cdi_hook_path = Some("/usr/bin/nvidia-ctk".into());
    assert_eq!(state(&config), None, "not ours to install");
}

#[test]
fn a_kubelets_directory_is_told_by_its_command_line() {
    let of = |words: &str| kubelet::root_dir(&words.replace(' ', "\0"));
    let expected = Some(PathBuf::from("/data/kubelet"));
    assert_eq!(
        of("/usr/bin/kubelet --v=2 --root-dir=/data/kubelet"),
        expected
    );
    assert_eq!(of("kubelet --root-dir /data/kubelet --v=2"), expected);
    assert_eq!(of("kubelet --v=2"), None);
    assert_eq!(of("/usr/bin/kubelet-plugin --root-dir=/data/kubelet"), None);
}

#[tokio::test(start_paused = true)]
async fn plugins_that_hang_are_waited_for_at_the_same_time() {
    let directory = tempfile::tempdir().unwrap();
    let names = ["nvidia-a.sock", "nvidia-b.sock", "nvidia-c.sock"];
    // They take connections, and nobody answers.
    let sockets = names.map(|name| directory.path().join(name));
    let _listeners = sockets
        .each_ref()
        .map(|path| UnixListener::bind(path).unwrap());
    let begin = tokio::time::Instant::now();
    let plugins = kubelet::plugins(directory.path()).await;
    assert!(
        begin.elapsed() < Duration::from_secs(6),
        "{:?}",
        begin.elapsed()
    );
    let found: Vec<&str> = plugins
        .iter()
        .map(|plugin| plugin.socket.as_str())
        .collect();
    assert_eq!(found, sockets.each_ref().map(|path| path.to_str().unwrap()));
    for plugin in &plugins {
        assert!(matches!(plugin.reach, Reach::Late(_)), "{plugin:?}");
        assert!(plugin.program.is_some(), "{plugin:?}");
    }
}

#[test]
fn an_agents_answer_is_read_and_a_strangers_is_not() {
    let of = |answer: &str| kubelet::parsed(&answer.replace('\n', "\r\n"));
    let ready = "HTTP/1.1 200 OK\ncontent-length: 3\n\nok\n";
    assert_eq!(of(ready), Some((true, "ok".to_owned())));
    let waits = "HTTP/1.1 503 Service Unavailable\n\nwaiting for the driver\n";
    assert_eq!(
        of(waits),
        Some((false, "waiting for the driver".to_owned()))
    );
    assert_eq!(of("HTTP/1.1 404 Not Found\n\n"), None);
    assert_eq!(of("SSH-2.0-OpenSSH_9.2\n"), None);
}

#[test]
fn majors_are_those_of_character_devices() {
    let text = "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n\nBlock devices:\n  8 nvidia-uvm\n";
    let majors = nodes::majors(text);
    assert_eq!(majors["nvidiactl"], 195);
    assert!(!majors.contains_key("nvidia-uvm"));
}
