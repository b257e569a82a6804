//! Finding the state, making it, and following its scenario.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::layout::{Layout, MAGIC, SIZE, VERSION};
use super::lock::WriteLock;
use super::mapping::Mapping;
use super::structure::NodeFacts;
use crate::environment::Place;
use crate::identity::{fnv1a, mix};
use crate::node::Node;
use crate::scenario::{Scenario, ScenarioError};

const LIVE: &str = "live";
const SAVED_SCENARIO: &str = "scenario.yaml";

/// Why the live state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The scenario is wrong.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A file of the state cannot be used.
    #[error("cannot {action} the simulator's state in {path:?}: {error}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not; in the message already, so no source of this error.
        error: std::io::Error,
    },
    /// The default directory belongs to somebody else.
    #[error("{path:?} belongs to another user: set MIZZEN_SIM_STATE to a directory of your own")]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// The state may be read but not changed.
    #[error("the simulator's state in {path:?} may only be read here")]
    ReadOnly {
        /// The directory.
        path: PathBuf,
    },
}

/// Where a state's scenario came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Source {
    /// No scenario was named.
    Default = 1,
    /// A file, which is followed when it changes.
    File = 2,
    /// A program handed it over.
    Given = 3,
}

/// The live state, opened.
pub(crate) struct Store {
    mapping: Mapping,
    directory: PathBuf,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Deref for Store {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        &self.mapping
    }
}

/// The live state, locked for writing.
pub(crate) struct Writer<'a> {
    store: &'a Store,
    _lock: WriteLock,
}

impl Deref for Writer<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.store
    }
}

/// A scenario with what identifies it.
struct Wanted {
    source: Source,
    stat: u64,
    yaml: String,
    node: Node,
}

impl Wanted {
    fn text_hash(&self) -> u64 {
        mix(fnv1a(self.yaml.as_bytes()))
    }

    /// Reads what `place` asks for. Without a scenario file it is the default node.
    fn of(place: &Place) -> Result<Self, StateError> {
        let Some(path) = &place.scenario else {
            return Self::given(&Scenario::default(), Source::Default);
        };
        // The stamp is taken before the text is read: a change in between is seen next time.
        let stat = stamp(path)?;
        let yaml = std::fs::read_to_string(path).map_err(|error| ScenarioError::Read {
            path: path.clone(),
            error,
        })?;
        let scenario = Scenario::parse(&yaml, &path.display().to_string())?;
        Ok(Self {
            source: Source::File,
            stat,
            yaml,
            node: planned(&scenario)?,
        })
    }

    fn given(scenario: &Scenario, source: Source) -> Result<Self, StateError> {
        Ok(Self {
            source,
            stat: 0,
            yaml: scenario.to_yaml().unwrap_or_default(),
            node: planned(scenario)?,
        })
    }
}

fn planned(scenario: &Scenario) -> Result<Node, ScenarioError> {
    scenario
        .plan()
        .map_err(|problems| ScenarioError::Impossible {
            origin: "scenario".to_owned(),
            problems,
        })
}

/// What `stat` tells of a scenario file, as one number that is never 0.
fn stamp(path: &Path) -> Result<u64, ScenarioError> {
    let metadata = std::fs::metadata(path).map_err(|error| ScenarioError::Read {
        path: path.to_owned(),
        error,
    })?;
    let mut bytes = Vec::with_capacity(32);
    for part in [
        metadata.ino(),
        metadata.size(),
        metadata.mtime().unsigned_abs(),
        metadata.mtime_nsec().unsigned_abs(),
    ] {
        bytes.extend_from_slice(&part.to_le_bytes());
    }
    Ok(fnv1a(&bytes) | 1)
}

impl Store {
    /// Opens the state of `place`, making it or following its scenario if need be.
    pub(crate) fn open(place: &Place) -> Result<Self, StateError> {
        let stat = match &place.scenario {
            Some(path) => Some(stamp(path)?),
            None => None,
        };
        if let Some(store) = Self::map(&place.state)?
            && store.is_current(stat)
        {
            return Ok(store);
        }
        let failure = match Self::renew(place) {
            Err(failure @ StateError::File { .. }) => failure,
            renewed => return renewed,
        };
        // A process that may not change the state takes it as it is, if it is complete.
        match Self::map(&place.state)? {
            Some(store) if store.is_current(None) => Ok(store),
            _ => Err(failure),
        }
    }

    /// Opens the state in `directory` after making it that of `scenario`.
    pub(crate) fn create(directory: &Path, scenario: &Scenario) -> Result<Self, StateError> {
        let wanted = Wanted::given(scenario, Source::Given)?;
        Self::install(directory, |_| Ok(Some(wanted)))
    }

