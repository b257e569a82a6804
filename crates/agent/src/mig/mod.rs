//! The MIG manager: partitions the GPUs as a label of the Node says.
//!
//! The label names a layout. What comes next for a GPU is a pure decision ([`decide`]) of what the
//! GPU is, what is wanted, and what pods hold; it is made anew after everything that happens, so
//! that a process that was killed goes on where the hardware is. What goes away is withheld from
//! the kubelet first, and destroyed when the kubelet has taken that and no pod holds it.

mod change;
mod decide;
mod evict;
mod given;
mod hands;
mod holders;
mod inputs;
mod journal;
mod kubelet;
mod label;
mod manager;
mod retry;
mod round;
mod say;
mod wish;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use mizzen_core::config::Config;
use mizzen_core::gpu::GpuUuid;
use mizzen_core::state::{Event, NodeState, Withheld};
use tokio::sync::{mpsc, watch};

use crate::cluster::{Cluster, Known, Object, PodName, Reporter, follow_node, post};
use crate::config_source::{Shelf, watch_disk};
use crate::driver::{Command, Driver, News};
use crate::ground::Ground;
use crate::pod_resources::SETTLING;
pub(crate) use given::Given;
use hands::Hands;
use inputs::Inputs;
use journal::Journal;
use kubelet::Kubelet;
use manager::{Course, Manager, Patience};
use wish::{CONFIG_LABEL, NodeLabels, STATE_LABEL};

/// A manager that has not started yet, with what a former process left undone.
#[derive(Debug)]
pub(crate) struct Beginning {
    journal: Journal,
    withheld: BTreeMap<GpuUuid, Withheld>,
    given: Given,
}

fn kubelet(config: &Config, given: Given) -> Kubelet {
    let own_pod = config.mig_manager.own_pod.as_ref().map(|own| PodName {
        namespace: own.namespace.clone(),
        name: own.name.clone(),
    });
    Kubelet::new(config.pod_resources_socket(), own_pod, SETTLING, given)
}

/// Reads what a former process left undone; `None` if the settings ask for no manager.
pub(crate) fn begin(config: &Config) -> Option<Beginning> {
    if !config.mig_manager.enabled {
        return None;
    }
    let journal = Journal::load(&config.state_dir);
    let gpus = journal.gpus().keys();
    let withheld = gpus.map(|gpu| (gpu.clone(), Withheld::Whole)).collect();
    Some(Beginning {
        journal,
        withheld,
        given: Given::default(),
    })
}

impl Beginning {
    /// What the state must know before it hears of any GPU: those that are being changed are
    /// offered to nobody.
    pub(crate) fn event(&self) -> Event {
        Event::Withhold(self.withheld.clone())
    }

    /// Where the device plugins note down what they give out.
    pub(crate) fn given(&self) -> Given {
        self.given.clone()
    }

    /// Starts the manager.
    pub(crate) fn start(
        self,
        config: &Config,
        cluster: &Cluster,
        driver: &Driver,
        news: mpsc::Sender<News>,
        state: watch::Receiver<Arc<NodeState>>,
        ground: &mut Ground,
    ) {
        let Some(node) = config.source.node_name.clone() else {
            // The settings are checked for that.
            return;
        };
        let (tell_labels, labels) = watch::channel(Known::NotYet);
        let seen = |node: &Object| NodeLabels {
            config: node.label(CONFIG_LABEL),
            state: node.label(STATE_LABEL),
        };
        let follow = follow_node(cluster.clone(), node.clone(), seen, tell_labels);
        ground.keep_until_stop("MIG label", follow);
        let (states, wanted) = mpsc::unbounded_channel();
        let keep = label::keep(cluster.clone(), node.clone(), labels.clone(), wanted);
        let (reporter, reports) = Reporter::new();
        let post = post(cluster.clone(), node, ground.clock, reports);
        let file = config.mig_manager.config_file.clone().map(|path| {
            let (tell, changes) = watch::channel(Known::NotYet);
            let watching = watch_disk(Shelf::File(path.clone()), path.clone(), tell);
            ground.keep_until_stop("MIG config file", watching);
            (path, changes)
        });
        let driver_thread = driver.clone();
        let show = move |gpu: &GpuUuid| {
            driver_thread.tell(Command::LookAtPartitions(vec![gpu.clone()]));
        };
        let manager = Manager {
            inputs: Inputs {
                labels,
                file,
                session: driver.session(),
                state,
                heard: false,
            },
            evicts: config.mig_manager.evict,
            cluster: cluster.clone(),
            kubelet: kubelet(config, self.given),
            hands: Hands::default(),
            journal: self.journal,
            withheld: self.withheld,
            news,
            show: Box::new(show),
            reporter,
            states,
            patience: Patience::default(),
            course: Course::new(),
        };
        let speak = async { tokio::join!(keep, post) };
        ground.keep_until_stop("MIG state", async {
            speak.await;
        });
        ground.keep_until_stop("MIG manager", manager.run());
    }
}
