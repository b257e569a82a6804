//! The series that the exporter makes itself, of events and states.

use super::Field;
use super::counters::{Counter, ExporterCounter};
use super::page::PageInput;
use super::text::{Family, next_label, push_next_label};
use super::throttle::ClockEvent;
use super::units::{GpuUnit, Unit};
use crate::driver::RecoveryAction;
use crate::health::Reason;
use crate::sample::Number;
use crate::state::GpuXids;
use crate::topology::Link;
use crate::xid::Xid;

/// What every GPU is asked by DCGM's health checks, as the label `health_watch` names them.
const HEALTH_WATCHES: [&str; 11] = [
    "PCIE", "NVLINK", "PMU", "MCU", "MEM", "SM", "INFOROM", "THERMAL", "POWER", "DRIVER", "ALL",
];

/// DCGM's health results.
const PASS: u64 = 0;
const WARN: u64 = 10;
const FAIL: u64 = 20;

/// The last Xid of each GPU, 0 if there was none, with its number and title as labels.
pub(super) fn last_xid(
    page: &mut String,
    counter: &Counter,
    units: &[GpuUnit<'_>],
    input: &PageInput<'_>,
) {
    let mut family = Family::new(page, &counter.name, counter.kind, &counter.help);
    for gpu in units {
        let xids = input.state.xids().of(&gpu.known.gpu.uuid);
        let last = xids.and_then(GpuXids::last);
        let number = last.map_or(0, |xid| xid.0);
        let title = match last {
            None => "No Error",
            Some(xid) => xid.info().map_or("Unknown Error", |info| info.title),
        };
        let mut error = next_label("err_code", &number.to_string());
        push_next_label(&mut error, "err_msg", title);
        let pod = &gpu.whole.pod;
        let labels = [&gpu.whole.labels, &pod.container, &error, &pod.rest];
        family.series(&labels.map(String::as_str), Number::Whole(number));
    }
}

/// Why a GPU does not give this, where it does not.
pub(super) fn missing<'a>(
    counter: ExporterCounter,
    gpu: &'a GpuUnit<'a>,
) -> Vec<(&'a Unit<'a>, &'static str)> {
    match counter {
        ExporterCounter::ClockEvents => gpu.missing(Field::ClockThrottleReasons),
        ExporterCounter::XidErrors | ExporterCounter::GpuHealth | ExporterCounter::P2pStatus => {
            Vec::new()
        }
    }
}

