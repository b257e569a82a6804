//! A Kubernetes cluster of one node on this machine: etcd, API server, scheduler, controller
//! manager, containerd and kubelet, each a process of its own on 127.0.0.1.

mod certs;
mod configs;
mod leftovers;
mod ports;
mod ready;
mod server;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::Client;

pub(crate) use self::certs::NODE;
use self::certs::Pki;
use self::ports::Ports;
pub(crate) use self::server::{Process, Server};
use crate::layout::{KUBELET, Layout};
use crate::programs::Programs;
use crate::{client, report};

/// How long a server may take to answer after its start.
const START_LIMIT: Duration = Duration::from_mins(1);
/// The addresses of Services; nothing serves them, but the API server wants a range.
const SERVICE_NETWORK: &str = "10.214.0.0/24";

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    layout: Layout,
    programs: Programs,
    ports: Ports,
    servers: Servers,
}

/// The cluster's servers, in the order in which they start.
#[derive(Debug, Clone)]
struct Servers {
    etcd: Server,
    containerd: Server,
    api_server: Server,
    controller_manager: Server,
    scheduler: Server,
    kubelet: Server,
}

impl Servers {
    fn all(&self) -> [&Server; 6] {
        [
            &self.etcd,
            &self.containerd,
            &self.api_server,
            &self.controller_manager,
            &self.scheduler,
            &self.kubelet,
        ]
    }
}

impl Cluster {
    /// Starts a cluster from nothing; what an earlier one left behind is removed first.
    pub(crate) async fn up(layout: &Layout, programs: &Programs) -> Result<Self> {
        leftovers::refuse_foreign_kubelet(layout)?;
        leftovers::remove(layout).await?;
        leftovers::remove_tree(&layout.logs())?;
        for directory in [
            layout.etc(),
            layout.logs(),
            layout.run(),
            layout.data(),
            layout.images(),
        ] {
            fs::create_dir_all(&directory)?;
        }
        leftovers::own(layout)?;
        let pki = Pki::at(layout.pki());
        let ports = Ports::choose()?;
        pki.create()?;
        ports.write(&layout.etc().join("ports.json"))?;
        configs::write_all(layout, &pki, &ports)?;
        let cluster = Self::with(layout, programs, ports);
        report::step("start the cluster", cluster.start()).await?;
        Ok(cluster)
    }

    /// The cluster that `up` left running.
    pub(crate) async fn attach(layout: &Layout, programs: &Programs) -> Result<Self> {
        let ports = Ports::read(&layout.etc().join("ports.json"))
            .context("no cluster runs here; start one with `mizzen-e2e up`")?;
        let cluster = Self::with(layout, programs, ports);
        for server in cluster.servers.all() {
            if server.process().is_none() {
                bail!(
                    "{} does not run; start over with `mizzen-e2e up`",
                    server.name()
                );
            }
        }
        cluster.wait_for_node().await?;
        Ok(cluster)
    }

    /// Stops whatever runs of the cluster and removes what it left on the machine; its logs
    /// stay.
    pub(crate) async fn down(layout: &Layout) -> Result<()> {
        report::step("stop the cluster", leftovers::remove(layout)).await
    }

    fn with(layout: &Layout, programs: &Programs, ports: Ports) -> Self {
        let servers = servers(layout, programs, &ports);
        Self {
            layout: layout.clone(),
            programs: programs.clone(),
            ports,
            servers,
        }
    }

    /// Its directories.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The programs it was started from.
    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// A client with an administrator's rights.
    pub(crate) async fn client(&self) -> Result<Client> {
        client::from_kubeconfig(&self.layout.admin_kubeconfig()).await
    }

    /// Stops the kubelet, as a node's administrator does; its pods go on running.
    pub(crate) async fn stop_kubelet(&self) -> Result<()> {
        self.servers.kubelet.stop().await
    }

    /// Starts the kubelet, and returns once it answers.
    pub(crate) async fn start_kubelet(&self) -> Result<()> {
        self.servers.kubelet.start()?;
        self.wait_for_kubelet().await
    }

