//! What `--inject` says: `at 3s: xid 79 on gpu 2`.
//!
//! A sentence per step, several separated by `;`. Every mistake is reported with the place
//! where it is and what would have been right there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::duration;
use crate::fault::{
    EccKind, Fault, Instance, LinkError, RecoveryAction, RowRemap, ThrottleReason, Xid,
};
use crate::target::Target;
use mizzen_nvml_sim::control::Gpus;

mod words;

use words::{Mistake, Words};

/// Every sentence that is understood, for help texts and for the answer to one that is not.
pub(crate) const GRAMMAR: &str = "  xid N on gpu G                   an Xid error, as the driver logs it (79: fallen off the bus)
  ecc single|double [N] on gpu G   N memory errors, corrected or not (default 1)
  lost gpu G                       the GPU answers GPU_IS_LOST to everything
  hang gpu G                       calls about the GPU block, as real ones do
  throttle REASON on gpu G         clocks held down: thermal, power, hw-slowdown, power-brake
  recovery-action A on gpu G       what the driver asks for: none, gpu-reset, node-reboot,
                                   drain-p2p, drain-and-reset, recover-imex-domain
  row-remap pending|failure on gpu G
                                   a faulty row of memory waits for a reset, or has no spare
  link-errors KIND [N] on gpu G    N errors of links (default 1): pcie-replay, nvlink-crc-flit,
                                   nvlink-crc-data, nvlink-replay, nvlink-recovery
  xid N on gpu G instance GI[/CI]  an Xid error of a MIG instance, by its ids
  mig enable|disable gpu G         MIG mode; on Ampere with the next heal
  mig create P[,P] on gpu G        MIG devices, such as 3g.40gb,1g.10gb
  mig destroy gpu G                take all MIG devices away
  load PERCENT on gpu G            make the GPU work: utilisation, power and temperature rise
  heal gpu G                       undo every fault, as a reset of the GPU does
  add MODEL                        plug one more GPU in, such as h100-80gb
  remove gpu G                     take the GPU out
  kubelet restart                  the kubelet stops and starts, as in a node upgrade
  agent restart                    kill -9 the agent and start it again
  config FILE                      replace the agent's config file by this one
G is an index, a UUID, a PCI bus id, several of them (2,3), or all.";

/// Something to do at a moment of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// How long after the start.
    pub(crate) at: Duration,
    /// What to do.
    pub(crate) action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Makes GPUs faulty.
    Inject(Fault, Target),
    /// Gives GPUs work: per cent of their full load.
    Load(u8, Target),
    /// Makes GPUs whole again.
    Heal(Target),
    /// Partitions GPUs.
    Mig(MigChange, Target),
    /// Plugs a GPU of this built-in model in.
    Add(String),
    /// Takes GPUs out of the node.
    Remove(Target),
    /// Stops and starts the kubelet.
    RestartKubelet,
    /// Kills the agent and starts it again.
    RestartAgent,
    /// Replaces the agent's config file by this one.
    Config(PathBuf),
}

/// A change of GPUs' partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MigChange {
    /// Turns MIG on or off.
    Mode(bool),
    /// Creates MIG devices of these profiles.
    Create(Vec<String>),
    /// Takes every instance away.
    Destroy,
}

impl fmt::Display for MigChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mode(true) => f.write_str("mig enable"),
            Self::Mode(false) => f.write_str("mig disable"),
            Self::Create(profiles) => write!(f, "mig create {}", profiles.join(",")),
            Self::Destroy => f.write_str("mig destroy"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inject(fault, gpus) => write!(f, "{fault} on {gpus}"),
            Self::Load(percent, gpus) => write!(f, "load {percent} % on {gpus}"),
            Self::Heal(gpus) => write!(f, "heal {gpus}"),
            Self::Mig(change, gpus) => write!(f, "{change} on {gpus}"),
            Self::Add(model) => write!(f, "add {model}"),
            Self::Remove(gpus) => write!(f, "remove {gpus}"),
            Self::RestartKubelet => f.write_str("kubelet restart"),
            Self::RestartAgent => f.write_str("agent restart"),
            Self::Config(file) => write!(f, "config {}", file.display()),
        }
    }
}

/// One `--inject`: its steps in the order they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script(pub(crate) Vec<Step>);

impl FromStr for Script {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        let mut words = Words::new(text);
        let mut steps = vec![step(&mut words)?];
        while words.next_sentence()? {
            steps.push(step(&mut words)?);
        }
        Ok(Self(steps))
    }
}

