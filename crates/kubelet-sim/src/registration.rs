//! The registration server, and the kubelet's side of each plugin.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mizzen_kubelet_api::connect;
use mizzen_kubelet_api::deviceplugin::{
    DevicePluginClient, Empty, ListAndWatchResponse, RegisterRequest, Registration, VERSION,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::devices::{Endpoint, PluginClient};
use crate::event::Happening;
use crate::names::is_extended_resource;
use crate::rpc::error_text;
use crate::state::{Shared, State};

/// How long the kubelet tries to reach a plugin that registers.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two tries: the first back-off of gRPC for Go.
const DIAL_PAUSE: Duration = Duration::from_secs(1);

/// Answers plugins on `kubelet.sock`.
#[derive(Debug, Clone)]
pub(crate) struct RegistrationService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        if self.shared.disturbances.takes_refusal() {
            return Err(self.refuse(&request, "the kubelet refuses registrations for now".into()));
        }
        self.shared.disturbances.silence().await;
        if let Err(message) = check(&request) {
            return Err(self.refuse(&request, message));
        }
        // A kubelet that has gone must not finish what it began.
        match self
            .stop
            .run_until_cancelled(self.connect_plugin(&request))
            .await
        {
            Some(Ok(())) => Ok(Response::new(Empty {})),
            Some(Err(message)) => Err(self.refuse(&request, message)),
            None => Err(Status::unavailable("the kubelet stops")),
        }
    }
}

/// The checks that need no plugin, in the kubelet's words.
fn check(request: &RegisterRequest) -> Result<(), String> {
    let RegisterRequest {
        version,
        resource_name,
        ..
    } = request;
    if version != VERSION {
        return Err(format!(
            "requested API version {version:?} is not supported by kubelet. \
             Supported version is [{VERSION:?}]"
        ));
    }
    if !is_extended_resource(resource_name) {
        return Err(format!("the ResourceName {resource_name:?} is invalid"));
    }
    Ok(())
}

impl RegistrationService {
    fn refuse(&self, request: &RegisterRequest, message: String) -> Status {
        let resource = request.resource_name.clone();
        let said = message.clone();
        self.shared.update(|state| {
            state.say(Happening::RegistrationRefused {
                resource,
                message: said,
            });
        });
        // Errors without a code reach a gRPC client as Unknown.
        Status::unknown(message)
    }

    /// Dials back, asks for the options, makes the plugin the resource's, and starts to read its
    /// list.
    async fn connect_plugin(&self, request: &RegisterRequest) -> Result<(), String> {
        let resource = &request.resource_name;
        let closed = self.stop.child_token();
        // The newcomer takes the resource before it is reached; a client that was there before
        // keeps its connection, and its stream is still read.
        self.shared
            .update(|state| state.clients.insert(resource.clone(), closed.clone()));
        let endpoint = match self.reach(request).await {
            Ok(endpoint) => endpoint,
            Err(message) => {
                self.shared.update(|state| state.clients.remove(resource));
                return Err(message);
            }
        };
        let Some(client) = endpoint.client.clone() else {
            return Err("the plugin has no client".to_owned());
        };
        self.shared.update(|state| {
            state.devices.connected(resource, endpoint);
            let (resource, endpoint) = (resource.clone(), request.endpoint.clone());
            state.say(Happening::PluginRegistered { resource, endpoint });
        });
        let lists = Lists {
            shared: self.shared.clone(),
            resource: resource.clone(),
            closed,
        };
        self.tasks.spawn(lists.run(client, self.stop.clone()));
        Ok(())
    }

    async fn reach(&self, request: &RegisterRequest) -> Result<Endpoint, String> {
        let path = self.shared.config.plugin_dir().join(&request.endpoint);
        let mut client = dial(&path).await?;
        let options = client
            .get_device_plugin_options(Empty {})
            .await
            .map_err(|status| {
                format!(
                    "failed to get device plugin options: {}",
                    error_text(&status)
                )
            })?
            .into_inner();
        Ok(Endpoint {
            client: Some(client),
            options,
            stopped: None,
        })
    }
}

/// Connects, trying again for as long as the kubelet does.
async fn dial(path: &Path) -> Result<PluginClient, String> {
    let tries = async {
        loop {
            match connect(path).await {
                Ok(connection) => break DevicePluginClient::new(connection),
                Err(_) => sleep(DIAL_PAUSE).await,
            }
        }
    };
    timeout(DIAL_LIMIT, tries)
        .await
        .map_err(|_| "failed to dial device plugin: context deadline exceeded".to_owned())
}

/// The reader of one plugin's lists.
struct Lists {
    shared: Arc<Shared>,
    resource: String,
    closed: CancellationToken,
}

impl Lists {
    /// Reads until the lists end or the kubelet closes the connection; then whoever is the
    /// resource's client is disconnected, even if that is another plugin by now. (So it is in the
    /// kubelet: the end of an old plugin takes the new one of the same resource with it.)
    async fn run(self, client: PluginClient, stop: CancellationToken) {
        self.closed.run_until_cancelled(self.receive(client)).await;
        // With the kubelet the connections end, and nobody is left to draw conclusions.
        if !stop.is_cancelled() {
            self.shared
                .update(|state| disconnect(state, &self.resource));
        }
    }

    async fn receive(&self, mut client: PluginClient) {
        let Ok(lists) = client.list_and_watch(Empty {}).await else {
            return;
        };
        let mut lists = lists.into_inner();
        while let Ok(Some(list)) = lists.message().await {
            self.shared
                .update(|state| take_list(state, &self.resource, &list));
        }
    }
}

fn take_list(state: &mut State, resource: &str, list: &ListAndWatchResponse) {
    let changes = state.devices.reported(resource, &list.devices);
    state.checkpoint_is_stale = true;
    let healthy = state
        .devices
        .healthy()
        .get(resource)
        .map_or(0, std::collections::BTreeSet::len);
    let resource = resource.to_owned();
    let unhealthy = list.devices.len().saturating_sub(healthy);
    state.say(Happening::DevicesReported {
        resource: resource.clone(),
        healthy,
        unhealthy,
    });
    for change in changes {
        let Some(pod) = state.pod(&change.pod_uid).map(|record| record.pod.key()) else {
            continue;
        };
        state.say(Happening::DeviceHealthChanged {
            resource: resource.clone(),
            device: change.device,
            healthy: change.healthy,
            pod,
        });
    }
}

fn disconnect(state: &mut State, resource: &str) {
    let Some(current) = state.clients.remove(resource) else {
        return;
    };
    current.cancel();
    state.devices.disconnected(resource, Instant::now());
    state.say(Happening::PluginGone {
        resource: resource.to_owned(),
    });
}
