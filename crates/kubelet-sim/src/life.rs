//! The life of the pods: scheduling, admission, starting, ending. One loop, one pod at a time, as
//! in the kubelet.

use std::sync::Arc;

use mizzen_kubelet_api::deviceplugin::{PRE_START_TIMEOUT, PreStartContainerRequest};
use tokio::time::{Instant, sleep_until, timeout};

use crate::admission::{Refusal, admit};
use crate::devices::PluginClient;
use crate::event::Happening;
use crate::record::PodRecord;
use crate::rpc::error_text;
use crate::schedule::{shortages, unschedulable_message};
use crate::snapshot::{Given, Phase};
use crate::state::{Shared, State};

/// Drives every pod for as long as the kubelet runs.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        // One step at a time: each may change what comes next.
        while step(&shared).await {}
        let wake = shared.read(next_wake);
        tokio::select! {
            () = shared.changed.notified() => {}
            () = until(wake) => {
                // A resource may have to be given up now, which nothing else would notice.
                shared.update(|_| ());
            }
        }
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn next_wake(state: &State) -> Option<Instant> {
    let pods = state.active_pods().filter_map(PodRecord::next_due);
    pods.chain(state.devices.next_expiry()).min()
}

/// What is to be done now.
enum Step {
    Schedule { uid: String },
    Unschedulable { uid: String, message: String },
    Admit { uid: String },
    Start { uid: String, index: usize },
    Finish { uid: String, index: usize },
}

/// Does one thing; tells whether there was one.
async fn step(shared: &Arc<Shared>) -> bool {
    let Some(step) = shared.read(|state| next_step(shared, state)) else {
        return false;
    };
    match step {
        Step::Schedule { uid } => shared.update(|state| schedule(state, &uid)),
        Step::Unschedulable { uid, message } => {
            shared.update(|state| unschedulable(state, &uid, message));
        }
        Step::Admit { uid } => {
            let outcome = admit(shared, &uid).await;
            shared.update(|state| match (outcome, state.pod_mut(&uid)) {
                // Deleted in the meantime: what it was given just now is free again.
                (_, None) => state.release_inactive(),
                (Ok(()), Some(record)) => record.admitted = true,
                (Err(refusal), Some(_)) => reject(state, &uid, &refusal),
            });
        }
        Step::Start { uid, index } => start(shared, &uid, index).await,
        Step::Finish { uid, index } => shared.update(|state| finish(state, &uid, index)),
    }
    true
}

fn next_step(shared: &Shared, state: &State) -> Option<Step> {
    let now = Instant::now();
    for record in state.active_pods() {
        let uid = record.uid.clone();
        if let Some(index) = record.next_to_finish(now) {
            return Some(Step::Finish { uid, index });
        }
        if !record.admitted {
            return Some(Step::Admit { uid });
        }
        if let Some(index) = record.next_to_start(now) {
            return Some(Step::Start { uid, index });
        }
    }
    let (used, allocatable) = (state.used(), state.allocatable(&shared.config));
    // A pod that does not fit does not hold up those behind it.
    for record in state.pods.iter().filter(|pod| !pod.scheduled) {
        let uid = record.uid.clone();
        let short = shortages(&record.requests, &used, &allocatable);
        if short.is_empty() {
            return Some(Step::Schedule { uid });
        }
        let message = unschedulable_message(&short);
        if message != record.message {
            return Some(Step::Unschedulable { uid, message });
        }
    }
    None
}

fn schedule(state: &mut State, uid: &str) {
    let Some(record) = state.pod_mut(uid) else {
        return;
    };
    record.scheduled = true;
    record.reason.clear();
    record.message.clear();
    let pod = record.pod.key();
    state.say(Happening::PodScheduled { pod });
}

fn unschedulable(state: &mut State, uid: &str, message: String) {
    let Some(record) = state.pod_mut(uid) else {
        return;
    };
    "Unschedulable".clone_into(&mut record.reason);
    record.message.clone_from(&message);
    let pod = record.pod.key();
    state.say(Happening::PodUnschedulable { pod, message });
}

