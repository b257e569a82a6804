//! An agent with all that it does: it answers a kubelet, labels its Node through an API and tells
//! how that is, samples its GPUs each second and serves what it knows.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mizzen_kubelet_sim::pod::parse_manifest;
use mizzen_kubelet_sim::{Config, Kubelet, Phase, Snapshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::api::{Api, NODE};
use super::process::{Process, Resident};
use super::subject::{Node, Subject};
use super::web::{Client, Guard, Page, free_address};

/// Between two scrapes, as Prometheus' examples have it.
pub(super) const SCRAPES: Duration = Duration::from_secs(15);
/// How long anything may take to be seen.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked for.
const POLL: Duration = Duration::from_millis(200);
/// How old a sample is at most, where there is one each second.
const FRESH: f64 = 2.0;

/// What every GPU has a series of, by the exporter's defaults and by our own.
const OF_EACH_GPU: [&str; 14] = [
    "DCGM_FI_DEV_SM_CLOCK",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "DCGM_FI_PROF_PCIE_TX_BYTES",
    "mizzen_gpu_info",
    "mizzen_gpu_sample_age_seconds",
    "mizzen_gpu_allocated",
    "mizzen_gpu_idle_seconds",
];

/// A running agent and all that it speaks to.
pub(super) struct Whole {
    pub(super) process: Process,
    pub(super) kubelet: Kubelet,
    pub(super) client: Client,
    api: Api,
}

/// What it costs.
pub(super) struct Cost {
    pub(super) resident: Resident,
    /// Processor time, in percent of a core.
    pub(super) percent: f64,
}

/// How an agent is to be started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manner {
    /// Whether its page is behind TLS and a password.
    pub(super) guarded: bool,
    /// Whether it gives up sooner, and believes in recoveries sooner, than it would.
    pub(super) hasty: bool,
}

impl Whole {
    /// One on a node with eight GPUs, each of which does something for a pod.
    pub(super) async fn of_eight(work: &Path, binary: &Path, guarded: bool) -> Result<Self> {
        let name = if guarded { "guarded" } else { "whole" };
        let node = Node::new(&work.join(name), "8xh100-80gb", None)?;
        for index in 0..node.gpus()? {
            node.occupy(index, std::iter::once(1000 + index))?;
        }
        let manner = Manner {
            guarded,
            ..Manner::default()
        };
        let mut whole = Self::start(binary, &node, manner).await?;
        whole.hold("nvidia.com/gpu", 8, 1).await?;
        let has_label = whole.api.labelled("nvidia.com/gpu.count", "8");
        let has_label = timeout(PATIENCE, has_label).await;
        has_label.context("the Node has no label of its GPUs")??;
        whole.shows(|page| whole_page(page, 8)).await?;
        Ok(whole)
    }

    /// Starts everything, and waits for the first page.
    pub(super) async fn start(binary: &Path, node: &Node, manner: Manner) -> Result<Self> {
        let api = Api::start().await?;
        let kubeconfig = node.path("kubeconfig");
        api.write_kubeconfig(&kubeconfig)?;
        let mut config = Config::new(node.path("kubelet"));
        NODE.clone_into(&mut config.node_name);
        let kubelet = Kubelet::start(config).await?;
        let address = free_address()?;
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let mut flags = vec![
            option("kubelet-socket", &kubelet.registration_socket()),
            option("pod-resources-socket", &kubelet.pod_resources_socket()),
            option("kubeconfig", &kubeconfig),
            format!("--node-name={NODE}"),
            format!("--metrics-address={address}"),
            "--labels-to=node".to_owned(),
            "--node-condition".to_owned(),
        ];
        let mut guard = None;
        if manner.guarded {
            let (made, file) = Guard::write(&node.path("web"))?;
            flags.push(option("web-config-file", &file));
            guard = Some(made);
        }
        if manner.hasty {
            flags.push("--health-hold-down=1s".to_owned());
            flags.push("--health-check-interval=500ms".to_owned());
            flags.push("--nvml-call-timeout=1s".to_owned());
        }
        let process = Process::start(&Subject::agent(binary, node, flags)?)?;
        let whole = Self {
            process,
            kubelet,
            client: Client { address, guard },
            api,
        };
        whole.shows(|_| Ok(())).await.with_context(|| {
            let log = fs::read_to_string(node.path("mizzen.log"));
            let log = log.unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(5).collect();
            format!("the agent serves nothing; it says last: {last:?}")
        })?;
        Ok(whole)
    }

