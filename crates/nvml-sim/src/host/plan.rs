//! What shall be below the directory: an ordered list of entries, parents first.

use std::collections::BTreeSet;
use std::fmt::Display;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Directory,
    File {
        bytes: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link with this target.
    Link(String),
    Node(NodeNumbers),
}

/// A character device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeNumbers {
    pub(super) major: u32,
    pub(super) minor: u32,
    /// Permission bits.
    pub(super) mode: u32,
}

impl Content {
    /// The kind in a word, for messages.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Directory => "a directory",
            Self::File { .. } => "a file",
            Self::Link(_) => "a symbolic link",
            Self::Node(_) => "a device node",
        }
    }

    /// The kind in a letter, for the manifest.
    pub(super) fn letter(&self) -> char {
        match self {
            Self::Directory => 'd',
            Self::File { .. } => 'f',
            Self::Link(_) => 'l',
            Self::Node(_) => 'n',
        }
    }
}

/// One entry; the path is relative to the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) content: Content,
}

/// All entries. A directory stands before what is in it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    entries: Vec<Entry>,
    paths: BTreeSet<String>,
}

impl Plan {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn directory(&mut self, path: &str) {
        self.add(path, Content::Directory);
    }

    /// A file of the kernel's, which nobody writes.
    pub(super) fn file(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.file_of_mode(path, bytes, 0o444);
    }

    /// An installed file.
    pub(super) fn data(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.file_of_mode(path, bytes, 0o644);
    }

    /// An installed program or library.
    pub(super) fn program(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.file_of_mode(path, bytes, 0o755);
    }

    fn file_of_mode(&mut self, path: &str, bytes: impl Into<Vec<u8>>, mode: u32) {
        let bytes = bytes.into();
        self.add(path, Content::File { bytes, mode });
    }

    /// A file of one line, as most of sysfs.
    pub(super) fn line(&mut self, path: &str, value: impl Display) {
        self.file(path, format!("{value}\n"));
    }

    /// A relative link to another path below the directory, so that it holds wherever the
    /// directory is mounted.
    pub(super) fn link(&mut self, path: &str, to: &str) {
        self.add(path, Content::Link(relative(path, to)));
    }

    /// A link that says `target` as it is.
    pub(super) fn absolute_link(&mut self, path: &str, target: &str) {
        self.add(path, Content::Link(target.to_owned()));
    }

    pub(super) fn node(&mut self, path: &str, numbers: NodeNumbers) {
        self.add(path, Content::Node(numbers));
    }

    /// Adds everything below `from` once more, below `to`.
    pub(super) fn repeat(&mut self, from: &str, to: &str) {
        let inside = |entry: &Entry| {
            let name = entry.path.strip_prefix(from)?.strip_prefix('/')?;
            Some((format!("{to}/{name}"), entry.content.clone()))
        };
        let copies: Vec<_> = self.entries.iter().filter_map(inside).collect();
        for (path, content) in copies {
            self.add(&path, content);
        }
    }

    /// Adds the entry and the directories above it. What is there already stays.
    fn add(&mut self, path: &str, content: Content) {
        if self.paths.contains(path) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
        self.paths.insert(path.to_owned());
        self.entries.push(Entry {
            path: path.to_owned(),
            content,
        });
    }
}

/// The target of a link at `from` that leads to `to`.
fn relative(from: &str, to: &str) -> String {
    let from: Vec<&str> = from.split('/').collect();
    let to: Vec<&str> = to.split('/').collect();
    let above = &from[..from.len() - 1];
    let common = above.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = above[common..].iter().map(|_| "..");
    let parts: Vec<&str> = up.chain(to[common..].iter().copied()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_as_in_sysfs() {
        for (from, to, target) in [
            (
                "sys/bus/pci/devices/0000:1b:00.0",
                "sys/devices/pci0000:00/0000:1b:00.0",
                "../../../devices/pci0000:00/0000:1b:00.0",
            ),
            ("dev/dri/by-path/x", "dev/dri/card0", "../card0"),
            ("a", "b", "b"),
        ] {
            assert_eq!(relative(from, to), target);
        }
    }

    #[test]
    fn directories_stand_before_what_is_in_them_and_only_once() {
        let mut plan = Plan::default();
        plan.line("a/b/c", 1);
        plan.line("a/b/d", 2);
        let paths: Vec<&str> = plan.entries().iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a/b/d"]);
    }
}
