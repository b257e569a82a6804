//! The pages: rendered when somebody asks, of what is known by then. Nothing is asked for them.

use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use mizzen_core::gpu::Gpu;
use mizzen_core::metrics::{
    AgentFacts, CONTENT_TYPE, Container, ContainerKey, Holders, PageInput, render,
};
use mizzen_core::sample::ProcessSample;
use mizzen_core::state::NodeState;
use tokio::sync::watch;

use super::latest::{Held, Latest, Samples};
use super::owners::Owner;
use super::pods::{Names, is_same, names};
use super::process;
use super::setup::Setup;
use crate::clock::Clock;
use crate::tally::Tally;
use crate::web::{Answer, text, typed};

/// What `/` shows.
const INDEX: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><title>Mizzen</title></head><body>\n\
                     <h1>GPU metrics of this node</h1>\n\
                     <p><a href=\"/metrics\">Metrics</a></p>\n<p><a href=\"/health\">Health</a></p>\n\
                     </body></html>\n";

/// Everything that pages are made of; clones make the same ones.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    pub(super) setup: watch::Receiver<Arc<Setup>>,
    pub(super) state: watch::Receiver<Arc<NodeState>>,
    pub(super) latest: Arc<Latest>,
    pub(super) tally: Tally,
    pub(super) clock: Clock,
}

impl Pages {
    /// Answers a client.
    pub(super) fn answer(&self, asked: &Parts) -> Answer {
        match asked.uri.path() {
            "/metrics" => {
                self.latest.interest.show();
                typed(StatusCode::OK, CONTENT_TYPE, self.page())
            }
            // It is the process that is asked how it is: the GPUs are on the page.
            "/health" | "/healthz" => text(StatusCode::OK, "ok\n"),
            "/" => typed(StatusCode::OK, "text/html; charset=utf-8", INDEX),
            _ => text(StatusCode::NOT_FOUND, "there are /metrics and /health\n"),
        }
    }

    /// The page as of now.
    pub(super) fn page(&self) -> String {
        let (setup, state) = (self.setup.borrow().clone(), self.state.borrow().clone());
        let samples = self.latest.samples();
        let holders = holders(&state, &samples, &self.latest.held());
        let facts = AgentFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: process::facts(),
            pods_told: self.latest.pods_were_told(),
            ..self.tally.facts()
        };
        render(&PageInput {
            options: &setup.options,
            state: &state,
            history: &samples.history,
            texts: &samples.texts,
            holders: &holders,
            facts: &facts,
            now: self.clock.now(),
        })
    }
}

/// Who holds what, and which process is whose.
fn holders(state: &NodeState, samples: &Samples, held: &[Held]) -> Holders {
    let mut holders = Holders::default();
    let mut keys = Keys::default();
    // They know the UIDs of their pods.
    for (pid, owner) in &samples.owners {
        if let Owner::Container(container) = owner {
            let key = keys.of(&mut holders, container);
            holders.process(*pid, key);
        }
    }
    for device in held {
        let key = keys.of(&mut holders, &device.container);
        holders.hold(key, &device.id, Some(device.since));
    }
    for (pid, owner) in &samples.owners {
        let key = match owner {
            Owner::Pod {
                namespace,
                pod,
                uid,
            } => only(held.iter().map(|one| &one.container).filter(|one| {
                let uid_differs = one.pod_uid.as_ref().is_some_and(|known| known != uid);
                one.namespace == *namespace && one.pod == *pod && !uid_differs
            }))
            .map(|container| keys.of(&mut holders, container)),
            Owner::Unnamed => sole_holder(state, samples, &holders, *pid),
            Owner::Container(_) | Owner::Nobody => None,
        };
        if let Some(key) = key {
            holders.process(*pid, key);
        }
    }
    holders
}

/// The keys of containers by their names: of one container the UID of the pod may be known in one
/// place and not in another.
#[derive(Default)]
struct Keys<'a>(HashMap<Names<'a>, Vec<(&'a Container, ContainerKey)>>);

impl<'a> Keys<'a> {
    fn of(&mut self, holders: &mut Holders, container: &'a Container) -> ContainerKey {
        let namesakes = self.0.entry(names(container)).or_default();
        let mut known = namesakes.iter();
        if let Some((_, key)) = known.find(|(known, _)| is_same(known, container)) {
            return *key;
        }
        let key = holders.container(container.clone());
        namesakes.push((container, key));
        key
    }
}

/// The only one there is, however often.
fn only<'a, T: PartialEq>(mut each: impl Iterator<Item = &'a T>) -> Option<&'a T> {
    let first = each.next()?;
    each.all(|other| other == first).then_some(first)
}

/// The container that holds, alone, all that this process of some pod is on. Others that use a
/// GPU hold none (monitors, say), so it is a guess, made only where pods have no names.
fn sole_holder(
    state: &NodeState,
    samples: &Samples,
    holders: &Holders,
    pid: u32,
) -> Option<ContainerKey> {
    let mut keys = Vec::new();
    for known in state.gpus() {
        let history = samples.history.of(&known.gpu.uuid);
        let Some((sample, _)) = history.and_then(|history| history.last().as_ref().copied()) else {
            continue;
        };
        let on_it = sample.processes.iter().filter(|process| process.pid == pid);
        for process in on_it {
            let holding = holding(&known.gpu, process, holders);
            keys.push(only(holding.iter())?.to_owned());
        }
    }
    only(keys.iter()).copied()
}

/// Who holds what a process is on.
fn holding(gpu: &Gpu, process: &ProcessSample, holders: &Holders) -> Vec<ContainerKey> {
    let held = match (process.instance, &gpu.mig) {
        (Some(instance), Some(mig)) => {
            let mut devices = mig.devices.iter();
            let at = devices
                .position(|device| (device.gpu_instance, device.compute_instance) == instance);
            at.map(|at| holders.of_mig(gpu, at)).unwrap_or_default()
        }
        _ => holders.of_gpu(gpu),
    };
    held.iter().map(|one| one.container).collect()
}
