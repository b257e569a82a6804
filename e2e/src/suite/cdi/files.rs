//! The driver's files in a container, and what hooks make of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::Context;
use super::{Bench, LIBRARIES, VERSION, bench};
use crate::images::BUSYBOX_IMAGE;
use crate::images::users::{GLIBC_IMAGE, LINKED, SMALL_IMAGE};
use crate::pods::GPU;

/// Where each library of a directory is found in the end, by name.
const FOLLOW: &str =
    "cd /usr/lib64 && for name in *; do echo $name $(busybox readlink -f $name); done";
/// What the kubelet mounts into a container's /etc.
const OF_THE_KUBELET: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// In the image with `ldconfig`, by `ldconfig`; in both by the links themselves.
pub(in super::super) async fn the_linker_finds_the_driver(context: &Context<'_>) -> Result<()> {
    let bench = bench(context).await?;
    for (name, image) in [("cache-glibc", GLIBC_IMAGE), ("cache-small", SMALL_IMAGE)] {
        bench.run(&bench.pod(name, image, Some(GPU))).await?;
        has_the_links(&bench, name, VERSION).await?;
    }
    let cache = bench
        .exec("cache-glibc", &["/usr/sbin/ldconfig", "-p"])
        .await?;
    for (library, file) in [
        (
            "libnvidia-ml.so.1",
            format!("{LIBRARIES}/libnvidia-ml.so.{VERSION}"),
        ),
        ("libcuda.so.1", format!("{LIBRARIES}/libcuda.so.{VERSION}")),
        // What the image brought is still found where it was.
        (
            "libc.so.6",
            "/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned(),
        ),
    ] {
        let entry = format!("\t{library} (libc6,x86-64");
        let mut paths = cache
            .lines()
            .filter(|line| line.starts_with(&entry))
            .filter_map(|line| line.rsplit_once(" => "));
        let found = paths.next().map_or("", |(_, path)| path);
        let follow = ["busybox", "readlink", "-f", found];
        let leads_to = bench.exec("cache-glibc", &follow).await?;
        ensure!(
            leads_to.trim() == file && paths.next().is_none(),
            "the cache has {found:?} for {library}, which is {leads_to}, not {file}"
        );
    }
    Ok(())
}

/// Each link among the host's libraries that a program may ask for leads to the same file in a
/// container, of this version of the driver.
pub(super) async fn has_the_links(bench: &Bench<'_>, pod: &str, version: &str) -> Result<()> {
    let answer = bench.exec(pod, &["sh", "-c", FOLLOW]).await?;
    let there: BTreeMap<&str, &str> = answer.lines().filter_map(|l| l.split_once(' ')).collect();
    let mut count = 0;
    for (name, target) in host_links(bench)? {
        let expected = format!("{LIBRARIES}/{target}");
        let found = there.get(name.as_str()).copied();
        ensure!(
            found == Some(expected.as_str()),
            "{LIBRARIES}/{name} leads to {found:?}, not {expected}"
        );
        count += 1;
    }
    ensure!(count > 10, "the host has {count} links");
    let cuda = bench
        .exec(pod, &["busybox", "readlink", "/usr/lib64/libcuda.so"])
        .await?;
    ensure!(cuda.trim() == "libcuda.so.1", "libcuda.so is {cuda}");
    let old = there
        .keys()
        .find(|name| name.contains(".so.5") && !name.ends_with(version));
    ensure!(old.is_none(), "{old:?} is not of {version}");
    Ok(())
}

/// The links by SONAME among the host's libraries, and the files that they lead to.
fn host_links(bench: &Bench<'_>) -> Result<Vec<(String, String)>> {
    let directory = bench
        .hardware
        .host()
        .join(LIBRARIES.trim_start_matches('/'));
    let mut links = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_soname = name
            .rsplit_once(".so.")
            .is_some_and(|(_, number)| number.parse::<u32>().is_ok());
        if is_soname && entry.file_type()?.is_symlink() {
            let target = fs::canonicalize(entry.path())?;
            let target = target.file_name().context("files have names")?;
            links.push((name, target.to_string_lossy().into_owned()));
        }
    }
    Ok(links)
}

/// A root that is read-only for the container, an /etc that nobody may write, and an image without
/// /etc and C library: none is a reason not to start.
pub(in super::super) async fn a_nicety_that_fails(context: &Context<'_>) -> Result<()> {
    let bench = bench(context).await?;
    let mut sealed = bench.pod("sealed", GLIBC_IMAGE, Some(GPU));
    sealed["spec"]["containers"][0]["securityContext"] = json!({ "readOnlyRootFilesystem": true });
    let gpu = bench.run(&sealed).await?;
    bench.sees("sealed", &[&gpu]).await?;

    let etc = read_only_etc(&bench)?;
    let mut frozen = bench.pod("frozen", GLIBC_IMAGE, Some(GPU));
    let mount = json!({ "name": "etc", "mountPath": "/etc", "readOnly": true });
    let volume = json!({ "name": "etc", "hostPath": { "path": etc } });
    let spec = &mut frozen["spec"];
    crate::agent::list(&mut spec["volumes"])?.push(volume);
    crate::agent::list(&mut spec["containers"][0]["volumeMounts"])?.push(mount);
    let gpu = bench.run(&frozen).await?;
    // Links are made all the same; without a cache the linker has to be told where.
    let told = format!("LD_LIBRARY_PATH={LIBRARIES}");
    let seen = bench.exec("frozen", &["env", &told, LINKED]).await?;
    ensure!(
        seen.trim() == gpu,
        "a linked program sees {seen}, not {gpu}"
    );
    ensure!(!etc.join("ld.so.cache").exists(), "its /etc was written to");

    bench
        .run(&bench.pod("bare", BUSYBOX_IMAGE, Some(GPU)))
        .await?;
    has_the_links(&bench, "bare", VERSION).await
}

/// A directory of the host's for an /etc: it has the places of what the kubelet and the spec mount
/// there, for the runtime could not make them.
fn read_only_etc(bench: &Bench<'_>) -> Result<PathBuf> {
    let directory = bench.hardware.directory().join("read-only-etc");
    let spec = bench.specs().join("k8s.device-plugin.nvidia.com-gpu.json");
    let spec: Value = serde_json::from_slice(&fs::read(spec)?)?;
    let mounts = spec["containerEdits"]["mounts"].as_array();
    let mounts = mounts.context("the spec has mounts")?.iter();
    let mounted = mounts.filter_map(|mount| mount["containerPath"].as_str());
    for path in mounted.chain(OF_THE_KUBELET) {
        if let Some(below) = path.strip_prefix("/etc/") {
            let place = directory.join(below);
            fs::create_dir_all(place.parent().unwrap_or(&directory))?;
            fs::write(place, "")?;
        }
    }
    Ok(directory)
}
