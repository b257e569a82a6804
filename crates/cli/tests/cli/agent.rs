//! `mizzen agent` as a process: its settings, its signals, its end.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{mizzen, run};

/// A running agent with the simulated driver; killed when dropped.
struct Agent {
    process: Child,
    log: Lines<BufReader<ChildStderr>>,
    dir: TempDir,
}

impl Agent {
    fn start() -> Self {
        Self::start_with("version: v1\n")
    }

    /// With this in its config file.
    fn start_with(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        run(["sim", "library", path("lib").to_str().unwrap()]).ended_with(0);
        fs::create_dir(path("plugins")).unwrap();
        fs::write(path("config.yaml"), config).unwrap();
        let (process, log) = Self::spawn(dir.path());
        Self { process, log, dir }
    }

    fn spawn(dir: &Path) -> (Child, Lines<BufReader<ChildStderr>>) {
        let mut process = mizzen()
            .args(["agent", "--log-format", "json", "--nvml-library"])
            .arg(dir.join("lib/libnvidia-ml.so.1"))
            .arg("--kubelet-socket")
            .arg(dir.join("plugins/kubelet.sock"))
            .arg("--state-dir")
            .arg(dir.join("state"))
            .arg("--config-file")
            .arg(dir.join("config.yaml"))
            .env("MIZZEN_SIM_STATE", dir.join("sim"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap()).lines();
        (process, log)
    }

    /// Starts it again, after its end.
    fn restart(&mut self) {
        (self.process, self.log) = Self::spawn(self.dir.path());
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The fields of the next log line of this event.
    fn next(&mut self, event: &str) -> Value {
        for line in self.log.by_ref() {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if line["fields"]["event"] == event {
                return line["fields"].clone();
            }
        }
        panic!("the log ended before {event}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sockets(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_term_signal_ends_it_well_and_removes_its_socket() {
    let mut agent = Agent::start();
    assert!(
        agent.next("driver-running")["message"]
            .as_str()
            .unwrap()
            .contains("8 GPUs")
    );
    // It serves before it registers, and there is no kubelet to register with.
    let waiting = agent.next("not-registered");
    assert!(
        waiting["error"].as_str().unwrap().contains("kubelet.sock"),
        "{waiting}"
    );
    assert_eq!(sockets(&agent.path("plugins")), 1);
    agent.signal(Signal::TERM);
    agent.next("stopping");
    assert_eq!(agent.process.wait().unwrap().code(), Some(0));
    assert_eq!(sockets(&agent.path("plugins")), 0);
    assert!(agent.path("state/health.json").exists());
}

#[test]
fn a_hang_up_signal_reads_the_settings_again_and_keeps_the_old_ones_if_they_are_bad() {
    let mut agent = Agent::start();
    agent.next("driver-running");
    fs::write(
        agent.path("config.yaml"),
        "version: v1\nflags: {migStrategi: none}\n",
    )
    .unwrap();
    agent.signal(Signal::HUP);
    let refused = agent.next("reload")["message"].as_str().unwrap().to_owned();
    assert!(
        refused.contains("migStrategi") && refused.contains("old ones stay"),
        "{refused}"
    );
    fs::write(agent.path("config.yaml"), "version: v1\n").unwrap();
    agent.signal(Signal::HUP);
    // The edit was noticed besides, so the refusal may have been told before and after the signal.
    while agent.next("reload")["message"] != "settings were read again" {}
    agent.signal(Signal::INT);
    assert_eq!(agent.process.wait().unwrap().code(), Some(0));
}

#[test]
fn an_edit_of_the_config_file_is_noticed_without_a_signal() {
    let mut agent = Agent::start();
    agent.next("driver-running");
    let text = "version: v1\nflags: {plugin: {passDeviceSpecs: true}}\n";
    fs::write(agent.path("config.yaml"), text).unwrap();
    assert_eq!(agent.next("reload")["message"], "settings were read again");
    let in_force = agent.next("config")["message"].as_str().unwrap().to_owned();
    assert!(in_force.contains("config.yaml"), "{in_force}");
}

#[test]
fn a_directory_of_configs_needs_no_api_and_outlives_a_bad_edit_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::create_dir(path("configs")).unwrap();
    fs::write(path("configs/default"), "version: v1\n").unwrap();
    let start = || {
        let mut process = mizzen()
            .args(["agent", "--log-format=json", "--kubelet-socket", ""])
            .args(["--nvml-library", &path("no-library")])
            .args(["--state-dir", &path("state")])
            .args(["--config-file-srcdir", &path("configs")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap()).lines();
        let dir = tempfile::tempdir().unwrap();
        Agent { process, log, dir }
    };
    let mut agent = start();
    let first = agent.next("config")["message"].as_str().unwrap().to_owned();
    assert!(first.contains("\"default\""), "{first}");
    fs::write(path("configs/default"), "verion: v1\n").unwrap();
    let refused = agent.next("reload")["message"].as_str().unwrap().to_owned();
    assert!(
        refused.contains("old ones stay") && refused.contains("line 1"),
        "{refused}"
    );
    agent.signal(Signal::TERM);
    assert_eq!(agent.process.wait().unwrap().code(), Some(0));

    let mut agent = start();
    let remembered = agent.next("config-remembered");
    assert!(remembered["error"].as_str().unwrap().contains("line 1"));
    agent.next("no-driver");
}

#[test]
fn a_config_file_outlives_a_bad_edit_and_a_restart() {
    const SHARED: &str = "version: v1\nsharing: {timeSlicing: {renameByDefault: true, \
                          resources: [{name: nvidia.com/gpu, replicas: 2}]}}\n";
    let mut agent = Agent::start_with(SHARED);
    agent.next("not-registered");
    let socket = |dir: &Path| {
        let mut entries = fs::read_dir(dir).unwrap();
        entries.next().unwrap().unwrap().file_name()
    };
    let shared = socket(&agent.path("plugins"));
    agent.signal(Signal::TERM);
    assert_eq!(agent.process.wait().unwrap().code(), Some(0));

    // Misspelt, and then gone.
    for mistake in [Some("version: v1\nshering: {}\nflags: {a: b}\n"), None] {
        let path = agent.path("config.yaml");
        match mistake {
            Some(text) => fs::write(path, text).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        agent.restart();
        let remembered = agent.next("config-remembered");
        let words: &[&str] = match mistake {
            Some(_) => &["line 2", "shering", "line 3", "key \"a\""],
            None => &["config.yaml", "No such file"],
        };
        for word in words {
            let error = remembered["error"].as_str().unwrap();
            assert!(error.contains(word), "{word} is missing in {error}");
        }
        agent.next("not-registered");
        assert_eq!(socket(&agent.path("plugins")), shared);
        agent.signal(Signal::TERM);
        assert_eq!(agent.process.wait().unwrap().code(), Some(0));
    }

    // What is remembered is for this file alone, and nothing stands in for a flag.
    let state = format!("--state-dir={}", agent.path("state").display());
    let file = format!("--config-file={}", agent.path("config.yaml").display());
    let ran = run(["agent", &state, "--config-file=/no/such/file"]).ended_with(2);
    assert!(ran.stderr().contains("/no/such/file"), "{}", ran.stderr());
    let ran = run(["agent", &state, &file, "--mig-strategy=singel"]).ended_with(2);
    for word in ["config.yaml", "--mig-strategy"] {
        let told = ran.stderr();
        assert!(told.contains(word), "{word} is missing in {told}");
    }
}

#[test]
fn configs_from_two_places_are_refused_in_words() {
    let ran = run(["agent", "--config-dir=/a", "--config-map=b/c"]).ended_with(2);
    for word in ["--config-map", "--config-dir is given, too", "--node-name"] {
        assert!(
            ran.stderr().contains(word),
            "{word} is missing in {}",
            ran.stderr()
        );
    }
}

#[test]
fn without_a_driver_it_stays_and_says_where_it_searched() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("nowhere/libnvidia-ml.so.1");
    let mut process = mizzen()
        .args(["agent", "--log-format=json", "--kubelet-socket", ""])
        .args(["--nvml-library", library.to_str().unwrap()])
        .args(["--state-dir", dir.path().to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut agent = Agent { process, log, dir };
    let line = agent.next("no-driver");
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("nowhere/libnvidia-ml.so.1"),
        "{line}"
    );
    assert!(!line["todo"].as_str().unwrap().is_empty());
    assert_eq!(agent.process.try_wait().unwrap(), None, "it stays");
}

#[test]
fn bad_settings_are_told_all_at_once() {
    let ran = run([
        "agent",
        "--health-address=nowhere",
        "--health-hold-down=soon",
        "--mig-strategy=singel",
        "--config-file=/no/such/file",
        "--log-level=loud",
    ])
    .ended_with(2);
    for word in [
        "--health-address",
        "--health-hold-down",
        "nowhere",
        "soon",
        "did you mean \"single\"?",
        "/no/such/file",
        "--log-level",
    ] {
        assert!(
            ran.stderr().contains(word),
            "{word} is missing in {}",
            ran.stderr()
        );
    }
}

#[test]
fn a_variable_that_it_does_not_know_is_told_and_one_of_a_service_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = mizzen()
        .args(["agent", "--log-format=json", "--kubelet-socket", ""])
        .args(["--nvml-library", "/nowhere/libnvidia-ml.so.1"])
        .args(["--state-dir", dir.path().to_str().unwrap()])
        .env("MIZZEN_AGENT_SERVICE_HOST", "10.0.0.1")
        .env("MIZZEN_AGENT_PORT", "tcp://10.0.0.1:8080")
        .env("MIZZEN_HEALTH_HOLD_DOWNN", "1s")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut agent = Agent { process, log, dir };
    let mut told = Vec::new();
    for line in agent.log.by_ref() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        match line["fields"]["event"].as_str() {
            Some("config") => told.push(line["fields"]["message"].as_str().unwrap().to_owned()),
            Some("no-driver") => break,
            _ => {}
        }
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("MIZZEN_HEALTH_HOLD_DOWN?"), "{told:?}");
}

/// A field of a process's or thread's `status`, as it stands there.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim_start_matches(':').trim()
}

fn capabilities(status: &str, name: &str) -> u64 {
    u64::from_str_radix(field(status, name), 16).unwrap()
}

#[test]
fn it_gives_up_rights_that_it_does_not_need_and_finds_its_gpus_without_them() {
    // CAP_DAC_OVERRIDE and CAP_NET_BIND_SERVICE
    const KEPT: u64 = 1 << 1 | 1 << 10;
    const SETPCAP: u64 = 1 << 8;
    if Path::new("/usr/bin/nvidia-modprobe").exists() {
        // NVML's own program needs them.
        return;
    }
    let mine = &fs::read_to_string("/proc/self/status").unwrap();
    let mut agent = Agent::start();
    let running = agent.next("driver-running");
    assert!(running["message"].as_str().unwrap().contains("8 GPUs"));
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.process.id())).unwrap();
    // Threads of short work may end at any time.
    let tasks: Vec<_> = tasks
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok())
        .collect();
    assert!(tasks.len() > 1, "the driver's thread is there too");
    for task in &tasks {
        for set in ["CapEff", "CapPrm"] {
            let kept = capabilities(mine, set) & KEPT;
            assert_eq!(capabilities(task, set), kept, "{set}");
        }
        assert_eq!(capabilities(task, "CapInh"), 0);
        assert_eq!(capabilities(task, "CapAmb"), 0);
        if capabilities(mine, "CapEff") & SETPCAP != 0 {
            let bounding = capabilities(mine, "CapBnd") & KEPT;
            assert_eq!(capabilities(task, "CapBnd"), bounding);
        }
        assert_eq!(field(task, "NoNewPrivs"), "1");
    }
}

#[test]
fn a_directory_of_configs_that_is_not_there_is_named_though_the_api_is_away_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = mizzen()
        .args(["agent", "--config-dir", "/nowhere", "--node-name", "n"])
        .arg("--kubelet-socket")
        .arg(dir.path().join("kubelet.sock"))
        .arg("--state-dir")
        .arg(dir.path().join("state"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut told = Vec::new();
    for line in log.map_while(Result::ok) {
        told.push(line);
        let has = |word: &str| told.iter().any(|line| line.contains(word));
        if has("/nowhere cannot be read") && has("api-away") {
            break;
        }
        assert!(told.len() < 20, "{told:#?}");
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(!told.is_empty());
    let mentions = told.iter().filter(|line| line.contains("/nowhere"));
    assert_eq!(mentions.count(), 1, "{told:#?}");
}
