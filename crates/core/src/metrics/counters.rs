//! Which counters are on the page: the exporter's file of them, or its default.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use super::text::MetricKind;
use super::{Field, FieldKind, Fields, TextField};
use crate::sample::Wanted;

/// A counter of the exporter's own, which is made of several answers of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExporterCounter {
    /// How often each clock event was seen in a window.
    ClockEvents,
    /// How often each Xid was reported in a window.
    XidErrors,
    /// What DCGM's health checks would say.
    GpuHealth,
    /// Whether each pair of GPUs can reach each other over NVLink.
    P2pStatus,
}

impl ExporterCounter {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::ClockEvents,
        Self::XidErrors,
        Self::GpuHealth,
        Self::P2pStatus,
    ];

    /// The name in the file, which is the metric's.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClockEvents => "DCGM_EXP_CLOCK_EVENTS_COUNT",
            Self::XidErrors => "DCGM_EXP_XID_ERRORS_COUNT",
            Self::GpuHealth => "DCGM_EXP_GPU_HEALTH_STATUS",
            Self::P2pStatus => "DCGM_EXP_P2P_STATUS",
        }
    }
}

/// Where the values of a counter come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The driver.
    Field(Field),
    /// Several answers of it.
    Exporter(ExporterCounter),
}

/// One counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// The metric's name: as the file has it, which may be one of former versions.
    pub name: String,
    /// Where its values come from.
    pub source: Source,
    /// Its type, as the file has it.
    pub kind: MetricKind,
    /// Its help, as the file has it.
    pub help: String,
}

/// Where the values of a label come from that the file asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelSource {
    /// Words that stay the same.
    Text(TextField),
    /// A number of the last sample.
    Field(Field),
}

/// The counters of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    list: Vec<Counter>,
    /// By name, which is the order in which they are written.
    labels: Vec<(String, LabelSource)>,
    unknown: Vec<String>,
    remarks: Vec<String>,
}

/// A line of the file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterMistake {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for CounterMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

/// The numbers that are on by default in the exporter.
pub const DEFAULT_FIELDS: [Field; 25] = [
    Field::SmClock,
    Field::MemClock,
    Field::MemoryTemp,
    Field::GpuTemp,
    Field::PowerUsage,
    Field::TotalEnergy,
    Field::PcieReplayCounter,
    Field::GpuUtil,
    Field::MemCopyUtil,
    Field::EncUtil,
    Field::DecUtil,
    Field::XidErrors,
    Field::FbFree,
    Field::FbUsed,
    Field::FbReserved,
    Field::NvlinkBandwidthTotal,
    Field::VgpuLicenseStatus,
    Field::UncorrectableRemappedRows,
    Field::CorrectableRemappedRows,
    Field::RowRemapFailure,
    Field::GrEngineActive,
    Field::PipeTensorActive,
    Field::DramActive,
    Field::PcieTxBytes,
    Field::PcieRxBytes,
];

