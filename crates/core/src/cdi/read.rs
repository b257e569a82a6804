//! Reading the text of a spec, JSON or YAML, with every mistake at its place.

use std::fmt;

use super::shape;
use super::spec::CdiSpec;
use super::validate::{Problem, problems};
use crate::config::shape::{Findings, check};
use crate::config::tree::{self, Node, Value};
use crate::config::{ConfigError, Location};

/// A spec and the text that it was read from.
#[derive(Debug, Clone)]
pub struct SpecText {
    /// What the text says.
    pub spec: CdiSpec,
    root: Node,
}

/// Something wrong with the text of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where, if that is known.
    pub location: Option<Location>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location {
            Some(Location { line, column }) => {
                write!(f, "line {line} column {column}: {}", self.message)
            }
            None => f.write_str(&self.message),
        }
    }
}

impl From<ConfigError> for Mistake {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::File { location, message } => Self { location, message },
            other => Self {
                location: other.location(),
                message: other.to_string(),
            },
        }
    }
}

impl SpecText {
    /// Reads a text as strictly as runtimes do: an unknown key is a mistake.
    ///
    /// # Errors
    /// Everything that keeps it from being read, in the order of the text. What is read may still
    /// be invalid, see [`mistakes`](Self::mistakes).
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        let mut document = tree::read(text);
        let root = document.root.clone();
        let mut findings = Findings::default();
        if root.value == Value::Null && document.errors.is_empty() {
            let message = "there is nothing in the file".to_owned();
            return Err(vec![Mistake {
                location: None,
                message,
            }]);
        }
        // Keys of annotations are anybody's.
        without_annotations(&mut document.root);
        check(&mut document.root, &shape::of_file(), "", &mut findings);
        let mut mistakes: Vec<Mistake> = document
            .errors
            .into_iter()
            .chain(findings.errors)
            .map(Mistake::from)
            .collect();
        mistakes.extend(
            findings
                .miscased
                .into_iter()
                .map(|(key, location)| Mistake {
                    location: Some(location),
                    message: format!("the key must be written {key}"),
                }),
        );
        mistakes.extend(document.second.map(|location| Mistake {
            location: Some(location),
            message: "there may be only one document".to_owned(),
        }));
        mistakes.sort_by_key(|mistake| mistake.location.map(|place| (place.line, place.column)));
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let options = serde_saphyr::options! { with_snippet: false };
        let spec = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            vec![Mistake {
                location: None,
                message: error.to_string(),
            }]
        })?;
        Ok(Self { spec, root })
    }

    /// What a runtime would refuse the spec for, at its place.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let located = |problem: Problem| Mistake {
            location: self.locate(&problem.place),
            message: problem.to_string(),
        };
        problems(&self.spec).into_iter().map(located).collect()
    }

    /// Where in the text something of the spec stands, by its path as in [`Problem::place`]; or
    /// what it is in, where it is not there.
    pub fn locate(&self, place: &str) -> Option<Location> {
        let mut node = &self.root;
        for part in place.split(['.', '[']).filter(|part| !part.is_empty()) {
            let next = match part.strip_suffix(']') {
                Some(number) => number
                    .parse()
                    .ok()
                    .and_then(|at: usize| node.items().get(at)),
                None => node.get(part),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        Some(node.location)
    }
}

/// Takes the annotations of file and devices away, if they are a mapping of texts.
fn without_annotations(root: &mut Node) {
    let Value::Map(entries) = &mut root.value else {
        return;
    };
    entries.retain(|entry| entry.key != "annotations" || !has_texts_only(&entry.node));
    let devices = entries.iter_mut().find(|entry| entry.key == "devices");
    if let Some(Value::List(devices)) = devices.map(|entry| &mut entry.node.value) {
        for device in devices {
            if let Value::Map(entries) = &mut device.value {
                entries.retain(|entry| entry.key != "annotations" || !has_texts_only(&entry.node));
            }
        }
    }
}

fn has_texts_only(node: &Node) -> bool {
    matches!(node.value, Value::Map(_))
        && node
            .entries()
            .iter()
            .all(|entry| entry.node.text().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        let read = SpecText::parse(text);
        let mistakes = read.map_or_else(|mistakes| mistakes, |read| read.mistakes());
        mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let yaml = "cdiVersion: 0.6.0\nkind: v.com/c\nannotations: {a/b: \"1\"}\ndevices:\n- name: \"0\"\n  \
                    containerEdits:\n    deviceNodes:\n    - {path: /dev/x, major: 195, fileMode: 438}\n";
        let json = r#"{"cdiVersion":"0.6.0","kind":"v.com/c","annotations":{"a/b":"1"},
            "devices":[{"name":"0","containerEdits":{"deviceNodes":
            [{"path":"/dev/x","major":195,"fileMode":438}]}}]}"#;
        let (yaml, json) = (
            SpecText::parse(yaml).unwrap(),
            SpecText::parse(json).unwrap(),
        );
        assert_eq!(yaml.spec, json.spec);
        assert_eq!(
            yaml.spec.devices[0].container_edits.device_nodes[0].file_mode,
            Some(438)
        );
        assert_eq!(yaml.mistakes(), []);
    }

    #[test]
    fn every_mistake_of_shape_is_told_with_its_place() {
        let text = "cdiVersion: 0.9.0\nkind: nvidia.com\ndevices:\n- name: \"0\"\n  containerEdits:\n    \
                    mount: []\n    deviceNodes:\n    - hostPath: dev/x\n    - path: /dev/y\n      type: \
                    char\n    hooks:\n    - hookName: createContaner\n      path: /x\nextra: 1\n";
        let told = mistakes(text);
        let expected = [
            "line 1 column 13: cdiVersion: \"0.9.0\" is no version",
            "line 2 column 7: kind: \"nvidia.com\" is not a kind",
            "line 6 column 5: there is no key \"mount\" in devices[0].containerEdits; did you mean \"mounts\"?",
            "line 8 column 7: devices[0].containerEdits.deviceNodes[0].path must be given",
            "line 8 column 17: devices[0].containerEdits.deviceNodes[0].hostPath: \"dev/x\" is not valid: expected an absolute path",
            "line 10 column 13: devices[0].containerEdits.deviceNodes[1].type: \"char\" is not valid",
            "line 12 column 17: devices[0].containerEdits.hooks[0].hookName: \"createContaner\" is not valid",
            "line 14 column 1: there is no key \"extra\" at the top",
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told}\n{expected}");
        }
    }

    #[test]
    fn what_a_runtime_refuses_is_told_where_it_stands() {
        let text = "cdiVersion: 0.3.0\nkind: v.com/c\ndevices:\n- name: a\n  containerEdits: {env: \
                    [NOVALUE]}\n- name: a\n  containerEdits: {}\n- name: \"0\"\n  containerEdits:\n    \
                    env: [A=1]\n";
        let told = mistakes(text);
        for expected in [
            "line 5 column 26: devices[0].containerEdits.env[0]: \"NOVALUE\"",
            "line 6 column 9: devices[1].name: \"a\"",
            "line 7 column 19: devices[1].containerEdits: ",
            "line 1 column 13: cdiVersion: 0.3.0 has not all",
        ] {
            assert!(
                told.iter().any(|told| told.starts_with(expected)),
                "{expected}\n{told:#?}"
            );
        }
        assert_eq!(told.len(), 4, "{told:#?}");
    }

    #[test]
    fn texts_that_are_no_spec_are_refused() {
        for text in ["", "{", "[]", "a: b\n---\na: b\n", "just words"] {
            assert!(!mistakes(text).is_empty(), "{text:?}");
        }
    }
}