    /// Returns once the kubelet answers.
    pub(crate) async fn wait_for_kubelet(&self) -> Result<()> {
        let port = self.ports.kubelet_health;
        self.ready(&self.servers.kubelet, || ready::http(port, "/healthz"))
            .await
    }

    /// Kills the kubelet and starts it again without waiting for it.
    pub(crate) async fn crash_kubelet(&self) -> Result<()> {
        self.servers.kubelet.kill().await?;
        self.servers.kubelet.start()
    }

    /// Restarts containerd, as a node's administrator does, and returns once it listens and the
    /// node is ready; its containers go on running.
    pub(crate) async fn restart_containerd(&self) -> Result<()> {
        let containerd = &self.servers.containerd;
        containerd.stop().await?;
        containerd.start()?;
        self.ready(containerd, || ready::unix(self.layout.containerd_socket()))
            .await?;
        self.wait_for_node().await
    }

    async fn start(&self) -> Result<()> {
        let Servers {
            etcd,
            containerd,
            api_server,
            controller_manager,
            scheduler,
            kubelet: _,
        } = &self.servers;
        etcd.start()?;
        containerd.start()?;
        self.ready(etcd, || ready::http(self.ports.etcd_client, "/health"))
            .await?;
        api_server.start()?;
        self.ready(containerd, || ready::unix(self.layout.containerd_socket()))
            .await?;
        let admin = self.layout.admin_kubeconfig();
        self.ready(api_server, || ready::kube(admin.clone(), "/readyz"))
            .await?;
        controller_manager.start()?;
        scheduler.start()?;
        self.ready(controller_manager, || {
            ready::https(self.ports.controller_manager, "/healthz")
        })
        .await?;
        self.ready(scheduler, || ready::https(self.ports.scheduler, "/healthz"))
            .await?;
        self.start_kubelet().await?;
        self.wait_for_node().await
    }

    /// Waits until a server answers; one that ended, or never does, is an error with the end
    /// of its log.
    async fn ready<F>(&self, server: &Server, probe: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let alive = || server.process().is_some();
        ready::wait(START_LIMIT, alive, probe)
            .await
            .with_context(|| {
                format!(
                    "{} does not answer; {} ends with:\n{}",
                    server.name(),
                    server.log().display(),
                    server.log_tail(15)
                )
            })
    }

    async fn wait_for_node(&self) -> Result<()> {
        let client = self.client().await?;
        let kubelet = &self.servers.kubelet;
        self.ready(kubelet, || client::node_is_ready(client.clone()))
            .await?;
        // The controller manager makes it; before, the API server refuses every pod.
        let controller_manager = &self.servers.controller_manager;
        self.ready(controller_manager, || {
            client::has_default_service_account(client.clone())
        })
        .await
    }
}

fn servers(layout: &Layout, programs: &Programs, ports: &Ports) -> Servers {
    let pki = Pki::at(layout.pki());
    Servers {
        etcd: Server::new(layout, "etcd", programs.path("etcd"))
            .path_flag("data-dir", &layout.data().join("etcd"))
            .arg(format!(
                "--listen-client-url=http://127.0.0.1:{}",
                ports.etcd_client
            ))
            .arg(format!(
                "--listen-peer-url=http://127.0.0.1:{}",
                ports.etcd_peer
            )),
        containerd: containerd(layout, programs),
        api_server: api_server(layout, programs, &pki, ports),
        controller_manager: control_plane(
            layout,
            programs,
            "kube-controller-manager",
            "controller-manager",
        )
        .arg(format!("--secure-port={}", ports.controller_manager))
        .path_flag("root-ca-file", &pki.certificate("ca"))
        .path_flag(
            "service-account-private-key-file",
            &pki.key("service-accounts"),
        )
        .arg("--use-service-account-credentials=true"),
        scheduler: control_plane(layout, programs, "kube-scheduler", "scheduler")
            .arg(format!("--secure-port={}", ports.scheduler)),
        kubelet: Server::new(layout, "kubelet", programs.path("kubelet"))
            .path_flag("config", &layout.etc().join("kubelet.json"))
            .path_flag("kubeconfig", &layout.etc().join("kubelet.kubeconfig"))
            .arg(format!("--root-dir={KUBELET}"))
            .arg(format!("--hostname-override={NODE}"))
            .arg("--v=2"),
    }
}

