//! The list of what was written: only that is ever changed or removed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::HostError;
use super::driver;
use super::plan::Entry;
use super::tree::Tree;

/// The list's place in the directory.
const FILE: &str = ".mizzen-sim-host";
const HEADER: &str =
    "# What `mizzen sim host` wrote here, and therefore may change or remove; one entry a line.";
const COMPLETE: &str = "complete";
const INTERRUPTED: &str = "interrupted";

/// What was written, in the order it was made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Whether a writer is at work, or was killed at it.
    pub(super) interrupted: bool,
    order: Vec<String>,
    letters: BTreeMap<String, char>,
}

impl Manifest {
    /// Reads the list of `tree`; empty if there is none.
    pub(super) fn read(tree: &Tree) -> Result<Self, HostError> {
        let Some(text) = tree.read(FILE)? else {
            return Ok(Self::default());
        };
        let mut manifest = Self::default();
        for (index, line) in text.lines().enumerate() {
            let valid = match (index, line) {
                (0, HEADER) | (1, COMPLETE) => true,
                (1, INTERRUPTED) => {
                    manifest.interrupted = true;
                    true
                }
                (0 | 1, _) => false,
                _ => manifest.read_entry(line),
            };
            if !valid {
                let path = tree.absolute(FILE);
                return Err(HostError::Manifest {
                    path,
                    line: index + 1,
                });
            }
        }
        Ok(manifest)
    }

    /// Whether the line is an entry that the simulator could have written; nothing else may lead
    /// to a removal, whoever wrote the list.
    fn read_entry(&mut self, line: &str) -> bool {
        let mut letters = line.chars();
        let (Some(letter), Some(' ')) = (letters.next(), letters.next()) else {
            return false;
        };
        let path = letters.as_str();
        let plain = path.split('/').all(|name| !matches!(name, "" | "." | ".."));
        let kernels = ["sys/", "proc/", "dev/"]
            .iter()
            .any(|top| path.starts_with(top));
        let ours = kernels || ["sys", "proc", "dev"].contains(&path) || driver::has(path, letter);
        let valid = ours && plain && "dfln".contains(letter);
        if valid {
            self.add(path, letter);
        }
        valid
    }

    /// Writes the list to `tree`.
    pub(super) fn save(&self, tree: &Tree) -> Result<(), HostError> {
        let state = if self.interrupted {
            INTERRUPTED
        } else {
            COMPLETE
        };
        let mut text = format!("{HEADER}\n{state}\n");
        for (path, letter) in self.entries() {
            let _infallible = writeln!(text, "{letter} {path}");
        }
        tree.replace_file(FILE, text.as_bytes())
    }

    fn add(&mut self, path: &str, letter: char) {
        if self.letters.insert(path.to_owned(), letter).is_none() {
            self.order.push(path.to_owned());
        }
    }

    pub(super) fn insert(&mut self, entry: &Entry) {
        self.add(&entry.path, entry.content.letter());
    }

    /// Whether something was written to this path.
    pub(super) fn knows(&self, path: &str) -> bool {
        self.letters.contains_key(path)
    }

    /// Whether the entry was written as what it is.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        self.letters.get(&entry.path) == Some(&entry.content.letter())
    }

    /// Path and kind of each entry, in the order they were made.
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = (&str, char)> {
        let letter = |path: &String| self.letters.get(path).copied().unwrap_or('f');
        self.order
            .iter()
            .map(move |path| (path.as_str(), letter(path)))
    }

    /// Entries of this list that are not in `other`, last made first.
    pub(super) fn gone_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a str, char)> {
        let gone = |(path, letter): &(&str, char)| other.letters.get(*path) != Some(letter);
        self.entries().rev().filter(gone)
    }

    /// The list while the directory changes from what this one says to what `next` says.
    pub(super) fn towards(&self, next: &Self) -> Self {
        let mut both = Self {
            interrupted: true,
            ..Self::default()
        };
        for (path, letter) in self.entries().chain(next.entries()) {
            both.add(path, letter);
        }
        both
    }
}
