//! `cargo xtask bench`: the table of figures, measured now on this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::Args;

mod command;
mod floor;
mod hook;
mod kubelet;
mod measures;
mod page;
mod process;
mod sample;
mod samples;
mod subject;
mod table;

pub(crate) use floor::run as floor_plugin;
pub(crate) use sample::run as samples;

use measures::Trouble;
use samples::{Samples, ms};
use subject::{Node, Subject};
use table::{Row, Table};

/// What to measure, and how long.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Repetitions of the process start
    #[arg(long, default_value_t = 40)]
    starts: usize,
    /// Calls of Allocate and of GetPreferredAllocation
    #[arg(long, default_value_t = 5000)]
    calls: usize,
    /// Kubelet restarts whose re-registration is timed
    #[arg(long, default_value_t = 200)]
    restarts: usize,
    /// Kubelet restarts after which threads and descriptors are counted
    #[arg(long, default_value_t = 1000)]
    growth_restarts: usize,
    /// Seconds of idleness over which processor time and wake-ups are counted
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// A few seconds of everything instead of some minutes; the figures are rough
    #[arg(long)]
    quick: bool,
    /// Only the figures whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Measure another device plugin too: its command line, split at spaces. Its
    /// environment names the kubelet's socket, the simulated node and the library's directory
    #[arg(long, value_name = "COMMAND")]
    peer: Option<String>,
    /// The device-plugin directory, for a peer that cannot be told another one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The agent's program; built if left out
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Builds the agent, measures every figure and prints the table.
pub(crate) fn run(root: &Path, mut args: BenchArgs) -> Result<()> {
    if cfg!(debug_assertions) {
        return run_optimised(root);
    }
    if args.quick {
        (args.starts, args.calls, args.restarts) = (10, 500, 20);
        (args.growth_restarts, args.idle) = (50, 10);
    }
    let binary = match args.binary.clone() {
        Some(binary) => binary,
        None => subject::build(root)?,
    };
    let work = tempfile::Builder::new().prefix("mizzen-bench").tempdir()?;
    let bench = Bench {
        args,
        work: work.path().to_owned(),
        binary,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let table = runtime.block_on(bench.measure())?;
    println!("\n{table}");
    Ok(())
}

/// Runs the same command again in a release build: what measures must not be what is slow.
fn run_optimised(root: &Path) -> Result<()> {
    let status = std::process::Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["run", "--quiet", "--release", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1))
        .status()?;
    anyhow::ensure!(status.success(), "the benchmark failed");
    Ok(())
}

/// One run of the whole table.
struct Bench {
    args: BenchArgs,
    work: PathBuf,
    binary: PathBuf,
}

impl Bench {
    async fn measure(&self) -> Result<Table> {
        let eight = Node::new(&self.work, "8xh100-80gb", self.args.dir.as_deref())?;
        // No NVSwitch: with uniform links any choice would be as good as another.
        let sixteen = Node::new(&self.work, "16xl40s", self.args.dir.as_deref())?;
        let shared = Node::shared(&self.work, "8xh100-80gb", self.args.dir.as_deref())?;
        let crowded = Node::crowded(&self.work, "16xh100-80gb")?;
        let partitioned = Node::partitioned(&self.work, "8xh100-80gb", self.args.dir.as_deref())?;
        let mut table = Table::new(self.args.peer.is_some());
        for figure in FIGURES.iter().filter(|figure| self.wanted(figure.name)) {
            let node = match figure.on {
                On::Eight => &eight,
                On::Sixteen => &sixteen,
                On::EightShared => &shared,
                On::EightPartitioned => &partitioned,
                On::SixteenCrowded => &crowded,
            };
            let mut row = Row::new(figure.name, figure.peer, figure.reach);
            for subject in self.subjects(node, figure)? {
                eprintln!("measuring {}: {}", subject.column.name(), figure.name);
                let value = self.one(figure.what, &subject, node).await;
                row.set(
                    subject.column,
                    value.unwrap_or_else(|error| format!("({error:#})")),
                );
            }
            table.push(row);
        }
        Ok(table)
    }

