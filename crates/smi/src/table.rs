//! `nvidia-smi` without arguments: the table, with the columns and widths of NVIDIA's, by which
//! scripts cut it.

use std::fmt::Write as _;
use std::time::SystemTime;

use mizzen_nvml::direct::{Answer, Code, Device, EccCounter, EccSpan, Nvml, Process};

use crate::gpus::{Gpu, Gpus};
use crate::outcome::Outcome;
use crate::{help, time};

/// What the longest name of a GPU takes.
const NAME: usize = 27;
/// What the longest name of a process takes.
const PROCESS: usize = 32;

const FRAME: &str =
    "+-----------------------------------------------------------------------------------------+\n";
const GPU_LINE: &str =
    "+-----------------------------------------+------------------------+----------------------+\n";
const GPU_HEAD: &str = "\
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
";
const MIG_LINE: &str =
    "+------------------+----------------------------------+-----------+-----------------------+\n";
const MIG_HEAD: &str = "\
| GPU  GI  CI  MIG |              Shared Memory-Usage |        Vol|        Shared         |
|      ID  ID  Dev |                Shared BAR1-Usage | SM     Unc| CE ENC  DEC  OFA  JPG |
|                  |                                  |        ECC|                       |
|==================+==================================+===========+=======================|
";
const PROCESS_HEAD: &str = "\
|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |
|        ID   ID                                                               Usage      |
|=========================================================================================|
";

pub(crate) fn print(nvml: &Nvml, gpus: &Gpus<'_>, now: SystemTime) -> Outcome {
    let mut text = gpus.complaints();
    let _infallible = writeln!(text, "{:<31}", time::long(now));
    head(&mut text, nvml);
    for gpu in &gpus.found {
        text += &gpu_rows(gpu.index, gpu.device);
        text += GPU_LINE;
    }
    text += "\n";
    let partitioned: Vec<&Gpu<'_>> = gpus
        .found
        .iter()
        .filter(|gpu| matches!(gpu.device.mig_mode(), Ok((1, _))))
        .collect();
    if !partitioned.is_empty() {
        mig(&mut text, &partitioned);
    }
    processes(&mut text, nvml, gpus);
    Outcome {
        text,
        code: gpus.exit_code(),
    }
}

fn head(text: &mut String, nvml: &Nvml) {
    let unknown = |version: Answer<String>| version.unwrap_or_else(|_| "N/A".to_owned());
    let driver = unknown(nvml.driver_version());
    let cuda = unknown(nvml.cuda_version().map(help::cuda));
    *text += FRAME;
    let _infallible = writeln!(
        text,
        "| NVIDIA-SMI {driver:<23}Driver Version: {driver:<15}CUDA Version: {cuda:<9}|"
    );
    *text += GPU_LINE;
    *text += GPU_HEAD;
}

/// What stands in place of a number that the GPU does not have.
fn or<T>(value: Answer<T>, form: impl FnOnce(T) -> String) -> String {
    match value {
        Ok(value) => form(value),
        Err(Code::NOT_SUPPORTED | Code::FUNCTION_NOT_FOUND | Code::INVALID_ARGUMENT) => {
            "N/A".to_owned()
        }
        Err(_) => "ERR!".to_owned(),
    }
}

fn on(mode: u32) -> String {
    if mode == 0 { "Off" } else { "On" }.to_owned()
}

fn mib(bytes: u64) -> String {
    format!("{}MiB", bytes >> 20)
}

/// The three lines of a GPU.
fn gpu_rows(index: u32, gpu: Device<'_>) -> String {
    let name = or(gpu.name(), |name| beginning(&name, NAME));
    let persistence = or(gpu.persistence_mode(), on);
    let bus_id = or(gpu.pci(), |pci| pci.bus_id);
    let display = or(gpu.display_active(), on);
    let mig = gpu.mig_mode();
    let partitioned = matches!(mig, Ok((1, _)));
    // A GPU that is partitioned counts errors, and is busy, in its MIG devices.
    let errors = if partitioned {
        or(gpu.ecc_mode(), |(current, _)| on(current))
    } else {
        let errors = gpu.ecc_total(EccCounter::Uncorrected, EccSpan::Volatile);
        or(errors, |count| count.to_string())
    };

    let fan = or(gpu.fan_speed(), |percent| format!("{percent}%"));
    let temperature = or(gpu.temperature(), |celsius| format!("{celsius}C"));
    let state = or(gpu.performance_state(), |state| format!("P{state}"));
    let watts = |milliwatts: u32| format!("{}W", (milliwatts + 500) / 1000);
    let usage = or(gpu.power_usage(), watts);
    let cap = or(gpu.enforced_power_limit(), watts);
    let memory = or(gpu.memory(), |memory| {
        format!("{:>11} / {:>9}", mib(memory.used), mib(memory.total))
    });
    let busy = if partitioned {
        "N/A".to_owned()
    } else {
        or(gpu.utilization(), |(gpu, _)| format!("{gpu}%"))
    };
    let compute = or(gpu.compute_mode(), |mode| compute_mode(mode).to_owned());
    let mig = or(mig, |modes| mig_mode(modes).to_owned());
    format!(
        "| {index:>3}  {name:<31}{persistence:<3} |   {bus_id:<16} {display:>3} | {errors:>20} |\n\
         |{fan:>4}{temperature:>6}{state:>6}{usage:>16} / {cap:>5} |{memory:>23} |\
         {busy:>8}{compute:>13} |\n\
         |{:>41}|{:>24}| {mig:>20} |\n",
        "", ""
    )
}

