//! Every device that the pools hand out is one that a runtime finds.

use mizzen_core::allocate::{AllocationRequest, AnnotationId, HostNodes};
use mizzen_core::cdi::{Catalog, CatalogFile, SpecOptions, Wanted, cdi_specs};
use mizzen_core::config::Config;
use mizzen_core::gpu::Gpu;
use mizzen_core::health::DeviceHealth;
use mizzen_core::pool::{Listed, offer};
use mizzen_core::topology::LinkMatrix;
use proptest::prelude::*;

use crate::node::{config, files, gpu};

const PROFILES: [&str; 3] = ["1g.10gb", "1g.10gb+me", "1c.3g.40gb"];

/// How each GPU is cut: not at all, or into so many devices of profiles.
fn cuts() -> impl Strategy<Value = Vec<Option<Vec<&'static str>>>> {
    let profiles = proptest::collection::vec(proptest::sample::select(&PROFILES[..]), 0..4);
    proptest::collection::vec(proptest::option::of(profiles), 0..6)
}

fn gpus(cuts: &[Option<Vec<&'static str>>]) -> Vec<Gpu> {
    (0..)
        .zip(cuts)
        .map(|(index, cut)| gpu(index, cut.as_deref()))
        .collect()
}

fn settings(mig: &str, ids: &str, shared: bool) -> Config {
    let sharing = if shared {
        "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 3}]}}\n"
    } else {
        ""
    };
    config(&format!(
        "flags: {{migStrategy: {mig}, plugin: {{deviceListStrategy: cdi-cri, deviceIDStrategy: \
         {ids}}}}}\n{sharing}"
    ))
}

/// The names that all devices of all pools are handed out by.
fn handed_out(gpus: &[Gpu], config: &Config) -> Vec<String> {
    let offer = offer(gpus, &LinkMatrix::unknown(gpus.len()), config);
    let annotation = AnnotationId::from_random([7; 16]);
    let mut names = Vec::new();
    for pool in offer.pools.values() {
        let listed = pool.list(|_| DeviceHealth::Healthy);
        for id in listed.iter().flat_map(Listed::ids) {
            let request = AllocationRequest::parse([id.as_str()]).unwrap();
            let allocation = pool.allocate(&request, &HostNodes::default(), annotation);
            names.extend(allocation.unwrap().cdi_devices);
        }
    }
    names
}

fn catalog(gpus: &[Gpu], config: &Config, without: Option<&str>) -> Catalog {
    let mut files = files(gpus);
    if let Some(node) = without {
        files.nodes.remove(node).unwrap();
    }
    let options = SpecOptions::of_config(config);
    let specs = cdi_specs(gpus, &files, &Wanted::of_plugin(config), &options);
    let file = |spec| CatalogFile {
        path: String::new(),
        priority: 0,
        spec: Ok(spec),
    };
    Catalog::new(specs.into_iter().map(file).collect())
}

proptest! {
    #[test]
    fn every_device_that_is_handed_out_resolves(
        cuts in cuts(),
        mig in proptest::sample::select(&["none", "single", "mixed"][..]),
        ids in proptest::sample::select(&["uuid", "index"][..]),
        shared in any::<bool>(),
    ) {
        let gpus = gpus(&cuts);
        let config = settings(mig, ids, shared);
        let catalog = catalog(&gpus, &config, None);
        for name in handed_out(&gpus, &config) {
            prop_assert!(catalog.resolves(&name), "{name} does not resolve");
        }
    }

    #[test]
    fn a_gpu_without_its_node_is_in_no_spec_and_no_other_is_missing(
        cuts in cuts(),
        mig in proptest::sample::select(&["none", "mixed"][..]),
        lost in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!cuts.is_empty());
        let gpus = gpus(&cuts);
        let lost = lost.index(gpus.len());
        let config = settings(mig, "index", false);
        let node = format!("/dev/nvidia{}", gpus[lost].minor);
        let catalog = catalog(&gpus, &config, Some(&node));
        for name in handed_out(&gpus, &config) {
            let device = name.split_once('=').unwrap().1;
            let of_lost = device.split(':').next() == Some(&lost.to_string());
            prop_assert_eq!(catalog.resolves(&name), !of_lost, "{}", name);
        }
    }
}
