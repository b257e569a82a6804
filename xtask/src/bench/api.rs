//! As much of a Kubernetes API as an agent asks of it that labels its Node and tells how it is:
//! one Node, over TLS.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::web::Identity;

/// The Node's name.
pub(super) const NODE: &str = "mizzen-node";
const MANAGER: &str = "mizzen-labels";

/// A running API; it ends when this is dropped.
pub(super) struct Api {
    address: SocketAddr,
    certificate: String,
    /// The labels that the Node was given last.
    labels: watch::Receiver<Map<String, Value>>,
    _server: JoinSet<()>,
}

impl Api {
    /// Serves on loopback.
    pub(super) async fn start() -> Result<Self> {
        let identity = Identity::new()?;
        let acceptor = TlsAcceptor::from(Arc::new(identity.server()?));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (told, labels) = watch::channel(Map::new());
        let mut server = JoinSet::new();
        server.spawn(serve(listener, acceptor, Arc::new(told)));
        Ok(Self {
            address,
            certificate: identity.certificate,
            labels,
            _server: server,
        })
    }

    /// Writes what an agent needs to find it.
    pub(super) fn write_kubeconfig(&self, file: &Path) -> Result<()> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {
                "server": format!("https://{}", self.address),
                "certificate-authority-data": BASE64.encode(&self.certificate),
            }}],
            "users": [{"name": "agent", "user": {"token": "a token"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "agent"}}],
            "current-context": "here",
        });
        Ok(fs::write(file, config.to_string())?)
    }

    /// Waits until the Node has this label.
    pub(super) async fn labelled(&mut self, key: &str, value: &str) -> Result<()> {
        let is_so = |labels: &Map<String, Value>| labels.get(key) == Some(&json!(value));
        self.labels.wait_for(is_so).await?;
        Ok(())
    }
}

type Told = Arc<watch::Sender<Map<String, Value>>>;

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, told: Told) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, told) = (acceptor.clone(), Arc::clone(&told));
        connections.spawn(async move {
            // A client that goes away is no trouble of ours.
            if let Ok(stream) = acceptor.accept(stream).await {
                let _ = answer(BufStream::new(stream), &told).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Answers one question after the other.
async fn answer(mut stream: BufStream<TlsStream<TcpStream>>, told: &Told) -> Result<()> {
    loop {
        let mut question = String::new();
        if stream.read_line(&mut question).await? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let (status, object) = reply(&question, &body, told)?;
        let object = object.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            object.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(object.as_bytes()).await?;
        stream.flush().await?;
    }
}

fn reply(question: &str, body: &[u8], told: &Told) -> Result<(&'static str, Value)> {
    let mut words = question.split(' ');
    let (method, path) = (words.next(), words.next().context("no path")?);
    let is_ours = path.starts_with(&format!("/api/v1/nodes/{NODE}"));
    match method {
        Some("GET") if is_ours => Ok(("200 OK", node(&told.borrow()))),
        Some("PATCH") if is_ours => {
            if path.contains(&format!("fieldManager={MANAGER}")) {
                let change: Value = serde_json::from_slice(body)?;
                let labels = change.pointer("/metadata/labels");
                let labels = labels.and_then(Value::as_object).cloned();
                told.send_replace(labels.unwrap_or_default());
            }
            Ok(("200 OK", node(&told.borrow())))
        }
        Some("POST") => {
            let mut made: Value = serde_json::from_slice(body)?;
            made["metadata"]["name"] = json!("made");
            Ok(("201 Created", made))
        }
        _ => {
            let status = json!({
                "apiVersion": "v1", "kind": "Status", "status": "Failure",
                "reason": "NotFound", "code": 404, "message": "there is no such thing here",
            });
            Ok(("404 Not Found", status))
        }
    }
}

fn node(labels: &Map<String, Value>) -> Value {
    let keys = labels.keys().map(|key| (format!("f:{key}"), json!({})));
    let owned = json!({
        "manager": MANAGER, "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": keys.collect::<Map<_, _>>()}},
    });
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE,
            "uid": "0c4a8b8e-6f0e-4d5c-9a53-1f0b7f6f2a11",
            "resourceVersion": "1",
            "labels": labels,
            "managedFields": [owned],
        },
        "spec": {},
        "status": {},
    })
}
