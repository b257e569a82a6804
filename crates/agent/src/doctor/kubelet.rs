//! The kubelet, what is registered with it, and the agent: whatever answers on a socket.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::doctor::{
    AgentFacts, KubeletFacts, PluginFact, Reach, RegistrationFacts, RuntimeFacts,
};
use mizzen_kubelet_api::deviceplugin::{DevicePluginClient, Empty};
use mizzen_kubelet_api::podresources::{
    ANSWER_SIZE, AllocatableResourcesRequest, PodResourcesListerClient,
};
use mizzen_kubelet_api::{Connection, connect};
use mizzen_nvml::HostRoot;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::{Host, runtime, text};

/// How long each may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Until a question that was sent away is asked again: the kubelet has one more answer every 10 ms.
const SENT_AWAY: Duration = Duration::from_millis(15);
/// The most that is read of an agent's words.
const MOST_WORDS: u64 = 64 << 10;
/// Directories of kubelets besides the ordinary one: k0s, `MicroK8s`.
const DIRECTORIES: [&str; 3] = [
    "/var/lib/kubelet",
    "/var/lib/k0s/kubelet",
    "/var/snap/microk8s/common/var/lib/kubelet",
];

/// What they answered.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) kubelet: KubeletFacts,
    pub(super) registration: RegistrationFacts,
    pub(super) agent: AgentFacts,
    pub(super) runtime: Option<RuntimeFacts>,
}

/// Asks everybody.
pub(super) fn ask(config: &Config, host: &Host) -> Asked {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(asked(config, host)),
        Err(error) => unasked(config, &error),
    }
}

/// Where the system does not even give what it takes to ask.
fn unasked(config: &Config, error: &io::Error) -> Asked {
    let failed = Reach::Failed(error.to_string());
    Asked {
        kubelet: KubeletFacts {
            socket: config.kubelet_socket.as_deref().map(shown),
            reach: failed.clone(),
            elsewhere: Vec::new(),
        },
        registration: RegistrationFacts {
            plugins: Vec::new(),
            pod_resources: shown(&config.pod_resources_socket()),
            allocatable: Err(failed.clone()),
        },
        agent: AgentFacts {
            address: config.health_address,
            answer: Err(failed),
        },
        runtime: None,
    }
}

async fn asked(config: &Config, host: &Host) -> Asked {
    let pod_resources = pod_resources(config, host);
    let registered = async {
        match &config.kubelet_socket {
            None => Reach::Missing,
            Some(socket) => match connected(socket).await {
                Ok(_) => Reach::Answered,
                Err(reach) => reach,
            },
        }
    };
    let ready = async {
        match config.health_address {
            Some(address) => readiness(address).await,
            None => Err(Reach::Missing),
        }
    };
    // At the same time, so that many that hang cost no more than one.
    let (runtime, reach, plugins, allocatable, answer) = tokio::join!(
        runtime::facts(host),
        registered,
        plugins(config.device_plugin_dir()),
        allocatable(&pod_resources),
        ready,
    );
    Asked {
        runtime,
        registration: RegistrationFacts {
            plugins,
            allocatable,
            pod_resources: shown(&pod_resources),
        },
        kubelet: KubeletFacts {
            socket: config.kubelet_socket.as_deref().map(shown),
            reach,
            elsewhere: elsewhere(config, host),
        },
        agent: AgentFacts {
            address: config.health_address,
            answer,
        },
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// What a failed connection says.
fn reach(kind: io::ErrorKind, words: impl FnOnce() -> String) -> Reach {
    match kind {
        io::ErrorKind::NotFound => Reach::Missing,
        io::ErrorKind::ConnectionRefused => Reach::Refused,
        io::ErrorKind::PermissionDenied => Reach::Denied,
        _ => Reach::Failed(words()),
    }
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|known| known.file_type().is_socket())
}

async fn connected(socket: &Path) -> Result<Connection, Reach> {
    if socket.exists() && !is_socket(socket) {
        return Err(Reach::NoSocket);
    }
    match timeout(LIMIT, connect(socket)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(reach(error.kind(), || error.to_string())),
        Err(_) => Err(Reach::Late(LIMIT)),
    }
}

/// Sockets of kubelets that are not the one in the settings: where kubelets often are, and where a
/// running one's command line says.
fn elsewhere(config: &Config, host: &Host) -> Vec<String> {
    let known = DIRECTORIES.map(PathBuf::from).into_iter();
    let mut directories: Vec<PathBuf> = known.chain(root_dirs(&host.kernel)).collect();
    directories.sort();
    directories.dedup();
    let sockets = directories
        .iter()
        .map(|directory| directory.join("device-plugins/kubelet.sock"));
    sockets
        .filter(|socket| config.kubelet_socket.as_ref() != Some(socket))
        .filter(|socket| is_socket(&host.files.join(socket)))
        .map(|socket| shown(&socket))
        .collect()
}

/// The `--root-dir` of every kubelet that runs here.
fn root_dirs(kernel: &HostRoot) -> Vec<PathBuf> {
    let processes = fs::read_dir(kernel.join("proc"))
        .into_iter()
        .flatten()
        .flatten();
    let command_lines = processes.filter_map(|process| {
        let words = fs::read_to_string(process.path().join("cmdline")).ok()?;
        root_dir(&words)
    });
    command_lines.collect()
}

pub(super) fn root_dir(words: &str) -> Option<PathBuf> {
    let mut words = words.split('\0');
    let program = words.next()?;
    if program.rsplit('/').next() != Some("kubelet") {
        return None;
    }
    while let Some(word) = words.next() {
        if word == "--root-dir" {
            return words.next().map(PathBuf::from);
        }
        if let Some(directory) = word.strip_prefix("--root-dir=") {
            return Some(directory.into());
        }
    }
    None
}

/// The socket that tells what the kubelet can give out; in a container that does not have it, by
/// way of the host's root.
fn pod_resources(config: &Config, host: &Host) -> PathBuf {
    let here = config.pod_resources_socket();
    let of_host = host.files.join(&here);
    if !here.exists() && of_host.exists() {
        return of_host;
    }
    here
}

async fn allocatable(socket: &Path) -> Result<BTreeMap<String, usize>, Reach> {
    let client = PodResourcesListerClient::new(connected(socket).await?);
    let mut client = client.max_decoding_message_size(ANSWER_SIZE);
    let asking = async {
        loop {
            let request = AllocatableResourcesRequest {};
            match client.get_allocatable_resources(request).await {
                Err(status) if status.code() == Code::ResourceExhausted => sleep(SENT_AWAY).await,
                answer => return answer,
            }
        }
    };
    let answer = answered(timeout(LIMIT, asking).await)?;
    let mut counts = BTreeMap::new();
    for devices in answer.devices {
        *counts.entry(devices.resource_name).or_default() += devices.device_ids.len();
    }
    Ok(counts)
}

/// What came of a question with a deadline.
fn answered<T>(
    answer: Result<Result<tonic::Response<T>, Status>, tokio::time::error::Elapsed>,
) -> Result<T, Reach> {
    match answer {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Reach::Failed(status.message().to_owned())),
        Err(_) => Err(Reach::Late(LIMIT)),
    }
}

