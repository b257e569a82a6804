//! The configuration files of the cluster's servers. Each setting that is not a default has
//! its reason: this is one node on one machine, for as long as a test run.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::certs::Pki;
use super::ports::Ports;
use crate::images::PAUSE_IMAGE;
use crate::layout::Layout;
use crate::programs::{CNI_PLUGINS, RUNC};

/// The network of the pods; private to this machine, and unlikely to be anyone else's.
const POD_NETWORK: &str = "10.213.0.0/24";
/// The name of that network, by which its leftovers are found.
pub(crate) const POD_NETWORK_NAME: &str = "mizzen-e2e";

/// Writes every configuration file.
pub(crate) fn write_all(layout: &Layout, pki: &Pki, ports: &Ports) -> Result<()> {
    let etc = layout.etc();
    let cni = etc.join("cni");
    fs::create_dir_all(&cni)?;
    let (config, socket) = (layout.containerd_config(), layout.containerd_socket());
    for directory in [config.parent(), socket.parent()].into_iter().flatten() {
        fs::create_dir_all(directory)?;
    }
    fs::write(config, containerd(layout, &cni))?;
    write_json(&cni.join("10-mizzen-e2e.conflist"), &pod_network(layout))?;
    write_json(&etc.join("kubelet.json"), &kubelet(layout, pki, ports))?;
    for client in ["admin", "controller-manager", "scheduler", "kubelet"] {
        let path = etc.join(format!("{client}.kubeconfig"));
        write_json(&path, &kubeconfig(pki, client, ports.api_server))?;
    }
    Ok(())
}

/// JSON is YAML, so what would be a YAML file is written as JSON.
fn write_json(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, serde_json::to_vec_pretty(value)?)?;
    Ok(())
}

fn containerd(layout: &Layout, cni: &Path) -> String {
    let mut cdi_spec_directories = layout.cdi_spec_directories().to_vec();
    cdi_spec_directories.push("/var/run/cdi".into());
    format!(
        r#"version = 3
root = "{data}/containerd"
state = "{run}/containerd"

[grpc]
  address = "{socket}"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{PAUSE_IMAGE}"

[plugins.'io.containerd.cri.v1.runtime']
  # Root in a virtual machine may lack CAP_SYS_RESOURCE, without which a score below the
  # runtime's own cannot be set.
  restrict_oom_score_adj = true
  # So that unmounting what is below the cluster's directory leaves no namespace behind.
  netns_mounts_under_state_dir = true
  enable_cdi = true
  # The last is /run/cdi of every host: an agent asks whether its specs are read there.
  cdi_spec_dirs = {cdi_spec_directories:?}

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["{CNI_PLUGINS}"]
  conf_dir = "{cni}"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = "{RUNC}"
  SystemdCgroup = false

# What the RuntimeClass `nvidia` names; the program comes with the simulated hardware.
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]
  BinaryName = "{nvidia_runtime}"
  SystemdCgroup = false
"#,
        data = layout.data().display(),
        run = layout.run().display(),
        socket = layout.containerd_socket().display(),
        cni = cni.display(),
        cdi_spec_directories = cdi_spec_directories,
        nvidia_runtime = layout.nvidia_runtime().display(),
    )
}

/// Each pod gets a veth pair and an address: enough for the kubelet's probes.
fn pod_network(layout: &Layout) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": POD_NETWORK_NAME,
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": layout.data().join("ipam"),
                "ranges": [[{ "subnet": POD_NETWORK }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

fn kubelet(layout: &Layout, pki: &Pki, ports: &Ports) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": ports.kubelet,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": ports.kubelet_health,
        "readOnlyPort": 0,
        "tlsCertFile": pki.certificate("kubelet-server"),
        "tlsPrivateKeyFile": pki.key("kubelet-server"),
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": false },
            "x509": { "clientCAFile": pki.certificate("ca") },
        },
        "authorization": { "mode": "AlwaysAllow" },
        "cgroupDriver": "cgroupfs",
        // Machines with cgroup v1, or both, are fine for a test.
        "failCgroupV1": false,
        "failSwapOn": false,
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd_socket().display()),
        // There is no cluster DNS; a kubelet without an address for it complains of each pod.
        "clusterDNS": ["127.0.0.1"],
        "clusterDomain": "cluster.local",
        // The machine's own memory and disk are not what is tested, and its images cannot be
        // pulled again.
        "evictionHard": {
            "memory.available": "1Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        // Changes of the devices are sent with the node's status; ten seconds, the default,
        // would be the kubelet's time in every measurement of the agent's.
        "nodeStatusUpdateFrequency": "1s",
        // Who kills an agent time and again does not want to wait for minutes in between.
        "crashLoopBackOff": { "maxContainerRestartPeriod": "1s" },
        // With the servers' logs, to be read after the cluster has gone.
        "podLogsDir": layout.logs().join("pods"),
        "volumePluginDir": layout.data().join("volume-plugins"),
        "shutdownGracePeriod": "0s",
    })
}

fn kubeconfig(pki: &Pki, client: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "mizzen-e2e",
        "clusters": [{ "name": "mizzen-e2e", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority": pki.certificate("ca"),
        }}],
        "users": [{ "name": client, "user": {
            "client-certificate": pki.certificate(client),
            "client-key": pki.key(client),
        }}],
        "contexts": [{ "name": "mizzen-e2e", "context": {
            "cluster": "mizzen-e2e",
            "user": client,
        }}],
    })
}