    /// Makes the state anew from the scenario it was made from; every live change is forgotten.
    pub(crate) fn reset(place: &Place) -> Result<Self, StateError> {
        let wanted = match Self::saved(&place.state)? {
            Some(saved) if place.scenario.is_none() => saved,
            _ => Wanted::of(place)?,
        };
        let store = Self::install(&place.state, |old| {
            if let Some(old) = old {
                // Unfinished: everything is made again, and the ring goes on.
                old.header.source.store(0, Release);
            }
            Ok(Some(wanted))
        })?;
        store.write()?.start_over();
        Ok(store)
    }

    fn renew(place: &Place) -> Result<Self, StateError> {
        Self::install(&place.state, |old| match old {
            // Without a scenario file a finished state is right as it is.
            Some(old) if place.scenario.is_none() => {
                if old.header.source.load(Acquire) != 0 {
                    return Ok(None);
                }
                Ok(Self::saved(&place.state)?)
            }
            _ => Wanted::of(place).map(Some),
        })
    }

    /// The scenario that the state in `directory` was made from.
    fn saved(directory: &Path) -> Result<Option<Wanted>, StateError> {
        let Ok(yaml) = std::fs::read_to_string(directory.join(SAVED_SCENARIO)) else {
            return Ok(None);
        };
        let scenario = Scenario::parse(&yaml, SAVED_SCENARIO)?;
        Ok(Some(Wanted {
            source: Source::Given,
            stat: 0,
            yaml,
            node: planned(&scenario)?,
        }))
    }

    /// Takes the lock, repairs or makes the state, and applies what `choose` wants.
    fn install(
        directory: &Path,
        choose: impl FnOnce(Option<&Self>) -> Result<Option<Wanted>, StateError>,
    ) -> Result<Self, StateError> {
        make_directory(directory)?;
        let lock = WriteLock::take(directory).map_err(fails("lock", directory))?;
        let old = Self::map(directory)?;
        let wanted = choose(old.as_ref())?;
        let store = match old {
            Some(store) => store,
            None => Self::make(directory)?,
        };
        let writer = Writer {
            store: &store,
            _lock: lock,
        };
        writer.close_structure();
        match wanted {
            Some(wanted) => writer.follow(&wanted)?,
            None if writer.header.source.load(Acquire) == 0 => {
                writer.follow(&Wanted::given(&Scenario::default(), Source::Default)?)?;
            }
            None => {}
        }
        drop(writer);
        Ok(store)
    }

    /// Maps the state in `directory`, if there is one of this layout and this boot.
    fn map(directory: &Path) -> Result<Option<Self>, StateError> {
        let path = directory.join(LIVE);
        let opened = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => Ok((file, true)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(_) => File::open(&path).map(|file| (file, false)),
        };
        let (file, writable) = opened.map_err(fails("open", directory))?;
        let Ok(mapping) = Mapping::new(&file, writable) else {
            return Ok(None);
        };
        let store = Self {
            mapping,
            directory: directory.to_owned(),
        };
        Ok(store.is_readable().then_some(store))
    }

    fn is_readable(&self) -> bool {
        let header = &self.header;
        header.magic.load(Acquire) == MAGIC
            && header.version.load(Relaxed) == VERSION
            && header.size.load(Relaxed) as usize == SIZE
            && [
                header.boot_id[0].load(Relaxed),
                header.boot_id[1].load(Relaxed),
            ] == boot_id()
    }

    /// Whether the state is finished and still that of its scenario file.
    fn is_current(&self, stat: Option<u64>) -> bool {
        let header = &self.header;
        let source = header.source.load(Acquire);
        let same = stat.is_none_or(|stat| stat == header.source_stat.load(Relaxed));
        source != 0 && same && !self.is_changing()
    }

