//! What the kubelet tells of its pods' devices, through `PodResources`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use mizzen_core::device::device_of;
use mizzen_kubelet_api::podresources::AllocatableResourcesRequest;

use super::given::Given;
use super::holders::Holdings;
use crate::cluster::PodName;
use crate::pod_resources::{Client, PodResourcesSocket, Unanswered};

/// The kubelet as the one who knows what is held.
#[derive(Debug)]
pub(super) struct Kubelet {
    socket: PodResourcesSocket,
    /// The pod of this process, where it is known: a kubelet that lists it has heard of the pods
    /// from the API.
    own_pod: Option<PodName>,
    settling: Duration,
    given: Given,
}

impl Kubelet {
    pub(super) fn new(
        socket: PathBuf,
        own_pod: Option<PodName>,
        settling: Duration,
        given: Given,
    ) -> Self {
        Self {
            socket: PodResourcesSocket::new(socket),
            own_pod,
            settling,
            given,
        }
    }

    /// Which pods hold which devices now.
    ///
    /// # Errors
    /// Why the kubelet cannot be asked, in words, with what to do about it.
    pub(super) async fn holdings(&mut self) -> Result<Holdings, String> {
        let pods = self.socket.list().await.map_err(in_words)?;
        self.settled()?;
        if let Some(own) = &self.own_pod {
            let mut pods = pods.iter();
            if !pods.any(|pod| pod.name == own.name && pod.namespace == own.namespace) {
                return Err(format!(
                    "the kubelet does not list this agent's own pod {own} yet, so it may not know \
                     of others either: it may have been restarted, and waits for the API; or \
                     --pod-name and --pod-namespace are wrong"
                ));
            }
        }
        let containers = pods.iter().flat_map(|pod| &pod.containers);
        let devices = containers.flat_map(|one| &one.devices);
        self.given
            .listed(devices.flat_map(|device| &device.device_ids));
        Ok(Holdings::of(pods))
    }

    /// Whether it may just be giving one of these devices to a pod that it does not list yet.
    pub(super) fn may_be_giving(&self, devices: &BTreeSet<String>) -> bool {
        self.given.has_any_of(devices)
    }

    /// The devices that the kubelet can give out, used ones included, and each one's resource.
    ///
    /// # Errors
    /// As for [`holdings`](Self::holdings).
    pub(super) async fn allocatable(&mut self) -> Result<BTreeMap<String, String>, String> {
        let ask = async |client: &mut Client| {
            let request = AllocatableResourcesRequest {};
            client.get_allocatable_resources(request).await
        };
        let answer = self.socket.ask(ask).await.map_err(in_words)?;
        self.settled()?;
        let mut devices = BTreeMap::new();
        for entry in answer.devices {
            for id in entry.device_ids {
                devices.insert(device_of(&id).to_owned(), entry.resource_name.clone());
            }
        }
        Ok(devices)
    }

    /// Closes the connection, which nobody needs for a while.
    pub(super) fn hang_up(&mut self) {
        self.socket.hang_up();
    }

    /// Whether answers can be believed by now, as far as the time tells.
    fn settled(&mut self) -> Result<(), String> {
        if self.socket.is_settled(self.settling) {
            return Ok(());
        }
        Err(format!(
            "the kubelet was restarted less than {} s ago, and may not know yet which pods hold \
             what",
            self.settling.as_secs()
        ))
    }
}

/// What to do about a kubelet that does not tell.
fn in_words(error: Unanswered) -> String {
    match error {
        Unanswered::Absent(socket) => {
            let dir = socket.parent().unwrap_or(&socket).display();
            format!(
                "which pods hold what cannot be known, so nothing is taken away: {} does not \
                 exist; mount the host's directory {dir} into the agent's container, as \
                 deploy/mizzen-mig.yaml does, or give --pod-resources-socket",
                socket.display()
            )
        }
        Unanswered::Unreachable(error) => {
            format!("which pods hold what cannot be known, so nothing is taken away: {error}")
        }
        refused @ Unanswered::Refused { .. } => refused.to_string(),
    }
}
