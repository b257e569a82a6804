//! Help, and versions.

use std::fmt::Write as _;

use mizzen_nvml::direct::Nvml;

use crate::csv::Column;

pub(crate) const TEXT: &str = "\
NVIDIA System Management Interface, Mizzen's: for any NVML, real or simulated

nvidia-smi [OPTION1 [ARG1]] [OPTION2 [ARG2]] ...

    -h,   --help                     Print usage information and exit.
          --version                  Print the versions and exit.

  LIST OPTIONS:
    -L,   --list-gpus                List the GPUs and their MIG devices.

  SUMMARY OPTIONS:
    <no arguments>                   Show a table of GPUs, MIG devices and processes.
    [plus any of]
    -i,   --id=                      Index, UUID or bus id; several with commas.

  SELECTIVE QUERY OPTIONS:
          --query-gpu=               Information about GPUs; see --help-query-gpu.
          --query-compute-apps=      Processes that compute; see --help-query-compute-apps.
    [mandatory]
          --format=                  csv, with noheader and nounits if wanted.
    [plus any of]
    -i,   --id=                      Index, UUID or bus id; several with commas.
";

/// What can be asked for.
pub(crate) fn columns(columns: impl Iterator<Item = &'static Column>) -> String {
    let mut text = "List of valid properties to query:\n".to_owned();
    for column in columns {
        let also = match column.also {
            "" => String::new(),
            also => format!(" or \"{also}\""),
        };
        let _infallible = write!(text, "\n\"{}\"{also}\n{}\n", column.name, column.what);
    }
    text
}

/// `nvidia-smi --version`
pub(crate) fn versions(nvml: &Nvml) -> String {
    let unknown = |text: Option<String>| text.unwrap_or_else(|| "N/A".to_owned());
    let own = env!("CARGO_PKG_VERSION");
    let library = unknown(nvml.nvml_version().ok());
    let driver = unknown(nvml.driver_version().ok());
    let cuda = unknown(nvml.cuda_version().ok().map(cuda));
    format!(
        "NVIDIA-SMI version  : {own} (Mizzen)\nNVML version        : {library}\n\
         DRIVER version      : {driver}\nCUDA Version        : {cuda}\n"
    )
}

/// `13.0` for 13000.
pub(crate) fn cuda(version: u32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}
