//! Queries that are answered with comma-separated values.

use std::time::SystemTime;

use mizzen_nvml::direct::{Answer, Code, Device, Nvml, Process};

use crate::gpus::{Gpu, Gpus};
use crate::outcome::Outcome;

/// What a row of the answer is about.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) nvml: &'a Nvml,
    pub(crate) index: u32,
    pub(crate) device: Device<'a>,
    pub(crate) now: SystemTime,
    /// The process, where a row is about one.
    pub(crate) process: Option<Process>,
}

impl<'a> Row<'a> {
    pub(crate) fn of_gpu(nvml: &'a Nvml, gpu: &Gpu<'a>, now: SystemTime) -> Self {
        Self {
            nvml,
            index: gpu.index,
            device: gpu.device,
            now,
            process: None,
        }
    }

    pub(crate) fn process(&self) -> Answer<Process> {
        self.process.ok_or(Code::NOT_FOUND)
    }
}

/// How a value is found.
pub(crate) type Value = fn(&Row<'_>) -> Answer<String>;

/// Something that can be asked for.
pub(crate) struct Column {
    /// What the header calls it.
    pub(crate) name: &'static str,
    /// What it may be called as well.
    pub(crate) also: &'static str,
    /// The unit of the value; empty if it has none.
    pub(crate) unit: &'static str,
    pub(crate) value: Value,
    /// What it is, for the help.
    pub(crate) what: &'static str,
}

impl std::fmt::Debug for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Column {
    /// Whether this is its name.
    pub(crate) fn is(&self, name: &str) -> bool {
        !name.is_empty() && (self.name == name || self.also == name)
    }
}

/// A column; the arguments are its fields in their order.
pub(crate) const fn column(
    name: &'static str,
    also: &'static str,
    unit: &'static str,
    value: Value,
    what: &'static str,
) -> Column {
    Column {
        name,
        also,
        unit,
        value,
        what,
    }
}

/// What is asked for, and how it is written.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) columns: Vec<&'static Column>,
    pub(crate) header: bool,
    pub(crate) units: bool,
}

/// The answer: the header, and a line for each row of each GPU.
pub(crate) fn print<'a>(
    gpus: &Gpus<'a>,
    query: &Query,
    rows: impl Fn(&Gpu<'a>) -> Vec<Row<'a>>,
) -> Outcome {
    let mut text = gpus.complaints();
    if query.header {
        let header = query.columns.iter().map(|column| match column.unit {
            "" => column.name.to_owned(),
            unit => format!("{} [{unit}]", column.name),
        });
        text += &line(header);
    }
    for row in gpus.found.iter().flat_map(rows) {
        let values = query
            .columns
            .iter()
            .map(|column| match (column.value)(&row) {
                Err(code) => missing(code).to_owned(),
                Ok(value) if query.units && !column.unit.is_empty() => {
                    format!("{value} {}", column.unit)
                }
                Ok(value) => value,
            });
        text += &line(values);
    }
    Outcome {
        text,
        code: gpus.exit_code(),
    }
}

fn line(values: impl Iterator<Item = String>) -> String {
    values.collect::<Vec<_>>().join(", ") + "\n"
}

/// What stands in place of a value.
pub(crate) fn missing(code: Code) -> &'static str {
    match code {
        Code::NOT_SUPPORTED | Code::FUNCTION_NOT_FOUND | Code::INVALID_ARGUMENT => "[N/A]",
        Code::NOT_FOUND => "[Not Found]",
        Code::NO_PERMISSION => "[Insufficient Permissions]",
        Code::GPU_IS_LOST => "[GPU is lost]",
        _ => "[Unknown Error]",
    }
}