    /// Makes an empty state, complete before it gets its name.
    fn make(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join(format!("{LIVE}.new"));
        let write = || -> std::io::Result<()> {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o666)
                .open(&path)?;
            // Blocks are reserved where the file system can: a full disk must not become a
            // SIGBUS in somebody's process.
            let length = SIZE as u64;
            if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length).is_err()
            {
                file.set_len(length)?;
            }
            Mapping::new(&file, true)?.format();
            std::fs::rename(&path, directory.join(LIVE))
        };
        write().map_err(fails("make", directory))?;
        Self::map(directory)?
            .ok_or_else(|| fails("read back", directory)(std::io::ErrorKind::InvalidData.into()))
    }

    /// Locks the state for writing.
    pub(crate) fn write(&self) -> Result<Writer<'_>, StateError> {
        if !self.mapping.is_writable() {
            return Err(StateError::ReadOnly {
                path: self.directory.clone(),
            });
        }
        let lock = WriteLock::take(&self.directory).map_err(fails("lock", &self.directory))?;
        let writer = Writer {
            store: self,
            _lock: lock,
        };
        writer.close_structure();
        Ok(writer)
    }

    /// The constant facts, read as one.
    pub(crate) fn facts(&self) -> Result<NodeFacts, StateError> {
        loop {
            if let Some(facts) = self.try_facts() {
                return Ok(facts);
            }
            // A writer is at work, or was killed: the lock waits for the first and the next
            // open repairs after the second.
            if self.mapping.is_writable() {
                drop(self.write()?);
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// Where the scenario came from.
    pub(crate) fn source(&self) -> Source {
        match self.header.source.load(Acquire) {
            2 => Source::File,
            3 => Source::Given,
            _ => Source::Default,
        }
    }

    /// The directory of the state.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Layout {
    /// Writes the header of a new file; the rest is zero, which means nothing.
    fn format(&self) {
        let header = &self.header;
        let [first, second] = boot_id();
        header.version.store(VERSION, Relaxed);
        header.size.store(u32::try_from(SIZE).unwrap_or(0), Relaxed);
        header.boot_id[0].store(first, Relaxed);
        header.boot_id[1].store(second, Relaxed);
        header.magic.store(MAGIC, Release);
    }
}

impl Writer<'_> {
    /// Makes the node that of `wanted`. The source is cleared first and stored last: after a
    /// writer that was killed in between, the next one does it all again.
    fn follow(&self, wanted: &Wanted) -> Result<(), StateError> {
        let header = &self.header;
        let same = header.source.load(Acquire) == wanted.source as u64
            && header.source_text.load(Relaxed) == wanted.text_hash();
        if !same {
            header.source.store(0, Release);
            self.save(&wanted.yaml)?;
            self.restructure(|| {
                self.store_node(&wanted.node);
                self.store_gpus(&wanted.node);
                header
                    .next_ordinal
                    .store(wanted.node.gpus.len() as u64, Relaxed);
            });
        }
        header.source_text.store(wanted.text_hash(), Relaxed);
        header.source_stat.store(wanted.stat, Relaxed);
        header.source.store(wanted.source as u64, Release);
        if !same {
            self.wake_listeners();
        }
        Ok(())
    }

    /// Heals and idles every GPU, and forgets what was counted.
    fn start_over(&self) {
        self.restructure(|| {
            for entry in self.facts().gpus {
                self.occupy(entry.slot, &entry.gpu);
            }
        });
        self.wake_listeners();
    }

    fn save(&self, yaml: &str) -> Result<(), StateError> {
        let directory = &self.directory;
        let path = directory.join(format!("{SAVED_SCENARIO}.new"));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&path)?;
            file.write_all(yaml.as_bytes())?;
            std::fs::rename(&path, directory.join(SAVED_SCENARIO))
        };
        write().map_err(fails("write", directory))
    }

    /// Number for the next GPU that is added.
    pub(crate) fn next_ordinal(&self) -> u64 {
        self.header.next_ordinal.fetch_add(1, Relaxed)
    }
}

fn fails<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(std::io::Error) -> StateError + use<'a> {
    move |error| StateError::File {
        action,
        path: path.to_owned(),
        error,
    }
}

/// Makes the directory, and its parent as the user's own: others must not plant files there.
fn make_directory(directory: &Path) -> Result<(), StateError> {
    let fail = fails("make", directory);
    let user = rustix::process::geteuid().as_raw();
    if let Some(parent) = directory.parent()
        && parent == Path::new(&format!("/tmp/mizzen-sim-{user}"))
    {
        let made = std::fs::DirBuilder::new().mode(0o700).create(parent);
        if let Err(error) = made
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(fail(error));
        }
        let found = std::fs::symlink_metadata(parent).map_err(&fail)?;
        if !found.is_dir() || found.uid() != user || found.permissions().mode() & 0o022 != 0 {
            return Err(StateError::Foreign {
                path: parent.to_owned(),
            });
        }
    }
    std::fs::create_dir_all(directory).map_err(fail)
}

/// What tells this boot from others; zeros where the kernel does not say.
fn boot_id() -> [u64; 2] {
    let text = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let half = text.len() / 2;
    [fnv1a(&text[..half]), fnv1a(&text[half..])]
}
