//! `mizzen runtime configure`: turning CDI on, and taking that back.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;
use mizzen_agent::runtime::FoundRuntime;
use mizzen_core::runtime::{
    ABSENT, CdiState, Change, RuntimeKind, SourceFile, Turn, Undone, edited, files_of_edit,
    has_live_restore, turn_on, undo,
};
use mizzen_nvml::HostRoot;

use super::args::ConfigureArgs;
use super::back::{steps_back, unread};
use super::check::NONE_FOUND;
use super::files::HostFile;
use super::look::{Looked, asked, look};
use super::patch::patch;
use super::{MISUNDERSTOOD, NOT_ON, UNKNOWN, ended, print};
use crate::terminal::Terminal;

/// How long a runtime may take to answer after it was restarted.
const PATIENCE: Duration = Duration::from_secs(20);

/// What happens to a file.
pub(super) enum Step {
    /// It gets this text; what it held is kept beside it.
    Edit(Change),
    /// It gets what it held before, or what is left without ours.
    Back {
        file: String,
        before: String,
        /// `None` if it goes.
        after: Option<String>,
        is_exact: bool,
        /// Whether what was kept is removed.
        forgets: bool,
    },
    /// What was kept of it is removed: it is what it holds.
    Forget(String),
    /// Nothing of ours is in it, and what was kept of it is something else, which stays.
    Leave(String),
}

impl Step {
    /// Whether it changes what the runtime reads.
    fn counts(&self) -> bool {
        matches!(self, Self::Edit(_) | Self::Back { .. })
    }
}