/// Names that fields had, or have in newer versions, and that files may use.
const ALIASES: &[(&str, Field)] = &[
    (
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
        Field::ClockThrottleReasons,
    ),
    ("dcgm_sm_clock", Field::SmClock),
    ("dcgm_memory_clock", Field::MemClock),
    ("dcgm_memory_temp", Field::MemoryTemp),
    ("dcgm_gpu_temp", Field::GpuTemp),
    ("dcgm_power_usage", Field::PowerUsage),
    ("dcgm_total_energy_consumption", Field::TotalEnergy),
    ("dcgm_pcie_replay_counter", Field::PcieReplayCounter),
    ("dcgm_gpu_utilization", Field::GpuUtil),
    ("dcgm_mem_copy_utilization", Field::MemCopyUtil),
    ("dcgm_enc_utilization", Field::EncUtil),
    ("dcgm_dec_utilization", Field::DecUtil),
    ("dcgm_xid_errors", Field::XidErrors),
    ("dcgm_power_violation", Field::PowerViolation),
    ("dcgm_thermal_violation", Field::ThermalViolation),
    ("dcgm_sync_boost_violation", Field::SyncBoostViolation),
    ("dcgm_board_limit_violation", Field::BoardLimitViolation),
    ("dcgm_low_util_violation", Field::LowUtilViolation),
    ("dcgm_reliability_violation", Field::ReliabilityViolation),
    ("dcgm_fb_free", Field::FbFree),
    ("dcgm_fb_used", Field::FbUsed),
    ("dcgm_ecc_sbe_volatile_total", Field::EccSbeVolTotal),
    ("dcgm_ecc_dbe_volatile_total", Field::EccDbeVolTotal),
    ("dcgm_ecc_sbe_aggregate_total", Field::EccSbeAggTotal),
    ("dcgm_ecc_dbe_aggregate_total", Field::EccDbeAggTotal),
    ("dcgm_retired_pages_sbe", Field::RetiredSbe),
    ("dcgm_retired_pages_dbe", Field::RetiredDbe),
    ("dcgm_retired_pages_pending", Field::RetiredPending),
    (
        "dcgm_nvlink_flit_crc_error_count_total",
        Field::NvlinkCrcFlitErrors,
    ),
    (
        "dcgm_nvlink_data_crc_error_count_total",
        Field::NvlinkCrcDataErrors,
    ),
    (
        "dcgm_nvlink_replay_error_count_total",
        Field::NvlinkReplayErrors,
    ),
    (
        "dcgm_nvlink_recovery_error_count_total",
        Field::NvlinkRecoveryErrors,
    ),
    ("dcgm_nvlink_bandwidth_total", Field::NvlinkBandwidthTotal),
    ("dcgm_fi_prof_gr_engine_active", Field::GrEngineActive),
    ("dcgm_fi_prof_sm_active", Field::SmActive),
    ("dcgm_fi_prof_sm_occupancy", Field::SmOccupancy),
    ("dcgm_fi_prof_pipe_tensor_active", Field::PipeTensorActive),
    ("dcgm_fi_prof_dram_active", Field::DramActive),
    ("dcgm_fi_prof_pcie_tx_bytes", Field::PcieTxBytes),
    ("dcgm_fi_prof_pcie_rx_bytes", Field::PcieRxBytes),
];

/// The default of the exporter.
impl Default for Counters {
    fn default() -> Self {
        let counter = |field: &Field| Counter {
            name: field.name().to_owned(),
            source: Source::Field(*field),
            kind: match field.kind() {
                FieldKind::Gauge => MetricKind::Gauge,
                FieldKind::Counter => MetricKind::Counter,
            },
            help: field.help().to_owned(),
        };
        let driver = TextField::DriverVersion;
        Self {
            list: DEFAULT_FIELDS.iter().map(counter).collect(),
            labels: vec![(driver.name().to_owned(), LabelSource::Text(driver))],
            unknown: Vec::new(),
            remarks: Vec::new(),
        }
    }
}

impl Counters {
    /// The counters of a file: `field, type, help` in each line, which may be quoted as in CSV;
    /// lines that begin with `#`, and empty ones, say nothing.
    ///
    /// A field that is not known here may be one of DCGM's all the same: it is a remark, and
    /// [`unknown`](Self::unknown) has it.
    ///
    /// # Errors
    /// Every line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, Vec<CounterMistake>> {
        let mut file = File::default();
        let mut mistakes = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(problem) = file.take(at + 1, line) {
                mistakes.push(CounterMistake {
                    line: at + 1,
                    problem,
                });
            }
        }
        if mistakes.is_empty() {
            Ok(file.counters())
        } else {
            Err(mistakes)
        }
    }

    /// In the order of the file.
    pub fn counters(&self) -> &[Counter] {
        &self.list
    }

    /// The labels that every series of a GPU has, by name.
    pub fn labels(&self) -> &[(String, LabelSource)] {
        &self.labels
    }

    /// The names of fields that nothing is known of.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// What a person should know of the file, though it can be used.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Whether one of the exporter's own is among them.
    pub fn includes(&self, counter: ExporterCounter) -> bool {
        let wanted = Source::Exporter(counter);
        self.list.iter().any(|counter| counter.source == wanted)
    }

    /// What the driver is to be asked for a page with these.
    pub fn wanted(&self) -> Wanted {
        let counters = self.list.iter().filter_map(|counter| match counter.source {
            Source::Field(field) => Some(field),
            Source::Exporter(_) => None,
        });
        let labels = self.labels.iter().filter_map(|(_, label)| match label {
            LabelSource::Field(field) => Some(*field),
            LabelSource::Text(_) => None,
        });
        let own = [
            // Idle times, throttle reasons, and what of the memory is nobody's.
            Field::GpuUtil,
            Field::GrEngineActive,
            Field::ClockThrottleReasons,
            Field::FbUsed,
        ];
        let mut fields: Fields = counters.chain(labels).chain(own).collect();
        // Counted from the driver's events.
        fields.remove(Field::XidErrors);
        Wanted {
            fields,
            processes: true,
        }
    }
}