fn reject(state: &mut State, uid: &str, refusal: &Refusal) {
    let Some(record) = state.pod_mut(uid) else {
        return;
    };
    record.rejected(&refusal.reason, &refusal.message);
    let pod = record.pod.key();
    let (reason, message) = (record.reason.clone(), record.message.clone());
    state.say(Happening::PodRejected {
        pod,
        reason,
        message,
    });
    state.release_inactive();
    state.checkpoint_is_stale = true;
}

fn finish(state: &mut State, uid: &str, index: usize) {
    let Some(record) = state.pod_mut(uid) else {
        return;
    };
    record.finished(index, Instant::now());
    let pod = record.pod.key();
    let container = record.containers[index].container.name.clone();
    let has_succeeded = record.phase == Phase::Succeeded;
    state.say(Happening::ContainerFinished {
        pod: pod.clone(),
        container,
    });
    if has_succeeded {
        state.say(Happening::PodSucceeded { pod });
        state.release_inactive();
        state.checkpoint_is_stale = true;
    }
}

/// Starts a container, after the plugins that wish it have prepared its devices.
async fn start(shared: &Arc<Shared>, uid: &str, index: usize) {
    let prepared = prepare(shared, uid, index).await;
    shared.update(|state| {
        let now = Instant::now();
        let given = given(state, uid, index);
        let Some(record) = state.pod_mut(uid) else {
            return;
        };
        let pod = record.pod.key();
        let container = record.containers[index].container.name.clone();
        match prepared {
            Ok(()) => {
                record.started(index, given, now);
                state.say(Happening::ContainerStarted { pod, container });
            }
            Err(message) => {
                record.not_started(index, message.clone(), now);
                state.say(Happening::ContainerNotStarted {
                    pod,
                    container,
                    message,
                });
            }
        }
    });
}

fn given(state: &State, uid: &str, index: usize) -> Given {
    let Some(record) = state.pod(uid) else {
        return Given::default();
    };
    let container = &record.containers[index].container;
    let holdings = state.devices.holders().container(uid, &container.name);
    let answers = holdings
        .into_iter()
        .flatten()
        .map(|(_, holding)| &holding.answer);
    Given::merge(answers, container)
}

/// `PreStartContainer` calls that are due for a container.
struct PreStart {
    resource: String,
    client: Option<PluginClient>,
    devices_ids: Vec<String>,
}

async fn prepare(shared: &Arc<Shared>, uid: &str, index: usize) -> Result<(), String> {
    for PreStart {
        resource,
        client,
        devices_ids,
    } in shared.update(|state| pre_starts(state, uid, index))
    {
        let failed =
            |error: String| format!("device plugin PreStartContainer rpc failed with err: {error}");
        let mut client =
            client.ok_or_else(|| failed(format!("endpoint {resource} has been stopped")))?;
        let call = client.pre_start_container(PreStartContainerRequest { devices_ids });
        match timeout(PRE_START_TIMEOUT, call).await {
            Ok(Ok(_)) => {}
            Ok(Err(status)) => return Err(failed(error_text(&status))),
            Err(_) => {
                let error = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
                return Err(failed(error.to_owned()));
            }
        }
    }
    Ok(())
}

fn pre_starts(state: &mut State, uid: &str, index: usize) -> Vec<PreStart> {
    let State {
        devices,
        arbitrary,
        pods,
        ..
    } = state;
    let Some(record) = pods.iter().find(|pod| pod.uid == uid) else {
        return Vec::new();
    };
    let name = &record.containers[index].container.name;
    let holdings = devices.holders().container(uid, name);
    let wishing = holdings
        .into_iter()
        .flatten()
        .filter_map(|(resource, holding)| {
            let endpoint = devices.endpoint(resource)?;
            endpoint.options.pre_start_required.then(|| PreStart {
                resource: resource.clone(),
                client: endpoint.client.clone(),
                devices_ids: arbitrary.order(&holding.ids()),
            })
        });
    wishing.collect()
}
