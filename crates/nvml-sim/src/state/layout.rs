//! The file's layout. A change of meaning or place of any field raises [`VERSION`].

use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::node::{MAX_CPUS, MAX_GPUS, MAX_NUMA_NODES, NVLINK_ERRORS};

/// First word of the file: "mizsim" and the kind of file.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"mizsim01");
/// Version of the layout.
pub(super) const VERSION: u32 = 4;
/// Events that the ring holds; a listener further behind loses the oldest.
pub(super) const RING: usize = 128;
/// Processes that one GPU can have.
pub(crate) const MAX_PROCESSES: usize = 56;
/// GPU instances, and compute instances, that the file has room for on one GPU.
pub(super) const INSTANCES: usize = 8;
/// Words of a GPU's constant facts.
pub(super) const RECORD_WORDS: usize = 40;
/// Words of a GPU's load.
pub(super) const LOAD_WORDS: usize = 36;
/// Words of the load of one of its GPU instances.
pub(super) const INSTANCE_LOAD_WORDS: usize = 5;

/// The whole file.
#[repr(C)]
pub(crate) struct Layout {
    pub(super) header: Header,
    pub(super) numa: [[AtomicU64; MAX_CPUS / 64]; MAX_NUMA_NODES],
    pub(super) ring: [RingEntry; RING],
    /// Last, so that a node with few GPUs touches few pages.
    pub(super) slots: [Slot; MAX_GPUS],
}

/// What concerns the whole node.
#[repr(C, align(64))]
pub(super) struct Header {
    /// Stored last when the file is made: a file without it is not finished.
    pub(super) magic: AtomicU64,
    pub(super) version: AtomicU32,
    pub(super) size: AtomicU32,
    /// The boot that the times in the file belong to.
    pub(super) boot_id: [AtomicU64; 2],
    /// Odd while the constant facts change; half of it is the generation.
    pub(super) structure: AtomicU64,
    /// Where the scenario came from: 0 unfinished, else a `Source`.
    pub(super) source: AtomicU64,
    /// Hash of what `stat` tells of the scenario file.
    pub(super) source_stat: AtomicU64,
    /// Hash of the scenario's text.
    pub(super) source_text: AtomicU64,
    pub(super) driver_version: [AtomicU64; 4],
    pub(super) hostname: [AtomicU64; 8],
    pub(super) cuda_version: [AtomicU32; 2],
    pub(super) device_nodes: AtomicU32,
    pub(super) numa_nodes: AtomicU32,
    /// Slots that were ever used are below this.
    pub(super) slots_used: AtomicU32,
    pub(super) _reserved: AtomicU32,
    /// Number of the next GPU that is added, which its identity is derived from.
    pub(super) next_ordinal: AtomicU64,
    /// Number of the next event; everything below is published.
    pub(super) next_event: AtomicU64,
    /// Futex: changes with every event.
    pub(super) wake: AtomicU32,
    pub(super) _reserved_too: AtomicU32,
}