    fn wanted(&self, name: &str) -> bool {
        self.args
            .only
            .as_ref()
            .is_none_or(|text| name.contains(text.as_str()))
    }

    /// Who is measured for a figure: Mizzen, the floor where it has one, the peer if given.
    fn subjects(&self, node: &Node, figure: &Figure) -> Result<Vec<Subject>> {
        match figure.what {
            What::Generate => return Ok(vec![Subject::generate(&self.binary, node)?]),
            What::Labels => return Ok(vec![Subject::labels(&self.binary, node)?]),
            What::Sample => return Ok(vec![Subject::samples(node, self.args.starts)?]),
            _ => {}
        }
        let mut subjects = vec![Subject::mizzen(&self.binary, node)];
        if matches!(figure.what, What::Hook | What::Page(_)) {
            return Ok(subjects);
        }
        if figure.floor {
            subjects.push(Subject::floor(node)?);
        }
        if let Some(command) = &self.args.peer {
            subjects.push(Subject::peer(command, node));
        }
        Ok(subjects)
    }

    async fn one(&self, what: What, subject: &Subject, node: &Node) -> Result<String> {
        let (recipe, dir, args) = (&subject.recipe, node.plugin_dir.as_path(), &self.args);
        node.heal()?;
        Ok(match what {
            What::Start => spread(&measures::first_list(recipe, dir, args.starts).await?),
            What::Generate | What::Labels => {
                let taken = spread(&command::time(recipe, args.starts)?);
                let resident = command::peak(recipe, args.starts)?;
                format!("{taken}; {:.1} MiB", mib(resident))
            }
            What::Sample => tail(&sample::time(recipe)?),
            What::Idle => {
                let span = Duration::from_secs(args.idle);
                let (resident, work) = measures::idle(recipe, dir, span).await?;
                format!(
                    "{:.1} MiB ({:.1}); {}, {} wake-ups in {} s",
                    mib(resident.total_kib),
                    mib(resident.anonymous_kib),
                    ms(work.on_cpu),
                    work.wake_ups,
                    args.idle,
                )
            }
            What::Allocate => tail(&measures::allocate(recipe, dir, args.calls).await?),
            What::Prefer(size) => {
                tail(&measures::prefer(recipe, dir, size, args.calls.min(2000)).await?)
            }
            What::Xid => {
                let mut samples = Vec::new();
                for _ in 0..args.starts.div_ceil(8) {
                    node.heal()?;
                    let inject = &mut |gpu| node.inject_xid(gpu);
                    samples.extend(measures::xid(recipe, dir, inject).await?);
                }
                spread(&Samples::new(samples))
            }
            What::Reconfigure => {
                let change = &mut |replicas| node.configure(replicas);
                spread(&measures::reconfigure(recipe, dir, args.starts, change).await?)
            }
            What::Reregister => {
                let samples = measures::reregister(recipe, dir, args.restarts).await?;
                format!("{}, worst {}", ms(samples.median()), ms(samples.worst()))
            }
            What::After(trouble) => {
                let mut samples = Vec::new();
                for _ in 0..5 {
                    samples.push(measures::after_trouble(recipe, dir, trouble).await?);
                }
                let samples = Samples::new(samples);
                format!("{}, worst {}", ms(samples.median()), ms(samples.worst()))
            }
            What::Hook => {
                let cost = hook::run(&self.work, args.starts)?;
                let mib = |kib: u64| f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0;
                format!(
                    "{}; {:.1} MiB; {:.2} MiB",
                    spread(&cost.times),
                    mib(cost.peak_kib),
                    mib(cost.program_bytes.div_ceil(1024) as u64),
                )
            }
            What::Page(size) => {
                let cost = page::run(size, args.calls.min(2000))?;
                let (times, kib) = (tail(&cost.times), cost.bytes.div_ceil(1024));
                format!("{times}; {} series, {kib} KiB", cost.series)
            }
            What::Growth => {
                let (before, after) =
                    measures::growth(recipe, dir, 20, args.growth_restarts).await?;
                format!(
                    "threads {} → {}, descriptors {} → {}",
                    before.threads, after.threads, before.descriptors, after.descriptors
                )
            }
        })
    }
}

