//! What a person sees: one line per step, with how long it took. The only module that prints.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

/// One line of information.
pub(crate) fn line(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A reader that has gone (`| head`) is no reason to leave a cluster half done. A pipe
    // buffers whole blocks, and a watcher should see each line as it happens: hence the flush.
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// What ended the run.
pub(crate) fn failure(text: &str) {
    line(&format!("error: {text}"));
}

/// Runs one step and shows its name and duration when it is done.
pub(crate) async fn step<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    let outcome = work.await;
    let mark = if outcome.is_ok() { "ok" } else { "FAILED" };
    line(&format!(
        "{name} ... {mark} ({})",
        seconds(started.elapsed())
    ));
    outcome
}

/// A duration for people: `1.4 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
