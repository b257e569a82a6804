//! The alert rules, and a copy of them for people in a hurry.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Result, ensure};

use crate::layout;

/// What is shorter in the copy. Everything else of a rule is as it is for users; how long it waits
/// is tested by promtool, whose time costs nothing.
const SHORTER: [(&str, &str); 9] = [
    ("for: 1m\n", "for: 1s\n"),
    ("for: 2m\n", "for: 1s\n"),
    ("for: 5m\n", "for: 1s\n"),
    ("for: 10m\n", "for: 1s\n"),
    ("[15m]", "[10s]"),
    ("[1h]", "[30s]"),
    // Since the last Xid; idle; since the last sample.
    (") < 600\n", ") < 5\n"),
    (
        "mizzen_gpu_idle_seconds > 3600\n",
        "mizzen_gpu_idle_seconds > 3\n",
    ),
    (
        "(mizzen_gpu_sample_age_seconds) > 60\n",
        "(mizzen_gpu_sample_age_seconds) > 3\n",
    ),
];

fn text() -> Result<String> {
    let path = layout::repository()?.join("deploy/alerts.yaml");
    Ok(fs::read_to_string(path)?)
}

/// The rules of `deploy/alerts.yaml`, with seconds for minutes.
pub(super) fn hurried() -> Result<String> {
    let mut rules = text()?;
    for (long, short) in SHORTER {
        ensure!(rules.contains(long), "deploy/alerts.yaml has no {long:?}");
        rules = rules.replace(long, short);
    }
    Ok(rules)
}

/// The names of all alerts.
pub(super) fn names() -> Result<BTreeSet<String>> {
    let text = text()?;
    let names = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    Ok(names.map(str::to_owned).collect())
}
