//! YAML as a tree in which every value knows its place, so that every mistake can be shown.
//!
//! A reader that goes straight to types stops at the first mistake; this one keeps all that the
//! text says, and [`shape`](super::shape) judges it.

use std::collections::{BTreeMap, BTreeSet};

use serde_saphyr::granit_parser::{Event, Marker, Options, Parser, ScalarStyle, ScanError, Span};

use super::error::{ConfigError, Location};

/// Values in one file: far more than a node's config has, and few enough that aliases of aliases
/// cannot fill the memory.
const MOST_NODES: usize = 100_000;
/// Lists in lists: more than any shape has, and few enough for the stack.
const DEEPEST: usize = 64;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) location: Location,
}

/// What a value is, as far as the text alone says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// One word or number.
    Scalar {
        text: String,
        /// Whether it stood in quotes, so that it is a text whatever it looks like.
        quoted: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) location: Location,
    pub(crate) node: Node,
}

impl Node {
    /// What this is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping of keys",
        }
    }

    /// The text of a single value.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The items of a list; none of anything else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The entries of a mapping; none of anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a key, however its letters are cased (see [`same_key`]), unless it is null.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let found = self
            .entries()
            .iter()
            .find(|entry| same_key(&entry.key, key));
        found
            .map(|entry| &entry.node)
            .filter(|node| node.value != Value::Null)
    }
}

/// Whether two spellings are one key. The reference's reader does not tell upper from lower case.
pub(crate) fn same_key(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// The spelling that all spellings of one key have in common.
fn folded(key: &str) -> String {
    key.to_ascii_lowercase()
}

/// What a text says, and what is wrong with it as YAML.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    pub(crate) errors: Vec<ConfigError>,
    /// Where a second document begins, which is not read: the reference reads the first alone.
    pub(crate) second: Option<Location>,
}

/// Reads the first document of a text.
pub(crate) fn read(text: &str) -> Document {
    let mut options = Options::default();
    // They may stand anywhere, between a key and its value too, and mean nothing.
    options.set_emit_comments(false);
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options).peekable(),
        anchors: Vec::new(),
        errors: Vec::new(),
        nodes: 0,
    };
    let root = reader.document().unwrap_or_else(|stop| {
        reader.errors.push(stop);
        Node {
            value: Value::Null,
            location: Location { line: 1, column: 1 },
        }
    });
    let second = reader.second_document();
    Document {
        root,
        errors: reader.errors,
        second,
    }
}

struct Reader<'text, P: Iterator<Item = Result<(Event<'text>, Span), ScanError>>> {
    parser: std::iter::Peekable<P>,
    anchors: Vec<(usize, Node)>,
    errors: Vec<ConfigError>,
    nodes: usize,
}