/// Minimum and median, for what is measured a few dozen times.
fn spread(samples: &Samples) -> String {
    format!(
        "{} (min {}, n {})",
        ms(samples.median()),
        ms(samples.percentile(0)),
        samples.count()
    )
}

/// KiB in MiB.
fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

/// Median and tail, for what is measured thousands of times.
fn tail(samples: &Samples) -> String {
    format!("{} / {}", ms(samples.median()), ms(samples.percentile(99)))
}

/// One line of the table.
struct Figure {
    name: &'static str,
    what: What,
    on: On,
    /// Whether the bare server has this figure too.
    floor: bool,
    /// What the peer was measured at.
    peer: &'static str,
    /// What Mizzen is to reach.
    reach: &'static str,
}

/// The node a figure is measured on.
#[derive(Clone, Copy)]
enum On {
    /// Eight GPUs on NVSwitch.
    Eight,
    /// Sixteen GPUs on PCIe.
    Sixteen,
    /// Eight GPUs with 1,000 replicas each.
    EightShared,
    /// Eight GPUs with seven MIG devices each.
    EightPartitioned,
    /// Sixteen GPUs with 48 processes each.
    SixteenCrowded,
}

#[derive(Clone, Copy)]
enum What {
    Start,
    Idle,
    Allocate,
    Prefer(usize),
    Xid,
    Reconfigure,
    Reregister,
    After(Trouble),
    Growth,
    /// The CDI spec of `nvidia.com/gpu`, made by the command, and the most of it that was resident.
    Generate,
    /// The node's labels, told once by the command, and the most of it that was resident.
    Labels,
    /// A run of the program of the hooks.
    Hook,
    /// A page of metrics, made in this process.
    Page(page::Size),
    /// Processor time of asking every GPU for the exporter's default fields and its processes.
    Sample,
}

impl Figure {
    const fn new(name: &'static str, what: What, peer: &'static str, reach: &'static str) -> Self {
        Self {
            name,
            what,
            on: On::Eight,
            floor: false,
            peer,
            reach,
        }
    }

    const fn floor(mut self) -> Self {
        self.floor = true;
        self
    }

    const fn on(mut self, on: On) -> Self {
        self.on = on;
        self
    }
}

