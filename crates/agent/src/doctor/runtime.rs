//! The container runtime.

use mizzen_core::doctor::RuntimeFacts;

use super::Host;
use crate::runtime::{Wish, ask, find};

/// What the files of the host's runtime say, and what it says itself, if it runs.
pub(super) async fn facts(host: &Host) -> Option<RuntimeFacts> {
    let mut found = find(&host.files, &Wish::default())?;
    let mut unasked = None;
    if let Some(socket) = &found.socket {
        match ask(socket).await {
            Ok(answer) => found.take(answer),
            Err(error) => unasked = Some(error.to_string()),
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
