//! Dashboards and alerts in the forms that Kubernetes takes, made of those that Grafana and
//! Prometheus take: one text of each is written by people.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

#[cfg(test)]
mod tests;

/// The dashboards, in the order in which they are written.
const DASHBOARDS: [&str; 3] = ["cluster", "node", "pods"];
/// Who applies a manifest by `kubectl apply` has it in an annotation too, which may be no longer.
const LONGEST_OBJECT: usize = 256 * 1024;

const CONFIG_MAPS: &str = "\
# Mizzen's Grafana dashboards as ConfigMaps, for the sidecar of Grafana's Helm chart and of
# kube-prometheus-stack (docs/dashboards.md):
#
#   kubectl apply -f deploy/mizzen-dashboards.yaml
#
# Made of deploy/dashboards/*.json by `cargo xtask views`.
";

const PROMETHEUS_RULE: &str = "\
# Mizzen's alerts for the Prometheus Operator (docs/alerts.md):
#
#   kubectl apply -f deploy/mizzen-alerts.yaml
#
# Made of deploy/alerts.yaml by `cargo xtask views`. If your Prometheus selects rules by a label,
# such as `release: kube-prometheus-stack`, add it below.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: mizzen-alerts
  namespace: mizzen-system
  labels:
    app.kubernetes.io/name: mizzen
spec:
";

/// Writes all of them.
pub(crate) fn run(root: &Path) -> Result<()> {
    for (path, text) in generated(root)? {
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
    }
    Ok(())
}

/// What each file should be.
fn generated(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let deploy = root.join("deploy");
    Ok(vec![
        (deploy.join("mizzen-dashboards.yaml"), config_maps(&deploy)?),
        (deploy.join("mizzen-alerts.yaml"), prometheus_rule(&deploy)?),
    ])
}

fn config_maps(deploy: &Path) -> Result<String> {
    let mut text = CONFIG_MAPS.to_owned();
    for (index, name) in DASHBOARDS.iter().enumerate() {
        let path = deploy.join("dashboards").join(format!("{name}.json"));
        let json = read(&path)?;
        // An object of its own each, so that none grows too long.
        let object = config_map(name, &json);
        anyhow::ensure!(
            object.len() < LONGEST_OBJECT,
            "{}: too long for an annotation of kubectl",
            path.display()
        );
        if index > 0 {
            text.push_str("---\n");
        }
        text.push_str(&object);
    }
    Ok(text)
}

fn config_map(name: &str, json: &str) -> String {
    let head = format!(
        "apiVersion: v1\n\
         kind: ConfigMap\n\
         metadata:\n\
         \x20 name: mizzen-dashboard-{name}\n\
         \x20 namespace: mizzen-system\n\
         \x20 labels:\n\
         \x20   app.kubernetes.io/name: mizzen\n\
         \x20   grafana_dashboard: \"1\"\n\
         \x20 annotations:\n\
         \x20   grafana_folder: GPUs\n\
         data:\n\
         \x20 mizzen-{name}.json: |\n"
    );
    head + &indented(json, 4)
}

/// The groups of the rule file as they are, comments included.
fn prometheus_rule(deploy: &Path) -> Result<String> {
    let path = deploy.join("alerts.yaml");
    let rules = read(&path)?;
    let groups = rules.find("\ngroups:").context("alerts.yaml has groups")?;
    Ok(PROMETHEUS_RULE.to_owned() + &indented(&rules[groups + 1..], 2))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// The text with every line that is not empty moved to the right.
fn indented(text: &str, by: usize) -> String {
    let margin = " ".repeat(by);
    let line = |line: &str| match line {
        "" => "\n".to_owned(),
        line => format!("{margin}{line}\n"),
    };
    text.lines().map(line).collect()
}
