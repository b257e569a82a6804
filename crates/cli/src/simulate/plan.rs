//! What was asked for, checked and ready to be carried out.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use mizzen_nvml_sim::scenario::{Model, Scenario};

use super::args::{AtLeast, SimulateArgs};
use super::pods::{self, Submitted};
use super::script::{Action, Script, Step};

/// A run that makes sense.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The node.
    pub(crate) scenario: Scenario,
    /// The pods in the order of their creation.
    pub(crate) pods: Vec<Submitted>,
    /// The script in the order of time.
    pub(crate) steps: Vec<Step>,
    /// How long to go on.
    pub(crate) at_least: Option<AtLeast>,
    /// Where to put a picture of the end.
    pub(crate) picture: Option<PathBuf>,
    /// The directory that was asked for.
    pub(crate) dir: Option<PathBuf>,
    /// Whether to keep a temporary one.
    pub(crate) keep: bool,
    /// What the agent is given besides.
    pub(crate) agent_flags: Vec<OsString>,
}

impl Plan {
    /// Reads the files that were named and checks everything.
    pub(crate) fn new(args: SimulateArgs) -> Result<Self> {
        let scenario = match (args.gpus, args.scenario) {
            (Some(gpus), _) => gpus,
            (None, Some(file)) => Scenario::load(&file)?,
            (None, None) => Scenario::default(),
        };
        Ok(Self {
            scenario,
            pods: pods::read(&args.pods, args.pod_time)?,
            steps: in_order(args.inject)?,
            at_least: args.at_least,
            picture: args.picture,
            dir: args.dir,
            keep: args.keep,
            agent_flags: args.agent_flags,
        })
    }
}

/// The steps of all scripts by time; those of the same time in the order they were written.
fn in_order(scripts: Vec<Script>) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = scripts
        .into_iter()
        .flat_map(|Script(steps)| steps)
        .collect();
    for step in &steps {
        if let Action::Add(model) = &step.action {
            model
                .parse::<Model>()
                .with_context(|| format!("--inject '{}'", step.action))?;
        }
    }
    steps.sort_by_key(|step| step.at);
    Ok(steps)
}
