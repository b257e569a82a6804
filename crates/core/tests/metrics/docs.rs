//! The documentation names what there is.

use std::collections::BTreeSet;

use mizzen_core::metrics::{ExporterCounter, Field, OWN_METRICS, TextField};

const DOCS: &str = include_str!("../../../../docs/metrics.md");

/// The names of metrics and labels in the first columns of the tables.
fn documented() -> BTreeSet<String> {
    let cells = DOCS
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let names = cells.map(|(name, _)| name);
    names
        .filter(|name| {
            let kinds = ["DCGM_", "mizzen_", "process_"];
            kinds.iter().any(|kind| name.starts_with(kind))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_is_in_the_documentation_and_the_other_way_round() {
    let fields = Field::ALL.iter().map(|field| field.name());
    let texts = TextField::ALL.iter().map(|field| field.name());
    let exporters = ExporterCounter::ALL.iter().map(|counter| counter.name());
    let own = OWN_METRICS.iter().map(|metric| metric.name);
    let all = fields.chain(texts).chain(exporters).chain(own);
    let there: BTreeSet<String> = all.map(str::to_owned).collect();
    let undocumented: Vec<_> = there.difference(&documented()).cloned().collect();
    let imagined: Vec<_> = documented().difference(&there).cloned().collect();
    assert_eq!((undocumented, imagined), (Vec::new(), Vec::new()));
}

#[test]
fn the_documentation_has_the_types_of_our_own_metrics() {
    for metric in OWN_METRICS {
        let row = format!("| `{}` | {} |", metric.name, metric.kind.word());
        assert!(DOCS.contains(&row), "{row}");
    }
}

#[test]
fn names_of_our_own_follow_the_rules_of_prometheus() {
    for metric in OWN_METRICS {
        let counts = metric.kind.word() == "counter";
        assert_eq!(metric.name.ends_with("_total"), counts, "{}", metric.name);
        assert!(metric.help.ends_with('.'), "{}", metric.name);
        let units = ["_ms", "_milliseconds", "_mib", "_kb"];
        assert!(!units.iter().any(|unit| metric.name.ends_with(unit)));
    }
}
