//! Finding and opening `libnvidia-ml.so.1`.

pub(crate) mod ldcache;
mod places;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::driver::{DriverError, DriverLoader, GpuDriver};

use crate::driver::{Deadlines, NvmlDriver, Shared};
use crate::host::HostRoot;
use crate::library::Library;
pub use places::LIBRARY_DIRECTORIES;

/// What a GPU may take to answer.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// What a GPU may take for its first answer: without the persistence daemon it is initialised
/// then, which takes seconds.
const FIRST_DEADLINE: Duration = Duration::from_secs(10);
/// What a change of a GPU's partitions may take: turning MIG on resets some GPUs.
const CHANGE_DEADLINE: Duration = Duration::from_mins(1);
/// What NVML may take to start.
const INIT_DEADLINE: Duration = Duration::from_secs(30);

/// Finds the NVIDIA driver's management library and opens sessions with it.
///
/// Keep one for the life of the process: it remembers which GPUs have a call stuck in them, so
/// that no second one is sent after it.
#[derive(Debug)]
pub struct NvmlLoader {
    places: Places,
    host: HostRoot,
    deadlines: Deadlines,
    shared: Arc<Shared>,
}

impl NvmlLoader {
    /// Begins with the defaults: the host's `/`, five seconds for a question to a GPU, ten for
    /// the first one, a minute for a change of its partitions, thirty seconds for NVML's start.
    pub fn builder() -> NvmlLoaderBuilder {
        NvmlLoaderBuilder {
            places: Places::default(),
            host: HostRoot::default(),
            deadlines: Deadlines {
                call: CALL_DEADLINE,
                first: FIRST_DEADLINE,
                change: CHANGE_DEADLINE,
                init: INIT_DEADLINE,
            },
        }
    }

    /// How many threads are left behind in calls that have not returned, over all sessions; at
    /// most one for each GPU and one for the driver as a whole.
    pub fn stuck_calls(&self) -> usize {
        self.shared.claims.stuck()
    }

    /// Opens a session; as [`DriverLoader::open`], with the concrete type.
    ///
    /// # Errors
    /// See [`DriverLoader::open`].
    pub fn session(&self) -> Result<NvmlDriver, DriverError> {
        let places = self.places.clone();
        NvmlDriver::open(
            move |how| places.load(how),
            self.host.clone(),
            self.deadlines,
            self.shared.clone(),
        )
    }
}

/// How to load the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// As everybody does: one that is loaded already is used once more.
    Ordinarily,
    /// Beside one that is loaded already, sharing nothing with it.
    Apart,
}

/// Where to look for the library.
#[derive(Debug, Clone, Default)]
struct Places {
    library: Option<PathBuf>,
    driver_roots: Vec<PathBuf>,
}

impl Places {
    /// Loads the first library that can be loaded.
    fn load(&self, how: How) -> Result<Library, DriverError> {
        let load = match how {
            How::Ordinarily => Library::load,
            How::Apart => Library::load_apart,
        };
        let mut outcome = Err(None);
        let mut search = places::Search::new(|path| match load(path) {
            Ok(library) => {
                tracing::debug!(path = %path.display(), ?how, "loaded NVML");
                outcome = Ok(library);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "trying the next place");
                // What the dynamic linker does not find either is not there, not unusable.
                let is_file = path.is_absolute();
                if let Err(first @ None) = &mut outcome {
                    *first = is_file.then_some(error);
                }
                false
            }
        });
        match &self.library {
            Some(path) => search.exactly(path),
            None => search.below(&self.driver_roots),
        };
        let searched = search.into_searched();
        outcome.map_err(|unusable| unusable.unwrap_or(DriverError::LibraryNotFound { searched }))
    }
}

impl DriverLoader for NvmlLoader {
    fn open(&self) -> Result<Arc<dyn GpuDriver>, DriverError> {
        Ok(Arc::new(self.session()?))
    }
}

/// Sets up an [`NvmlLoader`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct NvmlLoaderBuilder {
    places: Places,
    host: HostRoot,
    deadlines: Deadlines,
}

impl NvmlLoaderBuilder {
    /// Loads exactly this file and searches nowhere.
    pub fn library(mut self, path: impl Into<PathBuf>) -> Self {
        self.places.library = Some(path.into());
        self
    }

    /// Searches below this root of a driver installation; called again, below that one next.
    /// Without any, below the host root.
    pub fn driver_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.places.driver_roots.push(root.into());
        self
    }

    /// Where `/sys` and `/proc` of the host are.
    pub fn host_root(mut self, host: HostRoot) -> Self {
        self.host = host;
        self
    }

    /// How long a GPU may take to answer before it counts as hung.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.call = deadline;
        self
    }

    /// How long a GPU may take for its first answer in a session; never less than for others.
    pub fn first_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.first = deadline;
        self
    }

    /// How long a change of a GPU's partitions may take before the GPU counts as hung.
    pub fn change_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.change = deadline;
        self
    }

    /// How long NVML may take to start, and to shut down.
    pub fn init_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.init = deadline;
        self
    }

    /// The loader. Nothing is searched or loaded yet.
    pub fn build(self) -> NvmlLoader {
        let mut places = self.places;
        if places.driver_roots.is_empty() {
            places.driver_roots.push(self.host.as_path().to_owned());
        }
        NvmlLoader {
            places,
            host: self.host,
            deadlines: self.deadlines,
            shared: Arc::default(),
        }
    }
}
