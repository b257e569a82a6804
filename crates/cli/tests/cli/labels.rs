//! `mizzen labels`, on simulated machines.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{Ran, mizzen, repository};

/// A machine with simulated GPUs and the files around them.
pub(crate) struct Machine {
    dir: TempDir,
}

impl Machine {
    /// The machine of this scenario.
    pub(crate) fn of(scenario: &str) -> Self {
        let machine = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::write(machine.path("node.yaml"), scenario).unwrap();
        machine.sim(&["library", &machine.text("lib")]);
        machine.sim(&["host", &machine.text("host")]);
        machine
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().unwrap()
    }

    /// The program on this machine.
    pub(crate) fn command(&self) -> Command {
        let mut command = mizzen();
        command
            .current_dir(self.dir.path())
            .env("MIZZEN_SIM", self.path("node.yaml"))
            .env("MIZZEN_SIM_STATE", self.path("state"))
            .env("MIZZEN_HOST_ROOT", self.path("host"))
            .env("MIZZEN_NVML_LIBRARY", self.path("lib/libnvidia-ml.so.1"));
        command
    }

    pub(crate) fn sim(&self, words: &[&str]) {
        let mut command = self.command();
        Ran(command.arg("sim").args(words).output().unwrap()).ended_with(0);
    }

    fn labels(&self, words: &[&str]) -> Ran {
        Ran(self.command().arg("labels").args(words).output().unwrap())
    }

    fn once(&self, words: &[&str]) -> String {
        let words = [&["--oneshot", "--no-timestamp"], words].concat();
        self.labels(&words).ended_with(0).stdout()
    }
}

/// A node and its labels: those of the reference on the same simulated driver, but for the type
/// and the mode of the machine, which it looks up outside of it, and labels of our own.
struct Golden {
    name: String,
    node: String,
    config: Option<String>,
    flags: Vec<String>,
    labels: String,
}

impl Golden {
    fn read(path: &std::path::Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let part = |name: &str| {
            let (_, rest) = text.split_once(&format!("--- {name}\n"))?;
            Some(rest.split("--- ").next().unwrap().to_owned())
        };
        let flags = part("flags").unwrap_or_default();
        Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            node: part("node.yaml").unwrap(),
            config: part("config.yaml"),
            flags: flags.split_whitespace().map(str::to_owned).collect(),
            labels: part("labels").unwrap(),
        }
    }

    fn all() -> Vec<Self> {
        let files = fs::read_dir(repository("crates/cli/tests/labels")).unwrap();
        files
            .map(|file| Self::read(&file.unwrap().path()))
            .collect()
    }
}

#[test]
fn every_node_has_the_labels_that_it_has_in_the_reference() {
    let all = Golden::all();
    assert!(all.len() >= 12, "{} nodes", all.len());
    for golden in all {
        let machine = Machine::of(&golden.node);
        let mut words: Vec<&str> = golden.flags.iter().map(String::as_str).collect();
        if let Some(config) = &golden.config {
            fs::write(machine.path("config.yaml"), config).unwrap();
            words.extend(["--config-file", "config.yaml"]);
        }
        let told = machine.once(&words);
        assert!(
            told == golden.labels,
            "{}:\n{told}\nnot\n{}",
            golden.name,
            golden.labels
        );
    }
}

const NODE: &str = "gpus: [{model: t4, count: 2}]";

#[test]
fn the_time_of_the_start_is_a_label_unless_it_is_left_out() {
    let machine = Machine::of(NODE);
    let told = machine.labels(&["--oneshot"]).ended_with(0).stdout();
    let time = told
        .lines()
        .find_map(|line| line.strip_prefix("nvidia.com/gfd.timestamp="));
    assert!(time.unwrap().parse::<u64>().unwrap() > 1_700_000_000);
    assert!(!machine.once(&[]).contains("timestamp"));
}

#[test]
fn once_writes_a_file_that_everybody_may_read_and_leaves_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let machine = Machine::of(NODE);
    let printed = machine.once(&[]);
    for words in [["--output", "gfd"], ["-o", "gfd"], ["--output-file", "gfd"]] {
        assert_eq!(machine.once(&words), "");
        let file = machine.path("gfd");
        assert_eq!(fs::read_to_string(&file).unwrap(), printed);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        fs::remove_file(file).unwrap();
    }
    assert!(!machine.path(".gfd.new").exists());
}

#[test]
fn the_machine_is_what_the_file_says() {
    let machine = Machine::of(NODE);
    fs::write(machine.path("host/type"), "DGX-1 (rev. 2)\n").unwrap();
    for (file, told) in [
        ("/type", "DGX-1-rev.-2"),
        ("", "unknown"),
        ("/none", "unknown"),
    ] {
        let labels = machine.once(&["--machine-type-file", file]);
        let line = format!("nvidia.com/gpu.machine={told}\n");
        assert!(labels.contains(&line), "{file}: {labels}");
    }
}

