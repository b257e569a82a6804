//! Spec files: reading all of a node, and keeping our own.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use mizzen_core::cdi::problems;
use mizzen_core::cdi::{Catalog, CatalogFile, CdiKind, CdiSpec, Mistake, PLUGIN_VENDOR, SpecText};

/// The file beside the specs that names those that are ours. Runtimes read `.json` and `.yaml`.
const OURS: &str = ".mizzen-cdi";
/// Everybody may read specs.
const MODE: u32 = 0o644;

/// The directory in which our specs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecStore {
    directory: PathBuf,
}

/// What became of the files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The files that were written anew.
    pub written: Vec<PathBuf>,
    /// Those of them that somebody else had written, another device plugin.
    pub taken: Vec<PathBuf>,
    /// The files that were right already.
    pub unchanged: Vec<PathBuf>,
    /// The files that were removed: they were ours, and nothing of theirs is there any more.
    pub removed: Vec<PathBuf>,
    /// The files that are somebody else's and were left alone.
    pub foreign: Vec<PathBuf>,
}

impl Outcome {
    /// Whether anything was changed.
    pub fn changed(&self) -> bool {
        !self.written.is_empty() || !self.removed.is_empty()
    }
}

/// A spec file and what it is to be, for those who want to see before they write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// What it holds now; `None` where there is none, or where it cannot be read.
    pub before: Option<CdiSpec>,
    /// What it would hold; `None` where it would be removed.
    pub after: Option<CdiSpec>,
}

impl SpecStore {
    /// The specs in `directory`, which need not exist yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether there are specs of ours.
    pub fn has_any(&self) -> bool {
        !self.ours().is_empty()
    }

    /// Whether there is a spec of ours of this kind.
    pub fn holds(&self, kind: &CdiKind) -> bool {
        self.ours().contains(&kind.file_name("json"))
    }