fn containerd(layout: &Layout, programs: &Programs) -> Server {
    // It looks for its shim on the PATH; iptables and mount helpers are the system's.
    let path = format!(
        "{}:/usr/sbin:/usr/bin:/sbin:/bin",
        programs.directory().display()
    );
    Server::new(layout, "containerd", programs.path("containerd"))
        .path_flag("config", &layout.containerd_config())
        .env("PATH", path)
}

fn control_plane(
    layout: &Layout,
    programs: &Programs,
    program: &'static str,
    client: &str,
) -> Server {
    let kubeconfig = layout.etc().join(format!("{client}.kubeconfig"));
    Server::new(layout, program, programs.path(program))
        .path_flag("kubeconfig", &kubeconfig)
        .arg("--bind-address=127.0.0.1")
        // One of each runs: an election would only delay the start.
        .arg("--leader-elect=false")
}

fn api_server(layout: &Layout, programs: &Programs, pki: &Pki, ports: &Ports) -> Server {
    Server::new(layout, "kube-apiserver", programs.path("kube-apiserver"))
        .arg(format!(
            "--etcd-servers=http://127.0.0.1:{}",
            ports.etcd_client
        ))
        .arg("--bind-address=127.0.0.1")
        .arg("--advertise-address=127.0.0.1")
        .arg(format!("--secure-port={}", ports.api_server))
        // Endpoints on loopback are refused by the default reconciler.
        .arg("--endpoint-reconciler-type=none")
        .path_flag("client-ca-file", &pki.certificate("ca"))
        .path_flag("tls-cert-file", &pki.certificate("apiserver"))
        .path_flag("tls-private-key-file", &pki.key("apiserver"))
        .arg("--kubelet-preferred-address-types=Hostname")
        .path_flag("kubelet-certificate-authority", &pki.certificate("ca"))
        .path_flag(
            "kubelet-client-certificate",
            &pki.certificate("apiserver-kubelet"),
        )
        .path_flag("kubelet-client-key", &pki.key("apiserver-kubelet"))
        // Without one, the API server logs an error a second.
        .path_flag(
            "requestheader-client-ca-file",
            &pki.certificate("front-proxy-ca"),
        )
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .path_flag(
            "service-account-key-file",
            &pki.public_key("service-accounts"),
        )
        .path_flag(
            "service-account-signing-key-file",
            &pki.key("service-accounts"),
        )
        .arg(format!("--service-cluster-ip-range={SERVICE_NETWORK}"))
        .arg("--authorization-mode=Node,RBAC")
        .arg("--enable-admission-plugins=NodeRestriction")
        .arg("--allow-privileged=true")
}

/// Shows each server of the cluster.
pub(crate) async fn status(layout: &Layout) -> Result<()> {
    let Ok(ports) = Ports::read(&layout.etc().join("ports.json")) else {
        report::line(&format!("no cluster in {}", layout.root().display()));
        return Ok(());
    };
    let programs = Programs::at(layout.run());
    let servers = servers(layout, &programs, &ports);
    for server in servers.all() {
        let state = match server.process() {
            Some(process) => format!("process {}", process.pid),
            None => "not running".into(),
        };
        report::line(&format!(
            "{:<24} {state:<18} {}",
            server.name(),
            server.log().display()
        ));
    }
    let kubeconfig = layout.admin_kubeconfig();
    let node = async { client::node_is_ready(client::from_kubeconfig(&kubeconfig).await?).await };
    match node.await {
        Ok(()) => report::line("node ready"),
        Err(error) => report::line(&format!("node not ready: {error:#}")),
    }
    report::line(&format!("kubeconfig {}", kubeconfig.display()));
    Ok(())
}
