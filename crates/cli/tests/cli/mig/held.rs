//! What pods hold is not destroyed: the embedded kubelet, the real agent, a pod with a MIG device.

use std::process::{Child, Stdio};
use std::time::Duration;

use mizzen_kubelet_sim::pod::parse_manifest;
use mizzen_kubelet_sim::{Config, Kubelet, Phase};

use super::Machine;
use crate::support::Ran;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: trainer}
spec:
  containers:
  - name: main
    image: busybox
    resources: {limits: {nvidia.com/mig-3g.40gb: 1}}
";

/// An agent that ends with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _ = self.0.wait();
    }
}

fn agent(machine: &Machine, kubelet: &Kubelet, strategy: &str) -> Agent {
    let mut command = machine.command();
    command
        .args(["agent", "--mig-strategy", strategy, "--state-dir"])
        .arg(machine.dir.path().join("agent"))
        .arg("--kubelet-socket")
        .arg(kubelet.registration_socket())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Agent(command.spawn().unwrap())
}

/// Has the pod "trainer" of this manifest run.
async fn start(kubelet: &Kubelet, manifest: &str) {
    let pod = parse_manifest(manifest).unwrap().pop().unwrap();
    kubelet.create(pod).unwrap();
    let runs = kubelet.wait_for(|node| {
        node.pod("trainer")
            .is_some_and(|pod| pod.phase == Phase::Running)
    });
    tokio::time::timeout(PATIENCE, runs).await.unwrap();
}

/// `mizzen mig …` beside this kubelet, off the runtime's thread, which serves it.
async fn mig(machine: &Machine, kubelet: &Kubelet, arguments: &[&str]) -> Ran {
    let mut command = machine.command();
    command
        .arg("mig")
        .args(arguments)
        .arg("--pod-resources-socket")
        .arg(kubelet.pod_resources_socket());
    tokio::task::spawn_blocking(move || Ran(command.output().unwrap()))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_device_that_a_pod_holds_stays_and_the_pod_is_named() {
    let machine = Machine::new();
    machine
        .mig(&["apply", "3g.40gb,1g.10gb*2", "--gpu", "0"])
        .ended_with(0);
    let kubelet = Kubelet::start(Config::new(machine.dir.path().join("k")))
        .await
        .unwrap();
    let agent = agent(&machine, &kubelet, "mixed");
    start(&kubelet, POD).await;

    // What is held can be kept: the others are changed around it.
    let ran = mig(
        &machine,
        &kubelet,
        &["apply", "3g.40gb,2g.20gb", "--gpu", "0"],
    )
    .await;
    let told = ran.ended_with(0).stdout();
    assert!(told.contains("what pods hold was left alone"), "{told}");
    let kept = "kept: 3g.40gb (GPU instance 2, compute instance 0) of GPU 0 is held by \
                default/trainer, container main";
    let words: String = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(kept), "{told}");
    assert_eq!(machine.instances(0), ["2g.20gb", "3g.40gb"]);

    for target in ["1g.10gb*7", "off"] {
        let ran = mig(&machine, &kubelet, &["apply", target, "--gpu", "0"]).await;
        let told = ran.ended_with(1).stdout();
        let words: String = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.contains("is held by default/trainer, container main"),
            "{told}"
        );
        assert_eq!(machine.instances(0), ["2g.20gb", "3g.40gb"]);
    }
    let ran = mig(
        &machine,
        &kubelet,
        &["plan", "off", "--gpu", "0", "--output", "json"],
    )
    .await;
    let plan: serde_json::Value = serde_json::from_str(&ran.ended_with(1).stdout()).unwrap();
    assert_eq!(plan["kubeletAsked"], true);
    assert_eq!(plan["gpus"][0]["heldBy"][0]["pod"], "trainer");

    let ran = mig(
        &machine,
        &kubelet,
        &["apply", "1g.10gb*7", "--gpu", "0", "--force"],
    )
    .await;
    ran.ended_with(0);
    assert_eq!(machine.instances(0).len(), 7);
    drop(agent);
    kubelet.stop().await;
}

#[tokio::test]
async fn a_partitioned_gpu_that_a_pod_holds_as_a_whole_loses_nothing() {
    let machine = Machine::of("gpus:\n- {model: h100-80gb}\n");
    machine.mig(&["apply", "3g.40gb"]).ended_with(0);
    let kubelet = Kubelet::start(Config::new(machine.dir.path().join("k")))
        .await
        .unwrap();
    let agent = agent(&machine, &kubelet, "none");
    start(&kubelet, &POD.replace("mig-3g.40gb", "gpu")).await;

    for target in ["1g.10gb*7", "off"] {
        let ran = mig(&machine, &kubelet, &["plan", target, "--output", "json"]).await;
        let plan: serde_json::Value = serde_json::from_str(&ran.ended_with(1).stdout()).unwrap();
        let held = &plan["gpus"][0]["heldBy"];
        assert_eq!(held[0]["device"], "the GPU", "{plan}");
        assert_eq!(held[0]["pod"], "trainer", "{plan}");
        mig(&machine, &kubelet, &["apply", target])
            .await
            .ended_with(1);
        assert_eq!(machine.instances(0), ["3g.40gb"]);
    }
    // What destroys nothing can be done.
    let ran = mig(&machine, &kubelet, &["apply", "3g.40gb,1g.10gb"]).await;
    ran.ended_with(0);
    assert_eq!(machine.instances(0), ["1g.10gb", "3g.40gb"]);
    let ran = mig(&machine, &kubelet, &["apply", "off", "--force"]).await;
    ran.ended_with(0);
    drop(agent);
    kubelet.stop().await;
}

#[test]
fn a_kubelet_that_is_not_where_it_was_said_to_be_is_no_absent_one() {
    let machine = Machine::new();
    let nowhere = machine.dir.path().join("nowhere.sock");
    let plan = ["mig", "plan", "3g.40gb", "--gpu", "0"];
    let mut by_flag = machine.command();
    by_flag
        .args(plan)
        .arg("--pod-resources-socket")
        .arg(&nowhere);
    let mut by_variable = machine.command();
    by_variable
        .args(plan)
        .env("MIZZEN_POD_RESOURCES_SOCKET", &nowhere);
    for mut command in [by_flag, by_variable] {
        let told = Ran(command.output().unwrap()).ended_with(1).stdout();
        assert!(told.contains("cannot ask the kubelet"), "{told}");
        assert_eq!(told.matches("os error").count(), 1, "{told}");
    }
}

#[test]
fn without_an_answer_of_the_kubelet_nothing_is_destroyed() {
    let machine = Machine::new();
    machine
        .mig(&["apply", "3g.40gb", "--gpu", "0"])
        .ended_with(0);
    let socket = machine.write("dead.sock", "");
    let apply = |more: &[&str]| {
        let mut command = machine.command();
        command.args([
            "mig",
            "apply",
            "off",
            "--gpu",
            "0",
            "--pod-resources-socket",
            &socket,
        ]);
        Ran(command.args(more).output().unwrap())
    };
    let told = apply(&[]).ended_with(1).stdout();
    assert!(
        told.contains("cannot ask the kubelet") && told.contains("--force"),
        "{told}"
    );
    assert_eq!(machine.instances(0), ["3g.40gb"]);
    apply(&["--force"]).ended_with(0);
    assert!(machine.instances(0).is_empty());
}
