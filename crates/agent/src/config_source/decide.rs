//! Which config is to be in force, from what is known.

use std::collections::BTreeMap;

use mizzen_core::config::{ConfigSource, Selection, select};

use super::memory::Remembered;
use super::shelf::Shelf;
use crate::cluster::Known;

/// What is known.
pub(super) struct View<'a> {
    pub(super) source: &'a ConfigSource,
    /// The value of the Node's label.
    pub(super) label: &'a Known<Option<String>>,
    pub(super) shelf: &'a Known<Shelf>,
    /// What is in force, or was when a former process ended.
    pub(super) in_force: Option<&'a Remembered>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Not enough is known: what is in force stays, and where nothing is, nothing is offered.
    Stay,
    /// What is asked for cannot be had, and why.
    Refuse(String),
    /// This one.
    Take(Candidate),
}

/// A config that is asked for; its text may still be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The value of the Node's label.
    pub(super) label: Option<String>,
    /// Its name; `None` for no config at all.
    pub(super) name: Option<String>,
    pub(super) text: String,
    /// The config and who chose it, in words.
    pub(super) words: String,
}

/// Decides.
///
/// A label that cannot be known now is the one that was in force, so that an API that is away or
/// refuses changes nothing. A definite no, with nothing in force, is taken as no label: the agent
/// goes on with the default or a fallback.
pub(super) fn decide(view: &View<'_>) -> Decision {
    let label = match (view.label, view.in_force) {
        (Known::Is(label), _) => label.clone(),
        (_, Some(in_force)) => in_force.label.clone(),
        (Known::Refused, None) => None,
        (Known::NotYet | Known::Away, None) => return Decision::Stay,
    };
    let none = Shelf::Map(BTreeMap::new());
    let shelf = match (view.shelf, view.in_force) {
        (Known::Is(shelf), _) => shelf,
        (Known::Refused, None) => &none,
        (_, _) => return Decision::Stay,
    };
    choose(view.source, label, shelf).map_or_else(Decision::Refuse, Decision::Take)
}

fn choose(
    source: &ConfigSource,
    label: Option<String>,
    shelf: &Shelf,
) -> Result<Candidate, String> {
    if let Shelf::File(path) = shelf {
        return Ok(Candidate {
            label,
            name: Some(path.display().to_string()),
            text: shelf.text("")?,
            words: source.place.to_string(),
        });
    }
    let names = shelf.names()?;
    match select(label.as_deref(), &names, source).map_err(|error| error.to_string())? {
        Selection::Named(name, by) => Ok(Candidate {
            text: shelf.text(&name)?,
            words: format!("the config {name:?} of {}, chosen by {by}", source.place),
            name: Some(name),
            label,
        }),
        Selection::Empty => Ok(Candidate {
            label,
            name: None,
            text: String::new(),
            words: format!(
                "no config of {}: nothing chooses one, so flags and environment are all",
                source.place
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use mizzen_core::config::ConfigPlace;

    use super::*;

    fn source() -> ConfigSource {
        ConfigSource {
            place: ConfigPlace::ConfigMap("a/b".parse().unwrap()),
            ..ConfigSource::default()
        }
    }

    fn shelf() -> Known<Shelf> {
        let text = |name: &str| (name.to_owned(), format!("# {name}"));
        Known::Is(Shelf::Map(["default", "training"].map(text).into()))
    }

    fn remembered() -> Remembered {
        let name = Some("training".to_owned());
        Remembered::new(&source().place, name.clone(), name, "# old".to_owned())
    }

    /// The name that is taken; `Err` for what is not.
    fn name(
        label: &Known<Option<String>>,
        shelf: &Known<Shelf>,
        in_force: Option<&Remembered>,
    ) -> Result<Option<String>, Decision> {
        let source = source();
        let view = View {
            source: &source,
            label,
            shelf,
            in_force,
        };
        match decide(&view) {
            Decision::Take(candidate) => Ok(candidate.name),
            other => Err(other),
        }
    }

    #[test]
    fn the_label_chooses_once_it_is_known() {
        let label = Known::Is(Some("training".to_owned()));
        assert_eq!(name(&label, &shelf(), None), Ok(Some("training".into())));
        let unset = Known::Is(None);
        let old = remembered();
        assert_eq!(
            name(&unset, &shelf(), Some(&old)),
            Ok(Some("default".into()))
        );
    }

    #[test]
    fn until_then_what_was_in_force_counts_and_without_it_nothing_is_offered() {
        let old = remembered();
        for label in [Known::NotYet, Known::Away] {
            assert_eq!(name(&label, &shelf(), None), Err(Decision::Stay));
            assert_eq!(
                name(&label, &shelf(), Some(&old)),
                Ok(Some("training".into())),
                "the same name, with the text that it has now"
            );
            assert_eq!(name(&label, &Known::Away, Some(&old)), Err(Decision::Stay));
        }
    }

    #[test]
    fn a_definite_no_is_no_label_and_never_changes_what_is_in_force() {
        let label = Known::Refused;
        let old = remembered();
        assert_eq!(name(&label, &shelf(), None), Ok(Some("default".into())));
        assert_eq!(
            name(&label, &shelf(), Some(&old)),
            Ok(Some("training".into()))
        );
        assert_eq!(name(&label, &Known::Refused, None), Ok(None));
        assert_eq!(
            name(&label, &Known::Refused, Some(&old)),
            Err(Decision::Stay)
        );
    }

    #[test]
    fn a_config_map_that_is_gone_is_told_and_changes_nothing() {
        let gone = Known::Is(Shelf::Missing("gone".to_owned()));
        assert_eq!(
            name(&Known::Is(None), &gone, None),
            Err(Decision::Refuse("gone".to_owned()))
        );
    }
}
