//! The config of a node: chosen by its label, live, and never lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use mizzen_agent::Order;
use mizzen_core::config::{ConfigPlace, ConfigSource, FallbackStrategy};
use mizzen_kubelet_sim::Event;
use support::api::{FakeApi, NODE};
use support::{Lists, Node, is_registered, within};
use tokio::sync::broadcast;

/// Containers get their device nodes.
const NODES: &str = "version: v1\nflags: {plugin: {passDeviceSpecs: true}}\n";
/// They do not.
const PLAIN: &str = "version: v1\n";
/// Neither, for somebody has misspelt it.
const MISSPELT: &str = "version: v1\nflags: {plugin: {passDeviceSpec: true}}\n";

/// There is another resource instead.
const SHARED: &str = "version: v1\nsharing: {timeSlicing: {renameByDefault: true, \
                      resources: [{name: nvidia.com/gpu, replicas: 2}]}}\n";

/// From a change to its effect.
const PROMISE: Duration = Duration::from_secs(1);

/// A node whose configs are files.
async fn with_directory(texts: &[(&str, &str)]) -> Node {
    let mut node = Node::new(2).await;
    let directory = node.path("configs");
    fs::create_dir(&directory).unwrap();
    for (name, text) in texts {
        fs::write(directory.join(name), text).unwrap();
    }
    node.config.source = ConfigSource {
        place: ConfigPlace::Directory(directory),
        node_name: Some(NODE.to_owned()),
        ..ConfigSource::default()
    };
    node.api = Some(FakeApi::new());
    node
}

/// A node whose configs are in a ConfigMap.
async fn with_config_map(texts: &[(&str, &str)]) -> Node {
    let mut node = Node::new(2).await;
    let api = FakeApi::new();
    api.set_config_map(texts);
    node.config.source = ConfigSource {
        place: ConfigPlace::ConfigMap(FakeApi::name()),
        node_name: Some(NODE.to_owned()),
        ..ConfigSource::default()
    };
    node.api = Some(api);
    node
}

fn api(node: &Node) -> &FakeApi {
    node.api.as_ref().unwrap()
}

/// Whether a container would get its device nodes: the effect that the tests' configs have.
async fn gives_nodes(node: &Node) -> bool {
    let mut plugin = node.plugin().await;
    let answer = plugin.allocate(&[Node::uuid(0).as_str()]).await.unwrap();
    !answer.devices.is_empty()
}

