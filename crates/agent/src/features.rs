//! What follows the picture of the node, besides the device plugins: each feature a task of its own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::labels::Vgpu;
use mizzen_core::state::{Event, NodeState};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::dirwatch::{DirEvent, DirWatch};
use crate::driver::{Command, Driver, News};
use crate::ground::Ground;
use crate::machine::{self, Machine};
use crate::runtime::Chooser;
use crate::supervisor::TaskError;
use crate::tally::Tally;
use crate::{cdi, labels, metrics, mig, node_health};

/// How long device nodes are left to appear together.
const NODES_SETTLE: Duration = Duration::from_millis(50);

/// What the features are made of.
pub(crate) struct Features {
    pub(crate) driver: Driver,
    pub(crate) news: mpsc::Sender<News>,
    pub(crate) state: watch::Receiver<Arc<NodeState>>,
    pub(crate) settings: watch::Receiver<Arc<Config>>,
    pub(crate) tally: Tally,
    pub(crate) chooser: Chooser,
    pub(crate) vgpu: Vgpu,
}

impl Features {
    /// Starts those that the settings ask for.
    pub(crate) fn start(
        self,
        config: &Arc<Config>,
        cluster: &Cluster,
        partitioning: Option<mig::Beginning>,
        ground: &mut Ground,
    ) {
        keep_host_watch(config, &self.driver, ground);
        let sources = metrics::Sources {
            driver: self.driver.clone(),
            state: self.state.clone(),
            configs: self.settings.clone(),
            tally: self.tally,
            keeps_record: true,
        };
        metrics::keep(config, sources, ground);
        keep_specs(&self.state, &self.news, ground);
        keep_choosing(self.chooser, self.settings, &self.news, ground);
        let labelled = labels::Labelled {
            state: self.state.clone(),
            session: self.driver.session(),
            vgpu: self.vgpu,
        };
        labels::start(config, cluster, labelled, ground);
        node_health::start(config, cluster, &self.state, ground);
        if let Some(partitioning) = partitioning {
            partitioning.start(config, cluster, &self.driver, self.news, self.state, ground);
        }
    }
}

fn keep_host_watch(config: &Arc<Config>, driver: &Driver, ground: &mut Ground) {
    let (config, driver, stop) = (config.clone(), driver.clone(), ground.stop.clone());
    ground.supervisor.keep("host watch", move || {
        watch_host(Machine::new(config.clone()), driver.clone(), stop.clone())
    });
}

fn keep_specs(
    state: &watch::Receiver<Arc<NodeState>>,
    news: &mpsc::Sender<News>,
    ground: &mut Ground,
) {
    let (state, stop) = (state.clone(), ground.stop.clone());
    let tell = state_teller(news.clone());
    ground.supervisor.keep("CDI specs", move || {
        cdi::keep(state.clone(), tell.clone(), stop.clone())
    });
}

fn keep_choosing(
    chooser: Chooser,
    configs: watch::Receiver<Arc<Config>>,
    news: &mpsc::Sender<News>,
    ground: &mut Ground,
) {
    let stop = ground.stop.clone();
    let tell = state_teller(news.clone());
    ground.supervisor.keep("container runtime", move || {
        let chooser = chooser.clone();
        chooser.follow(configs.clone(), tell.clone(), stop.clone())
    });
}

/// Tells the state task of an event.
fn state_teller(
    news: mpsc::Sender<News>,
) -> impl Fn(Event) -> futures_util::future::BoxFuture<'static, ()> + Clone + Send {
    move |event| {
        let news = news.clone();
        // Fails only if the state task has ended, and the process with it.
        Box::pin(async move { drop(news.send(News::Events(vec![event])).await) })
    }
}

/// Looks at the driver again when device nodes or libraries come or go.
async fn watch_host(
    machine: Machine,
    driver: Driver,
    stop: CancellationToken,
) -> Result<(), TaskError> {
    let mut places = machine.likely_places();
    if places.is_empty() {
        // Polling has to do.
        stop.cancelled().await;
        return Ok(());
    }
    let mut watch = watched(&places)?;
    loop {
        let event = tokio::select! {
            event = watch.next() => event?,
            () = stop.cancelled() => return Ok(()),
        };
        match event {
            DirEvent::Appeared(name) | DirEvent::Vanished(name) if machine::is_sign(&name) => {
                // A driver that is loaded makes its nodes one after the other.
                tokio::time::sleep(NODES_SETTLE).await;
                let now = machine.likely_places();
                if now != places && !now.is_empty() {
                    // What comes next may come in a directory that was not there before.
                    watch = watched(&now)?;
                    places = now;
                }
                driver.tell(Command::Look);
            }
            DirEvent::Overflow => driver.tell(Command::Look),
            DirEvent::Ended => return Err("the watched directories are gone".into()),
            DirEvent::Appeared(_) | DirEvent::Vanished(_) | DirEvent::Written(_) => {}
        }
    }
}

fn watched(places: &[PathBuf]) -> io::Result<DirWatch> {
    DirWatch::new(places.iter().map(PathBuf::as_path))
}
