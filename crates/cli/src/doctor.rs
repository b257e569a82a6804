//! The `mizzen doctor` command.

use std::process::ExitCode;

use anyhow::Result;
use mizzen_agent::doctor::look;
use mizzen_core::doctor::{Report, Severity, examine};

mod args;
mod document;
mod render;

pub(crate) use args::{ABOUT, DoctorArgs};

use crate::agent;
use crate::host_root;
use crate::stdout::print;
use crate::terminal::Terminal;
use args::AnswerForm;

/// The exit code of a node on which something is wrong.
const UNWELL: u8 = 1;
/// The exit code of a command line that makes no sense, as clap has it.
const MISUNDERSTOOD: u8 = 2;

/// Carries the command out.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let best = agent::best(&args.settings, agent::variable);
    let checked = best.and_then(|settings| {
        host_root::check(&settings.config.host_root)?;
        Ok(settings)
    });
    let settings = match checked {
        Ok(settings) => settings,
        Err(mistakes) => {
            eprintln!("mizzen doctor: {mistakes}");
            return Ok(MISUNDERSTOOD.into());
        }
    };
    let report = examine(&look(settings));
    let text = match args.answer.output {
        AnswerForm::Table => {
            let terminal = Terminal::stdout();
            let lines = render::lines(&report, &terminal);
            lines
                .iter()
                .map(|line| terminal.render(line) + "\n")
                .collect()
        }
        AnswerForm::Json => serde_json::to_string_pretty(&document::of(&report))? + "\n",
    };
    print(&text)?;
    Ok(code(&report, args.answer.strict))
}

fn code(report: &Report, strict: bool) -> ExitCode {
    let is_unwell =
        report.count(Severity::Error) > 0 || (strict && report.count(Severity::Warning) > 0);
    if is_unwell {
        UNWELL.into()
    } else {
        ExitCode::SUCCESS
    }
}
