//! The simulated node as a table.

use mizzen_nvml_sim::control::{GpuStatus, Status};

use super::mig;
use crate::fault;
use crate::terminal::{BAD, BOLD, DIM, GOOD, Line, PLAIN, Table, Terminal};

/// Prints the node and its GPUs.
pub(super) fn print(status: &Status) -> std::io::Result<()> {
    Terminal::stdout().print(lines(status))
}

fn lines(status: &Status) -> Vec<Line> {
    let scenario = status.scenario.as_ref();
    let scenario =
        scenario.map_or_else(String::new, |file| format!(", scenario {}", file.display()));
    let heading = Line::of(BOLD, status.hostname.clone()).and(
        PLAIN,
        format!(
            "  driver {}, CUDA {}",
            status.driver_version, status.cuda_version
        ),
    );
    let place = Line::of(DIM, format!("state {}{scenario}", status.state.display()));
    let mut table = Table::new(&[
        "GPU", "STATE", "NAME", "MEMORY", "UTIL", "TEMP", "POWER", "PCI", "UUID",
    ]);
    for gpu in &status.gpus {
        table.row(row(gpu));
    }
    [heading, place, Line::default()]
        .into_iter()
        .chain(table.lines(0))
        .chain(instances(status))
        .collect()
}

/// What the GPUs are partitioned into, below an empty line.
fn instances(status: &Status) -> impl Iterator<Item = Line> {
    let lines = mig::lines(status);
    let space = (!lines.is_empty()).then(Line::default);
    space.into_iter().chain(lines)
}

fn row(gpu: &GpuStatus) -> Vec<Line> {
    let faults = fault::in_words(gpu);
    let state = match faults.as_slice() {
        [] => Line::of(GOOD, "works"),
        faults => Line::of(BAD, faults.join(", ")),
    };
    let used = format!("{} / {} MiB", gpu.memory_used_mib, gpu.memory_mib);
    vec![
        Line::of(BOLD, gpu.index.to_string()),
        state,
        gpu.name.clone().into(),
        used.into(),
        format!("{} %", gpu.utilization).into(),
        format!("{} °C", gpu.temperature).into(),
        format!("{:.0} / {} W", gpu.power, gpu.power_limit).into(),
        gpu.pci.to_string().into(),
        Line::of(DIM, gpu.uuid.to_string()),
    ]
}
