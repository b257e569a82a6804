//! The device plugins: one for each resource that the state has.

mod answer;
mod desk;
mod presence;
mod register;
mod service;
mod streams;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use mizzen_core::config::Config;
use mizzen_core::resource::ResourceName;
use mizzen_core::state::NodeState;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::mig::Given;
use crate::readiness::Readiness;
use crate::tally::Tally;
use desk::{Desk, DirNews, watch_dir};
use presence::Presence;

/// Those who are told of what the kubelet asks and gets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// What it gets, where somebody must know.
    pub(crate) given: Option<Given>,
    /// How often it asks, and how long it waits.
    pub(crate) tally: Tally,
}

/// Offers each resource of the state to the kubelet, until the stop.
pub(crate) async fn offer(
    mut state: watch::Receiver<Arc<NodeState>>,
    told: Told,
    readiness: Readiness,
    stop: CancellationToken,
) {
    loop {
        let config = state.borrow().config().clone();
        let wanted = place(&config);
        let ending = stop.child_token();
        let counter = Counter::new(
            wanted.clone(),
            state.clone(),
            told.clone(),
            &readiness,
            ending.clone(),
        );
        let serving = counter.serve();
        let moved = async {
            let elsewhere = |state: &Arc<NodeState>| place(state.config()) != wanted;
            state.wait_for(elsewhere).await.is_ok()
        };
        tokio::pin!(serving);
        tokio::select! {
            () = &mut serving => return,
            moved = moved => {
                // Sockets are removed here before they are made elsewhere.
                ending.cancel();
                serving.await;
                if !moved {
                    return;
                }
            }
        }
    }
}

/// Where plugins and kubelet have their sockets.
fn place(config: &Config) -> (PathBuf, Option<PathBuf>) {
    (
        config.device_plugin_dir().to_owned(),
        config.kubelet_socket.clone(),
    )
}

/// All resources in one plugin directory.
struct Counter {
    desk: Desk,
    dir_news: watch::Sender<DirNews>,
    state: watch::Receiver<Arc<NodeState>>,
    told: Told,
    readiness: Readiness,
    stop: CancellationToken,
}

impl Counter {
    fn new(
        (dir, kubelet): (PathBuf, Option<PathBuf>),
        state: watch::Receiver<Arc<NodeState>>,
        told: Told,
        readiness: &Readiness,
        stop: CancellationToken,
    ) -> Self {
        let (dir_news, news) = watch::channel(DirNews::default());
        let desk = Desk { dir, kubelet, news };
        Self {
            desk,
            dir_news,
            state,
            told,
            readiness: readiness.clone(),
            stop,
        }
    }

    async fn serve(mut self) {
        let mut running: BTreeSet<ResourceName> = BTreeSet::new();
        let mut presences: JoinSet<Option<ResourceName>> = JoinSet::new();
        let watch = watch_dir(
            self.desk.dir.clone(),
            self.desk.kubelet.clone(),
            self.dir_news.clone(),
            self.stop.clone(),
        );
        presences.spawn(async move {
            watch.await;
            None
        });
        while !self.stop.is_cancelled() {
            let wanted: Vec<ResourceName> = self
                .state
                .borrow_and_update()
                .pools()
                .keys()
                .cloned()
                .collect();
            for resource in wanted {
                if running.insert(resource.clone()) {
                    let presence = self.presence(resource.clone());
                    presences.spawn(async move {
                        presence.run().await;
                        Some(resource)
                    });
                }
            }
            tokio::select! {
                changed = self.state.changed() => if changed.is_err() { break },
                Some(ended) = presences.join_next() => {
                    if let Ok(Some(resource)) = ended {
                        running.remove(&resource);
                    }
                }
                () = self.stop.cancelled() => {}
            }
        }
        while presences.join_next().await.is_some() {}
    }

    fn presence(&self, resource: ResourceName) -> Presence {
        let latch = self.readiness.latch(format!("registration of {resource}"));
        latch.set(self.desk.kubelet.is_none());
        Presence::new(
            resource,
            self.desk.clone(),
            self.state.clone(),
            self.told.clone(),
            latch,
            self.stop.clone(),
        )
    }
}
