//! Keeping the specs true while the agent runs: they follow the driver, its GPUs and MIG devices
//! and the device nodes, and the kubelet is offered only what runtimes find in them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::allocate::HostNodes;
use mizzen_core::cdi::{
    Catalog, CdiSpec, EXPLICIT_LIBRARIES, PLUGIN_VENDOR, Resolution, SPEC_DIRECTORIES, SpecOptions,
    Wanted, cdi_specs, problems,
};
use mizzen_core::config::Config;
use mizzen_core::gpu::Gpu;
use mizzen_core::inventory::DriverVersions;
use mizzen_core::state::{DriverStatus, Event, NodeState};
use mizzen_nvml::HostRoot;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Asked, Outcome, Places, SpecStore, discover, hook, read_catalog, shared};
use crate::backoff::Backoff;
use crate::dirwatch::{DirEvent, DirWatch};
use crate::supervisor::TaskError;

#[cfg(test)]
mod tests;

/// How long more changes may take to join the first.
const GATHER: Duration = Duration::from_millis(10);
/// The least time between two looks where the first found nothing that could have changed.
const IDLE_PAUSE: Duration = Duration::from_secs(1);
/// When it is looked again after something was missing or could not be written: soon at first, for
/// the nodes of MIG devices come a moment after them, and then at this interval at the most.
const RETRIES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// When it is looked again though nothing says that anything has changed: sockets and libraries
/// may have come.
const SLOW_LOOK: Duration = Duration::from_mins(1);

/// What the specs are made of, as far as the state knows it.
#[derive(Debug, Clone, PartialEq)]
struct Inputs {
    config: Arc<Config>,
    /// `None` while no driver answers.
    driver: Option<DriverVersions>,
    gpus: Vec<Gpu>,
    nodes: HostNodes,
    /// The names that containers are given.
    names: BTreeSet<String>,
}

impl Inputs {
    fn of(state: &NodeState) -> Self {
        let known = state.gpus().iter();
        Self {
            config: state.config().clone(),
            driver: match state.driver() {
                DriverStatus::Running(versions) => Some(versions.clone()),
                DriverStatus::Absent(_) | DriverStatus::Unknown => None,
            },
            gpus: known.map(|known| known.gpu.clone()).collect(),
            nodes: HostNodes {
                // What this task itself has found out.
                unresolved: BTreeSet::new(),
                ..state.host_nodes().clone()
            },
            names: state.cdi_names(),
        }
    }

    /// Whether specs are asked for.
    fn uses_cdi(&self) -> bool {
        self.config.device_list_strategies.need_specs() || !self.config.cdi_kinds.is_empty()
    }
}

/// What one look has led to.
#[derive(Debug)]
struct Look {
    outcome: io::Result<Outcome>,
    /// The names that containers are given.
    names: BTreeSet<String>,
    /// The names that runtimes find.
    found: BTreeSet<String>,
    /// What is odd, in words.
    remarks: Vec<String>,
    /// Whether runtimes find every name that containers are given, and all was written.
    complete: bool,
}

/// Where specs are on a host, as this process sees it: the directories that runtimes read, lowest
/// rank first.
pub fn directories(host: &HostRoot) -> Vec<PathBuf> {
    let here = |directory: &&str| {
        // /var/run leads to /run on every host, and must not lead out of the host's root.
        let (parent, name) = directory.rsplit_once('/').unwrap_or(("", directory));
        host.resolve(parent)
            .map_or_else(|_| host.join(directory), |parent| parent.join(name))
    };
    SPEC_DIRECTORIES.iter().map(here).collect()
}

/// The directory in which runtimes expect specs that programs make: the last.
pub(crate) fn store(directories: &[PathBuf]) -> SpecStore {
    SpecStore::new(directories.last().cloned().unwrap_or_default())
}

