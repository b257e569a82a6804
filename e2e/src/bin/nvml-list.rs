//! A user's NVML program, as it runs in a pod: it prints the UUID of each GPU that it sees,
//! one a line, and nothing when there is none.
//!
//! It is built on a published NVML wrapper and on no part of Mizzen, and finds
//! `libnvidia-ml.so.1` as any program does, through the dynamic loader.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::process::ExitCode;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

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
    (0..nvml.device_count()?)
        .map(|index| nvml.device_by_index(index)?.uuid())
        .collect()
}
