//! How long one preferred allocation takes: `cargo bench -p mizzen-core`.
#![allow(
    clippy::print_stdout,
    reason = "a benchmark's purpose is to print its figures"
)]

#[path = "../tests/prefer/machines.rs"]
mod machines;

use std::hint::black_box;
use std::time::{Duration, Instant};

use machines::Machine;
use mizzen_core::topology::{Link, LinkMatrix, PcieRelation};

/// Each figure is the median of this many rounds.
const ROUNDS: usize = 51;

fn main() {
    let mut machines = Machine::all();
    machines.push(("random links, 16 GPUs", random(16)));
    machines.push(("random links, 24 GPUs", random(24)));
    machines.push(("random links, 32 GPUs", random(32)));
    machines.push(("ring, 16 GPUs", paired(16, |a, b| (b - a) % 14 == 1)));
    machines.push((
        "4 x 4 torus",
        paired(16, |a, b| a % 4 == b % 4 || a / 4 == b / 4),
    ));
    machines.push((
        "Clebsch graph, 16 GPUs",
        paired(16, |a, b| [1, 2, 4, 8, 15].contains(&(a ^ b))),
    ));
    machines.push(("ring, 32 GPUs", paired(32, |a, b| (b - a) % 30 == 1)));
    machines.push(("PCIe, 32 GPUs", Machine::boxed(2, 4, 4, |_, _| 0)));
    machines.push(("PCIe, 32 GPUs in pairs", Machine::boxed(2, 8, 2, |_, _| 0)));
    machines.push(("NVSwitch, 64 GPUs", Machine::boxed(4, 4, 4, |_, _| 18)));
    println!("{:<26} {:>8} {:>12}", "machine", "choice", "ns per call");
    for (name, machine) in machines {
        for wanted in [2, 3, 4, machine.size() / 2] {
            let time = median(&machine, wanted);
            let choice = format!("{wanted} of {}", machine.size());
            println!("{name:<26} {choice:>8} {:>12}", time.as_nanos());
        }
    }
}

fn median(machine: &Machine, wanted: usize) -> Duration {
    let chooser = machine.chooser();
    let gpus: Vec<usize> = (0..machine.size()).collect();
    let call = || black_box(chooser.choose(black_box(&gpus), &[], wanted));
    // As many calls a round as take about 2 ms, so that the clock's own cost does not count.
    let once = Instant::now();
    call();
    let calls = (2_000_000 / once.elapsed().as_nanos().max(100)).clamp(1, 10_000);
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..calls {
                call();
            }
            begin.elapsed() / u32::try_from(calls).unwrap_or(1)
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

/// One NVLink between the pairs that `linked` names and none between the others: without twins,
/// and with ties everywhere.
fn paired(size: usize, linked: impl Fn(usize, usize) -> bool) -> Machine {
    Machine::boxed(1, 1, size, |a, b| u8::from(linked(a, b)))
}

/// Links without any structure, which no machine has: the search's worst case.
fn random(size: usize) -> Machine {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let relations = [
        PcieRelation::CrossCpu,
        PcieRelation::SameCpu,
        PcieRelation::HostBridge,
        PcieRelation::MultiSwitch,
        PcieRelation::SingleSwitch,
    ];
    Machine {
        nodes: (0..size)
            .map(|gpu| Some(u32::from(gpu >= size / 2)))
            .collect(),
        links: LinkMatrix::from_fn(size, |_, _| Link {
            pcie: relations[usize::try_from(next(5)).unwrap_or(0)],
            nvlinks: u8::try_from(next(7)).unwrap_or(0),
        }),
    }
}