#[test]
fn without_a_driver_it_fails_or_tells_what_is_on_the_bus() {
    let machine = Machine::of(NODE);
    let absent = [
        "--oneshot",
        "--no-timestamp",
        "--nvml-library",
        "/no/such/library",
    ];
    let failed = machine.labels(&absent).ended_with(1);
    assert!(
        failed.stderr().contains("/no/such/library"),
        "{}",
        failed.stderr()
    );
    assert!(failed.stderr().contains("--fail-on-init-error=false"));
    let words = [&absent[..], &["--fail-on-init-error=false"]].concat();
    let told = machine.labels(&words).ended_with(0);
    assert_eq!(
        told.stdout(),
        "nvidia.com/gpu.present=true\nnvidia.com/vgpu.present=false\n"
    );
    assert!(
        told.stderr().contains("cannot be asked"),
        "{}",
        told.stderr()
    );
}

#[test]
fn a_lost_gpu_is_named_and_counts_nowhere() {
    let machine = Machine::of(NODE);
    machine.sim(&["inject", "lost", "--gpu", "1"]);
    let told = machine
        .labels(&["--oneshot", "--no-timestamp"])
        .ended_with(0);
    assert!(
        told.stdout().contains("nvidia.com/gpu.count=1\n"),
        "{}",
        told.stdout()
    );
    assert!(told.stderr().contains("GPU 1"), "{}", told.stderr());
}

#[test]
fn mistakes_are_told_with_their_place_and_the_words_that_were_meant() {
    let machine = Machine::of(NODE);
    let config = "version: v1\nflags:\n  gfd:\n    slepInterval: 5s\n";
    fs::write(machine.path("bad.yaml"), config).unwrap();
    for (words, said) in [
        (&["--mig-strategy", "singel"][..], "single"),
        (&["--sleep-interval", "0s"], "--sleep-interval"),
        (&["--config-file", "bad.yaml"], "sleepInterval"),
        (&["--config-file", "none.yaml"], "none.yaml"),
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        let ran = machine
            .labels(&[&["--oneshot"], words].concat())
            .ended_with(2);
        assert!(ran.stderr().contains(said), "{words:?}: {}", ran.stderr());
        assert_eq!(ran.stdout(), "");
    }
    let unwritable = ["--oneshot", "--output", "no/such/dir/gfd"];
    let ran = machine.labels(&unwritable).ended_with(1);
    assert!(ran.stderr().contains("no/such/dir/gfd"), "{}", ran.stderr());
}

#[test]
fn the_config_file_says_how_labels_are_told() {
    let machine = Machine::of(NODE);
    let config = "version: v1\nflags:\n  migStrategy: single\n  gfd: {oneshot: true, \
                  noTimestamp: true, outputFile: gfd, machineTypeFile: ''}\n";
    fs::write(machine.path("c.yaml"), config).unwrap();
    machine.labels(&["--config-file", "c.yaml"]).ended_with(0);
    let told = fs::read_to_string(machine.path("gfd")).unwrap();
    assert!(told.contains("nvidia.com/mig.strategy=single\n"), "{told}");
    assert!(told.contains("nvidia.com/gpu.machine=unknown\n"));
    assert!(!told.contains("timestamp"));
}

/// A command that runs until it is told to end.
struct Running(Child);

