//! `mizzen doctor` where people run it, in the agent's pod.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::super::{Context, Standing};
use super::{Bench, LARGE, SMALL, bare};
use crate::pods::GPU;
use crate::{agent, devices};

/// The areas that a node with GPUs, a kubelet and an agent has.
const AREAS: [&str; 9] = [
    "settings",
    "driver",
    "nvml",
    "gpus",
    "device-nodes",
    "cdi",
    "runtime",
    "kubelet",
    "registration",
];
/// How long the agent may take to mend what is its own.
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);

/// A report for programs.
#[derive(Debug)]
pub(super) struct Report {
    code: i32,
    document: Value,
}

impl Report {
    /// Runs the command in the agent's container.
    pub(super) async fn new(context: &Context<'_>) -> Result<Self> {
        let words = ["mizzen", "doctor", "--output", "json"];
        let ran = context.any_agent().try_command(&words).await?;
        let document = serde_json::from_str(&ran.output);
        Ok(Self {
            code: ran.code,
            document: document.with_context(|| format!("not JSON: {ran:?}"))?,
        })
    }

    fn findings(&self) -> impl Iterator<Item = &Value> {
        self.document["findings"].as_array().into_iter().flatten()
    }

    /// What was found of this name, in words.
    pub(super) fn found(&self, id: &str) -> Option<&str> {
        let mut findings = self.findings();
        findings.find(|finding| finding["id"] == id)?["found"].as_str()
    }

    /// That nothing is wrong: there may be warnings.
    pub(super) fn is_well(&self) -> Result<()> {
        let errors = &self.document["errors"];
        ensure!(
            self.code == 0 && self.document["healthy"] == true && *errors == 0,
            "it finds {self:?}"
        );
        Ok(())
    }

    /// That this is wrong, told with these words.
    fn names(&self, id: &str, words: &str) -> Result<()> {
        let found = self.found(id);
        ensure!(
            self.code == 1 && found.is_some_and(|found| found.contains(words)),
            "{id} is {found:?}, without {words:?}: {self:?}"
        );
        Ok(())
    }
}

/// The node is well; then a device node is missing; then the agent hangs, and its spec is missing.
pub(in super::super) async fn what_is_broken_is_named(context: &Context<'_>) -> Result<()> {
    let bench = bare(context).await?;
    bench.install(&[], true).await?;
    let tested = async {
        everything_is_looked_at(&bench).await?;
        without_a_node(&bench).await?;
        without_a_spec(&bench).await
    };
    let tested = tested.await;
    context.installed.set(Standing::Nothing);
    tested
}

async fn everything_is_looked_at(bench: &Bench<'_>) -> Result<()> {
    let report = Report::new(bench.context).await?;
    report.is_well()?;
    for area in AREAS {
        let mut of_area = report.findings().filter(|finding| finding["area"] == area);
        let severities: Vec<&Value> = of_area.by_ref().map(|found| &found["severity"]).collect();
        ensure!(
            !severities.is_empty() && severities.iter().all(|severity| **severity != "skipped"),
            "{area} is not looked at: {report:?}"
        );
    }
    Ok(())
}

/// The node of one GPU is taken away, and put back.
async fn without_a_node(bench: &Bench<'_>) -> Result<()> {
    let gpus = bench.hardware.gpus().await?;
    let gpu = gpus.first().context("it has GPUs")?;
    let devices = bench.hardware.host().join("dev");
    let (node, away) = (
        devices.join(format!("nvidia{}", gpu.minor)),
        devices.join("away"),
    );
    fs::rename(&node, &away)?;
    let report = Report::new(bench.context).await;
    fs::rename(&away, &node)?;
    let report = report?;
    report.names("node-missing", &format!("/dev/nvidia{}", gpu.minor))?;
    is_well_again(bench).await
}

/// An agent that answers nobody, and cannot bring back what is removed under it.
async fn without_a_spec(bench: &Bench<'_>) -> Result<()> {
    let process = agent::process()?.context("no agent runs")?;
    let pid = Pid::from_raw(process.pid).context("process ids are positive")?;
    kill_process(pid, Signal::STOP)?;
    let report = async {
        fs::remove_file(bench.specs().join("k8s.device-plugin.nvidia.com-gpu.json"))?;
        Report::new(bench.context).await
    };
    let report = report.await;
    kill_process(pid, Signal::CONT)?;
    let report = report?;
    report.names("cdi-unresolved", "k8s.device-plugin.nvidia.com/gpu=")?;
    report.names("plugin-silent", "did not answer")?;
    let absent = report.found("no-plugin");
    ensure!(absent.is_none(), "an agent that hangs is there: {absent:?}");
    is_well_again(bench).await?;
    let now = agent::process()?;
    ensure!(
        now == Some(process),
        "the agent was {process:?}, is {now:?}"
    );
    Ok(())
}

/// Waits until all is offered and nothing is wrong.
async fn is_well_again(bench: &Bench<'_>) -> Result<()> {
    devices::offers(&[(GPU, 3), (LARGE, 1), (SMALL, 1)]).await?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let report = Report::new(bench.context).await?;
        let Err(error) = report.is_well() else {
            return Ok(());
        };
        if Instant::now() > deadline {
            return Err(error.context(format!("after {LIMIT:?}")));
        }
        sleep(POLL).await;
    }
}
