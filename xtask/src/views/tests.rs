use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use mizzen_core::metrics::{Counters, OWN_METRICS};
use mizzen_core::xid::APPLICATION_XIDS;
use serde_json::Value;

use super::{DASHBOARDS, generated};

/// Panels that every Grafana has.
const CORE_PANELS: [&str; 7] = [
    "bargauge",
    "piechart",
    "row",
    "stat",
    "state-timeline",
    "table",
    "timeseries",
];
/// What is not ours: Prometheus' own, and kube-state-metrics'.
const FOREIGN: [&str; 3] = ["ALERTS", "up", "kube_node_status_capacity"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn dashboards() -> Vec<(&'static str, Value)> {
    let read = |name| text(&format!("deploy/dashboards/{name}.json"));
    DASHBOARDS
        .iter()
        .map(|name| (*name, serde_json::from_str(&read(name)).unwrap()))
        .collect()
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

/// The queries of a panel.
fn queries(panel: &Value) -> Vec<&str> {
    let targets = panel["targets"].as_array().into_iter().flatten();
    targets
        .map(|target| target["expr"].as_str().unwrap())
        .collect()
}

/// The words of a query that start like this.
fn words<'a>(query: &'a str, starts: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    query
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| starts.iter().any(|start| word.starts_with(start)))
}

fn metrics(query: &str) -> Vec<&str> {
    words(query, &["mizzen_", "DCGM_", "process_", "kube_", "ALERTS"]).collect()
}

/// The rules, each with the text of its block.
fn alerts() -> BTreeMap<String, String> {
    let file = text("deploy/alerts.yaml");
    let blocks = file.split("- alert: ").skip(1);
    blocks
        .map(|block| {
            let (name, rest) = block.split_once('\n').unwrap();
            (name.to_owned(), rest.to_owned())
        })
        .collect()
}

fn configured() -> Counters {
    Counters::parse(&text("deploy/counters.csv")).unwrap()
}

fn names(counters: &Counters) -> BTreeSet<String> {
    let names = counters.counters().iter();
    names.map(|counter| counter.name.clone()).collect()
}

#[test]
fn what_kubernetes_takes_is_what_grafana_and_prometheus_take() {
    for (path, wanted) in generated(root()).unwrap() {
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "{} is not up to date: cargo xtask views",
            path.display()
        );
    }
}

#[test]
fn every_panel_has_a_title_a_description_and_the_chosen_data_source() {
    for (name, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap();
            let kind = panel["type"].as_str().unwrap();
            assert!(CORE_PANELS.contains(&kind), "{name}, {title}: {kind}");
            if kind == "row" {
                continue;
            }
            let description = panel["description"].as_str().unwrap_or_default();
            assert!(description.ends_with('.'), "{name}, {title}");
            assert!(!queries(panel).is_empty(), "{name}, {title}");
            let targets = panel["targets"].as_array().unwrap();
            for part in targets.iter().chain([panel]) {
                let source = &part["datasource"]["uid"];
                assert_eq!(source, "${datasource}", "{name}, {title}");
            }
        }
    }
}

#[test]
fn panels_have_ids_of_their_own_and_lie_beside_each_other() {
    for (name, dashboard) in dashboards() {
        let mut ids = BTreeSet::new();
        let mut cells = BTreeMap::new();
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}, {title}");
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(
                at("x") + at("w") <= 24,
                "{name}, {title}: beyond the right edge"
            );
            for y in at("y")..at("y") + at("h") {
                for x in at("x")..at("x") + at("w") {
                    let other = cells.insert((x, y), title);
                    assert_eq!(other, None, "{name}, {title}: lies on another panel");
                }
            }
        }
        let bottom = cells.keys().map(|(_, y)| y).max().unwrap();
        for y in 0..=*bottom {
            let width = (0..24).filter(|x| cells.contains_key(&(*x, y))).count();
            assert_eq!(width, 24, "{name}: a gap in line {y}");
        }
    }
}

