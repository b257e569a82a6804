//! The files of an image layer, and the tar stream that holds them: sorted, with fixed
//! owners and times, so that equal files give equal bytes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Symlink { target: PathBuf },
}

/// A tree of files, by their absolute path in the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rootfs {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Rootfs {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// A tree in which /bin, /sbin, /lib and /lib64 point into /usr, as in today's
    /// distributions, so that a library is found by each of its paths.
    pub fn with_merged_usr() -> Self {
        let mut rootfs = Self::new();
        for name in ["bin", "lib", "lib64", "sbin"] {
            rootfs.directory(Path::new("/usr").join(name), 0o755);
            rootfs.symlink(Path::new("/").join(name), Path::new("usr").join(name));
        }
        rootfs
    }

    /// Adds a directory, and those above it.
    pub fn directory(&mut self, path: impl AsRef<Path>, mode: u32) {
        let path = self.resolve(path.as_ref());
        self.parents_of(&path);
        self.nodes.insert(path, Node::Directory { mode });
    }

    /// Adds a file, and the directories above it.
    pub fn file(&mut self, path: impl AsRef<Path>, mode: u32, content: impl Into<Vec<u8>>) {
        let path = self.resolve(path.as_ref());
        self.parents_of(&path);
        let content = content.into();
        self.nodes.insert(path, Node::File { mode, content });
    }

    /// Adds a symbolic link; the target is written as given.
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl Into<PathBuf>) {
        let path = normal(path.as_ref());
        self.parents_of(&path);
        let target = target.into();
        self.nodes.insert(path, Node::Symlink { target });
    }

    /// Copies a file of this machine, with its permission bits.
    pub fn copy_in(&mut self, from: &Path, to: impl AsRef<Path>) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        let mode = fs::metadata(from)?.permissions().mode() & 0o755;
        self.file(to, mode, content);
        Ok(())
    }

    /// The paths in the tree, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.nodes.keys().map(PathBuf::as_path)
    }

    /// The layer as an uncompressed tar stream.
    pub fn to_tar(&self) -> Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, node) in &self.nodes {
            let name = path.strip_prefix("/").unwrap_or(path);
            append(&mut archive, name, node).with_context(|| path.display().to_string())?;
        }
        Ok(archive.into_inner()?)
    }

    fn parents_of(&mut self, path: &Path) {
        for parent in path.ancestors().skip(1).filter(|p| p.parent().is_some()) {
            self.nodes
                .entry(parent.to_path_buf())
                .or_insert(Node::Directory { mode: 0o755 });
        }
    }

    /// The path with a symbolic link as its first component followed, so that a file added
    /// under /lib lands in /usr/lib.
    fn resolve(&self, path: &Path) -> PathBuf {
        let path = normal(path);
        let mut components = path.components().skip(1);
        let Some(first) = components.next() else {
            return path;
        };
        match self.nodes.get(&Path::new("/").join(first)) {
            Some(Node::Symlink { target }) => {
                let below: PathBuf = components.collect();
                Path::new("/").join(target).join(below)
            }
            _ => path,
        }
    }
}

/// Absolute, without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let mut absolute = PathBuf::from("/");
    absolute.extend(names);
    absolute
}

fn append(archive: &mut Builder<Vec<u8>>, name: &Path, node: &Node) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    match node {
        Node::Directory { mode } => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(*mode);
            header.set_size(0);
            archive.append_data(&mut header, name, std::io::empty())?;
        }
        Node::File { mode, content } => {
            header.set_entry_type(EntryType::Regular);
            header.set_mode(*mode);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, content.as_slice())?;
        }
        Node::Symlink { target } => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            archive.append_link(&mut header, name, target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(rootfs: &Rootfs) -> Vec<String> {
        rootfs.paths().map(|p| p.display().to_string()).collect()
    }

    #[test]
    fn a_file_brings_the_directories_above_it() {
        let mut rootfs = Rootfs::new();
        rootfs.file("/etc/cni/net.d/a.conf", 0o644, "x");
        assert_eq!(
            paths(&rootfs),
            [
                "/etc",
                "/etc/cni",
                "/etc/cni/net.d",
                "/etc/cni/net.d/a.conf"
            ]
        );
    }

    #[test]
    fn a_file_under_a_merged_directory_lands_in_usr() {
        let mut rootfs = Rootfs::with_merged_usr();
        rootfs.file("/lib64/ld-linux-x86-64.so.2", 0o755, "x");
        let paths = paths(&rootfs);
        assert!(
            paths.contains(&"/usr/lib64/ld-linux-x86-64.so.2".to_owned()),
            "{paths:?}"
        );
        assert!(
            !paths.contains(&"/lib64/ld-linux-x86-64.so.2".to_owned()),
            "{paths:?}"
        );
    }

    #[test]
    fn the_order_of_adding_does_not_show_in_the_bytes() {
        let mut one = Rootfs::new();
        one.file("/b", 0o644, "b");
        one.file("/a", 0o644, "a");
        let mut other = Rootfs::new();
        other.file("/a", 0o644, "a");
        other.file("/b", 0o644, "b");
        assert_eq!(one.to_tar().unwrap(), other.to_tar().unwrap());
    }

    #[test]
    fn a_tar_reader_finds_what_was_put_in() {
        let mut rootfs = Rootfs::new();
        rootfs.file("/usr/bin/mizzen", 0o755, "program");
        rootfs.symlink("/bin", "usr/bin");
        let tar = rootfs.to_tar().unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        let entries: Vec<(String, EntryType, u32, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                (
                    entry.path().unwrap().display().to_string(),
                    header.entry_type(),
                    header.mode().unwrap(),
                    header.mtime().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            entries,
            [
                ("bin".to_owned(), EntryType::Symlink, 0o777, 0),
                ("usr".to_owned(), EntryType::Directory, 0o755, 0),
                ("usr/bin".to_owned(), EntryType::Directory, 0o755, 0),
                ("usr/bin/mizzen".to_owned(), EntryType::Regular, 0o755, 0),
            ]
        );
    }
}
