//! Debian's Prometheus: unpacked into the cache, started, and asked.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::dashboards::{Query, Variable};
use super::{eventually, http, rules};
use crate::{layout, report};

/// How far back a graph looks, seconds.
const GRAPH: u64 = 60;

/// Where `prometheus` and `promtool` are.
#[derive(Debug)]
pub(super) struct Program {
    directory: PathBuf,
}

impl Program {
    /// Those of the cache, fetched from Debian if they are not there yet. The package is unpacked
    /// and not installed: no service starts.
    pub(super) async fn find() -> Result<Self> {
        let cache = layout::cache()?.join("prometheus");
        let program = Self {
            directory: cache.join("usr/bin"),
        };
        if !program.directory.join("promtool").is_file() {
            report::step("fetch prometheus", fetch(&cache)).await?;
        }
        Ok(program)
    }

    /// Runs the tests of the rules on made-up series.
    pub(super) async fn test_rules(&self) -> Result<()> {
        let tests = layout::repository()?.join("e2e/prometheus/alerts-test.yaml");
        let mut promtool = Command::new(self.directory.join("promtool"));
        promtool.args(["test", "rules"]).arg(tests);
        succeeded(promtool).await
    }
}

async fn fetch(cache: &Path) -> Result<()> {
    let work = cache.with_extension("unfinished");
    // What an interrupted run has left would be in the way.
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.current_dir(&work).args(["download", "prometheus"]);
        apt
    };
    if succeeded(download()).await.is_err() {
        // A machine whose lists of packages are old or empty.
        let mut update = Command::new("apt-get");
        update.args(["update", "--quiet"]);
        succeeded(update).await?;
        succeeded(download()).await?;
    }
    let mut packages = fs::read_dir(&work)?;
    let package = packages.next().context("apt-get downloads a package")??;
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--extract").arg(package.path()).arg(&work);
    succeeded(unpack).await?;
    Ok(fs::rename(work, cache)?)
}

async fn succeeded(mut command: Command) -> Result<()> {
    let name = command.as_std().get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().await;
    let output = output.with_context(|| name.clone())?;
    ensure!(
        output.status.success(),
        "{name}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A Prometheus that runs.
#[derive(Debug)]
pub(super) struct Prometheus {
    address: SocketAddr,
    /// The file in which it finds the agents, and what it says of them.
    targets: PathBuf,
    agents: String,
    _process: Child,
}

impl Prometheus {
    /// Starts one that scrapes agents by their nodes' names, and what stands in for
    /// kube-state-metrics.
    pub(super) async fn start(
        program: &Program,
        directory: &Path,
        agents: &[(SocketAddr, &str)],
        nodes: SocketAddr,
    ) -> Result<Self> {
        let config = directory.join("prometheus.yaml");
        let targets = directory.join("targets.yaml");
        fs::write(&config, configured(&targets, nodes))?;
        let agents = discovered(agents);
        fs::write(&targets, &agents)?;
        fs::write(directory.join("rules.yaml"), rules::hurried()?)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = fs::File::create(directory.join("prometheus.log"))?;
        let process = Command::new(program.directory.join("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let prometheus = Self {
            address,
            targets,
            agents,
            _process: process,
        };
        let is_ready = async || Ok(http::ask(address, "/-/ready", &[]).await.is_ok());
        eventually("Prometheus is ready", is_ready).await?;
        Ok(prometheus)
    }

    /// Has it scrape its agents, or none of them, as service discovery finds them.
    pub(super) fn scrape_agents(&self, wanted: bool) -> Result<()> {
        let targets = if wanted { self.agents.as_str() } else { "[]\n" };
        // As a whole, so that it is never read half.
        let unfinished = self.targets.with_extension("unfinished");
        fs::write(&unfinished, targets)?;
        Ok(fs::rename(unfinished, &self.targets)?)
    }

    async fn api(&self, path: &str, form: &[(&str, &str)]) -> Result<Value> {
        let answer = http::ask(self.address, &format!("/api/v1/{path}"), form)
            .await
            .with_context(|| format!("{form:?}"))?;
        Ok(serde_json::from_str::<Value>(&answer)?["data"].take())
    }

    /// The series of a query now.
    pub(super) async fn series(&self, query: &str) -> Result<Vec<Value>> {
        let mut data = self.api("query", &[("query", query)]).await?;
        Ok(list(data["result"].take()))
    }

    /// Whether a panel's query has any number to show, asked as Grafana asks.
    pub(super) async fn has_data(&self, query: &Query) -> Result<bool> {
        if query.is_instant {
            let series = self.series(&query.text).await?;
            return Ok(series.iter().any(|series| is_number(&series["value"])));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let form = [
            ("query", query.text.as_str()),
            ("start", &(now - GRAPH).to_string()),
            ("end", &now.to_string()),
            ("step", "1"),
        ];
        let mut data = self.api("query_range", &form).await?;
        let series = list(data["result"].take());
        let mut points = series
            .iter()
            .filter_map(|series| series["values"].as_array())
            .flatten();
        Ok(points.any(is_number))
    }

    /// The values that a dashboard's variable can have.
    pub(super) async fn label_values(&self, variable: &Variable) -> Result<Vec<Value>> {
        let path = format!(
            "label/{}/values?match[]={}",
            variable.label,
            escaped(&variable.of)
        );
        Ok(list(self.api(&path, &[]).await?))
    }

    /// Whether an alert fires whose labels are so.
    pub(super) async fn fires(&self, labels: &str) -> Result<bool> {
        let query = format!("ALERTS{{alertstate=\"firing\", {labels}}}");
        Ok(!self.series(&query).await?.is_empty())
    }

    /// The words of all alerts that fire.
    pub(super) async fn annotations(&self) -> Result<Vec<String>> {
        let mut data = self.api("alerts", &[]).await?;
        let alerts = list(data["alerts"].take());
        let all = alerts
            .iter()
            .filter_map(|alert| alert["annotations"].as_object());
        let words = all.flat_map(|words| words.values());
        Ok(words
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect())
    }
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

/// Whether a point in time has a value that can be drawn.
fn is_number(point: &Value) -> bool {
    point[1].as_str().is_some_and(|value| value != "NaN")
}

/// A selector in an address: what has a meaning there is escaped.
fn escaped(text: &str) -> String {
    let letter = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() || letter == '_' => letter.to_string(),
        letter => format!("%{:02X}", u32::from(letter)),
    };
    text.chars().map(letter).collect()
}

/// Its configuration: everything each second.
fn configured(targets: &Path, nodes: SocketAddr) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: [rules.yaml]\n\
         scrape_configs:\n\
         - job_name: mizzen\n\
         \x20 honor_labels: true\n\
         \x20 file_sd_configs: [{{files: ['{}'], refresh_interval: 5s}}]\n\
         - job_name: kube-state-metrics\n\
         \x20 static_configs: [{{targets: ['{nodes}']}}]\n",
        targets.display()
    )
}

/// The agents, by their nodes' names, as service discovery reads them.
fn discovered(agents: &[(SocketAddr, &str)]) -> String {
    let target = |(address, name): &(SocketAddr, &str)| {
        format!("- {{targets: ['{address}'], labels: {{instance: {name}}}}}\n")
    };
    agents.iter().map(target).collect()
}
