//! The lines of the table.

use super::measures::Trouble;
use super::{page, scrape};

/// One line of the table.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) what: What,
    pub(super) on: On,
    /// Whether the bare server has this figure too.
    pub(super) floor: bool,
    /// What the peer was measured at.
    pub(super) peer: &'static str,
    /// What Mizzen is to reach.
    pub(super) reach: &'static str,
}

/// The node a figure is measured on.
#[derive(Clone, Copy)]
pub(super) enum On {
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
pub(super) enum What {
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
    /// An agent with all that it does: what is resident of it, and its processor time. `guarded`:
    /// its page behind TLS and a password.
    Whole {
        guarded: bool,
    },
    /// A scrape of a running agent's page.
    Scrape(scrape::Filling),
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

pub(super) const FIGURES: &[Figure] = &[
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
    Figure::new(
        "whole agent: resident (anonymous) after a minute; processor time, 8 GPUs",
        What::Whole { guarded: false },
        "454–561 MiB",
        "≤ 10 MiB; ≤ 0.5 %",
    ),
    Figure::new(
        "whole agent with TLS and a password: the same",
        What::Whole { guarded: true },
        "–",
        "–",
    ),
    Figure::new(
        "scrape, 8 GPUs × 7 MIG devices, p50 / p99",
        What::Scrape(scrape::Filling::Partitioned),
        "–",
        "p99 ≤ 3 ms",
    ),
    Figure::new(
        "scrape, 16 GPUs × 48 processes, p50 / p99",
        What::Scrape(scrape::Filling::Crowded),
        "–",
        "p99 ≤ 10 ms",
    ),
];
