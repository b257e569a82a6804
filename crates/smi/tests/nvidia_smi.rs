//! The program on the simulated driver: what it prints, to the letter.
#![allow(
    clippy::unwrap_used,
    reason = "tests fail by panicking, in their helpers too"
)]

use std::process::Command;

use mizzen_nvml_sim::control::{Fault, GpuRef, Gpus, LoadChange, ProcessLoad, Simulator};
use mizzen_nvml_sim::scenario::Scenario;
use mizzen_nvml_sim::{Program, library};
use tempfile::TempDir;

/// A machine with simulated GPUs.
struct Machine {
    directory: TempDir,
    simulator: Simulator,
}

/// What the program printed, and its exit code.
type Printed = (String, i32);

impl Machine {
    fn with(scenario: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        library::place(directory.path()).unwrap();
        let scenario = Scenario::parse(scenario, "test").unwrap();
        let state = directory.path().join("state");
        let simulator = Simulator::create(&state, &scenario).unwrap();
        Self {
            directory,
            simulator,
        }
    }

    fn smi(&self, arguments: &str) -> Printed {
        let mut command = smi();
        command
            .args(arguments.split_whitespace())
            .env("LD_LIBRARY_PATH", self.directory.path())
            .env("MIZZEN_SIM_STATE", self.directory.path().join("state"))
            .env("MIZZEN_SIM_DEV_ROOT", self.directory.path());
        printed(&mut command)
    }
}

fn smi() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nvidia-smi"));
    command.env_clear();
    command
}

fn printed(command: &mut Command) -> Printed {
    let output = command.output().unwrap();
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (
        String::from_utf8(output.stdout).unwrap(),
        output.status.code().unwrap(),
    )
}

fn good(printed: Printed) -> String {
    let (text, code) = printed;
    assert_eq!(code, 0, "{text}");
    text
}

const TWO: &str = "\
driver_version: 580.95.05
cuda_version: 13.0
hostname: node-a
gpus:
- model: h100-80gb
- {model: t4, serial: '1324219012345'}
";

const PARTITIONED: &str = "\
hostname: node-a
gpus: [{model: a100-40gb, mig: {instances: [3g.20gb, 1g.5gb]}}]
";