impl<'text, P: Iterator<Item = Result<(Event<'text>, Span), ScanError>>> Reader<'text, P> {
    fn next(&mut self) -> Result<(Event<'text>, Location), ConfigError> {
        match self.parser.next() {
            Some(Ok((event, span))) => Ok((event, place(&span.start))),
            Some(Err(error)) => Err(ConfigError::File {
                location: Some(place(error.marker())),
                message: format!("this is not YAML: {}", error.info()),
            }),
            None => Err(ConfigError::File {
                location: None,
                message: "the file ends in the middle of a value".to_owned(),
            }),
        }
    }

    /// The root of the first document; nothing where there is none.
    fn document(&mut self) -> Result<Node, ConfigError> {
        loop {
            let (event, location) = self.next()?;
            match event {
                Event::StreamEnd | Event::DocumentEnd => {
                    return Ok(Node {
                        value: Value::Null,
                        location,
                    });
                }
                event if event.is_node() => return self.node(event, location, 0),
                _ => {}
            }
        }
    }

    fn second_document(&mut self) -> Option<Location> {
        self.parser.by_ref().find_map(|event| match event {
            Ok((Event::DocumentStart(..), span)) => Some(place(&span.start)),
            _ => None,
        })
    }

    fn node(
        &mut self,
        event: Event<'text>,
        location: Location,
        depth: usize,
    ) -> Result<Node, ConfigError> {
        self.count(1, location)?;
        if depth > DEEPEST {
            return Err(too_much(location, "values are nested too deeply"));
        }
        let (value, anchor) = match event {
            Event::Alias(id) => return self.alias(id, location),
            Event::Scalar(text, style, anchor, _) => (scalar(&text, style), anchor),
            Event::SequenceStart(_, anchor, _) => (Value::List(self.list(depth)?), anchor),
            Event::MappingStart(_, anchor, _) => (Value::Map(self.map(depth)?), anchor),
            _ => (Value::Null, 0),
        };
        let node = Node { value, location };
        if anchor > 0 {
            self.count(size(&node), location)?;
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, location: Location) -> Result<Node, ConfigError> {
        let found = self.anchors.iter().rev().find(|(anchor, _)| *anchor == id);
        let Some((_, node)) = found else {
            return Err(ConfigError::File {
                location: Some(location),
                message: "this alias stands inside of what it names".to_owned(),
            });
        };
        let node = node.clone();
        self.count(size(&node), location)?;
        Ok(node)
    }

    fn count(&mut self, more: usize, location: Location) -> Result<(), ConfigError> {
        self.nodes += more;
        if self.nodes > MOST_NODES {
            return Err(too_much(location, "the file has too many values"));
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, ConfigError> {
        let mut items = Vec::new();
        loop {
            let (event, location) = self.next()?;
            match event {
                Event::SequenceEnd => return Ok(items),
                event if event.is_node() => items.push(self.node(event, location, depth + 1)?),
                _ => {}
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, ConfigError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: BTreeMap<String, u64> = BTreeMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, location) = self.next()?;
            match event {
                Event::MappingEnd => break,
                event if event.is_node() => {
                    let key = self.node(event, location, depth + 1)?;
                    let (event, value_location) = self.next()?;
                    let node = self.node(event, value_location, depth + 1)?;
                    let Some(key) = key.text() else {
                        self.errors.push(ConfigError::File {
                            location: Some(location),
                            message: format!("a key must be a word, not {}", key.kind()),
                        });
                        continue;
                    };
                    let key = key.to_owned();
                    if key == "<<" {
                        merged.push(node);
                    } else if let Some(first) = lines.insert(folded(&key), location.line) {
                        self.errors.push(ConfigError::File {
                            location: Some(location),
                            message: format!("{key:?} is there twice; once before in line {first}"),
                        });
                    } else {
                        entries.push(Entry {
                            key,
                            location,
                            node,
                        });
                    }
                }
                _ => {}
            }
        }
        merge(&mut entries, lines.into_keys().collect(), merged);
        Ok(entries)
    }
}

/// YAML's merge key: what the mappings behind `<<` say counts where the mapping itself says
/// nothing.
fn merge(entries: &mut Vec<Entry>, mut keys: BTreeSet<String>, merged: Vec<Node>) {
    let maps = merged.into_iter().flat_map(|node| match node.value {
        Value::List(items) => items,
        _ => vec![node],
    });
    for entry in maps.flat_map(|node| match node.value {
        Value::Map(entries) => entries,
        _ => Vec::new(),
    }) {
        if keys.insert(folded(&entry.key)) {
            entries.push(entry);
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    let quoted = style != ScalarStyle::Plain;
    if !quoted && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        Value::Null
    } else {
        Value::Scalar {
            text: text.to_owned(),
            quoted,
        }
    }
}

fn size(node: &Node) -> usize {
    let below: usize = match &node.value {
        Value::Null | Value::Scalar { .. } => 0,
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|entry| 1 + size(&entry.node)).sum(),
    };
    below + 1
}

fn too_much(location: Location, what: &str) -> ConfigError {
    ConfigError::File {
        location: Some(location),
        message: format!("{what} to be a config"),
    }
}

/// Lines are counted from 1 by the parser, columns from 0.
fn place(marker: &Marker) -> Location {
    Location {
        line: marker.line() as u64,
        column: marker.col() as u64 + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(text: &str) -> Node {
        let document = read(text);
        assert_eq!(document.errors, []);
        document.root
    }

    fn failures(text: &str) -> Vec<String> {
        read(text).errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_value_and_key_knows_its_place() {
        let root = root("a: 1\nb:\n  - x\n  - c: 'y'\n");
        let at = |line, column| Location { line, column };
        assert_eq!(root.entries()[1].location, at(2, 1));
        let list = root.get("b").unwrap();
        assert_eq!(list.items()[0].location, at(3, 5));
        assert_eq!(list.items()[1].get("c").unwrap().location, at(4, 8));
        assert_eq!(list.items()[1].get("c").unwrap().text(), Some("y"));
    }

    #[test]
    fn comments_may_stand_anywhere() {
        let commented =
            "# a\na: # b\n  # c\n  b: 1 # d\n# e\nc: # f\n  # g\n  - x # h\n  # i\n  - y\n";
        let root = root(commented);
        let b = root.get("a").and_then(|a| a.get("b")).unwrap();
        assert_eq!(b.text(), Some("1"));
        assert_eq!(root.get("c").unwrap().items().len(), 2);
    }

    #[test]
    fn json_is_read_too() {
        let root = root(r#"{"a": {"b": [1, "2"]}}"#);
        let items = root.get("a").unwrap().get("b").unwrap().items();
        assert_eq!(items[1].text(), Some("2"));
    }

    #[test]
    fn nothing_is_null_and_a_null_value_counts_as_not_given() {
        for text in ["", "# only a comment\n", "---\n", "~"] {
            assert_eq!(root(text).value, Value::Null, "{text:?}");
        }
        assert_eq!(root("a:\nb: null\n").get("a"), None);
        assert_eq!(root("a: 'null'\n").get("a").unwrap().text(), Some("null"));
    }

    #[test]
    fn all_keys_that_are_there_twice_are_told_with_their_place() {
        let errors = failures("a: 1\na: 2\nb: {c: 1, C: 2}\n");
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].contains("line 2 column 1"), "{errors:?}");
        assert!(errors[1].contains("line 3 column 11"), "{errors:?}");
    }

    #[test]
    fn text_that_is_no_yaml_is_told_with_its_place() {
        for text in ["a: {b: 1\n", "a: 'x\n", "a: b: c\n", "- a\nb: 1\n"] {
            let errors = failures(text);
            assert_eq!(errors.len(), 1, "{text:?}: {errors:?}");
            assert!(errors[0].contains("line "), "{errors:?}");
        }
    }

    #[test]
    fn anchors_and_merges_are_followed() {
        let root = root("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz: [*x]\n");
        let y = root.get("y").unwrap();
        assert_eq!(y.get("a").unwrap().text(), Some("1"));
        assert_eq!(y.get("b").unwrap().text(), Some("3"));
        assert_eq!(root.get("z").unwrap().items()[0].entries().len(), 2);
    }

    #[test]
    fn aliases_of_aliases_end_before_the_memory_does() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let alias = format!("*a{}, ", level - 1).repeat(10);
            text = format!("{text}a{level}: &a{level} [{alias}]\n");
        }
        let errors = failures(&text);
        assert!(errors[0].contains("too many values"), "{errors:?}");
    }

    #[test]
    fn anchors_in_anchors_count_each_time_they_are_kept() {
        let open: Vec<String> = (0..60).map(|level| format!("&a{level} [")).collect();
        let (values, close) = ("x,".repeat(99_000), "]".repeat(60));
        let text = format!("x: {}{values}{close}\n", open.concat());
        assert!(failures(&text)[0].contains("too many values"));
    }

    #[test]
    fn a_second_document_is_noticed_and_not_read() {
        let document = read("a: 1\n---\nb: 2\n");
        assert_eq!(document.root.entries().len(), 1);
        assert_eq!(document.second, Some(Location { line: 2, column: 1 }));
        assert_eq!(read("a: 1\n").second, None);
    }
}
