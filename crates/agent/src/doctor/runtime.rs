//! The container runtime.

use std::time::Duration;

use mizzen_core::doctor::RuntimeFacts;
use tokio::time::timeout;

use super::Host;
use crate::runtime::{Wish, ask, find};

/// How long it may take to answer all questions.
const LIMIT: Duration = Duration::from_secs(10);

/// What the files of the host's runtime say, and what it says itself, if it runs.
pub(super) async fn facts(host: &Host) -> Option<RuntimeFacts> {
    let mut found = find(&host.files, &Wish::default())?;
    let mut unasked = None;
    if let Some(socket) = &found.socket {
        match timeout(LIMIT, ask(socket)).await {
            Ok(Ok(answer)) => found.take(answer),
            Ok(Err(error)) => unasked = Some(error.to_string()),
            Err(_) => unasked = Some(format!("no answer within {} s", LIMIT.as_secs())),
        }
    }
    Some(RuntimeFacts {
        name: found.place.name.to_owned(),
        why: found.why.clone(),
        report: found.report(),
        risks: found.privacy_risks(),
        accepts_variable: found.toolkit.accepts_envvar,
        unasked,
    })
}
