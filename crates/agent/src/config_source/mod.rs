//! The settings that may change while the agent runs: where they are, which of them are for this
//! node, and what becomes of those that cannot be used.
//!
//! One task hears of the Node's label, of the texts of configs and of a person's SIGHUP, decides
//! what is to be in force, and hands it to the agent. A config that cannot be used changes
//! nothing; the last one that could is remembered on the disk.

mod decide;
mod memory;
mod shelf;
mod task;
mod text;
mod watches;

use std::path::PathBuf;
use std::sync::Arc;

use mizzen_core::config::{Config, ConfigPlace, ConfigSource};
use tokio::sync::{Notify, mpsc, watch};

use crate::cluster::{Cluster, Known, Object, Reporter, follow_node, post};
use crate::ground::Ground;
pub use memory::last_good_text;
pub(crate) use shelf::{Shelf, watch_disk};
use task::Task;
pub use text::{CONFIG_LIMIT, read_config_file};
use watches::follow_config_map;

/// Settings that wait for the agent.
const SETTINGS_LIMIT: usize = 1;

/// A config's text.
#[derive(Debug, Clone, Copy)]
pub struct ConfigText<'a> {
    /// What to call it in words.
    pub name: &'a str,
    /// What it says.
    pub text: &'a str,
}

/// Joins a config's text, if there is one, with flags and environment; says everything that is
/// wrong, for people.
pub type Interpreter = Arc<dyn Fn(Option<ConfigText<'_>>) -> Result<Config, String> + Send + Sync>;

/// Settings for the agent to take over.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Box<Config>,
    /// Where they are from, in words.
    pub(crate) words: String,
    /// Whether somebody asked for them to be read again.
    pub(crate) asked: bool,
}

/// A started source.
#[derive(Debug)]
pub(crate) struct Source {
    /// What can be used at once; without it the agent must wait, unless the config is a file,
    /// which whoever made the settings has read.
    pub(crate) first: Option<Settings>,
    /// What is to be used from then on.
    pub(crate) settings: mpsc::Receiver<Settings>,
    /// Tells the source to read everything again.
    pub(crate) reread: Arc<Notify>,
}

/// Starts what `base`, the settings of flags and environment, says about the source of others.
pub(crate) fn start(
    base: &Config,
    interpret: Interpreter,
    cluster: &Cluster,
    ground: &mut Ground,
) -> Source {
    let Views {
        label,
        shelf,
        reporter,
    } = watch_places(&base.source, cluster, ground);
    let (tell_memory, memory) = watch::channel(None);
    let dir = base.state_dir.clone();
    ground.supervisor.keep("config on disk", move || {
        memory::keep(dir.clone(), memory.clone())
    });
    let (send, settings) = mpsc::channel(SETTINGS_LIMIT);
    let reread = Arc::new(Notify::new());
    let mut task = Task {
        source: base.source.clone(),
        interpret,
        label,
        shelf,
        reread: reread.clone(),
        in_force: None,
        complaint: None,
        reporter,
        memory: tell_memory,
        settings: send,
        told_of_api: None,
        told_of_shelf: None,
    };
    let first = task.first(base);
    let run = task.run(ground.stop.clone());
    ground.supervisor.essential("config source", run);
    Source {
        first,
        settings,
        reread,
    }
}

/// What the task sees, and how it speaks to the Node.
struct Views {
    label: watch::Receiver<Known<Option<String>>>,
    shelf: watch::Receiver<Known<Shelf>>,
    reporter: Option<Reporter>,
}

/// Starts to watch the label and the configs, as far as there are any.
fn watch_places(source: &ConfigSource, cluster: &Cluster, ground: &mut Ground) -> Views {
    let (tell_label, label) = watch::channel(Known::Is(None));
    let (tell_shelf, shelf) = watch::channel(Known::NotYet);
    let mut reporter = None;
    if source.needs_api() {
        reporter = start_api(source, cluster, tell_label, &tell_shelf, ground);
    }
    let on_disk = match &source.place {
        ConfigPlace::File(path) => Some((Shelf::File(path.clone()), path)),
        ConfigPlace::Directory(path) => Some((Shelf::Directory(path.clone()), path)),
        ConfigPlace::Nowhere | ConfigPlace::ConfigMap(_) => None,
    };
    if let Some((shelf, path)) = on_disk {
        start_disk(shelf, path.clone(), tell_shelf, ground);
    }
    Views {
        label,
        shelf,
        reporter,
    }
}

/// Starts what needs the Kubernetes API.
fn start_api(
    source: &ConfigSource,
    cluster: &Cluster,
    tell_label: watch::Sender<Known<Option<String>>>,
    tell_shelf: &watch::Sender<Known<Shelf>>,
    ground: &mut Ground,
) -> Option<Reporter> {
    if let ConfigPlace::ConfigMap(name) = &source.place {
        let follow = follow_config_map(cluster.clone(), name.clone(), tell_shelf.clone());
        ground.keep_until_stop("config map", follow);
    }
    let node = source.node_name.clone()?;
    tell_label.send_replace(Known::NotYet);
    let key = source.node_label.clone();
    let label = move |node: &Object| node.label(&key);
    let follow = follow_node(cluster.clone(), node.clone(), label, tell_label);
    ground.keep_until_stop("node label", follow);
    let (reporter, reports) = Reporter::new();
    let post = post(cluster.clone(), node, ground.clock, reports);
    ground.keep_until_stop("events", post);
    Some(reporter)
}

/// Starts the watch on the disk, whose content is known from the start.
fn start_disk(shelf: Shelf, path: PathBuf, tell: watch::Sender<Known<Shelf>>, ground: &mut Ground) {
    tell.send_replace(Known::Is(shelf.clone()));
    let watching = watch_disk(shelf, path, tell);
    ground.keep_until_stop("config files", watching);
}