#[test]
fn every_variable_that_is_used_exists_and_the_other_way_round() {
    for (name, dashboard) in dashboards() {
        let list = dashboard["templating"]["list"].as_array().unwrap();
        let defined: BTreeSet<&str> = list
            .iter()
            .map(|variable| variable["name"].as_str().unwrap())
            .collect();
        let all = panels(&dashboard);
        let mut used: BTreeSet<&str> = all
            .iter()
            .flat_map(queries)
            .flat_map(|query| query.split('$').skip(1))
            .map(|rest| {
                let end =
                    rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
                &rest[..end.unwrap_or(rest.len())]
            })
            .filter(|variable| !variable.starts_with("__"))
            .collect();
        used.insert("datasource");
        assert_eq!(used, defined, "{name}");
    }
}

#[test]
fn every_metric_that_is_read_is_on_the_page_with_the_counters_file() {
    let counters = configured();
    assert!(counters.remarks().is_empty(), "{:?}", counters.remarks());
    assert!(counters.unknown().is_empty(), "{:?}", counters.unknown());
    let mut known = names(&counters);
    known.extend(OWN_METRICS.iter().map(|metric| metric.name.to_owned()));
    known.insert("mizzen_allocate_duration_seconds_bucket".to_owned());
    known.extend(FOREIGN.map(str::to_owned));
    let all = dashboards();
    let of_panels = all
        .iter()
        .flat_map(|(_, dashboard)| panels(dashboard))
        .flat_map(queries)
        .map(str::to_owned);
    let of_rules = alerts().into_values().map(|block| {
        let end = block.find("        labels:").unwrap();
        block[..end].to_owned()
    });
    for query in of_panels.chain(of_rules) {
        for metric in metrics(&query) {
            assert!(known.contains(metric), "{metric} of {query}");
        }
    }
}

#[test]
fn the_counters_file_begins_with_what_is_on_by_default() {
    let default = names(&Counters::default());
    let missing: Vec<_> = default.difference(&names(&configured())).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_panel_that_needs_more_than_the_default_counters_says_so() {
    let default = names(&Counters::default());
    for (name, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let all = queries(panel);
            let needs = all
                .iter()
                .flat_map(|query| metrics(query))
                .any(|metric| metric.starts_with("DCGM_") && !default.contains(metric));
            let description = panel["description"].as_str().unwrap_or_default();
            let says = description.contains("off by default");
            assert_eq!(needs, says, "{name}, {}", panel["title"]);
        }
    }
}

#[test]
fn every_alert_has_a_severity_words_a_section_of_the_docs_and_a_test() {
    let docs = text("docs/alerts.md");
    let tests = text("e2e/prometheus/alerts-test.yaml");
    let all = alerts();
    for (name, block) in &all {
        let severity = block.split("severity: ").nth(1).unwrap().lines().next();
        let known = ["critical", "warning", "info"];
        assert!(known.contains(&severity.unwrap()), "{name}");
        for part in ["  summary: ", "  description: >-"] {
            assert!(block.contains(part), "{name} has no {part}");
        }
        let link = format!("runbook_url: docs/alerts.md#{}\n", name.to_lowercase());
        assert!(block.contains(&link), "{name} wants {link}");
        assert!(
            docs.contains(&format!("\n### {name}\n")),
            "{name}: no section"
        );
        let fires = format!("alertname=\"{name}\"");
        assert!(tests.contains(&fires), "{name}: no test where it fires");
    }
    for section in docs.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(all.contains_key(section), "{section} is no alert");
    }
}

#[test]
fn no_alert_is_about_what_programs_do_wrong() {
    let all = alerts();
    let passed_over = APPLICATION_XIDS.map(|xid| xid.0.to_string()).join("|");
    let filter = format!("{{xid!~\"{passed_over}\"}}");
    assert!(all["MizzenXidCritical"].contains(&filter), "wants {filter}");
}
