//! What the cluster is told of the GPUs' health: the Node's condition `GPUHealthy`, Events of what
//! has changed, and a taint while all GPUs are lost. What they say is `core::node_health`'s
//! decision; here it is seen to that the API has it.

mod condition;
mod events;
mod node;
mod record;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use mizzen_core::config::Config;
use mizzen_core::state::NodeState;
use tokio::sync::watch;

use crate::cluster::{Cluster, Poster};
use crate::ground::Ground;
use crate::record::boot_id;
use record::{Memory, NODE_FILE, NodeRecord, TOLD_FILE};
use writer::Writer;

/// Starts to tell what the settings ask for. What a former process has set, and the settings ask
/// for no longer, is taken away.
pub(crate) fn start(
    config: &Config,
    cluster: &Cluster,
    state: &watch::Receiver<Arc<NodeState>>,
    ground: &mut Ground,
) {
    let settings = config.node_health.clone();
    let (dir, clock) = (&config.state_dir, ground.clock);
    if !settings.tell {
        record::forget(dir, TOLD_FILE);
    }
    let Some(node) = config.source.node_name.clone() else {
        // The settings are checked for that.
        return;
    };
    let memory: Memory<NodeRecord> = Memory::new(dir, NODE_FILE);
    let is_left = |record: NodeRecord| record.node == node && !record.there.is_nothing();
    if !settings.needs_api() && !memory.load().is_some_and(is_left) {
        return record::forget(dir, NODE_FILE);
    }
    if settings.tell {
        let poster = Poster {
            cluster: cluster.clone(),
            node: node.clone(),
            clock,
        };
        let told = Memory::new(dir, TOLD_FILE);
        let events = events::tell(state.clone(), poster, told);
        ground.keep_until_stop("health Events", events);
    }
    let keeper = condition::Keeper {
        settings,
        boot_id: boot_id(&config.host_root),
        memory,
        writer: Writer::new(cluster.clone(), node, clock),
    };
    ground.keep_until_stop("node condition", keeper.run(state.clone()));
}