/// Keeps the specs until `stop`, following `state`, and tells what runtimes find as
/// [`Event::CdiResolved`], which the state has to take in.
///
/// Where the settings never name devices by CDI nothing is written, and nothing is told; files
/// that were kept once are kept true from then on, since containers that hold names of them may
/// be started again.
///
/// # Errors
/// A look that panicked.
pub async fn keep<Told: Future<Output = ()>>(
    mut state: watch::Receiver<Arc<NodeState>>,
    tell: impl Fn(Event) -> Told,
    stop: CancellationToken,
) -> Result<(), TaskError> {
    let mut keeper = SpecKeeper::new();
    loop {
        let inputs = Inputs::of(&state.borrow_and_update());
        tokio::select! {
            () = sleep_until(keeper.due(&inputs)) => {}
            changed = state.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            },
            () = stop.cancelled() => return Ok(()),
        }
        let look = keeper.follow(inputs).await?;
        let pause = look.as_ref().map(|look| keeper.pause(look));
        if let Some(event) = look.and_then(|look| keeper.news(look)) {
            tell(event).await;
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return Ok(()) },
            () = keeper.files_changed() => {}
            () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            () = stop.cancelled() => return Ok(()),
        }
        // What comes together is looked at together.
        sleep(GATHER).await;
    }
}

struct SpecKeeper {
    /// On the directories of specs.
    watch: Option<DirWatch>,
    /// What was looked at last, and when.
    last: Option<(Inputs, Instant)>,
    /// The least time between it and another look at the same.
    rest: Duration,
    /// The waits for what is missing.
    retries: Backoff,
    /// What was told last, and the names that containers were given then: the same find may mean
    /// something else where others are missed in it.
    told: Option<(BTreeSet<String>, BTreeSet<String>)>,
    /// The remarks that were made.
    said: BTreeSet<String>,
    /// The program of the hooks.
    hooks: hook::Installer,
}

impl SpecKeeper {
    fn new() -> Self {
        Self {
            watch: None,
            last: None,
            rest: IDLE_PAUSE,
            retries: Backoff::new(RETRIES.0, RETRIES.1),
            told: None,
            said: BTreeSet::new(),
            hooks: hook::Installer::default(),
        }
    }

    /// How long after this look the next one is due, if nothing happens.
    fn pause(&mut self, look: &Look) -> Duration {
        if look.complete {
            self.retries.reset();
            self.rest = IDLE_PAUSE;
            return SLOW_LOOK;
        }
        self.rest = self.retries.failed();
        self.rest
    }

    /// When it is to be looked: at once if the inputs are new, and else, since files and device
    /// nodes may be, after a pause.
    fn due(&self, inputs: &Inputs) -> Instant {
        match &self.last {
            Some((last, at)) if last == inputs => *at + self.rest,
            _ => Instant::now(),
        }
    }

    /// Brings the files in line with the inputs, where there is a driver and files are wanted.
    async fn follow(&mut self, inputs: Inputs) -> Result<Option<Look>, TaskError> {
        let directories = directories(&HostRoot::new(&inputs.config.host_root));
        let store = store(&directories);
        let mut found = None;
        if inputs.driver.is_some() && (inputs.uses_cdi() || store.has_any()) {
            if self.watch.is_none() {
                // Before the look, so that nothing happens unseen. What cannot be made is told by
                // the look.
                let _ = fs::create_dir_all(store.directory());
                let each = directories.iter().map(PathBuf::as_path);
                self.watch = DirWatch::on_contents(each).ok();
            }
            let (for_look, hooks) = (inputs.clone(), self.hooks.clone());
            let look = spawn_blocking(move || look(&for_look, &hooks)).await?;
            self.say(&look);
            found = Some(look);
        }
        if self.last.as_ref().is_none_or(|(last, _)| *last != inputs) {
            // What is missing now is missing for the first time.
            self.retries.reset();
        }
        self.last = Some((inputs, Instant::now()));
        Ok(found)
    }

    /// What the state has to know of a look, if it does not know it.
    fn news(&mut self, look: Look) -> Option<Event> {
        let told = (look.found.clone(), look.names);
        if self.told.as_ref() == Some(&told) {
            return None;
        }
        self.told = Some(told);
        Some(Event::CdiResolved(look.found))
    }