impl Running {
    fn start(machine: &Machine, words: &[&str]) -> Self {
        let mut command = machine.command();
        command.arg("labels").args(words);
        let pipes = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(pipes.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Ends it and answers its exit code.
    fn end(mut self, signal: Signal) -> i32 {
        self.signal(signal);
        self.0.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits until the file says what is wanted.
#[track_caller]
fn wait_for(file: &std::path::Path, wanted: impl Fn(&str) -> bool) -> String {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if wanted(&text) {
            return text;
        }
        assert!(std::time::Instant::now() < deadline, "{text}");
        std::thread::yield_now();
    }
}

#[test]
fn the_file_follows_the_node_and_goes_with_the_command() {
    let machine = Machine::of("gpus: [{model: h100-80gb}]");
    let file = machine.path("gfd");
    let words = [
        "--output",
        "gfd",
        "--mig-strategy=mixed",
        "--sleep-interval=5ms",
    ];
    let running = Running::start(&machine, &words);
    let before = wait_for(&file, |text| text.contains("gpu.replicas=1\n"));
    assert!(before.contains("nvidia.com/gfd.timestamp="));

    machine.sim(&["mig", "enable", "--gpu", "0"]);
    machine.sim(&["mig", "create", "3g.40gb,3g.40gb", "--gpu", "0"]);
    wait_for(&file, |text| text.contains("mig-3g.40gb.count=2\n"));
    machine.sim(&["mig", "destroy", "--gpu", "0"]);
    machine.sim(&["mig", "disable", "--gpu", "0"]);
    // What is no more true is gone.
    assert_eq!(
        wait_for(&file, |text| !text.contains("mig-3g")
            && text.contains("replicas=1")),
        before
    );

    assert_eq!(running.end(Signal::TERM), 0);
    assert!(!file.exists());
}

#[test]
fn a_file_that_says_what_is_true_is_left_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let machine = Machine::of(NODE);
    let file = machine.path("gfd");
    fs::write(&file, machine.once(&[])).unwrap();
    let inode = fs::metadata(&file).unwrap().ino();
    machine.once(&["--output", "gfd"]);
    assert_eq!(fs::metadata(&file).unwrap().ino(), inode);
    fs::write(&file, "something else").unwrap();
    machine.once(&["--output", "gfd"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), machine.once(&[]));
}

#[test]
fn a_file_that_nobody_would_write_again_stays() {
    let machine = Machine::of(NODE);
    let file = machine.path("gfd");
    let words = ["--output=gfd", "--sleep-interval=infinite"];
    let running = Running::start(&machine, &words);
    wait_for(&file, |text| text.contains("gpu.count=2\n"));
    assert_eq!(running.end(Signal::INT), 0);
    assert!(file.exists());
}

#[test]
fn a_hangup_has_the_settings_read_anew() {
    let machine = Machine::of(NODE);
    let config = |strategy: &str| {
        let text = format!("version: v1\nflags: {{migStrategy: {strategy}}}\n");
        fs::write(machine.path("new"), text).unwrap();
        fs::rename(machine.path("new"), machine.path("c.yaml")).unwrap();
    };
    config("single");
    let file = machine.path("gfd");
    let words = [
        "--config-file=c.yaml",
        "--output=gfd",
        "--sleep-interval=1h",
    ];
    let mut running = Running::start(&machine, &words);
    wait_for(&file, |text| text.contains("mig.strategy=single\n"));
    config("singel");
    running.signal(Signal::HUP);
    let mut said = String::new();
    let mut lines = BufReader::new(running.0.stderr.take().unwrap());
    while !said.contains("stay") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
    }
    assert!(said.contains("singel"), "{said}");
    config("mixed");
    running.signal(Signal::HUP);
    wait_for(&file, |text| text.contains("mig.strategy=mixed\n"));
    assert_eq!(running.end(Signal::QUIT), 0);
    assert!(!file.exists());
}

#[test]
fn standard_output_gets_labels_when_they_change() {
    let machine = Machine::of(NODE);
    let words = ["--output=", "--no-timestamp", "--sleep-interval=5ms"];
    let mut running = Running::start(&machine, &words);
    let mut lines = BufReader::new(running.0.stdout.take().unwrap());
    let mut told = String::new();
    while !told.contains("vgpu.present") {
        assert!(lines.read_line(&mut told).unwrap() > 0, "{told}");
    }
    assert_eq!(told, machine.once(&[]));
    machine.sim(&["remove", "--gpu", "1"]);
    let mut anew = String::new();
    while !anew.contains("vgpu.present") {
        assert!(lines.read_line(&mut anew).unwrap() > 0, "{anew}");
    }
    assert!(anew.contains("gpu.count=1\n"), "{anew}");
    assert_eq!(running.end(Signal::TERM), 0);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn the_commands_in_the_document_print_what_it_says() {
    let document = fs::read_to_string(repository("docs/labels.md")).unwrap();
    let (_, rest) = document.split_once("```yaml\n# node.yaml\n").unwrap();
    let machine = Machine::of(rest.split_once("```").unwrap().0);
    let (_, rest) = document.split_once("```yaml\n# config.yaml\n").unwrap();
    fs::write(
        machine.path("config.yaml"),
        rest.split_once("```").unwrap().0,
    )
    .unwrap();
    let blocks: Vec<&str> = document.split("```console\n$ ").skip(1).collect();
    assert!(blocks.len() >= 3, "{} commands", blocks.len());
    for block in blocks {
        let block = block.split("```").next().unwrap();
        let (command, output) = block.split_once('\n').unwrap();
        let (words, pattern) = match command.split_once(" | grep ") {
            Some((words, pattern)) => (words, pattern),
            None => (command, ""),
        };
        let words: Vec<&str> = words.split_whitespace().collect();
        assert_eq!(words[0], "mizzen", "{command}");
        let ran = Ran(machine.command().args(&words[1..]).output().unwrap());
        let lines = ran.stdout();
        let lines = lines
            .split_inclusive('\n')
            .filter(|line| line.contains(pattern));
        let printed: String = lines.collect();
        assert!(
            printed == output,
            "docs/labels.md: {command}\nprints\n{printed}\nnot\n{output}\n{}",
            ran.stderr()
        );
    }
}
