//! How long it takes to plan the change of a node's GPUs: `cargo bench -p mizzen-core --bench
//! mig_plan`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark's purpose is to print its figures, and it may fail"
)]

#[path = "../tests/mig/machine.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod machine;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use machine::Machine;
use mizzen_core::mig::{Layout, MigTable, MigTarget, plan_mig};

/// GPUs of one node.
const GPUS: u32 = 8;
/// Each figure is the median of this many rounds.
const ROUNDS: usize = 51;
/// Each change is planned from each of these to each other.
const H100: [&str; 12] = [
    "MIG on, no devices",
    "1g.10gb*7",
    "1g.10gb*3",
    "1g.10gb*2,2g.20gb,3g.40gb",
    "1g.10gb*2,1g.10gb+me,1g.20gb,2g.20gb",
    "1g.10gb,1g.20gb*3",
    "1g.10gb*2,1g.20gb,2g.20gb",
    "3g.40gb*2",
    "7g.80gb",
    "1c.7g.80gb*7",
    "1c.7g.80gb,2c.7g.80gb,4c.7g.80gb",
    "1c.3g.40gb*4,2c.3g.40gb",
];
const RTX_PRO_6000: [&str; 6] = [
    "1g.24gb*4",
    "1g.24gb-me*3,1g.24gb+me.all",
    "1g.24gb,1g.24gb+gfx,1g.24gb+me,1g.24gb-me",
    "1g.24gb*2,2g.48gb+gfx",
    "1c.2g.48gb*4",
    "4g.96gb",
];

fn main() {
    println!(
        "{:<14} {:>10} {:>10}  slowest change",
        "8 GPUs of", "mean ns", "most ns"
    );
    for (key, cuts) in [
        ("h100-80gb", &H100[..]),
        ("rtx-pro-6000", &RTX_PRO_6000[..]),
    ] {
        let table = machine::table(key);
        let targets: Vec<MigTarget> = cuts.iter().map(|cut| cut.parse().unwrap()).collect();
        let mut all = Vec::new();
        for from in &targets {
            let layout = cut(key, &table, from);
            for to in &targets {
                let time = median(&table, &layout, to);
                all.push((time, format!("{from} -> {to}")));
            }
        }
        let sum: Duration = all.iter().map(|(time, _)| *time).sum();
        let mean = sum / u32::try_from(all.len()).unwrap();
        let (most, change) = all.iter().max().unwrap();
        println!(
            "{key:<14} {:>10} {:>10}  {change}",
            mean.as_nanos(),
            most.as_nanos()
        );
    }
}

/// A GPU that is cut so.
fn cut(key: &str, table: &MigTable, target: &MigTarget) -> Layout {
    let empty = Machine::new(key);
    let mut machine = empty.clone();
    let plan = plan_mig(table, &empty.layout(), target, &BTreeSet::new()).unwrap();
    for step in &plan.steps {
        machine.apply(step).unwrap();
    }
    machine.layout()
}

/// The time for all GPUs of a node.
fn median(table: &MigTable, layout: &Layout, target: &MigTarget) -> Duration {
    let held = BTreeSet::new();
    let node = || {
        for _ in 0..GPUS {
            let plan = plan_mig(
                black_box(table),
                black_box(layout),
                black_box(target),
                &held,
            );
            black_box(plan.is_ok());
        }
    };
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            node();
            begin.elapsed()
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}
