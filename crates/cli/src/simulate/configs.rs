//! The agent's config file in a run: what it says at the start, and what the script puts there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use mizzen_core::config::{RawConfig, SETTINGS, file};

use super::script::{Action, Step};
use crate::config::findings::Finding;
use crate::config::text_of;

/// What the agent's file says in a run that begins without one and whose script brings one.
const EMPTY: &str = "version: v1\n";

/// The texts of the config files of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Configs {
    /// What the agent starts with; nothing where the run has no config file.
    first: Option<String>,
    /// What the script puts in its place, by the name it gives.
    later: BTreeMap<PathBuf, String>,
}

impl Configs {
    /// Reads the files that a run names. The first one must be right; what the script brings may
    /// be wrong, for an agent that is given a wrong file is worth a look.
    pub(crate) fn read(first: Option<&Path>, steps: &[Step]) -> Result<Self> {
        let mut later = BTreeMap::new();
        for step in steps {
            if let Action::Config(path) = &step.action {
                let text = text_of(path).with_context(|| format!("--inject '{}'", step.action))?;
                later.insert(path.clone(), text);
            }
        }
        let first = match first {
            Some(path) => {
                let text = text_of(path)?;
                check(path, &text)?;
                Some(text)
            }
            None => (!later.is_empty()).then(|| EMPTY.to_owned()),
        };
        Ok(Self { first, later })
    }

    /// What the agent's file says at the start; nothing where it has none.
    pub(crate) fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// The text of a file that the script names.
    pub(crate) fn later(&self, path: &Path) -> Result<&str> {
        let text = self.later.get(path).map(String::as_str);
        text.with_context(|| format!("{} was not read", path.display()))
    }

    /// Whether one of the files sets what this environment variable sets, which would outrank it.
    pub(crate) fn set(&self, variable: &str) -> bool {
        let row = SETTINGS.iter().find(|row| row.env.contains(&variable));
        let sets = |text: &String| {
            let settings: RawConfig = file::parse(text);
            row.is_some_and(|row| settings.get(row.setting).is_some())
        };
        self.first.iter().chain(self.later.values()).any(sets)
    }
}

/// Replaces the agent's file as a whole, so that nobody ever reads a half of it.
pub(crate) fn replace(place: &Path, text: &str) -> Result<()> {
    let new = place.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, place))
        .with_context(|| format!("cannot write {}", place.display()))
}

/// All that is wrong with a file.
fn check(path: &Path, text: &str) -> Result<()> {
    let Err(errors) = file::parse(text).validate() else {
        return Ok(());
    };
    let name = path.display().to_string();
    let lines = errors
        .iter()
        .map(|error| format!("\n  {}", Finding::from(error).in_file(&name, "")));
    bail!("the config cannot be used:{}", lines.collect::<String>());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::script::Script;

    fn read(first: Option<&Path>, script: &str) -> Result<Configs> {
        let Script(steps) = script.parse().unwrap();
        Configs::read(first, &steps)
    }

    #[test]
    fn a_run_has_a_config_file_if_it_begins_with_one_or_the_script_brings_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        fs::write(&path, "version: v1\nhealth: {holdDown: 2s}\n").unwrap();
        assert_eq!(read(None, "heal all").unwrap(), Configs::default());
        let first = read(Some(&path), "heal all").unwrap();
        assert!(first.first().unwrap().contains("holdDown"));
        let later = read(None, &format!("at 1s: config {}", path.display())).unwrap();
        assert_eq!(later.first(), Some(EMPTY));
        assert!(later.later(&path).unwrap().contains("holdDown"));
        for configs in [first, later] {
            assert!(configs.set("MIZZEN_HEALTH_HOLD_DOWN"));
            assert!(!configs.set("MIZZEN_HEALTH_CHECK_INTERVAL"));
        }
    }

    #[test]
    fn the_first_file_must_be_right_and_the_others_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        fs::write(&path, "version: v1\nfalgs: {}\n").unwrap();
        let error = read(Some(&path), "heal all").unwrap_err().to_string();
        assert!(
            error.contains("c.yaml:2:1: there is no key \"falgs\""),
            "{error}"
        );
        assert!(read(None, &format!("config {}", path.display())).is_ok());
        let error = read(None, "config /nowhere.yaml").unwrap_err();
        assert!(
            format!("{error:#}").contains("cannot read /nowhere.yaml"),
            "{error:#}"
        );
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("config.yaml");
        replace(&place, "a").unwrap();
        replace(&place, "b").unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "b");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
