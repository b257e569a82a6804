//! `mizzen mig apply`: cuts the GPUs as wanted, one after the other.

use mizzen_core::driver::GpuDriver;
use mizzen_core::mig::{MigMode, MigStep, MigTarget};
use serde::Serialize;

use super::args::{AnswerForm, PlanArgs};
use super::document::{GpuFacts, State, Step};
use super::goal::Goal;
use super::node::{Card, Node, look};
use super::plan;
use super::pods::{Asked, Holders};
use super::prospect::{Prospect, prospects, way};
use super::{FAILED, FORM, Stop, WAITS, columns, print_json, steps};
use crate::terminal::{BAD, BOLD, DIM, GOOD, Line, PLAIN, Terminal, WARN, wrapped};
use crate::words::counted;

/// Rounds of planning and changing. Setting the mode takes a second one; more are needed only
/// where somebody else changes the GPU meanwhile.
const MOST_ROUNDS: usize = 4;

/// What has become of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// It was as wanted, or is left as it is.
    Unchanged,
    /// It is as wanted now.
    Changed,
    /// It must be reset before it goes on.
    NeedsReset,
    /// It is not as wanted; the steps that were taken stay.
    Failed,
}

/// What `apply` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    target: String,
    remarks: Vec<String>,
    gpus: Vec<Report>,
}

/// What was done to one GPU.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(flatten)]
    gpu: GpuFacts,
    outcome: Outcome,
    /// Why it failed.
    reason: Option<String>,
    /// The steps that were taken.
    done: Vec<Step>,
    /// How it is now; null if it does not tell.
    now: Option<State>,
}

/// Carries the command out.
pub(super) fn run(node: &Node, args: &PlanArgs) -> Result<u8, Stop> {
    args.check()?;
    let (cards, goal) = Goal::of(&args.target, &args.which, node)?;
    let (prospects, asked) = prospects(args, &goal, &cards);
    let terminal = Terminal::stdout();
    let is_told = args.output == AnswerForm::Table;
    if is_told {
        let mut lines = plan::lines(&goal, &prospects, &asked, columns(&terminal));
        lines.extend(plan::broken(node, args));
        if let Some(file) = &args.picture {
            plan::draw(file, &lines)?;
        }
        terminal.print(lines).map_err(anyhow::Error::from)?;
    }
    let mut reports = Vec::new();
    for (at, prospect) in prospects.iter().enumerate() {
        let (now, holders) = again(args, &goal, at, prospect, &asked);
        let mut work = Work {
            driver: node.driver.as_ref(),
            card: prospect.card,
            holders: &holders,
            terminal: is_told.then_some(&terminal),
            done: Vec::new(),
        };
        let outcome = work.carry_out(&now)?;
        // What was in the way from the start was told with the plan.
        if prospect.way.is_ok() {
            work.tell(&outcome)?;
        }
        reports.push(work.report(outcome));
    }
    let silent = plan::silent(node, args);
    let code = code(&reports, silent);
    if is_told {
        terminal
            .print([verdict(&reports, &asked, silent)])
            .map_err(anyhow::Error::from)?;
    } else {
        print_json(&Document {
            version: FORM,
            target: goal.name,
            remarks: goal.remarks,
            gpus: reports,
        })?;
    }
    Ok(code)
}

/// What is to be done to a GPU and who holds what, once more just before it is done: while the GPUs
/// before it were changed, which may take minutes, a pod may have got a device of this one.
fn again<'a>(
    args: &PlanArgs,
    goal: &Goal,
    at: usize,
    prospect: &Prospect<'a>,
    asked: &Asked,
) -> (Prospect<'a>, Holders) {
    if !matches!(asked, Asked::Answered(_)) {
        return (prospect.clone(), Holders::default());
    }
    let (mut now, asked) = prospects(args, &goal.only(at), &[prospect.card]);
    let now = now.pop().unwrap_or_else(|| prospect.clone());
    (now, asked.holders())
}

fn code(reports: &[Report], silent: usize) -> u8 {
    let has = |outcome| reports.iter().any(|report| report.outcome == outcome);
    match (silent > 0 || has(Outcome::Failed), has(Outcome::NeedsReset)) {
        (true, _) => FAILED,
        (_, true) => WAITS,
        _ => 0,
    }
}

/// The change of one GPU.
struct Work<'a> {
    driver: &'a dyn GpuDriver,
    card: &'a Card,
    holders: &'a Holders,
    /// Where progress is told.
    terminal: Option<&'a Terminal>,
    done: Vec<Step>,
}