/// A file as far as it has been read.
#[derive(Default)]
struct File {
    counters: Vec<Counter>,
    labels: Vec<(String, LabelSource)>,
    unknown: Vec<String>,
    remarks: Vec<String>,
    /// Every name so far.
    names: BTreeSet<String>,
}

impl File {
    fn take(&mut self, number: usize, line: &str) -> Result<(), String> {
        let columns = columns(line)?;
        let [name, kind, help] = columns.as_slice() else {
            return Err(format!(
                "expected `field, type, help`, found {} columns; a help text with commas is \
                 written in quotes",
                columns.len()
            ));
        };
        let kind = Column::parse(kind)?;
        if !is_metric_name(name) {
            return Err(format!("{name:?} is not the name of a field"));
        }
        if !self.names.insert(name.clone()) {
            let text = "was there before, and the first one counts";
            self.remarks.push(format!("line {number}: {name} {text}"));
            return Ok(());
        }
        self.add(number, name, kind, help)
    }

    fn add(&mut self, number: usize, name: &str, kind: Column, help: &str) -> Result<(), String> {
        let field = find(name);
        let exporters = ExporterCounter::ALL.into_iter();
        let exporter = exporters.into_iter().find(|counter| counter.name() == name);
        let source = match (field, exporter, name.parse::<TextField>()) {
            (Some(field), ..) => Source::Field(field),
            (_, Some(counter), _) => Source::Exporter(counter),
            (.., Ok(text)) => {
                if kind != Column::Label {
                    return Err(format!("{name} is words, which can only be a label"));
                }
                self.labels.push((name.to_owned(), LabelSource::Text(text)));
                return Ok(());
            }
            _ => {
                let text = "is no field that is known here; no series will have its name";
                self.remarks.push(format!("line {number}: {name} {text}"));
                self.unknown.push(name.to_owned());
                return Ok(());
            }
        };
        match (kind, source) {
            (Column::Label, Source::Field(field)) => {
                self.labels
                    .push((name.to_owned(), LabelSource::Field(field)));
            }
            (Column::Label, Source::Exporter(_)) => {
                return Err(format!(
                    "{name} is a number of its own and cannot be a label"
                ));
            }
            (Column::Metric(kind), source) => {
                if kind == MetricKind::Untyped {
                    let text = "is one number, no histogram or summary; its type is left open";
                    self.remarks.push(format!("line {number}: {name} {text}"));
                }
                self.counters.push(Counter {
                    name: name.to_owned(),
                    source,
                    kind,
                    help: help.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn counters(mut self) -> Counters {
        self.labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        Counters {
            list: self.counters,
            labels: self.labels,
            unknown: self.unknown,
            remarks: self.remarks,
        }
    }
}

/// The field of a name of any version.
fn find(name: &str) -> Option<Field> {
    let mut aliases = ALIASES.iter();
    let alias = aliases.find(|(alias, _)| *alias == name);
    let field = alias.map(|(_, field)| *field);
    field.or_else(|| name.parse().ok())
}

/// What the second column says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Metric(MetricKind),
    Label,
}

impl Column {
    fn parse(word: &str) -> Result<Self, String> {
        match word {
            "gauge" => Ok(Self::Metric(MetricKind::Gauge)),
            "counter" => Ok(Self::Metric(MetricKind::Counter)),
            // The exporter writes such a type above a plain number, which strict readers refuse.
            "histogram" | "summary" => Ok(Self::Metric(MetricKind::Untyped)),
            "label" => Ok(Self::Label),
            _ => Err(format!(
                "{word:?} is no type; expected gauge, counter, histogram, summary or label"
            )),
        }
    }
}

fn is_metric_name(name: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(is_first) && name.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

/// The columns of a line, without the blanks around them.
fn columns(line: &str) -> Result<Vec<String>, String> {
    let mut columns = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let (column, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_column(quoted)?
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].trim_end().to_owned(), &rest[end..])
        };
        columns.push(column);
        match after.trim_start().strip_prefix(',') {
            Some(next) => rest = next,
            None if after.trim().is_empty() => return Ok(columns),
            None => return Err("there is text after a closing quote".to_owned()),
        }
    }
}

/// A column whose opening quote has been read, and what follows its closing one.
fn quoted_column(text: &str) -> Result<(String, &str), String> {
    let mut column = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or("a quote is not closed")?;
        column.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                column.push('"');
                rest = more;
            }
            None => return Ok((column, rest)),
        }
    }
}
