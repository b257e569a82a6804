//! The Kubernetes API, for an agent whose config is chosen there. Nothing of this is made or
//! started where the settings do not ask for it, and nothing that answers the kubelet waits for
//! it.

mod follow;
mod reporter;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::config::Kubeconfig;
use mizzen_core::config::ConfigSource;

pub(crate) use follow::{OneObject, Sight, follow};
pub(crate) use reporter::{Report, Reporter, post};

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

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
    let mut config = match &source.kubeconfig {
        Some(path) => {
            let failed = |error: &dyn std::error::Error| {
                format!("the kubeconfig {} cannot be used: {error}", path.display())
            };
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
            kube::Config::try_from(kubeconfig).map_err(|error| failed(&error))?
        }
        None => kube::Config::incluster().map_err(|error| {
            format!(
                "there is no service account to reach the Kubernetes API with: {error}; let the \
                 pod have its token (automountServiceAccountToken: true), or give --kubeconfig"
            )
        })?,
    };
    config.connect_timeout = Some(CONNECT_LIMIT);
    // A refusal is told at once, and tried again by whoever asked.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| words(&error))
}

/// What the API, or the way to it, says is wrong.
fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    // The outer errors name layers of the client; what happened is in the innermost.
    let mut cause: &dyn std::error::Error = error;
    let mut text = String::new();
    while let Some(inner) = cause.source() {
        text = inner.to_string();
        cause = inner;
    }
    if text.is_empty() {
        error.to_string()
    } else {
        text
    }
}

/// Whether the API has refused for want of rights.
fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}
