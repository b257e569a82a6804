//! Test pods: making, watching, asking and removing them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, AttachParams, DeleteParams, ListParams, LogParams, PostParams};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep};

use crate::images::{BUSYBOX_IMAGE, WORKLOAD_IMAGE};

/// The label of every pod that a test makes.
const LABEL: &str = "mizzen.dev/e2e";
/// How often a pod is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How long a pod may take to get somewhere.
const LIMIT: Duration = Duration::from_mins(1);

/// The extended resource under test.
pub(crate) const GPU: &str = "nvidia.com/gpu";

/// A pod that idles in a shell, with nothing of NVIDIA's.
pub(crate) fn plain(name: &str) -> Value {
    pod(name, BUSYBOX_IMAGE, &json!({}))
}

/// A pod of a user's image, with that many GPUs as its limit; `None` asks for none.
pub(crate) fn workload(name: &str, gpus: Option<u32>) -> Value {
    let resources = match gpus {
        Some(gpus) => json!({ "limits": { GPU: gpus.to_string() } }),
        None => json!({}),
    };
    pod(name, WORKLOAD_IMAGE, &resources)
}

/// A pod with these resources, which idles until it is deleted.
pub(crate) fn pod(name: &str, image: &str, resources: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { LABEL: "" } },
        "spec": {
            // Nothing is lost when an idle shell ends at once.
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "main",
                "image": image,
                "command": ["/bin/sleep", "inf"],
                "resources": resources,
            }],
        },
    })
}

/// Marks a pod that was written elsewhere as a test's, to be removed after it.
pub(crate) fn label(pod: &mut Value) {
    pod["metadata"]["labels"] = json!({ LABEL: "" });
}

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code.
    pub(crate) code: i32,
    /// What the API says, if it failed or was not run.
    pub(crate) failure: Option<String>,
    /// What it wrote.
    pub(crate) output: String,
    /// What it wrote to its standard error.
    pub(crate) errors: String,
}

/// The pods of a namespace.
#[derive(Clone)]
pub(crate) struct Pods {
    api: Api<Pod>,
}

impl Pods {
    /// Those of a namespace.
    pub(crate) fn new(client: &Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
        }
    }

    /// Makes a pod; what the API server refuses is the error, in its words.
    pub(crate) async fn create(&self, pod: &Value) -> Result<()> {
        let pod = serde_json::from_value(pod.clone())?;
        self.api.create(&PostParams::default(), &pod).await?;
        Ok(())
    }

    /// Makes a pod and waits until its container runs.
    pub(crate) async fn run(&self, pod: &Value) -> Result<Pod> {
        self.create(pod).await?;
        let name = pod["metadata"]["name"]
            .as_str()
            .context("the pod has a name")?;
        self.wait(name, "Running", |pod| phase(pod) == "Running")
            .await
    }

    /// The pod as it is now.
    pub(crate) async fn get(&self, name: &str) -> Result<Pod> {
        Ok(self.api.get(name).await?)
    }

    /// Waits until the pod satisfies a condition, which is named in the error.
    pub(crate) async fn wait(
        &self,
        name: &str,
        condition: &str,
        holds: impl Fn(&Pod) -> bool,
    ) -> Result<Pod> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let pod = self.api.get(name).await?;
            if holds(&pod) {
                return Ok(pod);
            }
            if Instant::now() > deadline {
                let status = serde_json::to_string(&pod.status)?;
                bail!("pod {name} is not {condition} after {LIMIT:?}: {status}");
            }
            sleep(POLL).await;
        }
    }

    /// Runs a command in a pod's container and returns what it writes; a command that fails
    /// is an error with both of its outputs.
    pub(crate) async fn exec(&self, name: &str, command: &[&str]) -> Result<String> {
        self.exec_in(name, "main", command).await
    }

    /// As [`Pods::exec`], in one of several containers.
    pub(crate) async fn exec_in(
        &self,
        name: &str,
        container: &str,
        command: &[&str],
    ) -> Result<String> {
        let ran = self.try_in(name, container, command).await?;
        if let Some(failure) = ran.failure {
            let (output, errors) = (ran.output, ran.errors);
            bail!("{command:?} in {name}: {failure:?}\n{output}{errors}");
        }
        Ok(ran.output)
    }

    /// Runs a command in one of a pod's containers, whether it succeeds or not.
    pub(crate) async fn try_in(
        &self,
        name: &str,
        container: &str,
        command: &[&str],
    ) -> Result<Ran> {
        let parameters = AttachParams::default()
            .container(container)
            .stdout(true)
            .stderr(true);
        let mut process = self
            .api
            .exec(name, command.iter().copied(), &parameters)
            .await?;
        let mut stdout = process.stdout().context("stdout was asked for")?;
        let mut stderr = process.stderr().context("stderr was asked for")?;
        let status = process
            .take_status()
            .context("the status was not taken yet")?;
        let (mut output, mut errors) = (String::new(), String::new());
        tokio::try_join!(
            stdout.read_to_string(&mut output),
            stderr.read_to_string(&mut errors)
        )?;
        let status = status
            .await
            .context("the connection ended without a status")?;
        process.join().await?;
        let failure = (status.status.as_deref() != Some("Success"))
            .then(|| status.message.unwrap_or_default());
        let causes = status.details.and_then(|details| details.causes);
        let code = causes.into_iter().flatten().find_map(|cause| {
            let is_code = cause.reason.as_deref() == Some("ExitCode");
            is_code.then_some(cause.message)?
        });
        let code = code.map(|code| code.parse()).transpose()?;
        Ok(Ran {
            code: code.unwrap_or_default(),
            failure,
            output,
            errors,
        })
    }

    /// What the pod's container has written.
    pub(crate) async fn logs(&self, name: &str) -> Result<String> {
        Ok(self.api.logs(name, &LogParams::default()).await?)
    }

    /// The first line that the pod's container writes, waited for: a container runs before its
    /// program has come to write anything.
    pub(crate) async fn first_line(&self, name: &str) -> Result<String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let log = self.logs(name).await?;
            if let Some((line, _)) = log.split_once('\n') {
                return Ok(line.to_owned());
            }
            if Instant::now() > deadline {
                bail!("pod {name} has written nothing after {LIMIT:?}");
            }
            sleep(POLL).await;
        }
    }

    /// Removes the tests' pods and waits until they are gone.
    pub(crate) async fn remove_all(&self) -> Result<()> {
        let ours = ListParams::default().labels(LABEL);
        self.api
            .delete_collection(&DeleteParams::default(), &ours)
            .await?;
        let deadline = Instant::now() + LIMIT;
        while !self.api.list_metadata(&ours).await?.items.is_empty() {
            if Instant::now() > deadline {
                bail!("the tests' pods do not go away");
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Removes one pod and waits until it is gone.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        self.api.delete(name, &DeleteParams::default()).await?;
        let deadline = Instant::now() + LIMIT;
        while self.api.get_opt(name).await?.is_some() {
            if Instant::now() > deadline {
                bail!("pod {name} does not go away");
            }
            sleep(POLL).await;
        }
        Ok(())
    }
}

/// The pod's phase: Pending, Running, Succeeded, Failed.
pub(crate) fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("")
}

/// Why the scheduler does not place the pod, in its words.
pub(crate) fn unschedulable(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled")?;
    (scheduled.status == "False")
        .then_some(scheduled.message.as_deref())
        .flatten()
}
