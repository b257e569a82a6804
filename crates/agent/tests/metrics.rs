//! Metrics of a running agent, over real HTTP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use mizzen_agent::Order;
use mizzen_core::config::Config;
use mizzen_core::metrics::Field;
use mizzen_core::sample::{GpuSample, Number, ProcessSample};
use mizzen_kubelet_sim::pod::parse_manifest;
use support::{GPU, Node, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const UID: &str = "0c4a8b8e-6f0e-4d5c-9a53-1f0b7f6f2a11";
const ID: &str = "4f1c0d3b5a697887d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3";

/// An address that nobody listens on.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A node with an agent that serves metrics of GPUs that measure something.
async fn node(count: u32) -> Node {
    let mut node = Node::new(count).await;
    node.config.metrics.address = Some(free_address());
    node.config.metrics.interval = Duration::from_millis(100);
    node.config.source.node_name = Some("gpu-1".to_owned());
    for index in 0..count {
        let gpu = Node::uuid(index);
        let degrees = 40 + u64::from(index);
        node.driver
            .set_reading(&gpu, Field::GpuTemp, Ok(Number::Whole(degrees)));
        node.driver
            .set_reading(&gpu, Field::GpuUtil, Ok(Number::Whole(0)));
    }
    node
}

async fn running(count: u32) -> Node {
    let mut node = node(count).await;
    node.start_agent();
    node.allocatable(count.into()).await;
    node
}

/// What is answered to a question for a path, if anybody answers.
async fn get(config: &Config, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(config.metrics.address.unwrap())
        .await
        .ok()?;
    let question = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
    stream.write_all(question.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// The first page that is as wanted.
async fn page(node: &Node, is_wanted: impl Fn(&str) -> bool) -> String {
    within(async {
        loop {
            if let Some(page) = get(&node.config, "/metrics").await
                && is_wanted(&page)
            {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// The value of the first series of this name whose labels have all of these words.
fn value(page: &str, name: &str, words: &[&str]) -> Option<f64> {
    let mut lines = page.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        let is_series = rest.is_some_and(|rest| rest.starts_with(['{', ' ']));
        is_series && words.iter().all(|word| line.contains(word))
    });
    lines.next()?.rsplit_once(' ')?.1.parse().ok()
}

/// Makes a pod that takes one GPU.
fn create(node: &Node, name: &str) {
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  \
         - name: main\n    image: none\n    resources: {{limits: {{{GPU}: 1}}}}\n"
    );
    let pod = parse_manifest(&manifest).unwrap().remove(0);
    node.kubelet.create(pod).unwrap();
}

#[tokio::test]
async fn a_page_tells_what_gpus_measure_who_holds_them_and_what_the_agent_did() {
    let node = running(2).await;
    let is_sampled = |page: &str| value(page, "DCGM_FI_DEV_GPU_TEMP", &["gpu=\"1\""]).is_some();
    let first = page(&node, is_sampled).await;
    assert!(first.starts_with("HTTP/1.1 200 OK"), "{first}");
    assert!(
        first.contains("content-type: text/plain; version=0.0.4"),
        "{first}"
    );
    let words = ["gpu=\"1\"", "Hostname=\"gpu-1\""];
    assert_eq!(value(&first, "DCGM_FI_DEV_GPU_TEMP", &words), Some(41.0));
    assert!(!first.contains("pod=\"train\""), "{first}");

    create(&node, "train");
    let held = page(&node, |page| page.contains("pod=\"train\"")).await;
    let words = [
        "container=\"main\"",
        "namespace=\"default\"",
        "pod=\"train\"",
    ];
    assert!(
        value(&held, "DCGM_FI_DEV_GPU_TEMP", &words).is_some(),
        "{held}"
    );
    assert!(
        value(
            &held,
            "mizzen_gpu_allocated_since_timestamp_seconds",
            &words
        ) > Some(1e9)
    );
    assert!(
        value(&held, "mizzen_gpu_idle_seconds", &words).is_some(),
        "{held}"
    );
    let resource = format!("resource=\"{GPU}\"");
    let registrations = value(&held, "mizzen_plugin_registrations_total", &[&resource]);
    assert!(registrations >= Some(1.0), "{held}");
    assert_eq!(
        value(&held, "mizzen_allocate_duration_seconds_count", &[]),
        Some(1.0)
    );
    assert_eq!(value(&held, "mizzen_config_generation", &[]), Some(1.0));
    assert!(value(&held, "process_resident_memory_bytes", &[]) > Some(0.0));
}

#[tokio::test]
async fn a_scrape_does_not_wait_for_a_driver_that_hangs_and_tells_how_old_samples_are() {
    let node = running(1).await;
    let age = |page: &str| value(page, "mizzen_gpu_sample_age_seconds", &[]);
    page(&node, |page| age(page).is_some()).await;
    node.driver.hang_samples(true);
    let begun = Instant::now();
    let hung = page(&node, |page| age(page) > Some(0.3)).await;
    assert_eq!(
        value(&hung, "DCGM_FI_DEV_GPU_TEMP", &[]),
        Some(40.0),
        "{hung}"
    );
    let older = page(&node, |page| age(page) > age(&hung)).await;
    assert!(age(&older) > Some(0.3));
    // What the thread that samples cannot do, the one that answers need not.
    let asked = Instant::now();
    get(&node.config, "/metrics").await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1));
    // Nothing that is left to the kubelet has waited either.
    create(&node, "train");
    page(&node, |page| page.contains("pod=\"train\"")).await;
    node.driver.hang_samples(false);
    let longest = begun.elapsed().as_secs_f64();
    page(&node, |page| age(page) < Some(longest.min(0.3))).await;
}

#[tokio::test]
async fn memory_of_processes_is_told_of_the_pods_that_they_belong_to() {
    let node = node(1).await;
    let gpu = Node::uuid(0);
    let process = ProcessSample {
        pid: 7,
        instance: None,
        memory: Some(1 << 30),
        sm_util: Some(30),
        mem_util: None,
    };
    node.driver.set_sample(
        &gpu,
        Ok(GpuSample {
            readings: [(Field::GpuUtil, Ok(Number::Whole(30)))]
                .into_iter()
                .collect(),
            mig: Vec::new(),
            processes: vec![process],
        }),
    );
    let zeros = "0 ".repeat(18);
    let group = format!("0::/kubepods/burstable/pod{UID}/{ID}\n");
    node.host
        .file("proc/7/stat", &format!("7 (python) S {zeros}100 0 0\n"))
        .file("proc/7/cgroup", &group)
        .file(&format!("var/log/pods/default_train_{UID}/main/0.log"), "")
        .file(
            &format!("var/log/containers/train_default_main-{ID}.log"),
            "",
        );
    let mut node = node;
    node.start_agent();
    node.allocatable(1).await;
    let words = ["pod=\"train\"", "container=\"main\""];
    let told = page(&node, |page| {
        value(page, "mizzen_pod_gpu_memory_used_bytes", &words).is_some()
    })
    .await;
    let memory = value(&told, "mizzen_pod_gpu_memory_used_bytes", &words);
    assert_eq!(memory, Some(f64::from(1 << 30)), "{told}");
}

#[tokio::test]
async fn settings_of_metrics_change_without_a_restart() {
    let node = running(1).await;
    page(&node, |page| {
        page.contains("modelName=\"NVIDIA H100 80GB HBM3\"")
    })
    .await;
    let mut config = node.config.clone();
    config.metrics.replace_blanks = true;
    config.metrics.pods = false;
    node.order(Order::Reload(Box::new(config))).await;
    let changed = page(&node, |page| {
        page.contains("modelName=\"NVIDIA-H100-80GB-HBM3\"")
    })
    .await;
    assert_eq!(value(&changed, "mizzen_config_generation", &[]), Some(2.0));
    create(&node, "train");
    let counted = |page: &str| value(page, "mizzen_allocate_duration_seconds_count", &[]);
    let told = page(&node, |page| counted(page) == Some(1.0)).await;
    assert!(!told.contains("pod=\"train\""), "{told}");
}

#[tokio::test]
async fn since_when_devices_are_held_outlives_the_agent() {
    let mut node = running(1).await;
    create(&node, "train");
    let since = |page: &str| value(page, "mizzen_gpu_allocated_since_timestamp_seconds", &[]);
    let first = page(&node, |page| since(page).is_some()).await;
    let file = node.config.state_dir.join("holders.json");
    within(async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    node.kill_agent().await;
    let text = std::fs::read_to_string(&file).unwrap();
    let then = format!("{}", since(&first).unwrap());
    assert!(text.contains(&then), "{text}");
    std::fs::write(&file, text.replace(&then, "1700000000")).unwrap();
    node.start_agent();
    let second = page(&node, |page| since(page).is_some()).await;
    assert_eq!(since(&second), Some(1_700_000_000.0));
}

#[tokio::test]
async fn without_an_address_nothing_is_sampled() {
    let node = Node::running(1).await;
    create(&node, "train");
    let runs = |snapshot: &mizzen_kubelet_sim::Snapshot| {
        let mut devices = snapshot.resources.values().flat_map(|one| &one.devices);
        devices.any(|(_, device)| device.holder.is_some())
    };
    within(node.kubelet.wait_for(runs)).await;
    assert_eq!(node.driver.samples(), 0);
}

#[tokio::test]
async fn there_are_a_first_page_and_health_and_nothing_else() {
    let node = running(1).await;
    page(&node, |_| true).await;
    let index = get(&node.config, "/").await.unwrap();
    assert!(index.contains("href=\"/metrics\""), "{index}");
    for path in ["/health", "/healthz"] {
        let health = get(&node.config, path).await.unwrap();
        assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    }
    let other = get(&node.config, "/else").await.unwrap();
    assert!(other.starts_with("HTTP/1.1 404"), "{other}");
}