    /// Ends when a spec file has changed.
    async fn files_changed(&mut self) {
        let Some(watch) = &mut self.watch else {
            return std::future::pending().await;
        };
        loop {
            let name = match watch.next().await {
                Ok(
                    DirEvent::Written(name) | DirEvent::Vanished(name) | DirEvent::Appeared(name),
                ) => name,
                Ok(DirEvent::Overflow) => return,
                Ok(DirEvent::Ended) | Err(_) => {
                    self.watch = None;
                    return;
                }
            };
            let name = name.as_encoded_bytes();
            if name.ends_with(b".json") || name.ends_with(b".yaml") {
                return;
            }
        }
    }

    /// Says what was done and what is odd, each once.
    fn say(&mut self, look: &Look) {
        for path in look.outcome.iter().flat_map(|outcome| &outcome.taken) {
            tracing::info!(
                event = "cdi-taken-over",
                path = %path.display(),
                "a CDI spec of another device plugin is replaced: its names are those of the \
                 devices that this agent hands out"
            );
        }
        match &look.outcome {
            Ok(outcome) if outcome.changed() => tracing::info!(
                event = "cdi-specs",
                written = %list(&outcome.written),
                removed = %list(&outcome.removed),
                "CDI specs follow the driver and its GPUs"
            ),
            Ok(_) => {}
            Err(error) => {
                let text = format!(
                    "CDI specs cannot be written: {error}; the directory {} of the host must be \
                     writable for the agent",
                    SPEC_DIRECTORIES[1]
                );
                self.warn(text);
            }
        }
        let gone = |text: &String| !look.remarks.contains(text) && look.outcome.is_ok();
        self.said.retain(|text| !gone(text));
        for remark in &look.remarks {
            self.warn(remark.clone());
        }
    }

