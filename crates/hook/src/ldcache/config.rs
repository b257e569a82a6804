//! `/etc/ld.so.conf`: the directories of libraries, in their order.

use crate::failure::Failure;
use crate::root::Root;

use super::names_of;

const CONFIG: &str = "/etc/ld.so.conf";
/// Ours: before what an image configures for itself, and behind CUDA's compatibility libraries,
/// whose files are called `00-compat-…` and `00-cuda-compat`.
const OURS: &str = "/etc/ld.so.conf.d/00-mizzen.conf";
/// What a distribution has in the file that includes all others.
const USUAL: &str = "include /etc/ld.so.conf.d/*.conf\n";
/// The most that is read of one file.
const LIMIT: u64 = 64 << 10;
/// The most files that are read, and how deep they may include each other.
const MAX_FILES: usize = 256;
const MAX_DEPTH: usize = 8;
/// The most directories.
const MAX_DIRECTORIES: usize = 256;

#[cfg(target_arch = "aarch64")]
mod of_architecture {
    pub(super) const LINKER: &str = "/lib/ld-linux-aarch64.so.1";
    pub(super) const DEBIAN: [&str; 2] = ["/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
}
#[cfg(not(target_arch = "aarch64"))]
mod of_architecture {
    pub(super) const LINKER: &str = "/lib64/ld-linux-x86-64.so.2";
    pub(super) const DEBIAN: [&str; 2] = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"];
}

/// Whether the container has glibc's dynamic linker.
pub(super) fn is_glibc(root: &Root) -> bool {
    root.has(of_architecture::LINKER)
}

/// Every directory: the configured ones, then those that the distribution's linker knows itself.
pub(super) fn directories(root: &Root) -> Vec<String> {
    let mut reader = Reader {
        root,
        files: MAX_FILES,
        directories: Vec::new(),
    };
    reader.file(CONFIG, 0);
    let mut directories = reader.directories;
    let known: &[&str] = if root.has("/etc/debian_version") {
        &of_architecture::DEBIAN
    } else {
        &["/lib64", "/usr/lib64"]
    };
    let usual = known.iter().chain(&["/lib", "/usr/lib"]);
    directories.extend(usual.map(|path| (*path).to_owned()));
    directories
}

/// Configures these directories, so that an `ldconfig` in the container finds them too.
pub(super) fn add(root: &Root, folders: &[&str]) -> Result<(), Failure> {
    let lines: String = folders.iter().flat_map(|folder| [folder, "\n"]).collect();
    root.replace(OURS, lines.as_bytes())
        .map_err(Failure::of(OURS, "written"))?;
    if root.has(CONFIG) {
        return Ok(());
    }
    root.replace(CONFIG, USUAL.as_bytes())
        .map_err(Failure::of(CONFIG, "written"))
}

struct Reader<'a> {
    root: &'a Root,
    /// How many files may still be read.
    files: usize,
    directories: Vec<String>,
}

impl Reader<'_> {
    fn file(&mut self, path: &str, depth: usize) {
        if self.files == 0 || depth > MAX_DEPTH {
            return;
        }
        self.files -= 1;
        let text = self.root.read(path, LIMIT).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("include") => {
                    for pattern in words {
                        self.include(path, pattern, depth);
                    }
                }
                Some("hwcap") | None => {}
                Some(_) => self.directory(line),
            }
        }
    }

    fn directory(&mut self, line: &str) {
        // One may say behind it for which kind of library it is.
        let path = line.split('=').next().unwrap_or_default();
        let path = path.trim_end().trim_end_matches('/');
        if path.starts_with('/') && self.directories.len() < MAX_DIRECTORIES {
            self.directories.push(path.to_owned());
        }
    }

    /// Reads the files that a pattern means; only its last name may have `*` and `?` in it.
    fn include(&mut self, from: &str, pattern: &str, depth: usize) {
        let parent = |path: &str| path.rsplit_once('/').map_or("", |(dir, _)| dir).to_owned();
        let pattern = if pattern.starts_with('/') {
            pattern.to_owned()
        } else {
            format!("{}/{pattern}", parent(from))
        };
        let directory = parent(&pattern);
        let last = pattern.rsplit('/').next().unwrap_or_default();
        if !last.contains(['*', '?']) {
            return self.file(&pattern, depth + 1);
        }
        let names = self
            .root
            .directory(&directory)
            .and_then(|dir| names_of(&dir));
        for (name, _) in names.unwrap_or_default() {
            let is_hidden = name.starts_with('.') && !last.starts_with('.');
            if !is_hidden && matches(last.as_bytes(), name.as_bytes()) {
                self.file(&format!("{directory}/{name}"), depth + 1);
            }
        }
    }
}

/// Whether a name is what a pattern of `*` and `?` means, in a time that grows with both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // The last star, and where in the name what it stands for ends.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, end)) => {
                    star = Some((at, end + 1));
                    p = at + 1;
                    n = end + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_what_a_shell_means_by_it() {
        for (pattern, name, is_meant) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", true),
            ("*.conf", "a.conf.old", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xaxbxb", true),
            ("*a*b", "xaxbx", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                is_meant,
                "{pattern} {name}"
            );
        }
    }
}
