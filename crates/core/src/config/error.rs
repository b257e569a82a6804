//! What is said about a setting that is wrong, or odd.

use std::fmt;

/// Where a setting's value came from, by the name its giver knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag, `--mig-strategy`.
    CommandLine(String),
    /// An environment variable, `MIG_STRATEGY`.
    Environment(String),
    /// A key of the config file, `flags.migStrategy`, and where its value stands.
    File {
        /// The key with those above it, joined by dots.
        key: String,
        /// Where in the file, if known.
        location: Option<Location>,
    },
}

impl Origin {
    /// The place in the config file, if it came from there and is known.
    pub fn location(&self) -> Option<Location> {
        match self {
            Self::File { location, .. } => *location,
            Self::CommandLine(_) | Self::Environment(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine(name) => f.write_str(name),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File { key, location } => {
                write!(f, "config file{}, {key}", at(location.as_ref()))
            }
        }
    }
}

/// A place in the config file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that its setting does not take.
    #[error("{origin}: {value:?} is not valid: expected {expected}{}", did_you_mean(.suggestion.as_deref()))]
    InvalidValue {
        /// Where the value came from.
        origin: Origin,
        /// The value.
        value: String,
        /// What would be valid.
        expected: String,
        /// The valid value that was probably meant.
        suggestion: Option<String>,
    },
    /// A value that is valid, but that this build cannot honour.
    #[error("{origin}: {reason}")]
    Unsupported {
        /// Where the value came from.
        origin: Origin,
        /// What is not supported and what to do.
        reason: String,
    },
    /// The config file is not what it must be.
    #[error("config file{}: {message}", at(.location.as_ref()))]
    File {
        /// Where in the file, if known.
        location: Option<Location>,
        /// What is wrong and what to do.
        message: String,
    },
}

impl ConfigError {
    /// The place in the config file, if the mistake is there and its place is known.
    pub fn location(&self) -> Option<Location> {
        match self {
            Self::InvalidValue { origin, .. } | Self::Unsupported { origin, .. } => {
                origin.location()
            }
            Self::File { location, .. } => *location,
        }
    }
}

pub(crate) fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |word| format!("; did you mean {word:?}?"))
}

fn at(location: Option<&Location>) -> String {
    location.map_or_else(String::new, |place| {
        format!(", line {} column {}", place.line, place.column)
    })
}

/// A value that is accepted although it may not do what its giver expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigWarning {
    /// Where the value came from.
    pub origin: Origin,
    /// What to know about it.
    pub message: String,
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

/// The word that `typed` was probably meant to be, if one is near.
pub fn nearest(typed: &str, words: &[&str]) -> Option<String> {
    let typed = folded(typed);
    let near = words
        .iter()
        .map(|word| (edits(&typed, &folded(word)), word));
    let (distance, word) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + word.len() / 4).then(|| (*word).to_owned())
}

/// A word without what is mistaken most easily: the case of letters, and what joins them.
fn folded(word: &str) -> String {
    word.to_lowercase().replace(['_', '-'], "")
}

/// How many letters must be put in, taken out or changed to make `a` of `b` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
