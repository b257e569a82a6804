//! Runtimes of host trees.

use std::fs;
use std::path::Path;

use mizzen_core::runtime::{CdiState, RiskLevel, RuntimeKind, RuntimeVersion};
use mizzen_kubelet_api::cri::{
    RuntimeService, RuntimeServiceServer, StatusRequest, StatusResponse, VersionRequest,
    VersionResponse,
};
use mizzen_kubelet_api::{Socket, serve};
use mizzen_nvml::HostRoot;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};

use super::*;

struct Node(TempDir);

impl Node {
    fn new(files: &[(&str, &str)]) -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            node.write(path, text);
        }
        node
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn host(&self) -> HostRoot {
        HostRoot::new(self.0.path())
    }

    fn find(&self) -> Option<FoundRuntime> {
        find(&self.host(), &Wish::default())
    }
}

const CONTAINERD: &str = "/etc/containerd/config.toml";

#[test]
fn a_node_without_a_runtime_has_none() {
    assert!(Node::new(&[]).find().is_none());
}

#[test]
fn the_kubelet_says_which_of_several_runtimes_it_uses() {
    let node = Node::new(&[(CONTAINERD, ""), ("/etc/crio/crio.conf", "")]);
    assert_eq!(node.find().unwrap().place.kind, RuntimeKind::Containerd);
    node.write(
        "/var/lib/kubelet/config.yaml",
        "containerRuntimeEndpoint: unix:///var/run/crio/crio.sock\n",
    );
    let found = node.find().unwrap();
    assert_eq!(found.place.kind, RuntimeKind::Crio);
    assert!(found.why.contains("the kubelet uses"));
}

#[test]
fn imports_are_read_in_containerds_order_and_each_once() {
    let node = Node::new(&[
        (
            CONTAINERD,
            "version = 3\nimports = ['conf.d/*.toml', '/opt/last.toml']\n",
        ),
        (
            "/etc/containerd/conf.d/b.toml",
            "imports = ['a.toml', '../deep.toml']\n",
        ),
        (
            "/etc/containerd/conf.d/a.toml",
            "imports = ['/etc/containerd/config.toml']\n",
        ),
        ("/etc/containerd/conf.d/no.txt", ""),
        (
            "/etc/containerd/deep.toml",
            "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_cdi = false\n",
        ),
    ]);
    let found = node.find().unwrap();
    let paths: Vec<_> = found.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            CONTAINERD,
            "/etc/containerd/conf.d/a.toml",
            "/etc/containerd/conf.d/b.toml",
            "/etc/containerd/conf.d/../deep.toml",
        ]
    );
    assert_eq!(found.report().cdi.state, CdiState::Off);
    assert_eq!(found.remarks.len(), 1, "a file that is named is missing");
}

#[test]
fn a_link_to_a_config_is_followed_below_the_root() {
    let node = Node::new(&[("/opt/real.toml", "version = 3\n")]);
    fs::create_dir_all(node.0.path().join("etc/containerd")).unwrap();
    let link = node.0.path().join("etc/containerd/config.toml");
    std::os::unix::fs::symlink("/opt/real.toml", link).unwrap();
    assert_eq!(node.find().unwrap().files[0].text, "version = 3\n");
}

#[test]
fn settings_that_let_pods_take_gpus_are_found_with_hooks_and_toolkit() {
    let node = Node::new(&[
        ("/etc/crio/crio.conf.d/10.conf", "[crio.runtime]\n"),
        (
            "/usr/share/containers/oci/hooks.d/oci-nvidia-hook.json",
            "{\"hook\": {\"path\": \"/usr/bin/nvidia-container-runtime-hook\"}}",
        ),
    ]);
    let found = node.find().unwrap();
    let risks = found.privacy_risks();
    assert_eq!((risks.len(), risks[0].level), (1, RiskLevel::Warning));
    node.write(
        "/etc/nvidia-container-runtime/config.toml",
        "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n",
    );
    assert!(node.find().unwrap().privacy_risks().is_empty());
}

/// A containerd with CDI off.
struct Told;

#[tonic::async_trait]
impl RuntimeService for Told {
    async fn version(
        &self,
        _: Request<VersionRequest>,
    ) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            runtime_name: "containerd".to_owned(),
            runtime_version: "v2.0.1".to_owned(),
            ..VersionResponse::default()
        }))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        assert!(request.into_inner().verbose);
        let config = "{\"enableCDI\": false, \"cdiSpecDirs\": [\"/etc/cdi\"]}";
        let info = [("config".to_owned(), config.to_owned())];
        Ok(Response::new(StatusResponse { info: info.into() }))
    }
}

#[tokio::test]
async fn a_running_runtime_is_asked() {
    let node = Node::new(&[(CONTAINERD, "version = 3\n")]);
    let path = node.0.path().join("run/containerd/containerd.sock");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let socket = Socket::bind(&path).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let service = RuntimeServiceServer::new(Told);
        let _ = serve(socket, service, std::future::pending()).await;
    });
    let mut found = node.find().unwrap();
    assert_eq!(found.report().cdi.state, CdiState::On);
    assert_eq!(found.socket.as_deref(), Some(Path::new(&path)));
    found.take(ask(&path).await.unwrap());
    assert_eq!(found.version, Some(RuntimeVersion::new(2, 0, 1)));
    assert_eq!(found.report().cdi.state, CdiState::Off);
    assert!(!found.report().spec_directories.hold_ours());
    tasks.shutdown().await;
    assert!(matches!(ask(&path).await, Err(AskError::Connect(_))));
}
