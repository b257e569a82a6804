//! A runtime of which the socket alone is given.

use mizzen_kubelet_api::cri::{
    RuntimeService, StatusRequest, StatusResponse, VersionRequest, VersionResponse,
};
use tonic::{Request, Response, Status};

use super::{Node, answering};

/// A runtime of this name that has no more to say.
struct Called(&'static str);

#[tonic::async_trait]
impl RuntimeService for Called {
    async fn version(
        &self,
        _: Request<VersionRequest>,
    ) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            runtime_name: self.0.to_owned(),
            runtime_version: "1.31.2".to_owned(),
            ..VersionResponse::default()
        }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse::default()))
    }
}

/// What `mizzen runtime check` says and ends with where a runtime calls itself `name`.
async fn checked(node: Node, name: &'static str) -> (i32, String) {
    let socket = node.path("odd.sock");
    let mut tasks = answering(&socket, Called(name));
    let words = format!("check --socket {}", socket.display());
    let ran = tokio::task::spawn_blocking(move || node.runtime(&words))
        .await
        .unwrap();
    tasks.shutdown().await;
    let said = ran.stdout() + &ran.stderr();
    let words: Vec<&str> = said.split_whitespace().collect();
    (ran.code(), words.join(" "))
}

#[tokio::test]
async fn a_socket_is_asked_which_runtime_it_is() {
    let (code, said) = checked(Node::new(), "cri-o").await;
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("runtime CRI-O 1.31.2: "), "{said}");
    assert!(said.contains("odd.sock says that it is CRI-O"), "{said}");
}

#[tokio::test]
async fn what_a_socket_says_outranks_files_of_another_runtime() {
    let node = Node::new();
    node.write("etc/docker/daemon.json", "{}");
    let (code, said) = checked(node, "cri-o").await;
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("runtime CRI-O 1.31.2: "), "{said}");
}

#[tokio::test]
async fn a_runtime_of_another_name_is_told_with_the_way_out() {
    let (code, said) = checked(Node::new(), "frakti").await;
    assert_eq!(code, 2);
    assert!(
        said.contains("frakti") && said.contains("--runtime"),
        "{said}"
    );
}

#[test]
fn a_socket_at_which_nobody_answers_is_told_with_the_way_out() {
    let node = Node::new();
    let ran = node.runtime("check --socket /nowhere.sock").ended_with(2);
    let said = ran.stderr();
    assert!(
        said.contains("/nowhere.sock") && said.contains("kubelet"),
        "{said}"
    );
}
