//! `mizzen metrics`, on simulated machines, and what the manifests say of metrics.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::labels::Machine;
use crate::support::{Ran, mizzen, repository};

const TWO_H100: &str = "gpus:\n- model: h100-80gb\n  count: 2\n";

fn once(machine: &Machine, words: &[&str]) -> Ran {
    let mut command = machine.command();
    without_variables(&mut command);
    command.args(["metrics", "--oneshot"]).args(words);
    Ran(command.output().unwrap())
}

fn without_variables(command: &mut Command) {
    for name in [
        "NODE_NAME",
        "DCGM_EXPORTER_LISTEN",
        "MIZZEN_METRICS_ADDRESS",
    ] {
        command.env_remove(name);
    }
}

fn series<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let prefix = format!("{name}{{");
    page.lines()
        .filter(|line| line.starts_with(&prefix))
        .collect()
}

#[test]
fn one_page_tells_every_gpu_with_what_two_samples_tell() {
    let machine = Machine::of(TWO_H100);
    let page = once(&machine, &["--metrics-hostname-label", "hostname"]);
    let page = page.ended_with(0).stdout();
    assert_eq!(series(&page, "DCGM_FI_DEV_GPU_TEMP").len(), 2, "{page}");
    // Told of what was between two samples.
    assert_eq!(
        series(&page, "DCGM_FI_PROF_GR_ENGINE_ACTIVE").len(),
        2,
        "{page}"
    );
    assert!(page.contains("hostname=\""), "{page}");
    assert!(page.contains("# TYPE DCGM_FI_DEV_GPU_TEMP gauge"), "{page}");
    let old = once(&machine, &["-o", "-n"]).ended_with(0).stdout();
    assert!(
        old.contains("uuid=\"GPU-") && !old.contains("ostname=\""),
        "{old}"
    );
}

#[test]
fn a_gpu_that_is_lost_is_on_the_page_beside_the_others() {
    let machine = Machine::of(TWO_H100);
    machine.sim(&["inject", "xid", "79", "--gpu", "1"]);
    let page = once(&machine, &[]).ended_with(0).stdout();
    assert_eq!(series(&page, "DCGM_FI_DEV_GPU_TEMP").len(), 1, "{page}");
    let healthy = series(&page, "mizzen_gpu_healthy");
    assert_eq!(healthy.len(), 2, "{page}");
    assert!(healthy.iter().any(|line| line.ends_with(" 0")), "{page}");
}

#[test]
fn what_cannot_be_understood_or_asked_is_said() {
    let machine = Machine::of(TWO_H100);
    fs::write(machine.path("counters.csv"), "DCGM_FI_DEV_GPU_TEMP\n").unwrap();
    let bad = once(&machine, &["--collectors", "counters.csv"]).ended_with(2);
    assert!(bad.stderr().contains("line 1"), "{}", bad.stderr());
    once(&machine, &["--no-such-flag"]).ended_with(2);
    let interval = once(&machine, &["-c", "soon"]).ended_with(2);
    assert!(
        interval.stderr().contains("milliseconds"),
        "{}",
        interval.stderr()
    );
    let foreign = once(&machine, &["-r", "dcgm:5555", "-d", "f"]).ended_with(0);
    let remarks = foreign.stderr();
    assert!(remarks.contains("--remote-hostengine-info"), "{remarks}");
    assert!(!remarks.contains("--devices"), "{remarks}");
    let none = once(&machine, &["--nvml-library", "/no/such/library"]).ended_with(1);
    assert!(
        none.stderr().contains("/no/such/library"),
        "{}",
        none.stderr()
    );
}

fn scrape(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        .ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}

#[test]
fn metrics_are_served_until_the_program_is_ended() {
    let machine = Machine::of(TWO_H100);
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut command = machine.command();
    without_variables(&mut command);
    let mut served = command
        .args(["metrics", "--address", &address.to_string(), "-c", "100"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(served.stderr.take().unwrap());
    let mut lines = log.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("serving /metrics")));
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_whole = |page: &String| series(page, "DCGM_FI_DEV_GPU_TEMP").len() == 2;
    while !scrape(address).as_ref().is_some_and(is_whole) {
        assert!(Instant::now() < deadline, "{:?}", scrape(address));
        std::thread::yield_now();
    }
    let pid = Pid::from_raw(i32::try_from(served.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(served.wait().unwrap().success());
}

/// The documents of a manifest.
fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(repository("deploy").join(file)).unwrap();
    let each = text.split("\n---\n");
    each.map(|text| serde_saphyr::from_str(text).unwrap())
        .collect()
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|one| one["kind"] == kind).unwrap()
}

#[test]
fn manifests_serve_metrics_on_the_port_that_the_service_and_its_monitor_name() {
    for file in ["mizzen.yaml", "mizzen-simulated.yaml"] {
        let manifest = documents(file);
        let pod = &of_kind(&manifest, "DaemonSet")["spec"]["template"];
        let agent = &pod["spec"]["containers"][0];
        let env = |name: &str| {
            let all = agent["env"].as_array().unwrap();
            all.iter().find(|one| one["name"] == name).unwrap()
        };
        assert_eq!(env("MIZZEN_METRICS_ADDRESS")["value"], ":9400", "{file}");
        assert_eq!(
            env("NODE_NAME")["valueFrom"]["fieldRef"]["fieldPath"],
            "spec.nodeName"
        );
        let ports = agent["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == "metrics").unwrap();
        assert_eq!(port["containerPort"], 9400, "{file}");
        let service = of_kind(&manifest, "Service");
        assert_eq!(
            service["spec"]["ports"][0]["targetPort"], "metrics",
            "{file}"
        );
        assert_eq!(
            service["metadata"]["annotations"]["prometheus.io/port"],
            "9400"
        );
        let selector = service["spec"]["selector"].as_object().unwrap();
        for (key, value) in selector {
            assert_eq!(&pod["metadata"]["labels"][key], value, "{file}");
        }
        let mounts = agent["volumeMounts"].as_array().unwrap();
        let socket = "/var/lib/kubelet/pod-resources";
        let mount = mounts
            .iter()
            .find(|one| one["mountPath"] == socket)
            .unwrap();
        assert_eq!(mount["readOnly"], true, "{file}");

        let monitor = documents("mizzen-servicemonitor.yaml");
        let monitor = of_kind(&monitor, "ServiceMonitor");
        let wanted = monitor["spec"]["selector"]["matchLabels"]
            .as_object()
            .unwrap();
        for (key, value) in wanted {
            assert_eq!(&service["metadata"]["labels"][key], value, "{file}");
        }
        let named = &monitor["spec"]["endpoints"][0]["port"];
        assert_eq!(named, &service["spec"]["ports"][0]["name"]);
    }
}

#[test]
fn the_agent_takes_the_variables_of_its_manifest() {
    let manifest = documents("mizzen.yaml");
    let pod = &of_kind(&manifest, "DaemonSet")["spec"]["template"]["spec"];
    assert_eq!(pod["hostPID"], true, "processes are those of the host");
    let mut command = mizzen();
    for one in pod["containers"][0]["env"].as_array().unwrap() {
        let value = one["value"].as_str().unwrap_or("gpu-1");
        command.env(one["name"].as_str().unwrap(), value);
    }
    // It reads all settings, and finds this one wrong alone.
    let ran = command
        .args(["agent", "--mig-strategy", "no"])
        .output()
        .unwrap();
    let said = Ran(ran).ended_with(2).stderr();
    assert_eq!(said.lines().count(), 2, "{said}");
}