fn step(words: &mut Words<'_>) -> Result<Step, Mistake> {
    let at = if words.take_if("at") || words.take_if("after") {
        let at = words.parsed("a duration, such as 3s or 500ms", duration::parse)?;
        words.expect(":")?;
        at
    } else {
        Duration::ZERO
    };
    Ok(Step {
        at,
        action: action(words)?,
    })
}

fn action(words: &mut Words<'_>) -> Result<Action, Mistake> {
    let word = words.any("what to do")?;
    Ok(match word {
        "xid" => {
            let number = words.parsed("the Xid's number, such as 79", str::parse)?;
            let gpus = on_gpus(words)?;
            let instance = instance(words)?;
            let xid = Xid {
                number,
                event_only: false,
                instance,
            };
            Action::Inject(Fault::Xid(xid), gpus)
        }
        "ecc" => {
            let kind = words.one_of::<EccKind>()?;
            let count = words.parsed_if(str::parse).unwrap_or(1);
            Action::Inject(Fault::Ecc(kind, count), on_gpus(words)?)
        }
        "lost" => Action::Inject(Fault::Lost, gpus(words)?),
        "hang" => Action::Inject(Fault::Hang, gpus(words)?),
        "throttle" => {
            let reason = words.one_of::<ThrottleReason>()?;
            Action::Inject(Fault::Throttle(reason), on_gpus(words)?)
        }
        "recovery-action" => {
            let action = words.one_of::<RecoveryAction>()?;
            Action::Inject(Fault::RecoveryAction(action), on_gpus(words)?)
        }
        "link-errors" => {
            let error = words.one_of::<LinkError>()?;
            let count = words.parsed_if(str::parse).unwrap_or(1);
            Action::Inject(Fault::Link(error, count), on_gpus(words)?)
        }
        "row-remap" => {
            let state = words.one_of::<RowRemap>()?;
            Action::Inject(Fault::RowRemap(state), on_gpus(words)?)
        }
        "mig" => mig(words)?,
        "load" => Action::Load(
            words.parsed("per cent, 0 to 100", percent)?,
            on_gpus(words)?,
        ),
        "heal" => Action::Heal(gpus(words)?),
        "add" => Action::Add(words.any("a GPU model, such as h100-80gb")?.to_owned()),
        "remove" => Action::Remove(gpus(words)?),
        "kubelet" => words.expect("restart").map(|()| Action::RestartKubelet)?,
        "agent" => words.expect("restart").map(|()| Action::RestartAgent)?,
        "config" => Action::Config(words.any("a config file")?.into()),
        _ => return Err(words.last_is_wrong(&format!("is none of:\n{GRAMMAR}"))),
    })
}

/// `instance 2/0`, if it follows.
fn instance(words: &mut Words<'_>) -> Result<Option<Instance>, Mistake> {
    if !words.take_if("instance") {
        return Ok(None);
    }
    let wanted = "the id of a GPU instance, or of a compute instance after it: 2 or 2/0";
    words.parsed(wanted, str::parse).map(Some)
}

/// What follows `mig`.
fn mig(words: &mut Words<'_>) -> Result<Action, Mistake> {
    let change = match words.any("`enable`, `disable`, `create` or `destroy`")? {
        "enable" => MigChange::Mode(true),
        "disable" => MigChange::Mode(false),
        "destroy" => MigChange::Destroy,
        "create" => {
            let profiles = words.any("profiles, such as 3g.40gb,1g.10gb")?;
            let profiles = profiles.split(',').map(str::to_owned);
            return Ok(Action::Mig(
                MigChange::Create(profiles.collect()),
                on_gpus(words)?,
            ));
        }
        _ => return Err(words.last_is_wrong("should be one of: enable, disable, create, destroy")),
    };
    Ok(Action::Mig(change, gpus(words)?))
}

/// `on gpu 2`.
fn on_gpus(words: &mut Words<'_>) -> Result<Target, Mistake> {
    words.expect("on")?;
    gpus(words)
}

/// `gpu 2`, `on gpu 2`, `gpus 2,3`, `all gpus`, `all`.
fn gpus(words: &mut Words<'_>) -> Result<Target, Mistake> {
    words.take_if("on");
    if words.take_if("all") {
        let _spelt_out = words.take_if("gpus") || words.take_if("GPUs");
        return Ok(Target(Gpus::All));
    }
    let word = words.any("`gpu` and which one")?;
    if !["gpu", "gpus"].contains(&word.to_ascii_lowercase().as_str()) {
        return Err(words.last_is_wrong("should be `gpu` (then which one)"));
    }
    words.parsed(
        "which GPU: an index, a UUID, a PCI bus id or all",
        str::parse,
    )
}

