//! How long a running agent's page takes to come.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mizzen_kubelet_sim::Snapshot;
use tokio::time::sleep;

use super::samples::Samples;
use super::subject::{Node, PROCESSES, pid};
use super::web::Page;
use super::whole::{Manner, Whole};

/// Between two scrapes: the agent goes on sampling meanwhile.
const BETWEEN: Duration = Duration::from_millis(20);

/// What a page is full of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Filling {
    /// Eight GPUs of seven MIG devices, each of them held by a pod.
    Partitioned,
    /// Sixteen GPUs of 48 processes: each of 48 pods has one on each GPU.
    Crowded,
}

/// What was measured.
pub(super) struct Cost {
    pub(super) times: Samples,
    /// The page's length.
    pub(super) bytes: usize,
    pub(super) series: usize,
}

/// Starts an agent and scrapes it so many times.
pub(super) async fn run(
    work: &Path,
    binary: &Path,
    filling: Filling,
    scrapes: usize,
) -> Result<Cost> {
    let work = work.join("scrape");
    let whole = match filling {
        Filling::Partitioned => partitioned(&work, binary).await?,
        Filling::Crowded => crowded(&work, binary).await?,
    };
    let mut times = Vec::with_capacity(scrapes);
    let mut last = None;
    for _ in 0..scrapes {
        sleep(BETWEEN).await;
        let (taken, page) = whole.client.scrape().await?;
        times.push(taken);
        last = Some(page);
    }
    let page = last.context("nothing was scraped")?;
    is_full(filling, &page)?;
    Ok(Cost {
        times: Samples::new(times),
        bytes: page.bytes(),
        series: page.count(),
    })
}

async fn partitioned(work: &Path, binary: &Path) -> Result<Whole> {
    let node = Node::partitioned(work, "8xh100-80gb", None)?;
    let whole = Whole::start(binary, &node, Manner::default()).await?;
    whole.hold("nvidia.com/mig-1g.10gb", 8 * 7, 1).await?;
    whole
        .shows(|page| is_full(Filling::Partitioned, page))
        .await?;
    Ok(whole)
}

async fn crowded(work: &Path, binary: &Path) -> Result<Whole> {
    let node = Node::shared_by(work, "16xh100-80gb", PROCESSES)?;
    let whole = Whole::start(binary, &node, Manner::default()).await?;
    whole.hold("nvidia.com/gpu", PROCESSES, 16).await?;
    settle(&node, &whole.kubelet.snapshot())?;
    whole.shows(|page| is_full(Filling::Crowded, page)).await?;
    Ok(whole)
}

/// Gives each pod a process on every GPU that it shares: in a control group of its container's, whose
/// log has its names.
fn settle(node: &Node, snapshot: &Snapshot) -> Result<()> {
    let host = node.path("installed");
    let devices = snapshot.resources.get("nvidia.com/gpu");
    let devices = devices.context("nothing is shared")?;
    for (index, gpu) in node.simulator().node()?.gpus.iter().enumerate() {
        let index = u32::try_from(index)?;
        let replicas = format!("{}::", gpu.uuid);
        let mut pids = Vec::new();
        for (device, view) in &devices.devices {
            if !device.starts_with(&replicas) {
                continue;
            }
            let holder = view.holder.as_ref().context("a share that is free")?;
            let pod = snapshot.pod(&holder.pod).context("a holder that is gone")?;
            let pid = pid(index, u32::try_from(pids.len())?);
            place(&host, pid, &pod.name, &pod.uid)?;
            pids.push(pid);
        }
        node.occupy(index, pids.into_iter())?;
    }
    Ok(())
}

/// Makes the files that tell whose a process is.
fn place(host: &Path, pid: u32, pod: &str, uid: &str) -> Result<()> {
    let id = format!("{pid:064x}");
    let proc = host.join("proc").join(pid.to_string());
    fs::create_dir_all(&proc)?;
    let sliced = uid.replace('-', "_");
    let group = format!(
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{sliced}.slice/\
         cri-containerd-{id}.scope\n"
    );
    fs::write(proc.join("cgroup"), group)?;
    // As many zeros as there are fields up to when it was started.
    let stat = format!("{pid} (python3) S{}\n", " 0".repeat(49));
    fs::write(proc.join("stat"), stat)?;
    let logs = host.join("var/log");
    fs::create_dir_all(logs.join(format!("pods/research_{pod}_{uid}")))?;
    fs::create_dir_all(logs.join("containers"))?;
    let log = logs.join(format!("containers/{pod}_research_main-{id}.log"));
    Ok(fs::write(log, "")?)
}

fn is_full(filling: Filling, page: &Page) -> Result<()> {
    let pod = "pod=\"training-job-";
    match filling {
        Filling::Partitioned => {
            page.has("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "GPU_I_ID=\"", 8 * 7)?;
            page.has("DCGM_FI_DEV_GPU_TEMP", "", 8)?;
            page.has("mizzen_gpu_allocated", pod, 8 * 7)
        }
        Filling::Crowded => {
            let shares = 16 * PROCESSES as usize;
            page.has("DCGM_FI_DEV_GPU_TEMP", "", 16)?;
            page.has("mizzen_gpu_allocated", pod, shares)?;
            page.has("mizzen_pod_gpu_processes", pod, shares)?;
            page.has("mizzen_pod_gpu_memory_used_bytes", pod, shares)
        }
    }
}
