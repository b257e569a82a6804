//! The graphics nodes of GPUs, by their places on the bus.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mizzen_core::cdi::{DriFiles, FoundNode, Link};
use mizzen_core::gpu::{Gpu, PciBusId};

use super::places::Places;
use super::tree::name;

pub(super) fn found(
    places: &Places,
    gpus: &[Gpu],
    nodes: &BTreeMap<String, FoundNode>,
) -> BTreeMap<PciBusId, DriFiles> {
    let dri = |gpu: &Gpu| {
        let files = of_gpu(places, gpu.pci, nodes);
        (!files.nodes.is_empty()).then_some((gpu.pci, files))
    };
    gpus.iter().filter_map(dri).collect()
}

fn of_gpu(places: &Places, pci: PciBusId, nodes: &BTreeMap<String, FoundNode>) -> DriFiles {
    let directory = places.host.join(format!("sys/bus/pci/devices/{pci}/drm"));
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.filter_map(|entry| Some(format!("/dev/dri/{}", name(&entry.file_name())?)));
    let mut found: Vec<String> = paths.filter(|path| nodes.contains_key(path)).collect();
    found.sort();
    let by_path = ["card", "render"].into_iter().filter_map(|kind| {
        let path = format!("/dev/dri/by-path/pci-{pci}-{kind}");
        let target = fs::read_link(places.dev.here.join(&path)).ok()?;
        let leads_to = target.file_name().and_then(name)?;
        let is_own = found
            .iter()
            .any(|node| Path::new(node).file_name().and_then(name) == Some(leads_to));
        is_own.then_some(Link {
            target: format!("../{leads_to}"),
            path,
        })
    });
    DriFiles {
        links: by_path.collect(),
        nodes: found,
    }
}
