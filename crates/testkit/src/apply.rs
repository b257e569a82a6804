//! Labels of an object as an API server keeps them: who set which, by server-side apply or
//! otherwise.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// Labels, each with its value and those who set it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppliedLabels(BTreeMap<String, (String, BTreeSet<String>)>);

impl AppliedLabels {
    /// The labels.
    pub fn all(&self) -> BTreeMap<String, String> {
        let pairs = self.0.iter();
        pairs
            .map(|(key, (value, _))| (key.clone(), value.clone()))
            .collect()
    }

    /// Has somebody set a label, or take it away, whatever others want.
    pub fn set(&mut self, manager: &str, key: &str, value: Option<&str>) {
        match value {
            Some(value) => {
                let owners = BTreeSet::from([manager.to_owned()]);
                self.0.insert(key.to_owned(), (value.to_owned(), owners));
            }
            None => {
                self.0.remove(key);
            }
        }
    }

    /// Server-side apply: `labels` are all that `manager` wants.
    ///
    /// # Errors
    /// The causes of a conflict: labels that others have set to something else, below `field`.
    pub fn apply(
        &mut self,
        manager: &str,
        labels: &BTreeMap<String, String>,
        force: bool,
        field: &str,
    ) -> Result<(), Vec<Value>> {
        let is_other = |key: &&String| {
            let (value, owners) = &self.0[*key];
            *value != labels[*key] && owners.iter().any(|owner| owner != manager)
        };
        let known = labels.keys().filter(|key| self.0.contains_key(*key));
        let conflicts: Vec<Value> = known
            .filter(is_other)
            .map(|key| {
                let owner = self.0[key].1.iter().find(|owner| *owner != manager);
                let owner = owner.map_or("", String::as_str);
                json!({
                    "reason": "FieldManagerConflict",
                    "message": format!("conflict with {owner:?} using v1"),
                    "field": format!("{field}.{key}"),
                })
            })
            .collect();
        if !conflicts.is_empty() && !force {
            return Err(conflicts);
        }
        for (key, value) in labels {
            let (before, owners) = self.0.entry(key.clone()).or_default();
            if before != value {
                owners.clear();
                before.clone_from(value);
            }
            owners.insert(manager.to_owned());
        }
        self.0.retain(|key, (_, owners)| {
            if !labels.contains_key(key) {
                owners.remove(manager);
            }
            !owners.is_empty()
        });
        Ok(())
    }

    /// `metadata.managedFields`, of an object that has its labels at `path`
    /// (`["f:metadata", "f:labels"]`).
    pub fn managed_fields(&self, path: [&str; 2]) -> Value {
        let managers: BTreeSet<&String> = self.0.values().flat_map(|(_, owners)| owners).collect();
        let entry = |manager: &String| {
            let owned = self
                .0
                .iter()
                .filter(|(_, (_, owners))| owners.contains(manager));
            let fields: Map<String, Value> = std::iter::once((".".to_owned(), json!({})))
                .chain(owned.map(|(key, _)| (format!("f:{key}"), json!({}))))
                .collect();
            json!({
                "manager": manager,
                "operation": "Apply",
                "apiVersion": "v1",
                "fieldsType": "FieldsV1",
                "fieldsV1": { path[0]: { path[1]: fields } },
            })
        };
        managers.into_iter().map(entry).collect()
    }
}
