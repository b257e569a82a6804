//! A user's NVML program, as it runs in a pod: it prints the UUID of each GPU that it sees,
//! one a line, each followed by those of its MIG devices, and nothing when there is none.
//!
//! It is built on a published NVML wrapper and on no part of Mizzen, and finds
//! `libnvidia-ml.so.1` as any program does, through the dynamic loader.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::process::ExitCode;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

fn main() -> ExitCode {
    match uuids() {
        Ok(uuids) => {
            for uuid in uuids {
                println!("{uuid}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn uuids() -> Result<Vec<String>, NvmlError> {
    let nvml = match Nvml::builder()
        .lib_path("libnvidia-ml.so.1".as_ref())
        .init()
    {
        Ok(nvml) => nvml,
        // What NVML says in a container that was given no GPU: there is none to see.
        Err(NvmlError::DriverNotLoaded | NvmlError::NoPermission) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut uuids = Vec::new();
    for index in 0..nvml.device_count()? {
        let gpu = nvml.device_by_index(index)?;
        uuids.push(gpu.uuid()?);
        uuids.extend(mig_uuids(&gpu)?);
    }
    Ok(uuids)
}

/// The MIG devices of a GPU, which may have gaps between their indices.
fn mig_uuids(gpu: &Device<'_>) -> Result<Vec<String>, NvmlError> {
    let most = match gpu.mig_device_count() {
        Err(NvmlError::NotSupported) => 0,
        answer => answer?,
    };
    let mut uuids = Vec::new();
    for index in 0..most {
        match gpu.mig_device_by_index(index) {
            Err(NvmlError::NotFound | NvmlError::NotSupported) => {}
            device => uuids.push(device?.uuid()?),
        }
    }
    Ok(uuids)
}