    /// Whether an agent that keeps this spec writes the file at `path`, which holds it: it has
    /// written the file, or would take it over.
    pub fn keeps(&self, path: &Path, spec: &CdiSpec) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        let is_own = |name: &str| {
            is_of_plugin(spec) && name == file_name(spec) || self.ours().contains(name)
        };
        path.parent() == Some(&self.directory) && name.is_some_and(is_own)
    }

    /// What [`keep`](Self::keep) would change.
    pub fn preview(&self, specs: &[CdiSpec]) -> Vec<Kept> {
        let names: BTreeSet<String> = specs.iter().map(file_name).collect();
        let read = |path: &Path| read_spec(path).ok();
        let wanted = specs.iter().map(|spec| {
            let path = self.directory.join(file_name(spec));
            Kept {
                before: read(&path),
                after: Some(spec.clone()),
                path,
            }
        });
        let gone = self.ours().into_iter().filter(|name| !names.contains(name));
        let gone = gone.map(|name| self.directory.join(name)).map(|path| Kept {
            before: read(&path),
            after: None,
            path,
        });
        wanted.chain(gone).collect()
    }

    /// Makes the files hold these specs and removes those of ours that nothing is left of. A file
    /// of another owner is left alone, unless it is of the kinds that only a device plugin writes.
    ///
    /// # Errors
    /// The file system's. Whatever was done until then is whole: each file is the old one or the
    /// new one.
    pub fn keep(&self, specs: &[CdiSpec]) -> io::Result<Outcome> {
        let before = self.ours();
        let mut outcome = Outcome::default();
        let mut after = BTreeSet::new();
        let mut to_write = Vec::new();
        for spec in specs {
            let (name, text) = (file_name(spec), to_json(spec));
            let path = self.directory.join(&name);
            let now = fs::read(&path);
            let is_same = now.as_ref().is_ok_and(|now| *now == text);
            if now.is_ok() && !is_same && !before.contains(&name) {
                if !is_of_plugin(spec) {
                    outcome.foreign.push(path);
                    continue;
                }
                outcome.taken.push(path.clone());
            }
            if is_same {
                outcome.unchanged.push(path);
            } else {
                to_write.push((name.clone(), text));
                outcome.written.push(path);
            }
            after.insert(name);
        }
        // Named before they are there, so that none is forgotten whatever happens between.
        self.remember(&before, before.union(&after).cloned().collect())?;
        for (name, text) in to_write {
            replace(&self.directory, &name, &text)?;
        }
        for name in before.difference(&after) {
            let path = self.directory.join(name);
            match fs::remove_file(&path) {
                Ok(()) => outcome.removed.push(path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let known = before.union(&after).cloned().collect();
        self.remember(&known, after)?;
        Ok(outcome)
    }

    /// Puts a text into a file of this name, whoever's it is, and remembers nothing of it: for
    /// people who write specs by hand.
    ///
    /// # Errors
    /// The file system's.
    pub fn put(&self, name: &str, text: &[u8]) -> io::Result<PathBuf> {
        replace(&self.directory, name, text)?;
        Ok(self.directory.join(name))
    }

    /// The names of the files that are ours.
    fn ours(&self) -> BTreeSet<String> {
        let text = fs::read_to_string(self.directory.join(OURS)).unwrap_or_default();
        let is_name = |name: &&str| !name.is_empty() && !name.contains('/');
        text.lines().filter(is_name).map(str::to_owned).collect()
    }

    /// Writes down which files are ours, if that is not what is known.
    fn remember(&self, known: &BTreeSet<String>, names: BTreeSet<String>) -> io::Result<()> {
        if *known == names {
            return Ok(());
        }
        if names.is_empty() {
            return fs::remove_file(self.directory.join(OURS));
        }
        let lines: String = names.into_iter().map(|name| name + "\n").collect();
        replace(&self.directory, OURS, lines.as_bytes())
    }
}

/// Whether a spec is of the device plugins' own vendor.
fn is_of_plugin(spec: &CdiSpec) -> bool {
    let kind = spec.kind.parse::<CdiKind>();
    kind.is_ok_and(|kind| kind.vendor() == PLUGIN_VENDOR)
}

fn file_name(spec: &CdiSpec) -> String {
    match spec.kind.parse::<CdiKind>() {
        Ok(kind) => kind.file_name("json"),
        Err(_) => format!("{}.json", spec.kind.replace('/', "-")),
    }
}

/// A spec as its file has it.
pub fn to_json(spec: &CdiSpec) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(spec).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Replaces a file, whole or not at all, also when the machine loses power.
fn replace(directory: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".{}.new", name.trim_start_matches('.')));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(&temporary)?;
    // Whatever the process's mask is, and whoever made the file.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(name))?;
    File::open(directory)?.sync_all()
}

/// Reads a spec file.
///
/// # Errors
/// What is wrong with it, all at once; what a runtime refuses it for, too.
pub fn read_spec(path: &Path) -> Result<CdiSpec, Vec<Mistake>> {
    let text = fs::read_to_string(path).map_err(|error| {
        vec![Mistake {
            location: None,
            message: unreadable(&error),
        }]
    })?;
    // Nearly always JSON without a mistake, and this reader is the fast one.
    if let Ok(spec) = serde_json::from_str::<CdiSpec>(&text)
        && problems(&spec).is_empty()
    {
        return Ok(spec);
    }
    let read = SpecText::parse(&text)?;
    let mistakes = read.mistakes();
    if mistakes.is_empty() {
        Ok(read.spec)
    } else {
        Err(mistakes)
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("it cannot be read: {error}")
}

/// Reads all specs of these directories, the later ones outranking the earlier ones, as runtimes
/// do.
pub fn read_catalog(directories: &[PathBuf]) -> Catalog {
    let mut files = Vec::new();
    for (priority, directory) in directories.iter().enumerate() {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => Some(entries),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    files.push(CatalogFile {
                        path: directory.display().to_string(),
                        priority,
                        spec: Err(unreadable(&error)),
                    });
                }
                None
            }
        };
        let mut paths: Vec<PathBuf> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let extension = path.extension();
                extension.is_some_and(|end| end == "json" || end == "yaml") && !path.is_dir()
            })
            .collect();
        paths.sort();
        files.extend(paths.into_iter().map(|path| CatalogFile {
            spec: read_spec(&path).map_err(|mistakes| {
                let words: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                words.join("; ")
            }),
            path: path.display().to_string(),
            priority,
        }));
    }
    Catalog::new(files)
}