/// The sockets for NVIDIA's resources, as its plugin and ours call them.
pub(super) async fn plugins(directory: &Path) -> Vec<PluginFact> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_one = |path: &PathBuf| {
        let name = path.file_stem().and_then(|name| name.to_str());
        let is_ours = name.is_some_and(|name| name.starts_with("nvidia"));
        is_ours && path.extension().is_some_and(|end| end == "sock")
    };
    let sockets = entries.map(|entry| entry.path()).filter(is_one);
    let asked: JoinSet<PluginFact> = sockets.map(plugin).collect();
    let mut plugins = asked.join_all().await;
    plugins.sort_by(|one, other| one.socket.cmp(&other.socket));
    plugins
}

async fn plugin(socket: PathBuf) -> PluginFact {
    let (options, program) = tokio::join!(options(&socket), program(&socket));
    PluginFact {
        reach: options.map_or_else(|reach| reach, |()| Reach::Answered),
        program,
        socket: shown(&socket),
    }
}

async fn options(socket: &Path) -> Result<(), Reach> {
    let mut client = DevicePluginClient::new(connected(socket).await?);
    let asking = client.get_device_plugin_options(Empty {});
    answered(timeout(LIMIT, asking).await).map(drop)
}

/// The name of the program that listens; nothing where it runs in another container.
async fn program(socket: &Path) -> Option<String> {
    let connecting = timeout(LIMIT, UnixStream::connect(socket)).await;
    let process = connecting.ok()?.ok()?.peer_cred().ok()?.pid()?;
    // A number of this process's own namespace, whatever the host's root is.
    let own = HostRoot::default();
    text(own.join(format!("proc/{process}/comm")))
}

/// What an agent's `/readyz` says.
async fn readiness(address: SocketAddr) -> Result<(bool, String), Reach> {
    let asking = async {
        let mut stream = TcpStream::connect(dialled(address)).await?;
        let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MOST_WORDS).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    match timeout(LIMIT, asking).await {
        Ok(Ok(answer)) => parsed(&answer)
            .ok_or_else(|| Reach::Failed("somebody listens there who is no agent".to_owned())),
        Ok(Err(error)) => Err(reach(error.kind(), || error.to_string())),
        Err(_) => Err(Reach::Late(LIMIT)),
    }
}

/// Who serves on every address is asked on this machine's own.
fn dialled(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

pub(super) fn parsed(answer: &str) -> Option<(bool, String)> {
    let (head, words) = answer.split_once("\r\n\r\n")?;
    let code = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    let words = words.trim().lines().collect::<Vec<_>>().join("; ");
    match code {
        "200" => Some((true, words)),
        "503" => Some((false, words)),
        _ => None,
    }
}
