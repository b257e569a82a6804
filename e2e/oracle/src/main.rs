//! Asks another implementation of CDI what specs mean: `mizzen-cdi-oracle DIR NAME...` reads the
//! specs of a directory, checks each against the schema that the `container-device-interface`
//! crate carries, injects the named devices into an OCI spec, and prints that.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use container_device_interface::cache::{new_cache, with_auto_refresh};
use container_device_interface::spec::read_spec;
use container_device_interface::spec_dirs::with_spec_dirs;
use oci_spec::runtime::Spec;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().context("a directory of specs")?;
    check(Path::new(&directory))?;
    let injected = inject(&directory, arguments.collect()).map_err(|error| anyhow!("{error}"))?;
    println!("{}", serde_json::to_string_pretty(&injected)?);
    Ok(())
}

/// Every spec of the directory, of which there is one at least.
fn check(directory: &Path) -> Result<()> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let path: PathBuf = entry?.path();
        if path.extension() == Some(OsStr::new("json")) {
            read_spec(&path, 0).with_context(|| path.display().to_string())?;
            count += 1;
        }
    }
    ensure!(count > 0, "no spec in {}", directory.display());
    Ok(())
}

fn inject(directory: &str, names: Vec<String>) -> Result<Spec, Box<dyn Error>> {
    let cache = new_cache(vec![with_auto_refresh(false), with_spec_dirs(&[directory])]);
    let mut cache = cache.lock().map_err(|error| error.to_string())?;
    cache.refresh()?;
    let mut spec = Spec::default();
    cache
        .inject_devices(Some(&mut spec), names)
        .map_err(|error| error.to_string())?;
    Ok(spec)
}
