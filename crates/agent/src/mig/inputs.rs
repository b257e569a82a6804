//! What the manager hears of: labels, the file of layouts, the driver, the GPUs.

use std::path::PathBuf;
use std::sync::Arc;

use mizzen_core::driver::GpuDriver;
use mizzen_core::gpu::{Gpu, GpuUuid};
use mizzen_core::mig::GpuMig;
use mizzen_core::state::{DriverStatus, NodeState};
use tokio::sync::watch;

use super::wish::{NodeLabels, Wish};
use crate::cluster::Known;
use crate::config_source::{Shelf, read_config_file};

pub(super) struct Inputs {
    pub(super) labels: watch::Receiver<Known<NodeLabels>>,
    /// Where the file of layouts is, and when it may have changed.
    pub(super) file: Option<(PathBuf, watch::Receiver<Known<Shelf>>)>,
    pub(super) session: watch::Receiver<Option<Session>>,
    pub(super) state: watch::Receiver<Arc<NodeState>>,
    /// Whether label or file were heard to change, and [`Inputs::wish`] was not asked since.
    pub(super) heard: bool,
}

/// What GPUs are asked and changed through.
pub(super) type Session = Arc<dyn GpuDriver>;

/// What of the machine decides when to look again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Facts {
    /// Whether there is a session, and which GPUs there are.
    pub(super) gpus: Option<Vec<GpuUuid>>,
    /// How they are partitioned.
    pub(super) layouts: Vec<Option<GpuMig>>,
}

impl Inputs {
    /// Waits until something may be new.
    pub(super) async fn changed(&mut self) {
        let file = async {
            match &mut self.file {
                Some((_, news)) => news.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok(()) = self.labels.changed() => self.heard = true,
            Ok(()) = file => self.heard = true,
            Ok(()) = self.session.changed() => {}
            Ok(()) = self.state.changed() => {}
            // Everything has ended, and the process with it.
            else => std::future::pending().await,
        }
    }

    /// What is wanted now.
    pub(super) fn wish(&mut self) -> Wish {
        self.heard = false;
        if let Some((_, news)) = &mut self.file {
            news.mark_unchanged();
        }
        let file = &self.file;
        let text = || Some(read_config_file(&file.as_ref()?.0));
        Wish::of(&self.labels.borrow_and_update(), text)
    }

    /// Whether label or file may have changed since the last [`wish`](Self::wish).
    pub(super) fn may_wish_more(&self) -> bool {
        // An end of the senders is the end of the process.
        let file = self.file.as_ref();
        self.heard
            || self.labels.has_changed().unwrap_or(false)
            || file.is_some_and(|(_, news)| news.has_changed().unwrap_or(false))
    }

    /// What the machine is like.
    pub(super) fn facts(&mut self) -> Facts {
        let session = self.session.borrow_and_update().is_some();
        let state = self.state.borrow_and_update();
        let gpus = state.gpus();
        let there = session && matches!(state.driver(), DriverStatus::Running(_));
        Facts {
            gpus: there.then(|| gpus.iter().map(|known| known.gpu.uuid.clone()).collect()),
            layouts: gpus.iter().map(|known| known.gpu.mig.clone()).collect(),
        }
    }

    /// The session to work with, while there is one.
    pub(super) fn session(&self) -> Option<Session> {
        self.session.borrow().clone()
    }

    /// The GPUs that the settings do not leave out.
    pub(super) fn gpus(&self) -> Vec<Gpu> {
        let state = self.state.borrow();
        let excluded = &state.offer().left_out;
        let each = state.gpus().iter().enumerate();
        each.filter(|(position, _)| !excluded.contains(position))
            .map(|(_, known)| known.gpu.clone())
            .collect()
    }
}
