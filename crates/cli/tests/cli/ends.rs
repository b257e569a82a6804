//! How `mizzen simulate` ends when somebody ends it, and what a terminal sees.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A simulation that stays, with the agent's process id.
struct Staying {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    agent: Pid,
    /// `NAME=value`: what `mizzen sim` needs to join.
    variables: Vec<String>,
}

impl Staying {
    fn start(temporary: &Path) -> Self {
        let mut child = crate::support::mizzen()
            .args(["simulate", "--for", "ever", "--output", "plain"])
            .env("TMPDIR", temporary)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = |wanted: &str| {
            lines
                .find_map(|line| Some(line.unwrap()).filter(|line| line.contains(wanted)))
                .unwrap()
        };
        let started = next("started, process ");
        let join = next("join in: ");
        next("training/trainer gets GPU");
        let agent = started.rsplit(' ').next().unwrap().parse().unwrap();
        Self {
            child,
            lines,
            agent: Pid::from_raw(agent).unwrap(),
            variables: join
                .split(' ')
                .filter(|word| word.contains('='))
                .map(String::from)
                .collect(),
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn agent_is_gone(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        while test_kill_process(self.agent).is_ok() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        test_kill_process(self.agent).is_err()
    }
}

#[test]
fn an_interrupt_ends_the_agent_in_order_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut staying = Staying::start(dir.path());
    staying.signal(Signal::INT);
    let rest: Vec<String> = staying.lines.by_ref().map(Result::unwrap).collect();
    assert!(
        rest.iter().any(|line| line.contains("after SIGTERM")),
        "{rest:#?}"
    );
    assert_eq!(
        staying.child.wait().unwrap().code(),
        Some(130),
        "pods still ran"
    );
    assert!(staying.agent_is_gone());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn mizzen_sim_joins_a_simulation_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut staying = Staying::start(dir.path());
    let mut sim = crate::support::mizzen();
    for assignment in &staying.variables {
        let (name, value) = assignment.split_once('=').unwrap();
        sim.env(name, value);
    }
    sim.args(["sim", "inject", "lost", "--gpu", "5"]);
    assert!(sim.output().unwrap().status.success());
    let seen = staying
        .lines
        .find(|line| line.as_ref().unwrap().contains("GPU 5 is unhealthy"));
    assert!(seen.is_some());
    staying.signal(Signal::TERM);
    assert_eq!(staying.child.wait().unwrap().code(), Some(130));
}

#[test]
fn an_agent_that_ends_by_itself_ends_the_simulation_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut staying = Staying::start(dir.path());
    kill_process(staying.agent, Signal::KILL).unwrap();
    let rest: Vec<String> = staying.lines.by_ref().map(Result::unwrap).collect();
    let told = |line: &String| line.contains("✖ The agent ended by itself");
    assert!(rest.iter().any(told), "{rest:#?}");
    assert_eq!(staying.child.wait().unwrap().code(), Some(1));
}

#[test]
fn the_agent_does_not_outlive_a_simulation_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut staying = Staying::start(dir.path());
    staying.signal(Signal::KILL);
    staying.child.wait().unwrap();
    assert!(staying.agent_is_gone());
}

/// What a terminal of this size is sent by a short run.
fn on_a_terminal(columns: u16, rows: u16, no_colour: bool) -> String {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let size = Winsize {
        ws_col: columns,
        ws_row: rows,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(controller.as_fd(), size).unwrap();
    let name = ptsname(&controller, Vec::new())
        .unwrap()
        .into_string()
        .unwrap();
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    let mut command = crate::support::mizzen();
    command
        .args(["simulate", "--pod-time", "300ms"])
        .env("TERM", "xterm-256color");
    if no_colour {
        command.env("NO_COLOR", "1");
    }
    let mut child = command.stdout(terminal).spawn().unwrap();
    drop(command);
    let mut seen = Vec::new();
    // Reading ends with EIO when the last one has closed the terminal.
    let _closed = File::from(controller).read_to_end(&mut seen);
    assert!(child.wait().unwrap().success());
    String::from_utf8(seen).unwrap()
}

#[test]
fn a_terminal_is_drawn_over_in_place_and_left_with_its_cursor_and_the_final_state() {
    let seen = on_a_terminal(120, 50, false);
    assert!(seen.contains("\x1b[32m"), "colours");
    assert!(
        seen.contains("\x1b[?25l"),
        "the cursor is hidden while it is drawn"
    );
    assert!(!seen.contains("\x1b[?1049h"), "no alternate screen");
    let end = seen.rsplit("\x1b[?2026h").next().unwrap();
    assert!(
        end.contains("3 of 4 pods ran") && end.ends_with("\x1b[?25h"),
        "{end}"
    );
}

#[test]
fn a_small_terminal_is_never_overrun_and_no_colour_is_honoured() {
    let seen = on_a_terminal(60, 12, true);
    assert!(!seen.contains("\x1b[32m") && !seen.contains("\x1b[1m"));
    let frames: Vec<_> = seen.split("\x1b[?2026h").skip(1).collect();
    let (_final, live) = frames.split_last().unwrap();
    assert!(!live.is_empty());
    for frame in live {
        let frame = frame.split("\x1b[?2026l").next().unwrap();
        let lines: Vec<_> = frame.split("\x1b[K\r\n").collect();
        assert!(lines.len() <= 12, "{} lines", lines.len());
    }
}