/// One GPU.
#[repr(C, align(64))]
pub(crate) struct Slot {
    /// Whether there is a GPU here; stored last when one is added.
    pub(super) present: AtomicU32,
    /// Changes when another GPU takes the slot, so that sessions notice.
    pub(super) incarnation: AtomicU32,
    pub(super) record: [AtomicU64; RECORD_WORDS],
    /// Futex: 1 while calls that touch the GPU block.
    pub(super) hung: AtomicU32,
    pub(super) lost: AtomicU32,
    pub(super) hung_until: AtomicU64,
    pub(super) lost_until: AtomicU64,
    pub(super) recovery_action: AtomicU32,
    /// NVML return code that waiting for events answers with; 0 = none.
    pub(super) wait_error: AtomicU32,
    /// NVML return code that registering for events answers with; 0 = none.
    pub(super) register_error: AtomicU32,
    pub(crate) compute_mode: AtomicU32,
    pub(crate) persistence: AtomicU32,
    /// Power limit in mW that was set; 0 = the default.
    pub(crate) power_limit_mw: AtomicU32,
    pub(super) last_xid: AtomicU64,
    /// `nvmlClocksEventReason*` bits.
    pub(super) throttle: AtomicU64,
    pub(super) throttle_since: AtomicU64,
    pub(super) throttle_until: AtomicU64,
    /// Nanoseconds of finished throttling for power and for heat.
    pub(super) throttled: [AtomicU64; 2],
    pub(crate) ecc: EccCounters,
    pub(crate) pages: PageCounters,
    pub(crate) pcie_replays: AtomicU64,
    /// Errors of NVLinks, in the order of [`NvLinkError`](crate::node::NvLinkError).
    pub(crate) nvlink_errors: [AtomicU64; NVLINK_ERRORS],
    /// Which half of `load` and `instance_load` is valid: its lowest bit.
    pub(super) load_version: AtomicU64,
    pub(super) load: [[AtomicU64; LOAD_WORDS]; 2],
    pub(super) instance_load: [[[AtomicU64; INSTANCE_LOAD_WORDS]; INSTANCES]; 2],
    pub(super) processes: [ProcessEntry; MAX_PROCESSES],
    pub(super) mig: Mig,
}

/// How the GPU is partitioned. An instance is one word, so that it comes and goes at once.
#[repr(C)]
pub(super) struct Mig {
    /// Whether MIG is on.
    pub(super) enabled: AtomicU32,
    /// Whether it will be on after the next reset of the GPU.
    pub(super) pending: AtomicU32,
    /// Serial number of the next instance; 0 is left out.
    pub(super) next_serial: AtomicU32,
    pub(super) _reserved: AtomicU32,
    pub(super) gpu_instances: [AtomicU64; INSTANCES],
    pub(super) compute_instances: [AtomicU64; INSTANCES],
}

/// Memory errors, as NVML counts them: since the driver was loaded, and for ever.
#[repr(C)]
pub(crate) struct EccCounters {
    pub(crate) volatile_corrected: AtomicU64,
    pub(crate) volatile_uncorrected: AtomicU64,
    pub(crate) aggregate_corrected: AtomicU64,
    pub(crate) aggregate_uncorrected: AtomicU64,
}

/// Memory that was taken out of service.
#[repr(C)]
pub(crate) struct PageCounters {
    pub(crate) retired_single: AtomicU64,
    pub(crate) retired_double: AtomicU64,
    pub(crate) remapped_corrected: AtomicU64,
    pub(crate) remapped_uncorrected: AtomicU64,
    /// 1 while a reset is needed for the change to take effect.
    pub(crate) pending: AtomicU32,
    /// 1 if no spare row was left.
    pub(crate) failed: AtomicU32,
}

/// One event; valid if `number` is its own number plus one.
#[repr(C)]
pub(super) struct RingEntry {
    pub(super) number: AtomicU64,
    pub(super) slot: AtomicU32,
    pub(super) incarnation: AtomicU32,
    pub(super) kind: AtomicU64,
    pub(super) data: AtomicU64,
    pub(super) gpu_instance: AtomicU32,
    pub(super) compute_instance: AtomicU32,
    pub(super) time: AtomicU64,
}

/// One process; valid if `pid` is not 0, and that is stored last.
#[repr(C)]
pub(super) struct ProcessEntry {
    pub(super) pid: AtomicU32,
    /// What it does in the lowest byte, then one more than its GPU instance, then its compute
    /// instance.
    pub(super) kind: AtomicU32,
    pub(super) memory: AtomicU64,
    /// SM, memory, encoder and decoder utilisation, 16 bits each.
    pub(super) utilization: AtomicU64,
    pub(super) started: AtomicU64,
}

/// Size of the file in bytes.
pub(super) const SIZE: usize = size_of::<Layout>();

const _: () = {
    assert!(SIZE < 256 * 1024, "the mapping counts in every process");
    assert!(align_of::<Layout>() <= 4096, "a mapping begins at a page");
    assert!(size_of::<Slot>() <= 3840);
};
