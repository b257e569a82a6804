//! `cargo xtask bench`: the table of figures, measured now on this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::Args;

mod api;
mod command;
mod figures;
mod floor;
mod hook;
mod kubelet;
mod measures;
mod page;
mod process;
mod sample;
mod samples;
mod scrape;
mod soak;
mod subject;
mod table;
mod web;
mod whole;

pub(crate) use floor::run as floor_plugin;
pub(crate) use sample::run as samples;
pub(crate) use soak::{SoakArgs, run as soak};

use figures::{FIGURES, Figure, On, What};
use samples::{Samples, ms};
use subject::{Node, Subject};
use table::{Row, Table};
use whole::Whole;

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
    /// Seconds of idleness over which processor time and wake-ups are counted; of the whole
    /// agent, after as many seconds
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Scrapes of a running agent's page
    #[arg(long, default_value_t = 400)]
    scrapes: usize,
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
        (args.growth_restarts, args.idle, args.scrapes) = (50, 10, 50);
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
        if matches!(
            figure.what,
            What::Hook | What::Page(_) | What::Whole { .. } | What::Scrape(_)
        ) {
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
            What::Idle => self.idle(subject, node).await?,
            What::Allocate => tail(&measures::allocate(recipe, dir, args.calls).await?),
            What::Prefer(size) => {
                tail(&measures::prefer(recipe, dir, size, args.calls.min(2000)).await?)
            }
            What::Xid => self.xids(subject, node).await?,
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
            What::Hook => self.hook()?,
            What::Page(size) => {
                let cost = page::run(size, args.calls.min(2000))?;
                let (times, kib) = (tail(&cost.times), cost.bytes.div_ceil(1024));
                format!("{times}; {} series, {kib} KiB", cost.series)
            }
            What::Whole { guarded } => self.whole(guarded).await?,
            What::Scrape(filling) => {
                let cost = scrape::run(&self.work, &self.binary, filling, args.scrapes).await?;
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

    /// What an agent costs that nobody asks anything.
    async fn idle(&self, subject: &Subject, node: &Node) -> Result<String> {
        let span = Duration::from_secs(self.args.idle);
        let (resident, work) = measures::idle(&subject.recipe, &node.plugin_dir, span).await?;
        Ok(format!(
            "{:.1} MiB ({:.1}); {}, {} wake-ups in {} s",
            mib(resident.total_kib),
            mib(resident.anonymous_kib),
            ms(work.on_cpu),
            work.wake_ups,
            self.args.idle,
        ))
    }

    async fn xids(&self, subject: &Subject, node: &Node) -> Result<String> {
        let mut samples = Vec::new();
        for _ in 0..self.args.starts.div_ceil(8) {
            node.heal()?;
            let inject = &mut |gpu| node.inject_xid(gpu);
            samples.extend(measures::xid(&subject.recipe, &node.plugin_dir, inject).await?);
        }
        Ok(spread(&Samples::new(samples)))
    }

    fn hook(&self) -> Result<String> {
        let cost = hook::run(&self.work, self.args.starts)?;
        Ok(format!(
            "{}; {:.1} MiB; {:.2} MiB",
            spread(&cost.times),
            mib(cost.peak_kib),
            mib(cost.program_bytes.div_ceil(1024) as u64),
        ))
    }

    async fn whole(&self, guarded: bool) -> Result<String> {
        let whole = Whole::of_eight(&self.work, &self.binary, guarded).await?;
        let cost = whole.cost(Duration::from_secs(self.args.idle)).await?;
        Ok(format!(
            "{:.1} MiB ({:.1}); {:.2} %",
            mib(cost.resident.total_kib),
            mib(cost.resident.anonymous_kib),
            cost.percent,
        ))
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