impl Work<'_> {
    fn carry_out(&mut self, prospect: &Prospect<'_>) -> Result<Result<Outcome, String>, Stop> {
        let (target, way) = match (&prospect.target, &prospect.way) {
            (_, Err(obstacle)) => return Ok(Err(obstacle.to_string())),
            (None, _) => return Ok(Ok(Outcome::Unchanged)),
            (Some(target), Ok(way)) => (target, way),
        };
        if way.plan.is_empty() && !way.needs_reset {
            return Ok(Ok(Outcome::Unchanged));
        }
        self.rounds(target)
    }

    /// Plans and changes until there is nothing left to do.
    fn rounds(&mut self, target: &MigTarget) -> Result<Result<Outcome, String>, Stop> {
        let gpu = &self.card.gpu;
        let mut set_again = false;
        for _ in 0..MOST_ROUNDS {
            let (table, layout) = match look(self.driver, gpu) {
                Ok(found) => found,
                Err(error) => return Ok(Err(steps::refusal(&error))),
            };
            let held = self.holders.held(gpu, &layout);
            let plan = match way(self.card, (&table, &layout, target), &held) {
                Ok(way) => way.plan,
                Err(error) => return Ok(Err(error.to_string())),
            };
            if plan.is_empty() {
                let MigMode { current, pending } = layout.mode;
                if current == pending {
                    return Ok(Ok(Outcome::Changed));
                }
                // It may only have been in use when it was set last.
                let set = || {
                    self.driver
                        .change_mig(&gpu.uuid, &MigStep::SetMode(pending))
                };
                if set_again || set().is_err() {
                    return Ok(Ok(Outcome::NeedsReset));
                }
                set_again = true;
                continue;
            }
            for step in &plan.steps {
                let words = steps::in_words(step, &layout);
                if let Err(error) = self.driver.change_mig(&gpu.uuid, step) {
                    return Ok(Err(format!("cannot {words}: {}", steps::refusal(&error))));
                }
                self.step(Step::new(step, &layout), &words)?;
                // Whether the mode waits for a reset is seen by looking at the GPU again.
                if matches!(step, MigStep::SetMode(_)) {
                    break;
                }
            }
        }
        let reason = "it is not as planned after all steps: does something else change it?";
        Ok(Err(reason.to_owned()))
    }

    fn step(&mut self, step: Step, words: &str) -> Result<(), Stop> {
        self.done.push(step);
        self.print(Line::of(GOOD, "  ✔ ").and(PLAIN, words))
    }

    fn print(&self, text: Line) -> Result<(), Stop> {
        let Some(terminal) = self.terminal else {
            return Ok(());
        };
        let name = Line::of(BOLD, format!("GPU {}", self.card.gpu.index));
        let line = name.join(text);
        Ok(terminal.print([line]).map_err(anyhow::Error::from)?)
    }

    /// Says how it ended, where that is not what the last step said.
    fn tell(&self, outcome: &Result<Outcome, String>) -> Result<(), Stop> {
        match outcome {
            Ok(Outcome::NeedsReset) => {
                let index = self.card.gpu.index;
                let line = Line::of(WARN, "  ↻ to be reset, then again: ");
                self.print(line.and(PLAIN, format!("nvidia-smi --gpu-reset -i {index}")))
            }
            Ok(_) => Ok(()),
            Err(reason) => {
                let Some(terminal) = self.terminal else {
                    return Ok(());
                };
                let name = format!("GPU {}", self.card.gpu.index);
                let lines = wrapped(
                    Line::of(BOLD, name).and(BAD, "  ✖ "),
                    reason,
                    columns(terminal),
                );
                Ok(terminal.print(lines).map_err(anyhow::Error::from)?)
            }
        }
    }

    fn report(self, outcome: Result<Outcome, String>) -> Report {
        let now = self.driver.mig_layout(&self.card.gpu.uuid);
        let (outcome, reason) = match outcome {
            Ok(outcome) => (outcome, None),
            Err(reason) => (Outcome::Failed, Some(reason)),
        };
        Report {
            gpu: (&self.card.gpu).into(),
            outcome,
            reason,
            done: self.done,
            now: now.ok().map(|(_, layout)| State::from(&layout)),
        }
    }
}

/// What it comes to, over all GPUs.
fn verdict(reports: &[Report], asked: &Asked, silent: usize) -> Line {
    let count = |outcome| {
        reports
            .iter()
            .filter(|report| report.outcome == outcome)
            .count()
    };
    let failed = count(Outcome::Failed) + silent;
    let waiting = count(Outcome::NeedsReset);
    let changed = count(Outcome::Changed);
    let all = counted(reports.len() + silent, "GPU");
    match (failed, waiting, changed) {
        (0, 0, 0) => Line::of(GOOD, "✔ ").and(BOLD, "nothing to do"),
        (0, 0, number) => {
            let hint = match asked {
                Asked::NoKubelet(_) | Asked::No => "",
                Asked::Answered(_) => "; what pods hold was left alone",
            };
            Line::of(GOOD, "✔ ")
                .and(BOLD, format!("{number} of {all} changed"))
                .and(DIM, hint)
        }
        (0, number, _) => Line::of(WARN, "↻ ").and(
            BOLD,
            format!("{number} of {all} must be reset, then run this again"),
        ),
        (number, _, _) => Line::of(BAD, "✖ ").and(BOLD, format!("{number} of {all} not as wanted")),
    }
}

#[cfg(test)]
mod tests;
