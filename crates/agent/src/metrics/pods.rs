//! Which containers hold which devices, as the kubelet tells it, and since when.
//!
//! The kubelet is asked at intervals, soon after it has asked for devices, and never for a page.
//! What it said last holds while it is away, or has just been started and does not know yet.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::metrics::Container;
use mizzen_kubelet_api::podresources::PodResources;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::holders_file;
use super::latest::{Held, Latest};
use super::logs;
use super::setup::Setup;
use crate::clock::Clock;
use crate::pod_resources::{PodResourcesSocket, SETTLING, Unanswered};
use crate::tally::Tally;

/// How often the kubelet is asked: the end of a pod is told by nothing else.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often while nobody reads the pages.
const QUIET_INTERVAL: Duration = Duration::from_secs(30);
/// After a call of Allocate: the kubelet has to note down what it got.
const SOON: Duration = Duration::from_millis(300);
/// What the names of resources of GPUs begin with; those of others may have ids that look like ours.
const OURS: &str = "nvidia.com/";

/// Follows what the kubelet tells.
pub(super) struct Pods {
    pub(super) kubelet: PodResourcesSocket,
    pub(super) setup: watch::Receiver<Arc<Setup>>,
    pub(super) latest: Arc<Latest>,
    pub(super) tally: Tally,
    pub(super) clock: Clock,
    pub(super) record: Record,
    /// Where the host's logs may be, which have the names of pods.
    pub(super) roots: Vec<PathBuf>,
    /// What was said last of a kubelet that does not answer.
    pub(super) complaint: Option<Unanswered>,
}

/// Where it is kept over restarts since when devices are held.
pub(super) struct Record {
    /// The state directory; `None` if it is not kept.
    pub(super) dir: Option<PathBuf>,
    pub(super) boot_id: String,
    /// What is there.
    pub(super) written: Vec<Held>,
    pub(super) fails: bool,
}

