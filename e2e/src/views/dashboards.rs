//! The queries of the dashboards, with values for their variables.

use std::fmt;
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::prometheus::Prometheus;
use crate::layout;

const DASHBOARDS: [&str; 3] = ["cluster", "node", "pods"];

/// Panels that are empty on nodes that are well; each must have data once something is wrong.
const ABOUT_FAULTS: [(&str, &str); 8] = [
    ("cluster", "Unhealthy now"),
    ("cluster", "Top Xids"),
    ("cluster", "Last Xids"),
    ("node", "Clocks held down"),
    ("node", "Reasons"),
    ("node", "Xids"),
    // Idle GPUs are no fault of a node, but of somebody: the alert may have come already.
    ("cluster", "Alerts"),
    // Until somebody calls Allocate a quantile of no calls is no number.
    ("node", "Allocate"),
];
/// Those of them that may have data earlier.
const EARLY: [&str; 2] = ["Alerts", "Allocate"];

/// What Grafana puts in the place of variables.
const VALUES: [(&str, &str); 6] = [
    ("$__rate_interval", "5s"),
    ("$__range", "5m"),
    ("$instance", ".*"),
    ("$gpu", ".*"),
    ("$namespace", ".*"),
    ("$idle", "1"),
];

/// A query that is ready to be asked.
#[derive(Debug, Clone)]
pub(super) struct Query {
    /// In Prometheus' language.
    pub(super) text: String,
    /// For one moment, rather than for a time.
    pub(super) is_instant: bool,
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Query {
    fn new(text: &str, is_instant: bool) -> Self {
        let text = VALUES.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(name, value)
        });
        Self { text, is_instant }
    }
}

/// A query of a panel that has had no data yet.
#[derive(Debug, Clone)]
pub(super) struct Panel {
    dashboard: &'static str,
    title: String,
    query: Query,
}

impl Panel {
    /// Whether no data is good news.
    pub(super) fn is_about_faults(&self) -> bool {
        ABOUT_FAULTS.contains(&(self.dashboard, self.title.as_str()))
    }
}

/// A variable whose values are those of a label.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    /// The label.
    pub(super) label: String,
    /// The series that have it.
    pub(super) of: String,
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "label_values({}, {})", self.of, self.label)
    }
}

/// What is on the dashboards, and what of it has had no data yet.
#[derive(Debug)]
pub(super) struct Watched {
    left: Vec<Panel>,
    seen: Vec<Panel>,
    variables: Vec<Variable>,
}

impl Watched {
    /// Reads all dashboards.
    pub(super) fn read() -> Result<Self> {
        let (mut left, mut variables) = (Vec::new(), Vec::new());
        for name in DASHBOARDS {
            let path = layout::repository()?.join(format!("deploy/dashboards/{name}.json"));
            let dashboard: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
            for panel in list(&dashboard["panels"]) {
                left.extend(list(&panel["targets"]).iter().map(|target| Panel {
                    dashboard: name,
                    title: panel["title"].as_str().unwrap_or_default().to_owned(),
                    query: Query::new(
                        target["expr"].as_str().unwrap_or_default(),
                        target["instant"] == true,
                    ),
                }));
            }
            let all = list(&dashboard["templating"]["list"]);
            let queries = all.iter().filter(|variable| variable["type"] == "query");
            for variable in queries {
                let query = variable["definition"].as_str().unwrap_or_default();
                variables.push(label_values(query).context(query.to_owned())?);
            }
        }
        Ok(Self {
            left,
            seen: Vec::new(),
            variables,
        })
    }

    /// The variables of all dashboards.
    pub(super) fn variables(&self) -> Vec<Variable> {
        self.variables.clone()
    }

    /// Asks every query that has had no data yet.
    pub(super) async fn look(&mut self, prometheus: &Prometheus) -> Result<()> {
        let mut left = Vec::new();
        for panel in self.left.drain(..) {
            let has_data = prometheus.has_data(&panel.query).await;
            if has_data.with_context(|| format!("{panel:?}"))? {
                self.seen.push(panel);
            } else {
                left.push(panel);
            }
        }
        self.left = left;
        Ok(())
    }

    /// What has had no data yet.
    pub(super) fn left(&self) -> &[Panel] {
        &self.left
    }

    /// What tells of faults, though there has been none.
    pub(super) fn about_faults_with_data(&self) -> Vec<&Panel> {
        let seen = self.seen.iter();
        seen.filter(|panel| panel.is_about_faults() && !EARLY.contains(&panel.title.as_str()))
            .collect()
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// `label_values(SERIES, LABEL)`.
fn label_values(query: &str) -> Option<Variable> {
    let inside = query.strip_prefix("label_values(")?.strip_suffix(')')?;
    let (of, label) = inside.rsplit_once(", ")?;
    Some(Variable {
        label: label.to_owned(),
        of: Query::new(of, true).text,
    })
}

/// What the community's dashboard 12239 for dcgm-exporter asks: these series by its two variables,
/// which are filled from the first.
pub(super) fn community() -> Vec<Query> {
    let by = "{instance=~\"$instance\", gpu=~\"$gpu\"}";
    [
        format!("DCGM_FI_DEV_GPU_TEMP{by}"),
        format!("avg(DCGM_FI_DEV_GPU_TEMP{by})"),
        format!("DCGM_FI_DEV_POWER_USAGE{by}"),
        format!("sum(DCGM_FI_DEV_POWER_USAGE{by})"),
        format!("DCGM_FI_DEV_SM_CLOCK{by} * 1000000"),
        format!("DCGM_FI_DEV_GPU_UTIL{by}"),
        format!("DCGM_FI_DEV_FB_USED{by}"),
        format!("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{by}"),
        "count by (instance) (DCGM_FI_DEV_GPU_TEMP)".to_owned(),
        "count by (gpu) (DCGM_FI_DEV_GPU_TEMP)".to_owned(),
    ]
    .iter()
    .map(|text| Query::new(text, false))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_have_values_for_all_their_variables() {
        let watched = Watched::read().unwrap();
        assert!(watched.left.len() > 100, "{}", watched.left.len());
        for panel in &watched.left {
            assert!(!panel.query.text.contains('$'), "{panel:?}");
        }
        for variable in &watched.variables {
            assert!(!variable.of.contains('$'), "{variable}");
        }
    }

    #[test]
    fn panels_about_faults_exist() {
        let watched = Watched::read().unwrap();
        for (dashboard, title) in ABOUT_FAULTS {
            let mut all = watched.left.iter();
            let exists = all.any(|panel| panel.dashboard == dashboard && panel.title == title);
            assert!(exists, "{dashboard}: {title}");
        }
    }
}
