//! Mistakes in a config file and what is odd about it, each with its place.

use mizzen_core::config::{ConfigError, ConfigWarning, Location};
use serde::Serialize;

/// A mistake, or a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The line, counted from 1, where it is known.
    pub(crate) line: Option<u64>,
    /// The column, counted from 1.
    pub(crate) column: Option<u64>,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

impl Finding {
    fn new(location: Option<Location>, text: &str) -> Self {
        Self {
            line: location.map(|place| place.line),
            column: location.map(|place| place.column),
            message: without_place(text, location).to_owned(),
        }
    }

    /// The finding as compilers write it: `config.yaml:3:5: …`.
    pub(crate) fn in_file(&self, file: &str, kind: &str) -> String {
        match (self.line, self.column) {
            (Some(line), Some(column)) => {
                format!("{file}:{line}:{column}: {kind}{}", self.message)
            }
            _ => format!("{file}: {kind}{}", self.message),
        }
    }
}

impl From<&ConfigError> for Finding {
    fn from(error: &ConfigError) -> Self {
        Self::new(error.location(), &error.to_string())
    }
}

impl From<&ConfigWarning> for Finding {
    fn from(warning: &ConfigWarning) -> Self {
        Self::new(warning.origin.location(), &warning.to_string())
    }
}

/// The text without the place that it begins with: the caller knows the file and shows the place
/// itself.
fn without_place(text: &str, location: Option<Location>) -> &str {
    let text = text.strip_prefix("config file").unwrap_or(text);
    let place = location.map(|place| format!(", line {} column {}", place.line, place.column));
    let text = place
        .and_then(|place| text.strip_prefix(place.as_str()))
        .unwrap_or(text);
    text.trim_start_matches([',', ':', ' '])
}

#[cfg(test)]
mod tests {
    use mizzen_core::config::file;

    use super::*;

    #[test]
    fn a_mistake_stands_behind_its_place_and_has_it_once() {
        let raw = file::parse("version: v1\nflags:\n  migStrategy: singel\nversoin: 2\n");
        let errors = raw.validate().unwrap_err();
        let told: Vec<String> = errors
            .iter()
            .map(|error| Finding::from(error).in_file("a.yaml", ""))
            .collect();
        assert!(
            told[0].starts_with("a.yaml:3:16: flags.migStrategy: \"singel\" is not valid"),
            "{told:#?}"
        );
        assert!(
            told[1].starts_with("a.yaml:4:1: there is no key"),
            "{told:#?}"
        );
    }

    #[test]
    fn a_warning_stands_behind_its_place_too() {
        let config = file::parse("flags:\n  GdsEnabled: true\n")
            .validate()
            .unwrap();
        let told = Finding::from(&config.warnings[0]).in_file("a.yaml", "warning: ");
        assert!(
            told.starts_with("a.yaml:2:3: warning: flags.gdsEnabled: the key is written so"),
            "{told}"
        );
    }
}
