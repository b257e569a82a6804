//! Making specs of this machine.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, anyhow, bail};
use mizzen_agent::cdi::{Asked, Places, discover};
use mizzen_core::cdi::{
    CdiKind, CdiSpec, Contents, EXPLICIT_LIBRARIES, HAND_VENDOR, NameStrategy, Platform,
    SpecOptions, Wanted, cdi_specs,
};
use mizzen_core::config::{Choice, Config};
use mizzen_core::driver::{DriverError, GpuDriver as _};
use mizzen_core::inventory::Inventory;
use mizzen_nvml::{HostRoot, NvmlLoader};

use super::args::MakeArgs;

/// What was made, and what could not be.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) specs: Vec<CdiSpec>,
    /// The kinds of which there is no device.
    pub(super) empty: Vec<CdiKind>,
}

/// The kinds that are asked for.
pub(super) fn kinds(args: &MakeArgs) -> Result<Vec<CdiKind>> {
    if !args.kinds.is_empty() {
        return Ok(args.kinds.clone());
    }
    let vendor = args.vendor.as_deref().unwrap_or(HAND_VENDOR);
    let class = args.class.as_deref().unwrap_or("gpu");
    Ok(vec![CdiKind::new(vendor, class)?])
}

/// Makes the specs of these kinds.
pub(super) fn specs(args: &MakeArgs, kinds: &[CdiKind]) -> Result<Made> {
    let wanted = wanted(args, kinds)?;
    let config = args.config();
    let places = Places::of_config(&config);
    let inventory = inventory(&config, &places);
    let known = inventory.as_ref().ok();
    let asked = Asked {
        version: known.map(|inventory| inventory.driver.driver.as_str()),
        gpus: known.map_or(&[], |inventory| inventory.gpus.as_slice()),
        explicit_libraries: args
            .feature_flags
            .iter()
            .any(|flag| flag == EXPLICIT_LIBRARIES),
        imex_channels: true,
    };
    let files = discover(&places, &asked);
    let needs_gpus = |wanted: &Wanted| matches!(wanted.contents, Contents::Gpus(_));
    if let Err(error) = &inventory
        && files.platform == Platform::Linux
        && wanted.iter().any(needs_gpus)
    {
        return Err(anyhow!(error.clone())).context("the driver cannot be asked for its GPUs");
    }
    let specs = cdi_specs(
        asked.gpus,
        &files,
        &wanted,
        &SpecOptions::of_config(&config),
    );
    let is_made = |kind: &CdiKind| specs.iter().any(|spec| spec.kind == kind.as_str());
    Ok(Made {
        empty: kinds
            .iter()
            .filter(|kind| !is_made(kind))
            .cloned()
            .collect(),
        specs,
    })
}

fn wanted(args: &MakeArgs, kinds: &[CdiKind]) -> Result<Vec<Wanted>> {
    let words = args.names.iter();
    let strategies: BTreeSet<NameStrategy> = words
        .filter_map(|word| NameStrategy::from_word(word))
        .collect();
    let mut all = Vec::new();
    for kind in kinds {
        let Some(mut wanted) = Wanted::of_kind(kind.clone(), strategies.clone()) else {
            let known = Wanted::CLASSES.join(", ");
            bail!("{kind}: the class {:?} is none of {known}", kind.class());
        };
        if let Contents::Gpus(names) = &mut wanted.contents {
            names.cut_gpus = args.mig_strategy == "none";
        }
        all.push(wanted);
    }
    Ok(all)
}

/// What the driver tells of its GPUs.
fn inventory(config: &Config, places: &Places) -> Result<Inventory, DriverError> {
    let mut builder = NvmlLoader::builder()
        .host_root(HostRoot::new(&config.host_root))
        .driver_root(places.driver_here());
    if let Some(library) = &config.nvml_library {
        builder = builder.library(library);
    }
    builder.build().session()?.snapshot()
}
