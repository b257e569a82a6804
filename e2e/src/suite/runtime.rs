//! `mizzen runtime` and a containerd of its own, which no pod depends on.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::Context;

/// How long containerd may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Its socket below the root of the host tree.
const SOCKET: &str = "run/containerd/containerd.sock";
/// Its config below it.
const CONFIG: &str = "etc/containerd/config.toml";

/// A host tree with a containerd that has CDI off.
struct Host(TempDir);

impl Host {
    fn new() -> Result<Self> {
        let host = Self(tempfile::tempdir()?);
        let root = host.0.path();
        fs::create_dir_all(root.join("etc/containerd"))?;
        fs::create_dir_all(root.join("run/containerd"))?;
        let config = format!(
            "version = 3\nroot = \"{0}/data\"\nstate = \"{0}/state\"\n\
             [grpc]\n  address = \"{0}/{SOCKET}\"\n\
             [plugins.'io.containerd.cri.v1.runtime']\n  \
             enable_cdi = false # for a test\n  restrict_oom_score_adj = true\n",
            root.display()
        );
        fs::write(root.join(CONFIG), config)?;
        Ok(host)
    }

    fn config(&self) -> Result<String> {
        Ok(fs::read_to_string(self.0.path().join(CONFIG))?)
    }

    /// Starts containerd and waits until it listens; it ends with what is returned.
    async fn containerd(&self, context: &Context<'_>) -> Result<Child> {
        let log = fs::File::create(self.0.path().join("log"))?;
        let containerd = Command::new(context.cluster.programs().path("containerd"))
            .arg("--config")
            .arg(self.0.path().join(CONFIG))
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start containerd")?;
        let deadline = Instant::now() + START_LIMIT;
        while UnixStream::connect(self.0.path().join(SOCKET))
            .await
            .is_err()
        {
            ensure!(Instant::now() < deadline, "containerd does not listen");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(containerd)
    }

    async fn mizzen(&self, program: &Path, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(program);
        command.arg("runtime").args(words);
        command.arg("--host-root").arg(self.0.path());
        Ok(command.output().await?)
    }

    /// What `mizzen runtime check` says of CDI, once containerd answers.
    async fn state(&self, program: &Path) -> Result<Value> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let ran = self.mizzen(program, &["check", "--output", "json"]).await?;
            let document: Value = serde_json::from_slice(&ran.stdout)?;
            if document["versionFrom"] == "its own word" {
                return Ok(document["cdi"].clone());
            }
            ensure!(Instant::now() < deadline, "containerd does not answer");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The setting in the file, the restart, and containerd's own word.
pub(super) async fn cdi_is_turned_on(context: &Context<'_>) -> Result<()> {
    let host = Host::new()?;
    let mizzen = context.binaries.mizzen();
    let before = host.config()?;
    let mut containerd = host.containerd(context).await?;
    let off = host.state(mizzen).await?;
    ensure!(off["state"] == "off", "at first: {off}");

    let done = host.mizzen(mizzen, &["configure"]).await?;
    ensure!(done.status.success(), "{done:?}");
    let running = host.state(mizzen).await?;
    ensure!(running["state"] == "off", "before the restart: {running}");
    containerd.kill().await?;
    let mut containerd = host.containerd(context).await?;
    let on = host.state(mizzen).await?;
    ensure!(on["state"] == "on", "after the restart: {on}");

    let undone = host.mizzen(mizzen, &["configure", "--undo"]).await?;
    ensure!(undone.status.success(), "{undone:?}");
    ensure!(host.config()? == before, "the file is not as it was");
    containerd.kill().await?;
    Ok(())
}

/// What containerd makes of its files, held against what we read in them.
pub(super) async fn files_are_read_as_containerd_reads_them(context: &Context<'_>) -> Result<()> {
    let runtime = "[plugins.'io.containerd.cri.v1.runtime']";
    let grpc = "[plugins.\"io.containerd.grpc.v1.cri\"]";
    let imports = "imports = ['conf.d/*.toml']";
    for (main, dropped) in [
        (
            format!("version = 3\n{imports}\n{runtime}\nenable_cdi = true\n"),
            "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n",
        ),
        (
            format!("version = 3\n{imports}\n{runtime}\nenable_cdi = false\n"),
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = 'x'\n",
        ),
        (
            format!(
                "version = 2\n{imports}\n{grpc}\nenable_cdi = false\n{runtime}\nenable_cdi = true\n"
            ),
            "version = 2\n",
        ),
        (
            "version = 3\n".to_owned(),
            "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n",
        ),
        (
            format!("{imports}\n[plugins.cri]\nenable_cdi = false\n"),
            "[plugins.cri]\nenable_cdi = true\n",
        ),
        (format!("version = 3\n{grpc}\nenable_cdi = false\n"), ""),
    ] {
        let host = Host::new()?;
        let root = host.0.path();
        fs::create_dir_all(root.join("etc/containerd/conf.d"))?;
        fs::write(root.join(CONFIG), &main)?;
        fs::write(root.join("etc/containerd/conf.d/a.toml"), dropped)?;
        let dump = Command::new(context.cluster.programs().path("containerd"))
            .arg("--config")
            .arg(root.join(CONFIG))
            .args(["config", "dump"])
            .output()
            .await?;
        let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
        let on = dump.contains("enable_cdi = true");
        ensure!(on || dump.contains("enable_cdi = false"), "{dump}");
        let words = ["check", "--output", "json", "--runtime-version", "2.3.4"];
        let ran = host.mizzen(context.binaries.mizzen(), &words).await?;
        let document: Value = serde_json::from_slice(&ran.stdout)?;
        let said = document["cdi"]["state"] == "on";
        ensure!(
            said == on,
            "{main}\n{dropped}\ncontainerd: {on}, we: {said}"
        );
    }
    Ok(())
}