fn compute_mode(mode: u32) -> &'static str {
    match mode {
        0 => "Default",
        2 => "Prohibited",
        3 => "E. Process",
        _ => "Unknown",
    }
}

fn mig_mode(modes: (u32, u32)) -> &'static str {
    match modes {
        (0, 0) => "Disabled",
        (0, _) => "Disabled*",
        (_, 0) => "Enabled*",
        _ => "Enabled",
    }
}

/// The table of the MIG devices.
fn mig(text: &mut String, gpus: &[&Gpu<'_>]) {
    *text += FRAME;
    *text += &full("MIG devices:");
    *text += MIG_LINE;
    *text += MIG_HEAD;
    let mut rows = String::new();
    for gpu in gpus {
        for (number, device) in gpu.device.mig_devices().unwrap_or_default() {
            rows += &mig_rows(gpu.index, number, device);
            rows += MIG_LINE;
        }
    }
    if rows.is_empty() {
        rows = full(" No MIG devices found") + FRAME;
    }
    *text += &rows;
    *text += "\n";
}

fn mig_rows(gpu: u32, number: u32, device: Device<'_>) -> String {
    let decimal = |value: u32| value.to_string();
    let gpu_instance = or(device.gpu_instance(), decimal);
    let compute_instance = or(device.compute_instance(), decimal);
    let usage = |used: u64, total: u64| format!("{:>19} / {:>8}", mib(used), mib(total));
    let memory = or(device.memory(), |memory| usage(memory.used, memory.total));
    let bar1 = or(device.bar1(), |bar1| usage(bar1.used, bar1.total));
    let errors = device.ecc_total(EccCounter::Uncorrected, EccSpan::Volatile);
    let errors = or(errors, |count| count.to_string());
    let attributes = device.attributes();
    let multiprocessors = or(attributes, |has| has.multiprocessors.to_string());
    let engines = or(attributes, |has| {
        format!(
            "{:>3}{:>4}{:>5}{:>5}{:>5}",
            has.copy_engines, has.encoders, has.decoders, has.ofa, has.jpeg
        )
    });
    format!(
        "|{gpu:>3}{gpu_instance:>5}{compute_instance:>4}{number:>4}  |{memory:>30}    | \
         {multiprocessors:<3}{errors:>6} |{engines:>22} |\n\
         |{:>18}|{bar1:>30}    |{:>11}|{:>23}|\n",
        "", "", ""
    )
}

/// A line from one side of the frame to the other.
fn full(words: &str) -> String {
    format!("| {words:<87} |\n")
}

/// The table of the processes.
fn processes(text: &mut String, nvml: &Nvml, gpus: &Gpus<'_>) {
    *text += FRAME;
    *text += &full("Processes:");
    *text += PROCESS_HEAD;
    let mut rows = String::new();
    for gpu in &gpus.found {
        for (process, kind) in all_processes(gpu.device) {
            rows += &process_row(nvml, gpu.index, process, kind);
        }
    }
    if rows.is_empty() {
        rows = full(" No running processes found");
    }
    *text += &rows;
    *text += FRAME;
}

/// Every process once, by its id, and whether it computes, draws or does both.
fn all_processes(gpu: Device<'_>) -> Vec<(Process, &'static str)> {
    let compute = gpu.compute_processes().unwrap_or_default();
    let graphics = gpu.graphics_processes().unwrap_or_default();
    let has = |list: &[Process], pid: u32| list.iter().any(|process| process.pid == pid);
    let only_drawing = graphics
        .iter()
        .filter(|process| !has(&compute, process.pid));
    let mut all: Vec<(Process, &str)> = only_drawing.map(|process| (*process, "G")).collect();
    all.extend(compute.iter().map(|process| {
        let both = has(&graphics, process.pid);
        (*process, if both { "C+G" } else { "C" })
    }));
    all.sort_by_key(|(process, _)| process.pid);
    all
}

fn process_row(nvml: &Nvml, gpu: u32, process: Process, kind: &str) -> String {
    let name = nvml.process_name(process.pid);
    let name = name.map_or_else(|_| "[Not Found]".to_owned(), |name| end(&name, PROCESS));
    let memory = process.memory.map_or_else(|| "N/A".to_owned(), mib);
    let place = match process.instance {
        Some((gpu_instance, compute_instance)) => {
            format!("{gpu_instance:>5}{compute_instance:>5} ")
        }
        None => "   N/A  N/A".to_owned(),
    };
    format!(
        "|{gpu:>5}{place}{:>16}{kind:>7}   {name:<36}{memory:>10} |\n",
        process.pid
    )
}

/// At most `width` characters, the first ones.
fn beginning(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 3).collect::<String>() + "..."
}

/// At most `width` characters, the last ones.
fn end(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    "...".to_owned() + &text.chars().skip(count + 3 - width).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_where_they_say_least() {
        assert_eq!(
            beginning("NVIDIA RTX PRO 6000 Blackwell Server Edition", NAME),
            "NVIDIA RTX PRO 6000 Blac..."
        );
        assert_eq!(beginning("Tesla T4", NAME), "Tesla T4");
        let cut = end(
            "/opt/chrome --shared-files --crash-rack-uuid=3190709013486085115",
            PROCESS,
        );
        assert_eq!(cut, "...rack-uuid=3190709013486085115");
    }

    #[test]
    fn every_line_of_every_head_is_as_wide_as_the_frame() {
        let all = [
            FRAME,
            GPU_LINE,
            GPU_HEAD,
            MIG_LINE,
            MIG_HEAD,
            PROCESS_HEAD,
            &full("x"),
        ];
        for line in all.concat().lines() {
            assert_eq!(line.len(), 91, "{line}");
        }
    }
}