    /// Waits until its page is as wanted.
    pub(super) async fn shows(&self, is_so: impl Fn(&Page) -> Result<()>) -> Result<Page> {
        let started = Instant::now();
        loop {
            let page = match self.client.scrape().await {
                Ok((_, page)) => is_so(&page).map(|()| page),
                Err(error) => Err(error),
            };
            if page.is_ok() || started.elapsed() > PATIENCE {
                return page;
            }
            sleep(POLL).await;
        }
    }

    /// Has so many pods hold `each` devices, and waits until they do.
    pub(super) async fn hold(&self, resource: &str, pods: u32, each: u32) -> Result<()> {
        let wanted = i64::from(pods * each);
        self.until(|node| node.amounts(resource).1 >= wanted, resource)
            .await?;
        for number in 0..pods {
            self.create(&format!("training-job-{number}-abcde"), resource, each)?;
        }
        let runs = |node: &Snapshot| node.pods.iter().all(|pod| pod.phase == Phase::Running);
        self.until(runs, "pods that run").await
    }

    /// Creates a pod that holds so many devices.
    pub(super) fn create(&self, name: &str, resource: &str, devices: u32) -> Result<()> {
        let manifest = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: research}}\n\
             spec:\n  containers:\n  - {{name: main, image: none, \
             resources: {{limits: {{{resource}: {devices}}}}}}}\n"
        );
        for pod in parse_manifest(&manifest)? {
            self.kubelet.create(pod)?;
        }
        Ok(())
    }

    /// Waits until the kubelet's node is as wanted.
    pub(super) async fn until(
        &self,
        is_so: impl FnMut(&Snapshot) -> bool,
        what: &str,
    ) -> Result<()> {
        let waiting = timeout(PATIENCE, self.kubelet.wait_for(is_so));
        waiting
            .await
            .with_context(|| format!("the kubelet sees no {what}"))?;
        Ok(())
    }

    /// Memory after a span of scrapes, and processor time over the next.
    pub(super) async fn cost(&self, span: Duration) -> Result<Cost> {
        self.scraped(span).await?;
        let resident = self.process.resident()?;
        let (before, started) = (self.process.processor_time()?, Instant::now());
        self.scraped(span).await?;
        let spent = self.process.processor_time()?.saturating_sub(before);
        let percent = 100.0 * spent.as_secs_f64() / started.elapsed().as_secs_f64();
        Ok(Cost { resident, percent })
    }

    /// Scrapes it as often as Prometheus would, and holds that there is something to measure.
    async fn scraped(&self, span: Duration) -> Result<()> {
        let end = Instant::now() + span;
        let mut scrapes = interval(SCRAPES);
        scrapes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while tokio::time::timeout_at(end, scrapes.tick()).await.is_ok() {
            let (_, page) = self.client.scrape().await?;
            whole_page(&page, 8)?;
        }
        Ok(())
    }
}

/// That a page has what it should of so many GPUs, all held by pods and sampled just now.
fn whole_page(page: &Page, gpus: usize) -> Result<()> {
    for metric in OF_EACH_GPU {
        page.has(metric, "", gpus)?;
    }
    page.has("mizzen_gpu_allocated", "pod=\"training-job-", gpus)?;
    for metric in ["mizzen_gpu_healthy", "mizzen_gpu_sampled"] {
        let well = page.series(metric).filter(|(_, value)| *value > 0.0);
        ensure!(well.count() == gpus, "not every {metric} is 1");
    }
    for (labels, age) in page.series("mizzen_gpu_sample_age_seconds") {
        ensure!(age < FRESH, "the sample of {{{labels}}} is {age} s old");
    }
    Ok(())
}
