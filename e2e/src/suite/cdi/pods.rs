//! What pods with a device see.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::super::Context;
use super::super::gpu_pods::nodes;
use super::{Bench, LARGE, SMALL, bench};
use crate::images::users::{GLIBC_IMAGE, SMALL_IMAGE};
use crate::pods::GPU;

/// One of Debian's kind and one of busybox's, at the same time.
pub(in super::super) async fn each_sees_its_gpu(context: &Context<'_>) -> Result<()> {
    let bench = bench(context).await?;
    let mut given = BTreeSet::new();
    for (name, image) in [("cdi-glibc", GLIBC_IMAGE), ("cdi-small", SMALL_IMAGE)] {
        let gpu = bench.run(&bench.pod(name, image, Some(GPU))).await?;
        bench.sees(name, &[&gpu]).await?;
        has_its_nodes(&bench, name, &gpu).await?;
        cannot_reach_others(&bench, name, &gpu).await?;
        ensure!(given.insert(gpu.clone()), "{gpu} is given twice");
    }
    Ok(())
}

/// The nodes of its GPU and those that belong to none.
async fn has_its_nodes(bench: &Bench<'_>, pod: &str, gpu: &str) -> Result<()> {
    let gpus = bench.hardware.gpus().await?;
    let own = gpus.iter().filter(|one| one.uuid == gpu);
    let mut expected: BTreeSet<String> = own.map(|one| format!("nvidia{}", one.minor)).collect();
    expected.extend(bench.hardware.control_nodes()?);
    let nodes = nodes(bench.context, pod).await?;
    ensure!(
        nodes == expected,
        "its /dev holds {nodes:?}, not {expected:?}"
    );
    Ok(())
}

/// Root in a container may make a node; the device cgroup keeps it shut.
async fn cannot_reach_others(bench: &Bench<'_>, pod: &str, gpu: &str) -> Result<()> {
    for other in bench.hardware.gpus().await? {
        if other.uuid != gpu {
            let (node, minor) = (
                format!("/dev/nvidia{}", other.minor),
                other.minor.to_string(),
            );
            let make = ["busybox", "mknod", &node, "c", "195", &minor];
            bench.exec(pod, &make).await?;
        }
    }
    bench.sees(pod, &[gpu]).await
}

/// An instance of either size: its GPU with this one MIG device.
pub(in super::super) async fn its_instance_alone(context: &Context<'_>) -> Result<()> {
    let bench = bench(context).await?;
    let partitions = bench.hardware.partitions().await?;
    for (name, image, resource) in [
        ("cdi-large", GLIBC_IMAGE, LARGE),
        ("cdi-part", SMALL_IMAGE, SMALL),
    ] {
        let part = bench.run(&bench.pod(name, image, Some(resource))).await?;
        let whole = partitions.gpus.iter().find(|gpu| {
            let mut devices = gpu.mig.gpu_instances.iter().flat_map(|one| &one.devices);
            devices.any(|device| device.uuid == part)
        });
        let whole = whole.map_or("", |gpu| gpu.uuid.as_str());
        bench.sees(name, &[whole, &part]).await?;
        let capabilities = bench.exec(name, &["ls", "/dev/nvidia-caps"]).await?;
        let count = capabilities.split_whitespace().count();
        ensure!(count == 2, "its /dev/nvidia-caps holds {capabilities}");
    }
    Ok(())
}
