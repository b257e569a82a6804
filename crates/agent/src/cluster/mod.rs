//! The Kubernetes API, for an agent whose config or MIG layout is chosen there, or that tells
//! there what GPUs its Node has and how they are. Nothing of this is made or started where the
//! settings do not ask for it, and nothing that answers the kubelet waits for it.

mod evict;
mod follow;
mod known;
mod node;
mod pace;
mod reporter;
mod send;
mod spread;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::ConfigExt as _;
use kube::config::Kubeconfig;
use mizzen_core::config::ConfigSource;
use tower::{BoxError, ServiceBuilder};

pub(crate) use evict::{PodName, evict};
pub(crate) use follow::{Object, OneObject, Sight, follow};
pub(crate) use known::{Known, update};
pub(crate) use node::{follow_node, set_label};
pub(crate) use pace::Pace;
pub(crate) use reporter::{Poster, Report, Reporter, post};
pub(crate) use send::{Refusal, send};
pub(crate) use spread::Spread;

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection is silent before the system asks whether the other end lives.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Makes a client of the Kubernetes API, or says in words why it cannot.
pub type ClientFactory = Arc<dyn Fn() -> Result<Client, String> + Send + Sync>;

/// The API of the cluster, whose client is made by whoever needs it first.
#[derive(Clone)]
pub(crate) struct Cluster {
    factory: ClientFactory,
    client: Arc<Mutex<Option<Client>>>,
}

impl Cluster {
    pub(crate) fn new(factory: ClientFactory) -> Self {
        Self {
            factory,
            client: Arc::default(),
        }
    }

    /// The client; where it cannot be made, the next call tries again.
    pub(crate) fn client(&self) -> Result<Client, String> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let made = (self.factory)()?;
        Ok(client.insert(made).clone())
    }
}

/// A client as the settings say: by the kubeconfig, or else as the pod's service account.
pub(crate) fn connect(source: &ConfigSource) -> Result<Client, String> {
    let config = match &source.kubeconfig {
        Some(path) => {
            let failed = |error: &dyn std::error::Error| {
                format!("the kubeconfig {} cannot be used: {error}", path.display())
            };
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
            let config = kube::Config::try_from(kubeconfig).map_err(|error| failed(&error))?;
            if config.proxy_url.is_some() {
                return Err(format!(
                    "the kubeconfig {} names a proxy (proxy-url), which this build cannot use",
                    path.display()
                ));
            }
            config
        }
        None => kube::Config::incluster().map_err(|error| {
            format!(
                "there is no service account to reach the Kubernetes API with: {error}; let the \
                 pod have its token (automountServiceAccountToken: true), or give --kubeconfig"
            )
        })?,
    };
    assemble(config).map_err(|error| words(&error))
}

/// The client's layers: addresses, credentials, and connections that notice a dead peer. Kube's
/// own stack also logs every failure, which is for whoever asked to tell, and tries refusals
/// again by itself.
fn assemble(config: kube::Config) -> kube::Result<Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_LIMIT));
    connector.set_keepalive(Some(KEEP_ALIVE));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service(
            hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector),
        );
    Ok(Client::new(service, config.default_namespace))
}

/// What the API, or the way to it, says is wrong.
fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        causes.push(inner.to_string());
        cause = inner.source();
    }
    // The outermost only says which layer of the client it was.
    if causes.is_empty() {
        error.to_string()
    } else {
        causes.join(": ")
    }
}

/// Whether the API has refused for want of rights.
fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}
