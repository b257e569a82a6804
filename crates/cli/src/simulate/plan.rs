//! What was asked for, checked and ready to be carried out.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use mizzen_nvml_sim::control::{GpuRef, Gpus, Simulator};
use mizzen_nvml_sim::scenario::{GpuGroup, Model, Scenario};

use super::args::{AtLeast, SimulateArgs};
use super::configs::Configs;
use super::pods::{self, Submitted};
use super::script::{Action, MigChange, Script, Step};

/// A run that makes sense.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The node.
    pub(crate) scenario: Scenario,
    /// The pods in the order of their creation.
    pub(crate) pods: Vec<Submitted>,
    /// The script in the order of time.
    pub(crate) steps: Vec<Step>,
    /// The agent's config file, and what the script makes of it.
    pub(crate) configs: Configs,
    /// How long to go on.
    pub(crate) at_least: Option<AtLeast>,
    /// What was typed, for the picture: what concerns the picture itself is left out.
    pub(crate) command_line: String,
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
        // Scenarios from files and from `--gpus` have been found possible.
        let gpus = scenario.plan().map_or(0, |node| node.gpus.len());
        let steps = in_order(args.inject, gpus)?;
        check_partitions(&steps, &scenario)?;
        Ok(Self {
            scenario,
            pods: pods::read(&args.pods, args.pod_time)?,
            configs: Configs::read(args.config.as_deref(), &steps)?,
            steps,
            at_least: args.at_least,
            command_line: command_line(typed()),
            picture: args.picture,
            dir: args.dir,
            keep: args.keep,
            agent_flags: args.agent_flags,
        })
    }
}

/// The arguments of this process.
fn typed() -> impl Iterator<Item = String> {
    let arguments = std::env::args_os().skip(1);
    arguments.map(|argument| argument.to_string_lossy().into_owned())
}

/// `mizzen` and its arguments as they are typed, without `--picture`.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let mut words = vec!["mizzen".to_owned()];
    let mut is_file = false;
    for argument in arguments {
        let is_flag = argument == "--picture";
        if is_file || is_flag || argument.starts_with("--picture=") {
            is_file = is_flag;
        } else if argument.contains(char::is_whitespace) {
            words.push(format!("'{argument}'"));
        } else {
            words.push(argument);
        }
    }
    words.join(" ")
}

/// The steps of all scripts by time; those of the same time in the order they were written.
fn in_order(scripts: Vec<Script>, gpus: usize) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = scripts
        .into_iter()
        .flat_map(|Script(steps)| steps)
        .collect();
    steps.sort_by_key(|step| step.at);
    check(&steps, gpus)?;
    Ok(steps)
}

/// Follows the script on a node that starts with so many GPUs: what it names must be there.
fn check(steps: &[Step], mut gpus: usize) -> Result<()> {
    for step in steps {
        let target = match &step.action {
            Action::Add(model) => {
                model
                    .parse::<Model>()
                    .with_context(|| format!("--inject '{}'", step.action))?;
                gpus += 1;
                continue;
            }
            Action::Inject(_, target)
            | Action::Load(_, target)
            | Action::Mig(_, target)
            | Action::Heal(target)
            | Action::Remove(target) => target,
            Action::RestartKubelet | Action::RestartAgent | Action::Config(_) => continue,
        };
        let Gpus::These(names) = &target.0 else {
            continue;
        };
        for name in names {
            if let GpuRef::Index(index) = name
                && *index as usize >= gpus
            {
                bail!(
                    "--inject '{}': there is no GPU {index}; the node has {gpus} then",
                    step.action
                );
            }
        }
        if matches!(step.action, Action::Remove(_)) {
            gpus = gpus.saturating_sub(names.len());
        }
    }
    Ok(())
}

/// Follows the GPUs of the node through a script that partitions some: these must have the
/// profiles. Whether MIG is on and there is room is seen in the run, for others may have a hand in
/// that.
fn check_partitions(steps: &[Step], scenario: &Scenario) -> Result<()> {
    let partitions = |step: &Step| matches!(step.action, Action::Mig(..));
    if !steps.iter().any(partitions) {
        return Ok(());
    }
    let state = tempfile::tempdir().context("cannot make a temporary directory")?;
    let simulator = Simulator::create(state.path(), scenario)?;
    for step in steps {
        let followed = match &step.action {
            Action::Add(model) => simulator.add(&GpuGroup::new(model.parse()?, 1)).map(|_| ()),
            Action::Remove(target) => simulator.remove(&target.0).map(|_| ()),
            Action::Mig(MigChange::Create(profiles), target) => {
                simulator.check_mig_profiles(&target.0, profiles)
            }
            Action::Mig(_, target) => simulator.check_mig_profiles::<&str>(&target.0, &[]),
            _ => Ok(()),
        };
        followed.with_context(|| format!("--inject '{}'", step.action))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(script: &str, gpus: usize) -> Result<Vec<Step>> {
        in_order(vec![script.parse().unwrap()], gpus)
    }

    #[test]
    fn the_command_line_is_shown_as_it_is_typed_without_the_picture() {
        let typed = [
            "simulate",
            "--picture",
            "a.svg",
            "--inject",
            "lost gpu 2",
            "--keep",
        ];
        let shown = command_line(typed.map(String::from).into_iter());
        assert_eq!(shown, "mizzen simulate --inject 'lost gpu 2' --keep");
    }

    #[test]
    fn steps_are_put_in_the_order_of_time() {
        let steps = order("at 2s: heal all; at 1s: lost gpu 0; at 2s: hang gpu 1", 2).unwrap();
        let told: Vec<_> = steps.iter().map(|step| step.action.to_string()).collect();
        assert_eq!(told, ["lost on GPU 0", "heal all GPUs", "hang on GPU 1"]);
    }

    #[test]
    fn gpus_that_have_no_such_mig_profile_are_refused_before_the_start() {
        let nothing_else = "the GPU cannot be partitioned";
        for (script, mistake) in [
            (
                "mig create foo on gpu 1",
                "--inject 'mig create foo on GPU 1': GPU 1 (NVIDIA A30): there is no profile \
                 \"foo\"; there are 1g.6gb, ",
            ),
            (
                "mig create 1g.10gb on gpu 1",
                "there is no profile \"1g.10gb\"",
            ),
            ("mig enable gpu 0", nothing_else),
            ("mig destroy all", nothing_else),
            ("at 1s: remove gpu 0; at 2s: mig disable gpu 0", ""),
            (
                "at 2s: remove gpu 0; at 1s: mig disable gpu 0",
                nothing_else,
            ),
            (
                "at 1s: add h100-80gb; at 2s: mig create 1g.10gb on gpu 2",
                "",
            ),
            ("mig create 1g.6gb on gpu 1", ""),
        ] {
            let scenario = Scenario::short("1xt4,1xa30").unwrap();
            let checked = check_partitions(&order(script, 2).unwrap(), &scenario);
            let told = checked.map_or_else(|error| format!("{error:#}"), |()| String::new());
            assert!(told.contains(mistake), "{script}: {told}");
            assert_eq!(told.is_empty(), mistake.is_empty(), "{script}: {told}");
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_at_that_moment_is_refused() {
        assert!(order("at 2s: lost gpu 8; at 1s: add t4", 8).is_ok());
        let early = order("at 1s: lost gpu 8; at 2s: add t4", 8)
            .unwrap_err()
            .to_string();
        assert_eq!(
            early,
            "--inject 'lost on GPU 8': there is no GPU 8; the node has 8 then"
        );
        assert!(order("at 1s: remove gpu 0; at 2s: lost gpu 7", 8).is_err());
    }
}
