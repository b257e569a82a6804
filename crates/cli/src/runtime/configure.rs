//! `mizzen runtime configure`: turning CDI on, and taking that back.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;
use mizzen_agent::runtime::FoundRuntime;
use mizzen_core::runtime::{
    CdiState, Change, RuntimeKind, Turn, Undone, files_of_edit, turn_on, undo,
};
use mizzen_nvml::HostRoot;

use super::args::ConfigureArgs;
use super::check::NONE_FOUND;
use super::files::HostFile;
use super::look::{Looked, asked, look};
use super::patch::patch;
use super::{MISUNDERSTOOD, NOT_ON, UNKNOWN, ended, print};
use crate::terminal::Terminal;

/// How long a runtime may take to answer after it was restarted.
const PATIENCE: Duration = Duration::from_secs(20);

/// What happens to a file.
enum Step {
    /// It gets this text; what it held is kept beside it.
    Edit(Change),
    /// It gets what it held before, or what is left without ours; what was kept is removed.
    Back {
        file: String,
        before: String,
        /// `None` if it goes.
        after: Option<String>,
        is_exact: bool,
    },
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
        Ok(steps(&looked))
    };
    let steps = match planned {
        Ok(Ok(steps)) => steps,
        Ok(Err(reason)) => return Ok(ended(NOT_ON, &reason)),
        Err(error) => return Ok(ended(MISUNDERSTOOD, &format!("{error:#}"))),
    };
    if steps.is_empty() {
        print(&nothing_to_do(&looked, args.undo))?;
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
        });
        Terminal::stdout().print(lines)?;
        return Ok(ExitCode::SUCCESS);
    }
    for step in &steps {
        match take(&host, looked.found.place.kind, step) {
            Ok(words) => print(&words)?,
            Err(error) => return Ok(ended(MISUNDERSTOOD, &format!("{error:#}"))),
        }
    }
    finish(args, &looked.found)
}

/// The steps that turn CDI on; a reason if it cannot be.
fn steps(looked: &Looked) -> Result<Vec<Step>, String> {
    let found = &looked.found;
    let report = found.report();
    let of_files = found.report_of_files();
    // Without a setting in a file, the word of the running process counts.
    let is_on = report.cdi.state == CdiState::On && report.spec_directories.hold_ours();
    if is_on && of_files.cdi.state != CdiState::Off {
        return Ok(Vec::new());
    }
    match turn_on(
        &found.place,
        &found.config,
        &found.files,
        found.template.as_ref(),
        found.version,
    ) {
        Turn::AlreadyOn => Ok(Vec::new()),
        Turn::Changes(changes) => Ok(changes.into_iter().map(Step::Edit).collect()),
        Turn::Refused(reason) => Err(reason),
    }
}

/// The steps that take back whatever is ours in the files of the runtime.
fn steps_back(host: &HostRoot, found: &FoundRuntime) -> Result<Result<Vec<Step>, String>> {
    let mut files: Vec<String> = found.files.iter().map(|file| file.path.clone()).collect();
    files.push(found.config.clone());
    files.extend(files_of_edit(&found.place));
    files.sort();
    files.dedup();
    let mut steps = Vec::new();
    for path in files {
        let file = HostFile::new(host, &path);
        let Some(before) = file.read()? else { continue };
        let (after, is_exact) = match undo(found.place.kind, &before, file.backup()?.as_deref()) {
            Undone::Nothing => continue,
            Undone::Remove => (None, true),
            Undone::Restore(text) => (Some(text), true),
            Undone::Stripped(text) => (Some(text), false),
            Undone::Refused(reason) => return Ok(Err(format!("{path}: {reason}"))),
        };
        steps.push(Step::Back {
            file: path,
            before,
            after,
            is_exact,
        });
    }
    Ok(Ok(steps))
}

fn nothing_to_do(looked: &Looked, is_undo: bool) -> String {
    if is_undo {
        return format!(
            "nothing of Mizzen's is in the files of {}; nothing was changed\n",
            looked.found.place.name
        );
    }
    let report = looked.found.report();
    if report.cdi.state == CdiState::Off {
        return format!(
            "CDI is on in the files already, and {} has to be restarted to take it over; nothing \
             was changed\n",
            report.kind
        );
    }
    let why = looked.found.report_of_files().cdi.why;
    format!("CDI is on already ({why}); nothing was changed\n")
}

/// Takes a step and says so.
fn take(host: &HostRoot, kind: RuntimeKind, step: &Step) -> Result<String> {
    match step {
        Step::Edit(change) => {
            let file = HostFile::new(host, &change.file);
            // An empty copy says that there was no daemon.json.
            let made = (kind == RuntimeKind::Docker).then_some("");
            let kept = change.before.as_deref().or(made);
            if let Some(text) = kept {
                file.keep(text)?;
            }
            file.replace(change.before.as_deref(), &change.after)?;
            Ok(match &change.before {
                Some(_) => format!(
                    "edited {}; what it held before is in {}\n",
                    change.file,
                    file.backup_path().display()
                ),
                None => format!("wrote {}\n", change.file),
            })
        }
        Step::Back {
            file: path,
            before,
            after,
            is_exact,
        } => {
            let file = HostFile::new(host, path);
            match after {
                Some(text) => file.replace(Some(before), text)?,
                None => file.remove()?,
            }
            file.forget()?;
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
    let unit = units.iter().find(|unit| is_active(unit));
    if !args.restart {
        let unit = unit.or(units.first()).copied().unwrap_or_default();
        print(&format!(
            "to take it over: systemctl restart {unit}; running containers go on\n"
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