    fn warn(&mut self, text: String) {
        if !self.said.contains(&text) {
            tracing::warn!(event = "cdi-specs", "{text}");
            self.said.insert(text);
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let each: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    each.join(", ")
}

/// Finds the driver's files, makes the specs, sees to the program that they name, writes what is
/// different, and reads what runtimes then find.
fn look(inputs: &Inputs, hooks: &hook::Installer) -> Look {
    look_beside(inputs, hooks, shared::host_beside(&inputs.config).as_ref())
}

/// The same, where the host's root is `host` for this process besides its own.
fn look_beside(inputs: &Inputs, hooks: &hook::Installer, host: Option<&HostRoot>) -> Look {
    let config = &inputs.config;
    let directories = directories(&HostRoot::new(&config.host_root));
    let mut remarks = Vec::new();
    let store = store(&directories);
    let specs = valid(specs(inputs, &wanted(config, &store)), &mut remarks);
    // Before a spec names it.
    let no_hook = (!specs.is_empty())
        .then(|| hook_remark(config, hooks))
        .flatten();
    let mut is_in_vain = no_hook.is_some();
    remarks.extend(no_hook);
    let outcome = store.keep(&specs);
    if let Some(host) = host.filter(|_| !specs.is_empty()) {
        let apart = shared::remarks(config, store.directory(), host);
        is_in_vain |= !apart.is_empty();
        remarks.extend(apart);
    }
    // Where the agent has the choice, it chooses nothing that keeps containers from starting.
    let is_usable = !is_in_vain || !config.device_list_strategies.is_auto();
    if let Ok(outcome) = &outcome {
        for path in &outcome.foreign {
            remarks.push(format!(
                "{} is somebody else's and was left as it is; the names in it are not Mizzen's",
                path.display()
            ));
        }
    }
    let catalog = read_catalog(&directories);
    remarks.extend(
        inputs
            .names
            .iter()
            .filter_map(|name| unfound(name, &catalog)),
    );
    let is_of_plugin =
        |name: &&str| is_usable && name.starts_with(PLUGIN_VENDOR) && catalog.resolves(name);
    let names = catalog.names().filter(is_of_plugin);
    let found: BTreeSet<String> = names.map(str::to_owned).collect();
    Look {
        complete: inputs.names.is_subset(&found) && outcome.is_ok(),
        names: inputs.names.clone(),
        found,
        outcome,
        remarks,
    }
}

/// Why runtimes do not find a name, if they do not.
fn unfound(name: &str, catalog: &Catalog) -> Option<String> {
    match catalog.resolve(name) {
        Resolution::Device(..) => None,
        Resolution::Conflict(files) => {
            let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            Some(format!(
                "{name} is in {}, so runtimes find none of them and it is not offered; remove one \
                 of the files",
                paths.join(" and ")
            ))
        }
        Resolution::Unknown => Some(format!(
            "{name} is in no CDI spec and is not offered: a device node of it is missing on the \
             host, or is not visible to the agent (--dev-root, --host-root)"
        )),
    }
}

fn specs(inputs: &Inputs, wanted: &[Wanted]) -> Vec<CdiSpec> {
    let config = &inputs.config;
    let asked = Asked {
        version: inputs.driver.as_ref().map(|driver| driver.driver.as_str()),
        gpus: &inputs.gpus,
        explicit_libraries: config
            .cdi_feature_flags
            .iter()
            .any(|flag| flag == EXPLICIT_LIBRARIES),
        imex_channels: !config.imex.channel_ids.is_empty() || !config.cdi_kinds.is_empty(),
    };
    let files = discover(&Places::of_config(config), &asked);
    let options = SpecOptions::of_config(config);
    cdi_specs(&inputs.gpus, &files, wanted, &options)
}

/// The specs to keep. Those of what was handed out are kept when devices are no more named by CDI,
/// for the containers that have such names.
fn wanted(config: &Config, store: &SpecStore) -> Vec<Wanted> {
    let mut wanted = Wanted::of_config(config);
    if !config.device_list_strategies.need_specs() {
        let of_plugin = Wanted::of_plugin(config).into_iter();
        wanted.extend(of_plugin.filter(|wanted| store.holds(&wanted.kind)));
    }
    wanted
}

/// The specs that runtimes take. A wrong one would be a mistake of ours, and is not written.
fn valid(specs: Vec<CdiSpec>, remarks: &mut Vec<String>) -> Vec<CdiSpec> {
    let is_valid = |spec: &CdiSpec| {
        let problems = problems(spec);
        let words = problems.iter();
        remarks
            .extend(words.map(|problem| format!("the spec of {} is wrong: {problem}", spec.kind)));
        problems.is_empty()
    };
    specs.into_iter().filter(is_valid).collect()
}

/// Sees to the program of the hooks, without which containers do not start, and tells what is
/// wrong with it.
fn hook_remark(config: &Config, hooks: &hook::Installer) -> Option<String> {
    let options = SpecOptions::of_config(config);
    let path = options.hooks.path()?;
    if config.cdi_hook_path.is_some() {
        return missing_hook(config, path);
    }
    match hooks.install(&hook::directory(config)) {
        Ok(installed) => {
            if installed.is_new {
                tracing::info!(
                    event = "cdi-hook",
                    path,
                    "the program of the CDI specs' hooks is installed"
                );
            }
            installed.is_noexec.then(|| format!(
                "{path}, which the CDI specs name for hooks, is on a file system that is mounted \
                 noexec: containers with GPUs will not start; set --hook-dir to a directory that \
                 programs may be run from"
            ))
        }
        Err(error) => Some(format!(
            "{path}, which the CDI specs name for hooks, cannot be installed: {error}; containers \
             with GPUs will not start without it: make {} of the host writable for the agent, set \
             --hook-dir, or give --cdi-disable-hooks=all",
            config.hook_dir.display()
        )),
    }
}

/// Nothing is said where this process does not see the host's root.
fn missing_hook(config: &Config, path: &str) -> Option<String> {
    if config.driver_root != Path::new("/") {
        return None;
    }
    let roots = [&config.driver_root_ctr_path, &config.host_root];
    let mut found = roots
        .into_iter()
        .map(|root| HostRoot::new(root).resolve(path));
    if found.any(|found| found.is_ok_and(|found| found.exists())) {
        return None;
    }
    Some(format!(
        "{path}, which the CDI specs name for hooks, is not on the host: containers with GPUs will \
         not start; install it, set --nvidia-cdi-hook-path, or give --cdi-disable-hooks=all"
    ))
}
