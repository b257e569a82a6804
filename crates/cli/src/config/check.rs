//! `mizzen config check`: what is wrong with a config file, or what a node offers with it.

use std::process::ExitCode;

use anyhow::Result;
use mizzen_core::config::Config;
use serde::Serialize;

use super::args::{AnswerForm, CheckArgs};
use super::findings::Finding;
use super::node::Node;
use super::offer::Offer;
use super::{ConfigFile, UNUSABLE, misunderstood, print_json};
use crate::terminal::Terminal;

mod document;
mod render;

use document::NodeOffer;
pub(super) use render::heading;

/// The version of the JSON document's form.
const FORM: u32 = 1;

/// What is printed for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    file: String,
    valid: bool,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    /// Absent where the file cannot be used.
    #[serde(flatten)]
    offer: Option<NodeOffer>,
}

/// Carries the command out.
pub(super) fn run(args: &CheckArgs) -> Result<ExitCode> {
    let file = match ConfigFile::read(&args.file) {
        Ok(file) => file,
        Err(error) => return Ok(misunderstood(&error)),
    };
    match file.settings.validate() {
        Ok(config) => match Node::find(&args.node, &config) {
            Ok(node) => tell_offer(&file.name, &config, &node, args.output),
            Err(error) => Ok(misunderstood(&error)),
        },
        Err(errors) => {
            let errors: Vec<Finding> = errors.iter().map(Finding::from).collect();
            tell_errors(file.name, errors, args.output)
        }
    }
}

fn tell_errors(file: String, errors: Vec<Finding>, output: AnswerForm) -> Result<ExitCode> {
    match output {
        AnswerForm::Table => {
            for error in &errors {
                eprintln!("{}", error.in_file(&file, ""));
            }
            let plural = if errors.len() == 1 { "" } else { "s" };
            eprintln!("{file} cannot be used: {} mistake{plural}", errors.len());
        }
        AnswerForm::Json => print_json(&Document {
            version: FORM,
            file,
            valid: false,
            errors,
            warnings: Vec::new(),
            offer: None,
        })?,
    }
    Ok(UNUSABLE.into())
}

fn tell_offer(file: &str, config: &Config, node: &Node, output: AnswerForm) -> Result<ExitCode> {
    let warnings: Vec<Finding> = config.warnings.iter().map(Finding::from).collect();
    let offer = Offer::new(&node.inventory, config);
    match output {
        AnswerForm::Table => {
            let lines = render::lines(file, &warnings, node, &offer);
            Terminal::stdout().print(lines)?;
        }
        AnswerForm::Json => print_json(&Document {
            version: FORM,
            file: file.to_owned(),
            valid: true,
            errors: Vec::new(),
            warnings,
            offer: Some(NodeOffer::new(node, &offer)),
        })?,
    }
    Ok(ExitCode::SUCCESS)
}