/// Writes the series of one of them.
pub(super) fn series(
    page: &mut String,
    counter: &Counter,
    own: ExporterCounter,
    units: &[GpuUnit<'_>],
    input: &PageInput<'_>,
) {
    let mut family = Family::new(page, &counter.name, counter.kind, &counter.help);
    for (position, gpu) in units.iter().enumerate() {
        let rows = match own {
            ExporterCounter::ClockEvents => clock_events(gpu, input),
            ExporterCounter::XidErrors => xid_errors(gpu, input),
            ExporterCounter::GpuHealth => health(gpu),
            ExporterCounter::P2pStatus => p2p_status(position, units, input),
        };
        let pod = &gpu.whole.pod;
        for (labels, number) in rows {
            let parts = [&gpu.whole.labels, &labels, &pod.container, &pod.rest];
            family.series(&parts.map(String::as_str), Number::Whole(number));
        }
    }
}

/// Labels and a value.
type Row = (String, u64);

fn clock_events(gpu: &GpuUnit<'_>, input: &PageInput<'_>) -> Vec<Row> {
    if gpu.tellers(Field::ClockThrottleReasons).is_empty() {
        return Vec::new();
    }
    let window = input.options.clock_event_window;
    let size = next_label("window_size_in_ms", &window.as_millis().to_string());
    let history = input.history.of(&gpu.known.gpu.uuid);
    let row = |event: ClockEvent| {
        let count = history?.clock_events(event, window, input.now);
        let label = next_label("clock_event", event.as_str());
        (count > 0).then(|| (label + &size, count))
    };
    let rows: Vec<Row> = ClockEvent::ALL.into_iter().filter_map(row).collect();
    or_zero(rows, size)
}

fn xid_errors(gpu: &GpuUnit<'_>, input: &PageInput<'_>) -> Vec<Row> {
    let window = input.options.xid_window;
    let size = next_label("window_size_in_ms", &window.as_millis().to_string());
    let xids = input.state.xids().of(&gpu.known.gpu.uuid);
    let counts = xids.map(|xids| xids.within(window, input.now.monotonic));
    let row = |(xid, count): (Option<Xid>, u64)| {
        let number = xid.map_or_else(|| "other".to_owned(), |xid| xid.0.to_string());
        (size.clone() + &next_label("xid", &number), count)
    };
    let rows = counts.unwrap_or_default().into_iter().map(row).collect();
    or_zero(rows, size.clone())
}

/// Where nothing has happened the exporter has one series without a name for it.
fn or_zero(mut rows: Vec<Row>, labels: String) -> Vec<Row> {
    if rows.is_empty() {
        rows.push((labels, 0));
    }
    rows
}

/// What is known of the GPU's health in DCGM's words; of several reasons that one of its checks
/// would find, the worst.
fn health(gpu: &GpuUnit<'_>) -> Vec<Row> {
    let signs = gpu.known.health.signs().iter();
    let incidents: Vec<Incident> = signs.map(|sign| Incident::of(&sign.reason)).collect();
    let row = |watch: &&str| {
        let own = incidents.iter().filter(|incident| incident.watch == *watch);
        let worst = own.max_by_key(|incident| incident.result);
        let (code, result) = worst.map_or(("DCGM_FR_OK", PASS), |worst| (worst.code, worst.result));
        let mut labels = next_label("health_error_code", code);
        push_next_label(&mut labels, "health_watch", watch);
        (labels, result)
    };
    HEALTH_WATCHES.iter().map(row).collect()
}

/// What DCGM's health checks would report.
struct Incident {
    watch: &'static str,
    code: &'static str,
    result: u64,
}

impl Incident {
    fn of(reason: &Reason) -> Self {
        let (watch, code, result) = match reason {
            Reason::Xid(Xid(79)) | Reason::Lost => ("ALL", "DCGM_FR_FALLEN_OFF_BUS", FAIL),
            Reason::Xid(_) => ("ALL", "DCGM_FR_XID_ERROR", FAIL),
            Reason::DoubleBitEcc => ("MEM", "DCGM_FR_VOLATILE_DBE_DETECTED", FAIL),
            Reason::SingleBitEcc => ("MEM", "DCGM_FR_VOLATILE_SBE_DETECTED", WARN),
            Reason::RowRemapFailure => ("MEM", "DCGM_FR_ROW_REMAP_FAILURE", FAIL),
            Reason::RowRemapPending => ("MEM", "DCGM_FR_PENDING_ROW_REMAP", WARN),
            Reason::RecoveryAction(action) => ("ALL", recovery_code(*action), FAIL),
            Reason::Hung | Reason::Broken(_) | Reason::Missing => {
                ("DRIVER", "DCGM_FR_UNKNOWN", FAIL)
            }
        };
        Self {
            watch,
            code,
            result,
        }
    }
}

fn recovery_code(action: RecoveryAction) -> &'static str {
    match action {
        RecoveryAction::GpuReset => "DCGM_FR_GPU_RECOVERY_RESET",
        RecoveryAction::NodeReboot => "DCGM_FR_GPU_RECOVERY_REBOOT",
        RecoveryAction::DrainP2p => "DCGM_FR_GPU_RECOVERY_DRAIN_P2P",
        RecoveryAction::DrainAndReset => "DCGM_FR_GPU_RECOVERY_DRAIN_RESET",
        RecoveryAction::RecoverImexDomain => "DCGM_FR_IMEX_UNHEALTHY",
        RecoveryAction::None | RecoveryAction::Unknown(_) => "DCGM_FR_UNKNOWN",
    }
}

/// Whether the GPU reaches each other one over NVLink: 0 if so, 5 if there is none between them, 6
/// if nothing is known of the two. Which of the chips cannot is not asked.
fn p2p_status(position: usize, units: &[GpuUnit<'_>], input: &PageInput<'_>) -> Vec<Row> {
    let links = input.state.links();
    let row = |(peer, unit): (usize, &GpuUnit<'_>)| {
        let (status, number) = match links.get(position, peer) {
            Link::UNKNOWN => ("Unknown", 6),
            link if link.nvlinks > 0 => ("OK", 0),
            _ => ("NotSupported", 5),
        };
        let mut labels = next_label("link_status", status);
        push_next_label(&mut labels, "peer_gpu", &unit.known.gpu.index.to_string());
        (labels, number)
    };
    let peers = units.iter().enumerate();
    peers
        .filter(|(peer, _)| *peer != position)
        .map(row)
        .collect()
}
