//! Devices that runtimes find, and others.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{at, discovered, inventory};
use crate::allocate::{AllocationRequest, AnnotationId, HostNodes};
use crate::config::{Config, file};
use crate::health::{DeviceHealth, Moment};
use crate::runtime::{AutoInputs, RuntimeVersion, choose, read_containerd};
use crate::state::{Effect, Event, NodeState};

fn now() -> Moment {
    at(0)
}

fn config(settings: &str) -> Arc<Config> {
    Arc::new(file::parse(settings).validate().unwrap())
}

fn state(settings: &str) -> NodeState {
    let mut state = NodeState::new(config(settings), Vec::new(), now());
    state.apply(discovered(inventory(0..2)), now());
    state
}

fn healths(state: &NodeState) -> Vec<DeviceHealth> {
    let pool = state.pools().values().next().unwrap();
    let listed = pool.list(|share| state.health(share));
    listed.iter().map(|listed| listed.health).collect()
}

const BY_CDI: &str = "flags: {gdsEnabled: true, plugin: {deviceListStrategy: cdi-cri, \
                      deviceIDStrategy: index}}\n";
const GPU_0: &str = "k8s.device-plugin.nvidia.com/gpu=0";
const GDS: &str = "k8s.device-plugin.nvidia.com/gds=all";

#[test]
fn a_device_is_healthy_only_if_a_runtime_finds_it() {
    use DeviceHealth::{Healthy, Unhealthy};
    let mut state = state(BY_CDI);
    assert_eq!(healths(&state), [Healthy; 2], "nobody looks");
    assert!(state.cdi_names().contains(GPU_0) && state.cdi_names().contains(GDS));
    let nothing = Event::CdiResolved(BTreeSet::new());
    assert_eq!(state.apply(nothing.clone(), now()), [Effect::Publish]);
    assert_eq!(state.apply(nothing, now()), []);
    assert_eq!(healths(&state), [Unhealthy; 2]);
    let one = BTreeSet::from([GPU_0.to_owned()]);
    state.apply(Event::CdiResolved(one), now());
    assert_eq!(healths(&state), [Healthy, Unhealthy]);

    state.apply(Event::Configured(config("")), now());
    assert_eq!(
        healths(&state),
        [Healthy; 2],
        "runtimes are told by other means"
    );
    assert!(state.cdi_names().is_empty());
}

#[test]
fn an_extra_that_no_runtime_finds_is_not_given() {
    let mut state = state(BY_CDI);
    let given = |state: &NodeState| {
        let pool = state.pools().values().next().unwrap();
        let listed = pool.list(|_| DeviceHealth::Healthy);
        let id = listed[0].ids().next().unwrap();
        let request = AllocationRequest::parse([id.as_str()]).unwrap();
        let annotation = AnnotationId::from_random([0; 16]);
        let allocation = pool.allocate(&request, state.host_nodes(), annotation);
        allocation.unwrap().cdi_devices
    };
    assert_eq!(given(&state), [GPU_0, GDS]);
    let found = BTreeSet::from([GPU_0.to_owned()]);
    state.apply(Event::CdiResolved(found.clone()), now());
    assert_eq!(given(&state), [GPU_0]);
    state.apply(Event::HostNodes(HostNodes::default()), now());
    assert_eq!(
        given(&state),
        [GPU_0],
        "also after another look at the machine"
    );
    let both = found.into_iter().chain([GDS.to_owned()]).collect();
    state.apply(Event::CdiResolved(both), now());
    assert_eq!(given(&state), [GPU_0, GDS]);
}

#[test]
fn gpus_that_come_later_and_are_not_found_are_offered_without_cdi() {
    let settings = config("flags: {plugin: {deviceIDStrategy: index}}\n");
    let mut state = NodeState::new(settings, Vec::new(), now());
    state.apply(Event::CdiAwaited, now());
    state.apply(by_cdi(), now());
    state.apply(discovered(inventory(0..0)), now());
    let nothing = Event::CdiResolved(BTreeSet::new());
    state.apply(nothing.clone(), now());
    assert_eq!(words(&state).0, "cdi-cri", "no GPU is missed");
    state.apply(discovered(inventory(0..2)), now());
    state.apply(nothing.clone(), now());
    assert_eq!(words(&state).0, "envvar");
    assert_eq!(healths(&state), [DeviceHealth::Healthy; 2]);
    assert_eq!(state.apply(nothing, now()), []);
}

/// What is chosen for a runtime that resolves CDI names, and has nothing of NVIDIA's.
fn by_cdi() -> Event {
    let report = read_containerd(&[], Some(RuntimeVersion::new(2, 3, 4)));
    Event::Chosen(Box::new(choose(AutoInputs {
        report: Some(&report),
        pass_device_specs: false,
    })))
}

fn words(state: &NodeState) -> (String, bool) {
    let config = state.config();
    (
        config.device_list_strategies.words(),
        config.pass_device_specs,
    )
}

fn said(effects: &[Effect]) -> Vec<&str> {
    let lines = effects.iter().filter_map(|effect| match effect {
        Effect::Log(line) => Some(line.message.as_str()),
        _ => None,
    });
    lines.collect()
}

#[test]
fn the_choice_counts_where_the_settings_leave_it_open() {
    let mut left_open = state("flags: {plugin: {deviceIDStrategy: index}}\n");
    assert_eq!(words(&left_open), ("envvar".to_owned(), false));
    let effects = left_open.apply(by_cdi(), now());
    assert_eq!(words(&left_open), ("cdi-cri".to_owned(), true));
    assert!(said(&effects)[0].contains("by cdi-cri: containerd 2.3.4"));
    let unless = "a kubelet older than 1.29 drops such names";
    assert!(said(&effects)[0].contains(unless));
    assert_eq!(left_open.apply(by_cdi(), now()), []);
    left_open.apply(Event::Configured(config(BY_ENVIRONMENT)), now());
    assert_eq!(words(&left_open), ("envvar".to_owned(), false));

    let mut settled = state(BY_ENVIRONMENT);
    assert_eq!(said(&settled.apply(by_cdi(), now())), [] as [&str; 0]);
    assert_eq!(words(&settled), ("envvar".to_owned(), false));
}

const BY_ENVIRONMENT: &str = "flags: {plugin: {deviceListStrategy: envvar}}\n";

#[test]
fn names_that_no_runtime_finds_are_not_chosen_until_one_does() {
    use DeviceHealth::{Healthy, Unhealthy};
    let mut state = state("flags: {plugin: {deviceIDStrategy: index}}\n");
    state.apply(Event::CdiAwaited, now());
    state.apply(by_cdi(), now());
    assert_eq!(words(&state).0, "cdi-cri");
    assert_eq!(healths(&state), [Unhealthy; 2], "nobody has looked");
    let effects = state.apply(Event::CdiResolved(BTreeSet::new()), now());
    assert_eq!(words(&state), ("envvar".to_owned(), true));
    assert_eq!(healths(&state), [Healthy; 2]);
    assert!(said(&effects)[0].contains("no GPU can be had by its CDI name"));
    assert!(state.config().device_list_strategies.need_specs());

    let one = BTreeSet::from([GPU_0.to_owned()]);
    let effects = state.apply(Event::CdiResolved(one), now());
    assert_eq!(words(&state).0, "cdi-cri");
    assert_eq!(healths(&state), [Healthy, Unhealthy]);
    assert_eq!(said(&effects).len(), 1);
}