/// Waits until containers get their device nodes, or do not, and says how long that took.
async fn until_gives_nodes(node: &Node, wanted: bool) -> Duration {
    let begun = Instant::now();
    within(async {
        while gives_nodes(node).await != wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    begun.elapsed()
}

/// A resource that a change does not concern.
struct Untouched {
    inode: u64,
    stream: Lists,
    events: broadcast::Receiver<Event>,
}

impl Untouched {
    async fn of(node: &Node) -> Self {
        let mut stream = node.plugin().await.lists().await;
        stream.next().await.unwrap();
        Self {
            inode: fs::metadata(node.socket()).unwrap().ino(),
            stream,
            events: node.kubelet.events(),
        }
    }

    /// Its socket is the same, its stream is open, and it was not registered again.
    async fn is_still_so(&mut self, node: &Node) {
        let inode = fs::metadata(node.socket()).unwrap().ino();
        assert_eq!(inode, self.inode, "the socket was made again");
        while let Ok(list) = tokio::time::timeout(Duration::ZERO, self.stream.next()).await {
            assert!(list.is_some(), "its stream has ended");
        }
        while let Ok(event) = self.events.try_recv() {
            assert!(!is_registered(&event.what), "it was registered again");
        }
    }
}

#[tokio::test]
async fn a_change_of_the_label_switches_the_config_within_a_second() {
    let mut node = with_directory(&[("default", PLAIN), ("nodes", NODES)]).await;
    node.start_agent();
    node.allocatable(2).await;
    assert!(!gives_nodes(&node).await, "the fallback is in force");
    let mut untouched = Untouched::of(&node).await;

    api(&node).set_label(Some("nodes"));
    let took = until_gives_nodes(&node, true).await;
    assert!(took < PROMISE, "{took:?}");
    let event = api(&node).event("ConfigApplied").await;
    assert_eq!(event["type"], "Normal");

    api(&node).set_label(None);
    let took = until_gives_nodes(&node, false).await;
    assert!(
        took < PROMISE,
        "without the label the fallback is in force: {took:?}"
    );
    untouched.is_still_so(&node).await;
    node.stop_agent().await;
}

#[tokio::test]
async fn an_edit_of_a_file_is_in_force_within_a_second() {
    let mut node = with_directory(&[("default", PLAIN)]).await;
    node.start_agent();
    node.allocatable(2).await;
    let mut untouched = Untouched::of(&node).await;
    fs::write(node.path("configs/default"), NODES).unwrap();
    let took = until_gives_nodes(&node, true).await;
    assert!(took < PROMISE, "{took:?}");
    untouched.is_still_so(&node).await;
}

#[tokio::test]
async fn an_edit_of_the_config_map_is_in_force_within_a_second() {
    let mut node = with_config_map(&[("default", PLAIN)]).await;
    node.start_agent();
    node.allocatable(2).await;
    let mut untouched = Untouched::of(&node).await;
    api(&node).set_config_map(&[("default", NODES)]);
    let took = until_gives_nodes(&node, true).await;
    assert!(took < PROMISE, "{took:?}");
    untouched.is_still_so(&node).await;
}

#[tokio::test]
async fn an_unknown_name_keeps_the_last_good_config_and_is_told() {
    let mut node = with_config_map(&[("default", PLAIN), ("training", NODES)]).await;
    api(&node).set_label(Some("training"));
    node.start_agent();
    node.allocatable(2).await;
    api(&node).set_label(Some("trainig"));
    let event = api(&node).event("InvalidConfig").await;
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["involvedObject"]["kind"], "Node");
    assert_eq!(event["involvedObject"]["name"], NODE);
    let message = event["message"].as_str().unwrap();
    for word in [
        "\"trainig\"",
        "default, training",
        "did you mean \"training\"",
    ] {
        assert!(message.contains(word), "{word} is missing in {message}");
    }
    assert!(gives_nodes(&node).await, "the last good one is in force");
}

#[tokio::test]
async fn a_misspelt_config_keeps_the_last_good_one_and_is_told_once_with_its_place() {
    let mut node = with_config_map(&[("default", NODES)]).await;
    node.start_agent();
    node.allocatable(2).await;
    api(&node).set_config_map(&[("default", MISSPELT)]);
    let event = api(&node).event("InvalidConfig").await;
    let message = event["message"].as_str().unwrap();
    for word in ["line 2", "passDeviceSpec"] {
        assert!(message.contains(word), "{word} is missing in {message}");
    }
    assert!(gives_nodes(&node).await);
    // In another text the same mistake is not told again: Events come in order, and the next is
    // that of the next text.
    let same = format!("{MISSPELT}# The same mistake.\n");
    api(&node).set_config_map(&[("default", &same)]);
    node.has_read(&same).await;
    assert!(gives_nodes(&node).await);
    api(&node).set_config_map(&[("default", PLAIN)]);
    until_gives_nodes(&node, false).await;
    let events = api(&node).event_again("ConfigApplied", 2).await;
    let mistakes: Vec<_> = events
        .iter()
        .filter(|event| event["reason"] == "InvalidConfig")
        .collect();
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert_eq!(mistakes[0]["count"], 1);
}

#[tokio::test]
async fn a_mistake_that_comes_back_is_counted_in_its_event() {
    let mut node = with_config_map(&[("default", PLAIN)]).await;
    node.start_agent();
    node.allocatable(2).await;
    for count in 1..=2 {
        api(&node).set_config_map(&[("default", MISSPELT)]);
        api(&node).event_again("InvalidConfig", count).await;
        api(&node).set_config_map(&[("default", if count == 1 { NODES } else { PLAIN })]);
        until_gives_nodes(&node, count == 1).await;
    }
}

#[tokio::test]
async fn a_restart_without_the_api_uses_the_config_that_was_in_force() {
    let mut node = with_config_map(&[("default", PLAIN), ("training", NODES)]).await;
    api(&node).set_label(Some("training"));
    node.start_agent();
    node.allocatable(2).await;
    within(async {
        while !node.path("state/config.json").exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    node.kill_agent().await;
    api(&node).set_away(true);

    node.start_agent();
    let took = until_gives_nodes_again(&node).await;
    assert!(took < PROMISE, "{took:?}");
    node.allocatable(2).await;

    // What has changed meanwhile is in force as soon as the API is back.
    api(&node).set_label(None);
    api(&node).set_away(false);
    until_gives_nodes(&node, false).await;
}

/// How long until the agent, just started, answers with the device nodes.
async fn until_gives_nodes_again(node: &Node) -> Duration {
    let begun = Instant::now();
    within(async {
        while mizzen_kubelet_api::connect(node.socket()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(gives_nodes(node).await, "its first answer is the right one");
    begun.elapsed()
}

#[tokio::test]
async fn a_restart_with_a_bad_config_uses_the_last_good_one() {
    let mut node = with_config_map(&[("default", NODES)]).await;
    node.start_agent();
    node.allocatable(2).await;
    node.stop_agent().await;
    api(&node).set_config_map(&[("default", MISSPELT)]);
    node.start_agent();
    node.allocatable(2).await;
    api(&node).event("InvalidConfig").await;
    assert!(gives_nodes(&node).await);
}

#[tokio::test]
async fn with_nothing_remembered_nothing_is_offered_until_the_api_has_answered() {
    let mut node = with_directory(&[("default", PLAIN), ("shared", SHARED)]).await;
    api(&node).set_label(Some("shared"));
    api(&node).set_away(true);
    let mut events = node.kubelet.events();
    node.start_agent();
    within(async {
        while api(&node).requests() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(!node.socket().exists(), "nothing is offered yet");
    api(&node).set_away(false);
    node.kubelet_sees(|snapshot| snapshot.amounts("nvidia.com/gpu.shared").1 == 4)
        .await;
    // Without a config, and with the default one, it would have offered this resource before.
    while let Ok(event) = events.try_recv() {
        assert!(!is_registered(&event.what), "{event:?}");
    }
    assert!(!node.socket().exists());
}

#[tokio::test]
async fn an_agent_that_waits_can_be_stopped() {
    let mut node = with_directory(&[]).await;
    api(&node).set_away(true);
    node.start_agent();
    node.stop_agent().await;
}

#[tokio::test]
async fn an_api_that_refuses_is_taken_as_no_label_until_it_is_allowed() {
    let mut node = with_directory(&[("default", PLAIN), ("nodes", NODES)]).await;
    api(&node).set_label(Some("nodes"));
    api(&node).forbid("/api/v1/nodes");
    node.start_agent();
    node.allocatable(2).await;
    assert!(!gives_nodes(&node).await, "the fallback is in force");
    api(&node).allow_all();
    until_gives_nodes(&node, true).await;
}

#[tokio::test]
async fn a_node_that_does_not_exist_has_no_label() {
    let mut node = with_directory(&[("default", NODES)]).await;
    api(&node).remove_node();
    node.start_agent();
    node.allocatable(2).await;
    assert!(gives_nodes(&node).await);
}

#[tokio::test]
async fn events_that_are_forbidden_hold_nothing_up() {
    let mut node = with_config_map(&[("default", PLAIN)]).await;
    api(&node).forbid("/api/v1/namespaces/default/events");
    node.start_agent();
    node.allocatable(2).await;
    api(&node).set_config_map(&[("default", MISSPELT)]);
    api(&node).set_config_map(&[("default", NODES)]);
    let took = until_gives_nodes(&node, true).await;
    assert!(took < PROMISE, "{took:?}");
}

#[tokio::test]
async fn a_lost_watch_is_begun_again() {
    let mut node = with_config_map(&[("default", PLAIN)]).await;
    node.start_agent();
    node.allocatable(2).await;
    api(&node).set_away(true);
    api(&node).set_config_map(&[("default", NODES)]);
    api(&node).set_away(false);
    until_gives_nodes(&node, true).await;
}

#[tokio::test]
async fn without_a_node_name_a_directory_needs_no_api() {
    let mut node = with_directory(&[("only", NODES)]).await;
    node.config.source.node_name = None;
    node.start_agent();
    node.allocatable(2).await;
    assert!(gives_nodes(&node).await);
    assert_eq!(api(&node).requests(), 0);
    node.config.source.fallbacks = vec![FallbackStrategy::Empty];
    node.stop_agent().await;
    node.start_agent();
    node.allocatable(2).await;
    assert!(!gives_nodes(&node).await);
}

#[tokio::test]
async fn an_edit_of_the_config_file_is_in_force_without_a_signal() {
    let mut node = Node::new(2).await;
    let path = node.path("config.yaml");
    fs::write(&path, PLAIN).unwrap();
    node.config.source.place = ConfigPlace::File(path.clone());
    node.start_agent();
    node.allocatable(2).await;
    assert!(!gives_nodes(&node).await);
    let mut untouched = Untouched::of(&node).await;

    fs::write(&path, MISSPELT).unwrap();
    node.has_read(MISSPELT).await;
    assert!(!gives_nodes(&node).await);
    untouched.is_still_so(&node).await;
    fs::write(&path, NODES).unwrap();
    let took = until_gives_nodes(&node, true).await;
    assert!(took < PROMISE, "{took:?}");

    // As editors write: beside it, and then in its place.
    fs::write(node.path("config.yaml.new"), PLAIN).unwrap();
    fs::rename(node.path("config.yaml.new"), &path).unwrap();
    until_gives_nodes(&node, false).await;
    untouched.is_still_so(&node).await;
}

#[tokio::test]
async fn a_restart_with_a_bad_config_file_uses_its_last_good_text() {
    let mut node = Node::new(2).await;
    let path = node.path("config.yaml");
    fs::write(&path, NODES).unwrap();
    node.config.source.place = ConfigPlace::File(path.clone());
    node.start_agent();
    node.allocatable(2).await;
    node.stop_agent().await;
    fs::write(&path, MISSPELT).unwrap();
    node.start_agent();
    node.allocatable(2).await;
    assert!(gives_nodes(&node).await);
    fs::write(&path, PLAIN).unwrap();
    until_gives_nodes(&node, false).await;
    node.stop_agent().await;

    // What another file had is of no use.
    node.config.source.place = ConfigPlace::File(node.path("other.yaml"));
    fs::write(node.path("other.yaml"), MISSPELT).unwrap();
    node.config.pass_device_specs = true;
    node.start_agent();
    node.allocatable(2).await;
    assert!(gives_nodes(&node).await, "the settings that it was given");
}

#[tokio::test]
async fn a_hang_up_looks_at_the_driver_again_also_where_settings_are_the_same() {
    let mut node = with_directory(&[("default", NODES)]).await;
    node.start_agent();
    node.allocatable(2).await;
    // A new kernel driver with one more GPU, whose device node would be noticed without a signal.
    node.host
        .file("proc/driver/nvidia/version", "NVRM version: 570");
    node.driver.set_gpus(mizzen_testkit::gpus(3));
    node.order(Order::Reread).await;
    node.allocatable(3).await;
    assert!(gives_nodes(&node).await);
}