const FIGURES: &[Figure] = &[
    Figure::new(
        "process start → first device list, 8 GPUs",
        What::Start,
        "11–16 ms",
        "≤ 4 ms",
    )
    .floor(),
    Figure::new(
        "resident (anonymous) after 5 s; CPU and wake-ups when idle, 8 GPUs",
        What::Idle,
        "20.4 MiB (3.0); 3.2 ms, 36 wake-ups in 60 s",
        "≤ 5 MiB (1.0); ≤ 3 ms, ≤ 36",
    )
    .floor(),
    Figure::new(
        "Allocate, p50 / p99",
        What::Allocate,
        "0.09–0.12 / 0.26–0.54 ms",
        "≤ 0.065 / 0.2 ms",
    )
    .floor(),
    Figure::new(
        "preferred 4 of 8 (NVSwitch), p50 / p99",
        What::Prefer(4),
        "0.9–2.0 ms",
        "p50 ≤ 0.07 ms",
    )
    .floor(),
    Figure::new(
        "preferred 4 of 16, p50 / p99",
        What::Prefer(4),
        "3.1 s",
        "≤ 0.3 ms",
    )
    .floor()
    .on(On::Sixteen),
    Figure::new(
        "preferred 3 of 16, p50 / p99",
        What::Prefer(3),
        "24.8 s",
        "≤ 0.3 ms",
    )
    .floor()
    .on(On::Sixteen),
    Figure::new("Xid → device list", What::Xid, "0.7–0.8 ms", "≤ 0.5 ms"),
    Figure::new(
        "kubelet's socket re-created → Register",
        What::Reregister,
        "3–6 ms, worst 1 s",
        "≤ 2 ms, worst ≤ 50 ms",
    ),
    Figure::new(
        "after restarts 2–200 ms apart → Register",
        What::After(Trouble::Churn),
        "5–11 s",
        "≤ 250 ms",
    ),
    Figure::new(
        "after a refused Register → Register",
        What::After(Trouble::Refusal),
        "30 s",
        "≤ 250 ms",
    ),
    Figure::new(
        "after 7 s of a silent kubelet → Register",
        What::After(Trouble::Silence),
        "28 s",
        "≤ 250 ms",
    ),
    Figure::new(
        "over 20 reloads and the kubelet's restarts",
        What::Growth,
        "threads 7 → 27",
        "unchanged",
    ),
    Figure::new(
        "process start → first device list, 8 GPUs × 1,000 replicas",
        What::Start,
        "30–44 ms",
        "≤ 8 ms",
    )
    .on(On::EightShared),
    Figure::new(
        "resident (anonymous); idle, 8 GPUs × 1,000 replicas",
        What::Idle,
        "26–34 MiB",
        "≤ 9 MiB",
    )
    .on(On::EightShared),
    Figure::new(
        "preferred 8 of 8,000 replicas, p50 / p99",
        What::Prefer(8),
        "27–43 ms",
        "p50 ≤ 1 ms",
    )
    .on(On::EightShared),
    Figure::new(
        "Xid → device list with 1,000 replicas marked",
        What::Xid,
        "(marks one)",
        "≤ 6 ms",
    )
    .on(On::EightShared),
    Figure::new(
        "config file changed → device list, 8 GPUs × 1,000 replicas",
        What::Reconfigure,
        "(restarts)",
        "≤ 50 ms",
    )
    .on(On::EightShared),
    Figure::new(
        "process start → first device list, 8 GPUs × 7 MIG devices",
        What::Start,
        "–",
        "≤ 6 ms",
    )
    .on(On::EightPartitioned),
    Figure::new(
        "resident (anonymous); idle, 8 GPUs × 7 MIG devices",
        What::Idle,
        "–",
        "–",
    )
    .on(On::EightPartitioned),
    Figure::new(
        "mizzen cdi generate; resident, 8 GPUs and a driver's files",
        What::Generate,
        "18 ms; 16 MiB",
        "≤ 9 ms; ≤ 8 MiB",
    ),
    Figure::new(
        "mizzen cdi generate; resident, 8 GPUs × 7 MIG devices and a driver's files",
        What::Generate,
        "–",
        "≤ 15 ms",
    )
    .on(On::EightPartitioned),
    Figure::new(
        "mizzen labels --oneshot; resident, 8 GPUs",
        What::Labels,
        "13–20 ms; 29 MiB",
        "≤ 6 ms; ≤ 8 MiB",
    ),
    Figure::new(
        "mizzen labels --oneshot; resident, 8 GPUs × 7 MIG devices",
        What::Labels,
        "–",
        "≤ 8 ms; ≤ 8 MiB",
    )
    .on(On::EightPartitioned),
    Figure::new(
        "processor time of a sample, 8 GPUs, p50 / p99",
        What::Sample,
        "–",
        "≤ 1 ms",
    ),
    Figure::new(
        "processor time of a sample, 8 GPUs × 7 MIG devices, p50 / p99",
        What::Sample,
        "–",
        "≤ 3 ms",
    )
    .on(On::EightPartitioned),
    Figure::new(
        "processor time of a sample, 16 GPUs × 48 processes, p50 / p99",
        What::Sample,
        "–",
        "≤ 3 ms",
    )
    .on(On::SixteenCrowded),
    Figure::new(
        "hook update-ldcache, 300 libraries and 40 of the driver; peak resident; program",
        What::Hook,
        "–",
        "≤ 5 ms; ≤ 4 MiB; ≤ 2 MiB",
    ),
    Figure::new(
        "page of metrics, 8 GPUs × 7 MIG devices, p50 / p99",
        What::Page(page::Size {
            gpus: 8,
            instances: 7,
            processes: 0,
        }),
        "–",
        "p99 ≤ 3 ms",
    ),
    Figure::new(
        "page of metrics, 16 GPUs × 48 processes, p50 / p99",
        What::Page(page::Size {
            gpus: 16,
            instances: 0,
            processes: 48,
        }),
        "–",
        "p99 ≤ 10 ms",
    ),
];
