//! Which of the named configs a node gets.

use std::collections::BTreeSet;
use std::fmt;

use super::error::{did_you_mean, nearest};
use super::source::{ConfigSource, FallbackStrategy};

/// The config that [`FallbackStrategy::Named`] means.
const NAMED: &str = "default";

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The config of this name, which is there.
    Named(String, ChosenBy),
    /// None: flags and environment are all.
    Empty,
}

/// Who chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChosenBy {
    /// The node's label.
    Label,
    /// `--default-config`.
    Default,
    /// `--config-fallback-strategies`.
    Fallback(FallbackStrategy),
}

impl fmt::Display for ChosenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label => f.write_str("the node's label"),
            Self::Default => f.write_str("--default-config"),
            Self::Fallback(strategy) => write!(f, "the fallback {}", strategy.word()),
        }
    }
}

/// Why none can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// A name that no config has.
    #[error(
        "{asked_by} asks for the config {name:?}, which {place} does not have; {}{}",
        listed(.available), did_you_mean(.suggestion.as_deref())
    )]
    Unknown {
        /// The label with its key, or the flag.
        asked_by: String,
        /// The name.
        name: String,
        /// Where configs are.
        place: String,
        /// The names there.
        available: Vec<String>,
        /// The one that was probably meant.
        suggestion: Option<String>,
    },
    /// Nothing names a config, and no fallback applies.
    #[error(
        "nothing chooses a config: there is no label {label}, no --default-config, and none of \
         the fallbacks ({fallbacks}) applies; {}", listed(.available)
    )]
    NoneApplies {
        /// The key of the label.
        label: String,
        /// The fallbacks that were tried.
        fallbacks: String,
        /// The names that there are.
        available: Vec<String>,
    },
}

fn listed(available: &[String]) -> String {
    match available {
        [] => "it has none".to_owned(),
        names => format!("it has {}", names.join(", ")),
    }
}

/// Chooses for a node whose label has the value `label`; an empty one counts as none.
///
/// ```
/// # use mizzen_core::config::{ConfigSource, Selection, select};
/// let source = ConfigSource::default();
/// let available = ["default".to_owned(), "training".to_owned()].into();
/// let chosen = select(Some("training"), &available, &source).unwrap();
/// assert!(matches!(chosen, Selection::Named(name, _) if name == "training"));
/// assert!(select(Some("trainign"), &available, &source).is_err());
/// ```
///
/// # Errors
/// A name that no config has, or no name and no fallback that applies.
pub fn select(
    label: Option<&str>,
    available: &BTreeSet<String>,
    source: &ConfigSource,
) -> Result<Selection, SelectError> {
    let label = label.filter(|value| !value.is_empty());
    let asked = label
        .map(|name| (name, ChosenBy::Label))
        .or_else(|| Some((source.default_config.as_deref()?, ChosenBy::Default)));
    match asked {
        Some((name, by)) if available.contains(name) => Ok(Selection::Named(name.to_owned(), by)),
        Some((name, by)) => Err(unknown(name, by, available, source)),
        None => fall_back(available, source),
    }
}

fn unknown(
    name: &str,
    by: ChosenBy,
    available: &BTreeSet<String>,
    source: &ConfigSource,
) -> SelectError {
    let words: Vec<&str> = available.iter().map(String::as_str).collect();
    SelectError::Unknown {
        asked_by: match by {
            ChosenBy::Label => format!("{by} {}", source.node_label),
            ChosenBy::Default | ChosenBy::Fallback(_) => by.to_string(),
        },
        name: name.to_owned(),
        place: source.place.to_string(),
        available: available.iter().cloned().collect(),
        suggestion: nearest(name, &words),
    }
}

fn fall_back(
    available: &BTreeSet<String>,
    source: &ConfigSource,
) -> Result<Selection, SelectError> {
    let try_one = |strategy: FallbackStrategy| {
        let name = match strategy {
            FallbackStrategy::Named => available.get(NAMED),
            FallbackStrategy::Single => available.first().filter(|_| available.len() == 1),
            FallbackStrategy::Empty => return Some(Selection::Empty),
        };
        name.map(|name| Selection::Named(name.clone(), ChosenBy::Fallback(strategy)))
    };
    let chosen = source.fallbacks.iter().find_map(|one| try_one(*one));
    chosen.ok_or_else(|| {
        let words: Vec<_> = source.fallbacks.iter().map(|one| one.word()).collect();
        SelectError::NoneApplies {
            label: source.node_label.clone(),
            fallbacks: words.join(", "),
            available: available.iter().cloned().collect(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::source::ConfigPlace;
    use super::*;

    fn source() -> ConfigSource {
        ConfigSource {
            place: ConfigPlace::Directory("/configs".into()),
            ..ConfigSource::default()
        }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn named(name: &str, by: ChosenBy) -> Selection {
        Selection::Named(name.to_owned(), by)
    }

    #[test]
    fn the_label_outranks_the_default_which_outranks_the_fallbacks() {
        let available = names(&["a", "b", "default"]);
        let with_default = ConfigSource {
            default_config: Some("b".to_owned()),
            ..source()
        };
        let chosen = select(Some("a"), &available, &with_default);
        assert_eq!(chosen, Ok(named("a", ChosenBy::Label)));
        for unset in [None, Some("")] {
            let chosen = select(unset, &available, &with_default);
            assert_eq!(chosen, Ok(named("b", ChosenBy::Default)));
            let chosen = select(unset, &available, &source());
            let by = ChosenBy::Fallback(FallbackStrategy::Named);
            assert_eq!(chosen, Ok(named("default", by)));
        }
    }

    #[test]
    fn fallbacks_are_tried_in_their_order() {
        let single = named("only", ChosenBy::Fallback(FallbackStrategy::Single));
        assert_eq!(select(None, &names(&["only"]), &source()), Ok(single));
        for available in [names(&["a", "b"]), names(&[])] {
            assert_eq!(
                select(None, &available, &source()),
                Ok(Selection::Empty),
                "{available:?}"
            );
        }
        let empty_first = ConfigSource {
            fallbacks: vec![FallbackStrategy::Empty, FallbackStrategy::Single],
            ..source()
        };
        assert_eq!(
            select(None, &names(&["only"]), &empty_first),
            Ok(Selection::Empty)
        );
    }

    #[test]
    fn an_unknown_name_is_told_with_those_there_are_and_the_nearest() {
        let error = select(Some("trainig"), &names(&["default", "training"]), &source());
        assert_eq!(
            error.unwrap_err().to_string(),
            "the node's label nvidia.com/device-plugin.config asks for the config \"trainig\", \
             which the directory /configs does not have; it has default, training; did you mean \
             \"training\"?"
        );
        let with_default = ConfigSource {
            default_config: Some("x".to_owned()),
            ..source()
        };
        let error = select(None, &names(&[]), &with_default);
        assert_eq!(
            error.unwrap_err().to_string(),
            "--default-config asks for the config \"x\", which the directory /configs does not \
             have; it has none"
        );
    }

    #[test]
    fn without_a_fallback_that_applies_it_says_what_was_tried() {
        let strict = ConfigSource {
            fallbacks: vec![FallbackStrategy::Named, FallbackStrategy::Single],
            ..source()
        };
        let error = select(None, &names(&["a", "b"]), &strict).unwrap_err();
        assert_eq!(
            error.to_string(),
            "nothing chooses a config: there is no label nvidia.com/device-plugin.config, no \
             --default-config, and none of the fallbacks (named, single) applies; it has a, b"
        );
    }
}
