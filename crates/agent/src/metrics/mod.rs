//! Metrics of the GPUs: sampled at intervals, rendered on a scrape.
//!
//! Four parts that meet in [`Latest`]: the sampler, which asks the driver on a thread of its own;
//! the pods, which the kubelet tells of; the settings, which may change; and the server, which
//! waits for none of them. Without an address none of it is there.

mod alone;
mod cgroup;
mod holders_file;
mod latest;
mod logs;
mod owners;
mod page;
mod pods;
mod process;
mod sampler;
mod setup;

use std::sync::Arc;

use mizzen_core::config::Config;
use mizzen_core::state::NodeState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::driver::Driver;
use crate::ground::Ground;
use crate::pod_resources::PodResourcesSocket;
use crate::record;
use crate::supervisor::TaskError;
use crate::tally::Tally;
use crate::web::{Protection, listen, serve};
pub use alone::{NoPage, OnePage, one_page, serve_alone};
use latest::Latest;
use page::Pages;
use pods::{Pods, Record};
use sampler::{Asker, Sampler};
use setup::Setup;

/// What metrics are made of.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub(crate) driver: Driver,
    pub(crate) state: watch::Receiver<Arc<NodeState>>,
    /// The settings in force.
    pub(crate) configs: watch::Receiver<Arc<Config>>,
    pub(crate) tally: Tally,
    /// Whether this process keeps since when devices are held: one on each node.
    pub(crate) keeps_record: bool,
}

/// Serves metrics where the settings say so.
pub(crate) fn keep(config: &Arc<Config>, sources: Sources, ground: &mut Ground) {
    if config.metrics.address.is_none() {
        return;
    }
    let (clock, stop) = (ground.clock, ground.stop.clone());
    ground.supervisor.keep("metrics", move || {
        let sources = sources.clone();
        Box::pin(run(sources, clock, stop.clone()))
    });
}

/// Serves until the stop.
async fn run(sources: Sources, clock: Clock, stop: CancellationToken) -> Result<(), TaskError> {
    let config = sources.configs.borrow().clone();
    let Some(address) = config.metrics.address else {
        return Ok(());
    };
    let setup = Setup::read(&config)?;
    setup.tell();
    // Before anything listens: a server whose protection is not understood stays closed.
    let protection = match config.metrics.web_config_file.clone() {
        Some(path) => Some(Arc::new(Protection::read(path).await?)),
        None => None,
    };
    let listener = listen(address)
        .await
        .map_err(|error| format!("cannot serve metrics on {address}: {error}"))?;
    let whom = match &protection {
        Some(protection) => protection.words().await,
        None => "to everybody",
    };
    tracing::info!(event = "metrics", address = %listener.local_addr()?, "serving /metrics {whom}");
    let parts = Parts::new(&config, sources, setup, clock)?;
    let answer = {
        let pages = parts.pages;
        move |asked: &http::request::Parts| pages.answer(asked)
    };
    let serving = serve(listener, protection, answer, stop.clone());
    let gathering = async {
        tokio::join!(parts.follow, parts.sampler.run(), parts.pods.run());
    };
    tokio::select! {
        served = serving => served,
        // The sources end when the process does.
        () = gathering => {
            stop.cancelled().await;
            Ok(())
        }
    }
}

/// What runs side by side.
struct Parts<F> {
    pages: Pages,
    sampler: Sampler,
    pods: Pods,
    follow: F,
}

impl Parts<()> {
    fn new(
        config: &Config,
        sources: Sources,
        setup: Setup,
        clock: Clock,
    ) -> std::io::Result<Parts<impl Future<Output = ()>>> {
        let Sources {
            driver,
            state,
            configs,
            tally,
            keeps_record,
        } = sources;
        let latest = Arc::new(Latest::default());
        let boot_id = record::boot_id(&config.host_root);
        // Also where others keep it.
        let known = holders_file::load(&config.state_dir, &boot_id);
        latest.held().clone_from(&known);
        let (tell, setup) = watch::channel(Arc::new(setup));
        Ok(Parts {
            pages: Pages {
                setup: setup.clone(),
                state: state.clone(),
                latest: latest.clone(),
                tally: tally.clone(),
                clock,
            },
            sampler: Sampler {
                asker: Asker::start(config)?,
                session: driver.session(),
                state,
                setup: setup.clone(),
                latest: latest.clone(),
                clock,
            },
            pods: Pods {
                kubelet: PodResourcesSocket::new(config.pod_resources_socket()),
                setup,
                latest,
                tally,
                clock,
                record: Record {
                    dir: keeps_record.then(|| config.state_dir.clone()),
                    boot_id,
                    written: known,
                    fails: false,
                },
                roots: logs::roots(config),
                complaint: None,
            },
            follow: follow(configs, tell),
        })
    }
}

/// Takes new settings over. Those that cannot be used leave the old ones in force.
async fn follow(mut configs: watch::Receiver<Arc<Config>>, tell: watch::Sender<Arc<Setup>>) {
    while configs.changed().await.is_ok() {
        let config = configs.borrow_and_update().clone();
        match Setup::read(&config) {
            Ok(setup) if setup == **tell.borrow() => {}
            Ok(setup) => {
                setup.tell();
                tell.send_replace(Arc::new(setup));
            }
            Err(mistakes) => tracing::error!(
                event = "metrics",
                "{mistakes}\nthe metrics stay as they were"
            ),
        }
    }
}

impl Setup {
    /// Says what somebody should know.
    fn tell(&self) {
        for remark in &self.remarks {
            tracing::warn!(event = "metrics", "{remark}");
        }
    }
}
