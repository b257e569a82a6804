//! The `mizzen metrics` command.

mod args;
mod exporter;

use std::process::ExitCode;

use anyhow::Result;
use mizzen_agent::{NoPage, one_page, serve_alone};

use crate::agent::start_log;
use crate::stdout::print;
pub(crate) use args::{ABOUT, MetricsArgs};

/// The exit code of a command line or settings that cannot be understood, as clap has it.
const MISUNDERSTOOD: u8 = 2;

/// Carries the command out.
pub(crate) fn run(args: &MetricsArgs) -> Result<ExitCode> {
    let config = match args.config() {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("mizzen metrics: {mistakes}");
            return Ok(MISUNDERSTOOD.into());
        }
    };
    let mut remarks: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    remarks.extend(args.remarks(crate::agent::variable));
    if !args.oneshot {
        if let Err(mistakes) = start_log(&args.log) {
            eprintln!("mizzen metrics: {mistakes}");
            return Ok(MISUNDERSTOOD.into());
        }
        for remark in &remarks {
            tracing::warn!(event = "config", "{remark}");
        }
        serve_alone(config, Box::new(mizzen_agent::nvml_loader))?;
        return Ok(ExitCode::SUCCESS);
    }
    let loader = mizzen_agent::nvml_loader(&config);
    match one_page(loader.as_ref(), config) {
        Ok(page) => {
            for remark in remarks.iter().chain(&page.remarks) {
                eprintln!("mizzen metrics: {remark}");
            }
            print(&page.text)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(NoPage::Settings(mistakes)) => {
            eprintln!("mizzen metrics: {mistakes}");
            Ok(MISUNDERSTOOD.into())
        }
        Err(NoPage::Driver(error)) => {
            eprintln!("mizzen metrics: the driver cannot be asked: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}