/// What the program printed before, in a file of this folder.
fn golden(name: &str) -> String {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// The table without the date in front.
fn table(machine: &Machine, arguments: &str) -> String {
    let text = good(machine.smi(arguments));
    let (date, table) = text.split_once('\n').unwrap();
    assert_eq!(date.len(), 31, "{date}");
    let narrow = table.lines().find(|line| !matches!(line.len(), 0 | 91));
    assert_eq!(narrow, None);
    table.to_owned()
}

fn gpu(index: u32) -> Gpus {
    GpuRef::Index(index).into()
}

#[test]
fn gpus_are_listed_with_their_mig_devices() {
    assert_eq!(good(Machine::with(TWO).smi("-L")), golden("list.txt"));
    let partitioned = Machine::with(PARTITIONED);
    assert_eq!(good(partitioned.smi("--list-gpus")), golden("list-mig.txt"));
}

#[test]
fn the_table_is_that_of_the_real_program() {
    let machine = Machine::with(TWO);
    assert_eq!(table(&machine, ""), golden("table.txt"));
    let one = table(&machine, "-i 1");
    assert!(one.contains("Tesla T4") && !one.contains("H100"), "{one}");
}

#[test]
fn the_table_shows_load_and_processes() {
    let machine = Machine::with(TWO);
    let process = |pid, memory_mib, graphics| ProcessLoad {
        pid,
        memory_mib,
        utilization: 50,
        graphics,
        ..ProcessLoad::default()
    };
    let own = std::process::id();
    let load = LoadChange {
        utilization: Some(Program::Constant(97.0)),
        power: Some(Program::Constant(655.4)),
        temperature: Some(Program::Constant(71.0)),
        processes: vec![process(own, 2048, false), process(u32::MAX, 300, true)],
        ..LoadChange::default()
    };
    machine.simulator.load(&gpu(0), &load).unwrap();
    let text = table(&machine, "");
    for line in [
        "| N/A   71C    P0            655W /  700W |    2348MiB /  81559MiB |     97%      Default |",
        "|    0   N/A  N/A      4294967295      G   [Not Found]                             300MiB |",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let mine = text.lines().find(|line| line.contains(&own.to_string()));
    assert!(mine.unwrap().ends_with("   2048MiB |"), "{text}");
}

#[test]
fn a_partitioned_gpu_has_a_table_of_its_mig_devices() {
    assert_eq!(
        table(&Machine::with(PARTITIONED), ""),
        golden("table-mig.txt")
    );
}

#[test]
fn fields_are_written_with_header_and_units_or_without() {
    let machine = Machine::with(TWO);
    let fields = "index,gpu_name,uuid,pci.bus_id,serial,driver_version,count,memory.total,\
                  memory.used,utilization.gpu,temperature.gpu,power.draw,power.limit,pstate,\
                  compute_cap,clocks.max.sm,persistence_mode,mig.mode.current,ecc.mode.current,\
                  ecc.errors.uncorrected.volatile.total,clocks_throttle_reasons.gpu_idle,\
                  fan.speed,vbios_version,compute_mode";
    let query = format!("--query-gpu={}", fields.replace(' ', ""));
    let printed = good(machine.smi(&format!("{query} --format=csv")));
    assert_eq!(printed, golden("query.csv"));
    let bare = good(machine.smi("--query-gpu=name,memory.total --format=csv,noheader,nounits"));
    assert_eq!(bare, "NVIDIA H100 80GB HBM3, 81559\nTesla T4, 15360\n");
}

#[test]
fn every_field_that_the_help_names_can_be_asked_for() {
    let machine = Machine::with(TWO);
    for option in ["query-gpu", "query-compute-apps"] {
        let help = good(machine.smi(&format!("--help-{option}")));
        let names: Vec<&str> = help.split('"').skip(1).step_by(2).collect();
        assert!(names.len() > 8, "{help}");
        let query = format!("--{option}={} --format=csv,noheader", names.join(","));
        let text = good(machine.smi(&query));
        assert!(!text.contains("Unknown Error"), "{text}");
        for line in text.lines() {
            assert_eq!(line.split(", ").count(), names.len(), "{line}");
        }
    }
}

#[test]
fn gpus_are_chosen_by_index_uuid_and_place_on_the_bus() {
    let machine = Machine::with(TWO);
    let all = good(machine.smi("--query-gpu=index,uuid,pci.bus_id --format=csv,noheader"));
    let second: Vec<&str> = all.lines().nth(1).unwrap().split(", ").collect();
    for name in second {
        let query = format!("-i {name} --query-gpu=name --format=csv,noheader");
        assert_eq!(good(machine.smi(&query)), "Tesla T4\n", "{name}");
    }
    let none = machine.smi("-i 7 --query-gpu=name --format=csv");
    assert_eq!(none, ("No devices were found\n".to_owned(), 6));
}

#[test]
fn processes_that_compute_are_told_with_their_gpu() {
    let machine = Machine::with(TWO);
    let query = "--query-compute-apps=gpu_name,pid,process_name,used_memory --format=csv";
    let header = "gpu_name, pid, process_name, used_gpu_memory [MiB]\n";
    assert_eq!(good(machine.smi(query)), header);
    let own = std::process::id();
    let load = LoadChange {
        processes: vec![ProcessLoad {
            pid: own,
            memory_mib: 512,
            utilization: 0,
            graphics: false,
            ..ProcessLoad::default()
        }],
        ..LoadChange::default()
    };
    machine.simulator.load(&gpu(1), &load).unwrap();
    let command = std::fs::read_to_string("/proc/self/cmdline").unwrap();
    let name = command.split('\0').next().unwrap();
    let line = format!("Tesla T4, {own}, {name}, 512 MiB\n");
    assert_eq!(good(machine.smi(query)), header.to_owned() + &line);
}

#[test]
fn a_lost_gpu_is_told_and_the_others_are_shown() {
    let machine = Machine::with(TWO);
    machine
        .simulator
        .inject(&gpu(0), &Fault::Lost, None)
        .unwrap();
    let complaint = "Unable to determine the device handle for GPU0: GPU is lost\n";
    for arguments in ["-L", "", "--query-gpu=name --format=csv"] {
        let (text, code) = machine.smi(arguments);
        assert!(
            text.starts_with(complaint) && text.contains("Tesla T4"),
            "{text}"
        );
        assert_eq!(code, 15, "{arguments}");
    }
}

#[test]
fn a_machine_without_a_running_driver_is_told_as_scripts_expect() {
    let enforced = "device_nodes: enforce\ngpus: [{model: t4}]\n";
    let (text, code) = Machine::with(enforced).smi("-L");
    assert!(
        text.starts_with("NVIDIA-SMI has failed because it couldn't communicate with"),
        "{text}"
    );
    assert_eq!(code, 9);

    let (text, code) = printed(&mut smi());
    if code != 0 {
        // This machine has no driver of its own.
        assert!(
            text.starts_with("NVIDIA-SMI couldn't find libnvidia-ml.so library"),
            "{text}"
        );
        assert_eq!(code, 12);
    }
}

#[test]
fn a_machine_without_gpus_has_none_to_show() {
    let machine = Machine::with(TWO);
    machine.simulator.remove(&Gpus::All).unwrap();
    assert_eq!(machine.smi(""), ("No devices were found\n".to_owned(), 6));
    assert_eq!(machine.smi("-L"), ("No devices found.\n".to_owned(), 6));
}

#[test]
fn a_field_that_nobody_knows_is_refused() {
    let (text, code) = Machine::with(TWO).smi("--query-gpu=name,colour --format=csv");
    assert_eq!(text, "Field \"colour\" is not a valid field to query.\n\n");
    assert_eq!(code, 2);
}

#[test]
fn versions_are_those_of_the_driver() {
    let text = good(Machine::with(TWO).smi("--version"));
    assert!(text.contains("DRIVER version      : 580.95.05\n"), "{text}");
    assert!(text.contains("CUDA Version        : 13.0\n"), "{text}");
}

#[test]
fn the_documentation_shows_what_is_printed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/simulator.md");
    let document = std::fs::read_to_string(path).unwrap();
    for name in ["list-mig.txt", "table-mig.txt"] {
        assert!(
            document.contains(&golden(name)),
            "docs/simulator.md lacks {name}"
        );
    }
}
