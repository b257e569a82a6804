//! An `nvidia-smi` for any NVML, real or simulated: the list of GPUs, the table, and the queries
//! that people script with, in the words and with the exit codes of NVIDIA's.

mod apps;
mod args;
mod csv;
mod fields;
mod gpus;
mod help;
mod list;
mod outcome;
mod table;
mod time;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use mizzen_nvml::direct::Nvml;

use args::Command;
use csv::Row;
use gpus::Gpus;
use outcome::{Failure, Outcome};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let outcome = run(&arguments, SystemTime::now());
    let outcome = outcome.unwrap_or_else(Outcome::from);
    let mut out = std::io::stdout().lock();
    let written = out
        .write_all(outcome.text.as_bytes())
        .and_then(|()| out.flush());
    match written {
        Ok(()) => ExitCode::from(outcome.code),
        // Who listened has heard enough.
        Err(_) => ExitCode::from(outcome::OTHER),
    }
}

fn run(arguments: &[String], now: SystemTime) -> Result<Outcome, Failure> {
    let command = args::parse(arguments)?;
    // Help is for everybody, with a driver or without.
    if let Command::Say(text) = command {
        return Ok(Outcome::good(text));
    }
    let nvml = Nvml::open()?;
    let gpus = |wanted: &[String]| Gpus::find(&nvml, wanted);
    Ok(match command {
        Command::Say(text) => Outcome::good(text),
        Command::Version => Outcome::good(help::versions(&nvml)),
        Command::List(wanted) => list::print(&gpus(&wanted).map_err(Failure::in_list)?),
        Command::Table(wanted) => table::print(&nvml, &gpus(&wanted)?, now),
        Command::QueryGpus(query, wanted) => csv::print(&gpus(&wanted)?, &query, |gpu| {
            vec![Row::of_gpu(&nvml, gpu, now)]
        }),
        Command::QueryApps(query, wanted) => {
            csv::print(&gpus(&wanted)?, &query, |gpu| apps::rows(&nvml, gpu, now))
        }
    })
}
