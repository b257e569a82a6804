//! With a kubelet and an agent.

use std::fs;
use std::os::unix::net::UnixListener;

use super::Node;
use super::node::bad;

/// What the default strategy costs, beside which nothing is wrong.
const RUNTIME_CLASS: &str = "hint pods-may-ask-for-gpus";

#[test]
fn nothing_is_wrong_with_a_good_node() {
    let node = Node::with_agent(&[]);
    let report = node.report(&[]);
    assert_eq!(bad(&report), [RUNTIME_CLASS], "{report:#}");
    assert_eq!(report["healthy"], true);
    let told = node.doctor(&["--strict"]).ended_with(0).stdout();
    assert!(told.contains("registered: nvidia.com/gpu: 2"), "{told}");
    assert!(told.ends_with("\nnothing is wrong; 1 hint\n"), "{told}");

    let settings = ["--device-list-strategy=cdi-cri"];
    let node = Node::with_agent(&settings);
    node.write("host/etc/containerd/config.toml", "version = 3\n");
    let told = node.doctor(&settings).ended_with(0).stdout();
    assert!(told.contains("2 names of devices resolve"), "{told}");
    assert!(told.ends_with("\nnothing is wrong\n"), "{told}");
}

#[test]
fn a_kubelet_without_a_plugin_is_told() {
    let node = Node::with_kubelet();
    let report = node.report(&[]);
    assert_eq!(
        bad(&report),
        ["error not-registered", "error no-plugin", RUNTIME_CLASS]
    );
}

#[test]
fn other_settings_than_the_agents_and_a_stranger_are_told() {
    let node = Node::with_agent(&[]);
    let report = node.report(&["--exclude-gpus=0"]);
    assert_eq!(
        bad(&report),
        ["warning registered-differently", RUNTIME_CLASS]
    );
    let code = |arguments: &[&str]| node.doctor(arguments).code();
    assert_eq!(code(&["--exclude-gpus=0"]), 0);
    assert_eq!(code(&["--exclude-gpus=0", "--strict"]), 1);

    // A socket that a dead plugin left behind, and one whose owner says nothing.
    let plugins = node.path("kubelet/device-plugins");
    drop(UnixListener::bind(plugins.join("nvidia-dead.sock")).unwrap());
    let silent = UnixListener::bind(plugins.join("nvidia-silent.sock")).unwrap();
    let report = node.report(&[]);
    assert_eq!(
        bad(&report),
        [
            "hint plugin-socket-stale",
            "error plugin-silent",
            RUNTIME_CLASS
        ]
    );
    drop(silent);
    fs::remove_file(plugins.join("nvidia-silent.sock")).unwrap();
    let report = node.report(&[]);
    assert_eq!(bad(&report), ["hint plugin-socket-stale", RUNTIME_CLASS]);
}

#[test]
fn an_agent_tells_how_it_is() {
    let node = Node::with_agent(&[]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let report = node.report(&["--health-address", &address]);
    assert_eq!(bad(&report), ["error agent-absent", RUNTIME_CLASS]);

    let mut node = Node::with_kubelet();
    node.start_agent(&["--health-address", &address]);
    let report = node.report(&["--health-address", &address]);
    assert_eq!(bad(&report), [RUNTIME_CLASS], "{report:#}");
    let told = node.doctor(&["--health-address", &address]).stdout();
    assert!(
        told.contains(&format!("the agent at {address} is ready")),
        "{told}"
    );
}