fn percent(text: &str) -> Result<u8, &'static str> {
    let number = text.strip_suffix('%').unwrap_or(text).parse();
    number
        .ok()
        .filter(|percent| *percent <= 100)
        .ok_or("not 0 to 100")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Step {
        let Script(mut steps) = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(steps.len(), 1);
        steps.remove(0)
    }

    #[test]
    fn every_sentence_of_the_grammar_is_understood() {
        for (text, shown) in [
            ("at 3s: xid 79 on gpu 2", "Xid 79 on GPU 2"),
            (
                "at 500ms : ecc double on gpus 1,3",
                "double-bit ECC error on GPUs 1,3",
            ),
            (
                "ecc single 12 on gpu 0",
                "12 single-bit ECC errors on GPU 0",
            ),
            ("after 1m: lost gpu 2", "lost on GPU 2"),
            ("lost on gpu 2", "lost on GPU 2"),
            ("hang all gpus", "hang on all GPUs"),
            ("throttle thermal on gpu 2", "throttle thermal on GPU 2"),
            (
                "recovery-action gpu-reset on gpu 2",
                "recovery action gpu-reset on GPU 2",
            ),
            (
                "at 1s: row-remap failure on gpu 2",
                "row remap failure on GPU 2",
            ),
            (
                "link-errors nvlink-replay 20 on gpu 2",
                "20 × nvlink-replay on GPU 2",
            ),
            ("load 80% on gpu 2", "load 80 % on GPU 2"),
            (
                "xid 94 on gpu 2 instance 1/0",
                "Xid 94 of instance 1/0 on GPU 2",
            ),
            (
                "at 2s: xid 31 on gpu 2 instance 13",
                "Xid 31 of instance 13 on GPU 2",
            ),
            ("mig enable gpus 0,1", "mig enable on GPUs 0,1"),
            ("mig disable on gpu 0", "mig disable on GPU 0"),
            (
                "mig create 3g.40gb,1g.10gb on gpu 0",
                "mig create 3g.40gb,1g.10gb on GPU 0",
            ),
            ("mig destroy all", "mig destroy on all GPUs"),
            ("heal gpu 2", "heal GPU 2"),
            ("heal all", "heal all GPUs"),
            ("add h100-80gb", "add h100-80gb"),
            ("remove GPU 3", "remove GPU 3"),
            ("kubelet restart", "kubelet restart"),
            ("agent restart", "agent restart"),
            ("at 3s: config b/c.yaml", "config b/c.yaml"),
        ] {
            assert_eq!(only(text).action.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn a_step_without_a_time_happens_at_the_start() {
        assert_eq!(only("xid 79 on gpu 2").at, Duration::ZERO);
        assert_eq!(
            only("at 1.5s: xid 79 on gpu 2").at,
            Duration::from_millis(1500)
        );
    }

    #[test]
    fn several_steps_are_separated_by_semicolons() {
        let Script(steps) = "at 1s: lost gpu 2; at 3s: heal gpu 2;".parse().unwrap();
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[1].at, Duration::from_secs(3));
    }

    #[test]
    fn a_mistake_is_shown_where_it_is_with_what_would_be_right() {
        for (text, message) in [
            (
                "at 3s: xid 79 of gpu 2",
                "`of` should be `on`\n  at 3s: xid 79 of gpu 2\n                ^^",
            ),
            (
                "at 3s: xid 79",
                "something is missing: `on`\n  at 3s: xid 79\n               ^",
            ),
            (
                "at soon: heal all",
                "`soon` should be a duration, such as 3s or 500ms\n  at soon: heal all\n     ^^^^",
            ),
            (
                "ecc triple on gpu 1",
                "`triple` should be one of: single, double\n  ecc triple on gpu 1\n      ^^^^^^",
            ),
            (
                "mig split gpu 1",
                "`split` should be one of: enable, disable, create, destroy\n  \
                 mig split gpu 1\n      ^^^^^",
            ),
            (
                "xid 79 on gpu 2 instance x",
                "`x` should be the id of a GPU instance, or of a compute instance after it: \
                 2 or 2/0\n  xid 79 on gpu 2 instance x\n                           ^",
            ),
            (
                "xid 79 on gpu 2 now",
                "`now` is one word too many\n  xid 79 on gpu 2 now\n                  ^^^",
            ),
            (
                "lost gpu two",
                "`two` should be which GPU: an index, a UUID, a PCI bus id or all\n  \
                 lost gpu two\n           ^^^",
            ),
        ] {
            assert_eq!(text.parse::<Script>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn an_unknown_fault_is_answered_with_everything_that_is_known() {
        let error = "at 3s: explode gpu 2"
            .parse::<Script>()
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("`explode` is none of:\n"), "{error}");
        assert!(error.contains("xid N on gpu G"), "{error}");
    }
}