impl Pods {
    /// Runs until the settings' sender has gone.
    pub(super) async fn run(mut self) {
        loop {
            let wanted = self.setup.borrow_and_update().pods;
            if wanted {
                self.ask().await;
            } else {
                self.latest.held().clear();
                self.latest.pods_told(0);
                self.kubelet.hang_up();
            }
            let pause = self.latest.interest.pause(INTERVAL, QUIET_INTERVAL);
            tokio::select! {
                () = sleep(pause), if wanted => {}
                () = self.tally.next_allocation(), if wanted => sleep(SOON).await,
                () = self.latest.interest.woken(), if wanted => {}
                changed = self.setup.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Asks once.
    pub(super) async fn ask(&mut self) {
        match self.kubelet.list().await {
            Ok(pods) => {
                self.complaint = None;
                if self.kubelet.is_settled(SETTLING) {
                    self.take(pods).await;
                }
            }
            Err(error) => self.complain(error),
        }
    }

    async fn take(&mut self, pods: Vec<PodResources>) {
        let mut names = None;
        if self.setup.borrow().options.pod_uid {
            let roots = self.roots.clone();
            names = spawn_blocking(move || logs::Names::read(&roots)).await.ok();
        }
        let now = self.clock.now().wall;
        let held = {
            let mut latest = self.latest.held();
            *latest = held(pods, &latest, names.as_ref(), now);
            latest.clone()
        };
        self.latest.pods_told(now);
        self.record.keep(held).await;
    }

    fn complain(&mut self, error: Unanswered) {
        if self.complaint.as_ref() != Some(&error) {
            tracing::warn!(
                event = "pods-unknown",
                %error,
                "which pods hold what stays as it was told last; mount the host's directory with \
                 the kubelet's socket, give --pod-resources-socket, or --metrics-pods=false"
            );
            self.complaint = Some(error);
        }
    }
}

/// What the kubelet lists, in order, and since when, for what was held `before` too.
fn held(
    pods: Vec<PodResources>,
    before: &[Held],
    names: Option<&logs::Names>,
    now: u64,
) -> Vec<Held> {
    let mut held = Vec::new();
    for pod in pods {
        let uid = names.and_then(|names| names.uid(&pod.namespace, &pod.name));
        for one in pod.containers {
            let container = Container {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                pod_uid: uid.map(str::to_owned),
                container: one.name,
            };
            let ours = one.devices.into_iter();
            let ours = ours.filter(|device| device.resource_name.starts_with(OURS));
            held.extend(ours.flat_map(|device| device.device_ids).map(|id| Held {
                container: container.clone(),
                id,
                since: now,
            }));
        }
    }
    let mut known: HashMap<&str, Vec<&Held>> = HashMap::new();
    for one in before {
        known.entry(&one.id).or_default().push(one);
    }
    for device in &mut held {
        let mut holders = known.get(device.id.as_str()).into_iter().flatten();
        if let Some(before) = holders.find(|one| is_same(&one.container, &device.container)) {
            device.since = before.since;
        }
    }
    held.sort_unstable();
    held
}

/// Namespace, pod and name of a container.
pub(super) type Names<'a> = (&'a str, &'a str, &'a str);

pub(super) fn names(container: &Container) -> Names<'_> {
    let Container {
        namespace,
        pod,
        container,
        ..
    } = container;
    (namespace, pod, container)
}

/// Whether two are one container, though the UID of the pod may be known of one only.
pub(super) fn is_same(a: &Container, b: &Container) -> bool {
    let uids_differ = a.pod_uid.is_some() && b.pod_uid.is_some() && a.pod_uid != b.pod_uid;
    !uids_differ && names(a) == names(b)
}

impl Record {
    async fn keep(&mut self, held: Vec<Held>) {
        let Some(dir) = self.dir.clone().filter(|_| held != self.written) else {
            return;
        };
        let (place, boot_id, text) = (dir.clone(), self.boot_id.clone(), held.clone());
        let saved = spawn_blocking(move || holders_file::save(&place, &boot_id, &text)).await;
        match saved {
            Ok(Ok(())) => (self.written, self.fails) = (held, false),
            Ok(Err(error)) if !self.fails => {
                self.fails = true;
                tracing::warn!(
                    event = "holders-not-kept",
                    dir = %dir.display(),
                    %error,
                    "since when GPUs are held cannot be written; it would be lost in a restart of \
                     the agent (mount a writable directory and set --state-dir)"
                );
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use mizzen_kubelet_api::podresources::{ContainerDevices, ContainerResources};
    use mizzen_testkit::HostTree;

    use super::*;

    fn pod(name: &str, resource: &str, ids: &[&str]) -> PodResources {
        let device = ContainerDevices {
            resource_name: resource.to_owned(),
            device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            topology: None,
        };
        PodResources {
            name: name.to_owned(),
            namespace: "ml".to_owned(),
            containers: vec![ContainerResources {
                name: "main".to_owned(),
                devices: vec![device],
                ..ContainerResources::default()
            }],
        }
    }

    fn told(held: &[Held]) -> Vec<(&str, &str, u64)> {
        let each = held.iter();
        each.map(|one| (one.container.pod.as_str(), one.id.as_str(), one.since))
            .collect()
    }

    #[test]
    fn a_device_is_held_since_it_was_first_seen_to_be() {
        let first = held(
            vec![
                pod("a", "nvidia.com/gpu", &["GPU-1", "GPU-2::3"]),
                pod("b", "rdma/hca", &["0"]),
            ],
            &[],
            None,
            100,
        );
        assert_eq!(told(&first), [("a", "GPU-1", 100), ("a", "GPU-2::3", 100)]);
        let second = vec![
            pod("c", "nvidia.com/gpu", &["GPU-2::3"]),
            pod("a", "nvidia.com/gpu", &["GPU-1"]),
        ];
        let second = held(second, &first, None, 200);
        assert_eq!(told(&second), [("a", "GPU-1", 100), ("c", "GPU-2::3", 200)]);
    }

    #[test]
    fn a_pod_that_was_made_anew_with_its_name_holds_since_then() {
        let logs = |uid: &str| {
            let host = HostTree::new();
            host.file(&format!("var/log/pods/ml_a_{uid}/main/0.log"), "");
            logs::Names::read(&[host.path().to_owned()])
        };
        let ask = |before: &[Held], names: Option<&logs::Names>, now| {
            held(
                vec![pod("a", "nvidia.com/gpu", &["GPU-1"])],
                before,
                names,
                now,
            )
        };
        let first = ask(&[], None, 1);
        let named = ask(&first, Some(&logs("u1")), 2);
        assert_eq!(told(&named), [("a", "GPU-1", 1)]);
        assert_eq!(named[0].container.pod_uid.as_deref(), Some("u1"));
        let another = ask(&named, Some(&logs("u2")), 3);
        assert_eq!(told(&another), [("a", "GPU-1", 3)]);
    }
}
