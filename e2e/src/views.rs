//! The dashboards and alerts of `deploy/` on a real Prometheus that scrapes real agents: every
//! panel has data, every alert fires on its fault and ends when that is healed.
//!
//! No cluster and no root: the GPUs are simulated, the kubelets embedded, and Prometheus is
//! Debian's, unpacked into the cache.

mod dashboards;
mod faults;
mod http;
mod node;
mod prometheus;
mod rules;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mizzen_kubelet_sim::Kubelet;

use self::dashboards::Watched;
use self::http::Page;
use self::node::Node;
use self::prometheus::{Program, Prometheus};
use crate::programs::TestBinaries;
use crate::report;

/// How long anything may take to be seen.
const LIMIT: Duration = Duration::from_mins(1);
/// How often it is looked for.
const POLL: Duration = Duration::from_millis(250);

/// The GPUs of the node that pods use: whole ones, one that is cut into instances, one that is
/// shared.
const GPUS: &str = "\
hostname: node-a
gpus:
- {model: h100-80gb, count: 2}
- {model: h100-80gb, mig: {instances: [3g.40gb, 1g.10gb]}}
- {model: h100-80gb, count: 2}
";
const CONFIG: &str = "\
version: v1
flags: {migStrategy: mixed}
sharing:
  timeSlicing:
    resources:
    - {name: nvidia.com/gpu, rename: nvidia.com/gpu.shared, devices: [3], replicas: 4}
";
/// Who holds what; one whole GPU stays free, for faults.
const PODS: [(&str, &str, &str); 5] = [
    ("research", "notebook", "nvidia.com/gpu"),
    ("training", "train", "nvidia.com/gpu"),
    ("research", "share-a", "nvidia.com/gpu.shared"),
    ("serving", "share-b", "nvidia.com/gpu.shared"),
    ("serving", "part", "nvidia.com/mig-1g.10gb"),
];
/// The node that comes to life step by step: without a driver, without a kubelet.
const LATE_GPUS: &str = "hostname: node-b\ngpus: [{model: l4, count: 1}]\n";

/// Everything that runs.
struct Views {
    prometheus: Prometheus,
    /// The node that works.
    busy: Node,
    /// The node that lacks things.
    late: Node,
    watched: Watched,
}

/// Runs all of it.
pub(crate) async fn run(mizzen: Option<PathBuf>) -> Result<ExitCode> {
    let mizzen = TestBinaries::only_mizzen(mizzen).await?;
    let program = Program::find().await?;
    report::step(
        "promtool: the rules on made-up series",
        program.test_rules(),
    )
    .await?;
    let directory = tempfile::Builder::new().prefix("mizzen-views").tempdir()?;
    let busy = Node::new(&directory.path().join("a"), &mizzen, GPUS, CONFIG).await?;
    let late = Node::new(
        &directory.path().join("b"),
        &mizzen,
        LATE_GPUS,
        "version: v1\n",
    )
    .await?;
    busy.place_driver().await?;
    let kubelet = busy.start_kubelet().await?;
    // Stands in for kube-state-metrics: what the kubelets have made of their Nodes.
    let nodes = Page::serve(node::capacities(vec![kubelet, late.kubelet()])).await?;
    let prometheus = Prometheus::start(
        &program,
        directory.path(),
        &[busy.address(), late.address()],
        nodes.address(),
    )
    .await?;
    let views = Views {
        prometheus,
        busy,
        late,
        watched: Watched::read()?,
    };
    let outcome = views.all().await;
    if outcome.is_err() {
        let kept = directory.keep();
        report::line(&format!("logs: {}", kept.display()));
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

impl Views {
    async fn all(mut self) -> Result<()> {
        self.late.start_agent()?;
        self.busy.start_agent()?;
        report::step("pods get their GPUs", self.pods()).await?;
        report::step("variables have values", self.variables()).await?;
        report::step("panels have data", self.panels()).await?;
        report::step("dashboard 12239 has data", self.community()).await?;
        faults::all(&mut self).await?;
        let left = self.watched.left();
        if !left.is_empty() {
            bail!("no data, with no fault: {left:#?}");
        }
        report::line("every panel had data, every alert fired and ended");
        Ok(())
    }

    async fn pods(&self) -> Result<()> {
        let kubelet = self.busy.kubelet();
        let offered = |resource: &str| {
            let node = kubelet.get().map(Kubelet::snapshot);
            node.is_some_and(|node| node.resources.contains_key(resource))
        };
        for (namespace, name, resource) in PODS {
            eventually(resource, async || Ok(offered(resource))).await?;
            self.busy.create_pod(namespace, name, resource)?;
            eventually(name, async || Ok(self.busy.runs(name))).await?;
        }
        let busy = self.busy.gpu_of("train")?;
        let load = ["load", "--utilization", "50~90/10s", "--memory", "40000"];
        self.busy.simulate(&load, &busy).await
    }

    async fn variables(&self) -> Result<()> {
        for variable in self.watched.variables() {
            eventually(&variable.to_string(), async || {
                let values = self.prometheus.label_values(&variable).await?;
                Ok(!values.is_empty())
            })
            .await?;
        }
        Ok(())
    }

    /// All panels have data but those about faults, which have none.
    async fn panels(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            self.watched.look(&self.prometheus).await?;
            let left = self.watched.left();
            let silent: Vec<_> = left
                .iter()
                .filter(|panel| !panel.is_about_faults())
                .collect();
            if silent.is_empty() {
                break;
            }
            // A query over minutes has no data before the first full one.
            if started.elapsed() > 2 * LIMIT {
                bail!("no data: {silent:#?}");
            }
            tokio::time::sleep(POLL).await;
        }
        let talking = self.watched.about_faults_with_data();
        if !talking.is_empty() {
            bail!("data about faults on nodes that are well: {talking:#?}");
        }
        Ok(())
    }

    async fn community(&self) -> Result<()> {
        for query in dashboards::community() {
            if !self.prometheus.has_data(&query).await? {
                bail!("no data: {query}");
            }
        }
        Ok(())
    }
}

/// Waits until something is so.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !is_so().await.with_context(|| what.to_owned())? {
        if started.elapsed() > LIMIT {
            bail!("not within {LIMIT:?}: {what}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