/// Carries the command out.
pub(super) fn run(args: &ConfigureArgs) -> Result<ExitCode> {
    if args.restart && args.which.host_root != Path::new("/") {
        let words = "--restart restarts a unit of this machine; with --host-root, restart it there";
        return Ok(ended(MISUNDERSTOOD, words));
    }
    let looked = match look(&args.which) {
        Ok(Some(looked)) => looked,
        Ok(None) => return Ok(ended(UNKNOWN, NONE_FOUND)),
        Err(error) => return Ok(ended(MISUNDERSTOOD, &format!("{error:#}"))),
    };
    let host = HostRoot::new(&args.which.host_root);
    let planned = if args.undo {
        steps_back(&host, &looked.found)
    } else {
        steps(&host, &looked)
    };
    let steps = match planned {
        Ok(Ok(steps)) => steps,
        Ok(Err(reason)) => return Ok(ended(NOT_ON, &reason)),
        Err(error) => return Ok(ended(MISUNDERSTOOD, &format!("{error:#}"))),
    };
    if steps.is_empty() {
        print(&nothing_to_do(&host, &looked, args.undo)?)?;
        print(&notes(args, &looked.found, &steps))?;
        if args.restart && !args.undo && is_behind(&host, &looked.found)? {
            return finish(args, &looked.found);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.dry_run {
        let lines = steps.iter().flat_map(|step| match step {
            Step::Edit(change) => {
                patch(&change.file, change.before.as_deref(), Some(&change.after))
            }
            Step::Back {
                file,
                before,
                after,
                ..
            } => patch(file, Some(before), after.as_deref()),
            Step::Forget(_) | Step::Leave(_) => Vec::new(),
        });
        Terminal::stdout().print(lines)?;
        print(&notes(args, &looked.found, &steps))?;
        return Ok(ExitCode::SUCCESS);
    }
    for step in &steps {
        match take(&host, looked.found.place.kind, step) {
            Ok(words) => print(&words)?,
            Err(error) => return Ok(ended(MISUNDERSTOOD, &format!("{error:#}"))),
        }
    }
    print(&notes(args, &looked.found, &steps))?;
    if !steps.iter().any(Step::counts) {
        return Ok(ExitCode::SUCCESS);
    }
    finish(args, &looked.found)
}

/// What there is to say of the files with these steps taken.
fn notes(args: &ConfigureArgs, found: &FoundRuntime, steps: &[Step]) -> String {
    if args.undo {
        let unread = unread(found);
        return unread.map_or_else(String::new, |unread| {
            format!("note: {unread}: something of Mizzen's may be in what it imports\n")
        });
    }
    let edits = steps.iter().filter_map(|step| match step {
        Step::Edit(change) => Some(change.clone()),
        Step::Back { .. } | Step::Forget(_) | Step::Leave(_) => None,
    });
    let edits: Vec<Change> = edits.collect();
    let mut then = found.clone();
    then.files = edited(&found.place, &found.files, &edits);
    let remarks = then.report_of_files().remarks;
    let each = remarks.iter().map(|remark| format!("note: {remark}\n"));
    each.collect()
}

/// The steps that turn CDI on; a reason if it cannot be.
fn steps(host: &HostRoot, looked: &Looked) -> Result<Result<Vec<Step>, String>> {
    let found = &looked.found;
    let report = found.report();
    let of_files = found.report_of_files();
    // Without a setting in a file, the word of the running process counts.
    let is_on = report.cdi.state == CdiState::On && report.spec_directories.hold_ours();
    if (is_on && of_files.cdi.state != CdiState::Off) || awaits_restart(host, found)? {
        return Ok(Ok(Vec::new()));
    }
    let turn = turn_on(
        &found.place,
        &found.config,
        &found.files,
        found.template.as_ref(),
        found.version,
    );
    Ok(match turn {
        Turn::AlreadyOn => Ok(Vec::new()),
        Turn::Changes(changes) => Ok(changes.into_iter().map(Step::Edit).collect()),
        Turn::Refused(reason) => Err(reason),
    })
}

/// Whether the edit was made before, and the config is not yet made anew of it.
fn awaits_restart(host: &HostRoot, found: &FoundRuntime) -> Result<bool> {
    let mut files = Vec::new();
    for path in files_of_edit(&found.place) {
        let text = HostFile::new(host, &path).read()?;
        files.extend(text.map(|text| SourceFile { path, text }));
    }
    Ok(mizzen_core::runtime::awaits_restart(&found.place, &files))
}

fn nothing_to_do(host: &HostRoot, looked: &Looked, is_undo: bool) -> Result<String> {
    let name = looked.found.place.name;
    if is_undo {
        return Ok(format!(
            "nothing of Mizzen's is in the files of {name}; nothing was changed\n"
        ));
    }
    if is_behind(host, &looked.found)? {
        return Ok(format!(
            "CDI is on in the files already, and {name} has to be restarted to take it over; \
             nothing was changed\n"
        ));
    }
    let why = looked.found.report_of_files().cdi.why;
    Ok(format!("CDI is on already ({why}); nothing was changed\n"))
}

/// Whether the running process says other things of CDI than its files, with which it would be on.
fn is_behind(host: &HostRoot, found: &FoundRuntime) -> Result<bool> {
    let (running, files) = (found.report(), found.report_of_files());
    let would_be_on = files.cdi.state == CdiState::On && files.spec_directories.hold_ours();
    let is_on = running.cdi.state == CdiState::On && running.spec_directories.hold_ours();
    Ok(!is_on && (would_be_on || awaits_restart(host, found)?))
}

/// Gives a file its new text, after what it holds without us was kept beside it.
fn edit(host: &HostRoot, kind: RuntimeKind, change: &Change) -> Result<String> {
    let file = HostFile::new(host, &change.file);
    let made = (kind == RuntimeKind::Docker).then_some(ABSENT);
    let kept = change.before.as_deref().or(made);
    // What was kept before an edit that is still there is what the file held without us.
    let is_edited = match (change.before.as_deref(), file.backup()?) {
        (Some(text), Some(backup)) => undo(kind, text, Some(&backup)) != Undone::Nothing,
        _ => false,
    };
    if let Some(text) = kept.filter(|_| !is_edited) {
        file.keep(text)?;
    }
    file.replace(change.before.as_deref(), &change.after)?;
    Ok(match &change.before {
        Some(_) => format!(
            "edited {}; what it held before is in {}\n",
            change.file,
            file.backup_on_host()
        ),
        None => format!("wrote {}\n", change.file),
    })
}

/// Takes a step and says so.
fn take(host: &HostRoot, kind: RuntimeKind, step: &Step) -> Result<String> {
    match step {
        Step::Edit(change) => edit(host, kind, change),
        Step::Forget(path) => {
            let file = HostFile::new(host, path);
            file.forget()?;
            Ok(format!(
                "nothing of Mizzen's is in {path}; removed {}, a copy of it\n",
                file.backup_on_host()
            ))
        }
        Step::Leave(path) => Ok(format!(
            "nothing of Mizzen's is in {path}; what it once held is still in {}\n",
            HostFile::new(host, path).backup_on_host()
        )),
        Step::Back {
            file: path,
            before,
            after,
            is_exact,
            forgets,
        } => {
            let file = HostFile::new(host, path);
            match after {
                Some(text) => file.replace(Some(before), text)?,
                None => file.remove()?,
            }
            if *forgets {
                file.forget()?;
            }
            Ok(match (after, is_exact) {
                (None, _) => format!("removed {path}\n"),
                (_, true) => format!("restored {path}\n"),
                (_, false) => format!(
                    "took the setting out of {path}, which was edited since; the other edits are \
                     in it still\n"
                ),
            })
        }
    }
}

/// Says which restart is needed, or makes it.
fn finish(args: &ConfigureArgs, found: &FoundRuntime) -> Result<ExitCode> {
    let units = found.place.units;
    if !args.restart && args.which.host_root != Path::new("/") {
        print(&format!(
            "to take it over, on that machine: systemctl restart {}; {}\n",
            units.join(" or "),
            what_goes_on(found)
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let unit = units.iter().find(|unit| is_active(unit));
    if !args.restart {
        let unit = unit.or(units.first()).copied().unwrap_or_default();
        print(&format!(
            "to take it over: systemctl restart {unit}; {}\n",
            what_goes_on(found)
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(unit) = unit else {
        let words = format!(
            "no unit {} of systemd is active; restart {} yourself",
            units.join(" or "),
            found.place.name
        );
        return Ok(ended(NOT_ON, &words));
    };
    print(&format!("restarting {unit}; {}\n", what_goes_on(found)))?;
    let status = Command::new("systemctl").args(["restart", unit]).status();
    if !status.is_ok_and(|status| status.success()) {
        return Ok(ended(NOT_ON, &format!("systemctl restart {unit} failed")));
    }
    print(&format!("restarted {unit}\n"))?;
    if args.undo || found.place.kind == RuntimeKind::Docker {
        return Ok(ExitCode::SUCCESS);
    }
    seen_on(found)
}

/// What a restart means for the containers that run, in words.
fn what_goes_on(found: &FoundRuntime) -> String {
    if found.place.kind != RuntimeKind::Docker || has_live_restore(found.files.first()) {
        return "running containers go on".to_owned();
    }
    format!(
        "this stops the running containers, since {} has no \"live-restore\": true",
        found.config
    )
}

/// Whether systemd runs this unit.
fn is_active(unit: &str) -> bool {
    let asked = Command::new("systemctl")
        .args(["is-active", "--quiet", unit])
        .stderr(std::process::Stdio::null())
        .status();
    asked.is_ok_and(|status| status.success())
}

/// Waits for the restarted runtime to say that CDI is on.
fn seen_on(found: &FoundRuntime) -> Result<ExitCode> {
    let mut found = found.clone();
    found.answer = None;
    let socket = found.socket.clone();
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(Ok(answer)) = asked(socket.as_deref()) {
            found.take(answer);
            break;
        }
        if Instant::now() > until {
            return Ok(ended(
                NOT_ON,
                "it does not answer after its restart; see its log",
            ));
        }
        pause();
    }
    let report = found.report();
    if report.cdi.state == CdiState::On {
        print(&format!("CDI is on: {}\n", report.cdi.why))?;
        return Ok(ExitCode::SUCCESS);
    }
    let words = format!("CDI is not on after the restart: {}", report.cdi.why);
    Ok(ended(NOT_ON, &words))
}

/// Between two questions to a runtime that starts.
fn pause() {
    let _ = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map(|runtime| runtime.block_on(tokio::time::sleep(Duration::from_millis(200))));
}
