//! What containers are given, and what the kubelet is advised.

mod support;

use mizzen_agent::Order;
use mizzen_core::config::{Config, DeviceIdStrategy, DeviceListStrategies, DeviceListStrategy};
use mizzen_kubelet_api::deviceplugin::{
    ContainerPreferredAllocationRequest, Empty, PreStartContainerRequest,
    PreferredAllocationRequest,
};
use support::Node;
use tonic::Code;

#[tokio::test]
async fn the_plugin_says_that_it_has_preferences() {
    let node = Node::running(2).await;
    let mut plugin = node.plugin().await;
    let options = plugin
        .client
        .get_device_plugin_options(Empty {})
        .await
        .unwrap()
        .into_inner();
    assert!(options.get_preferred_allocation_available);
    assert!(!options.pre_start_required);
    let request = PreStartContainerRequest {
        devices_ids: vec![Node::uuid(0).to_string()],
    };
    plugin.client.pre_start_container(request).await.unwrap();
}

#[tokio::test]
async fn each_strategy_tells_the_runtime_in_its_own_way() {
    use DeviceListStrategy::{CdiAnnotations, CdiCri, Envvar, VolumeMounts};
    let mut node = Node::new(8).await;
    node.config.device_list_strategies =
        DeviceListStrategies::new([Envvar, CdiAnnotations, CdiCri]);
    node.config.pass_device_specs = true;
    node.start_agent();
    node.allocatable(8).await;
    let (a, b) = (Node::uuid(1), Node::uuid(6));
    let mut plugin = node.plugin().await;

    let given = plugin.allocate(&[b.as_str(), a.as_str()]).await.unwrap();
    assert_eq!(
        given.envs["NVIDIA_VISIBLE_DEVICES"],
        format!("{a},{b}"),
        "in order of index"
    );
    let names = [&a, &b].map(|id| format!("k8s.device-plugin.nvidia.com/gpu={id}"));
    let cdi: Vec<_> = given
        .cdi_devices
        .iter()
        .map(|device| &device.name)
        .collect();
    assert_eq!(cdi, [&names[0], &names[1]]);
    let (key, value) = given.annotations.iter().next().unwrap();
    assert!(key.starts_with("cdi.k8s.io/nvidia-device-plugin_"), "{key}");
    assert_eq!(*value, names.join(","));
    let nodes: Vec<_> = given
        .devices
        .iter()
        .map(|node| node.container_path.as_str())
        .collect();
    assert_eq!(nodes, ["/dev/nvidiactl", "/dev/nvidia1", "/dev/nvidia6"]);

    let config = Config {
        device_list_strategies: DeviceListStrategies::new([VolumeMounts]),
        device_id_strategy: DeviceIdStrategy::Index,
        pass_device_specs: false,
        ..node.config.clone()
    };
    node.order(Order::Reload(Box::new(config))).await;
    let given = support::within(async {
        loop {
            let given = plugin.allocate(&[a.as_str(), b.as_str()]).await.unwrap();
            if !given.mounts.is_empty() {
                return given;
            }
        }
    })
    .await;
    let mounts: Vec<_> = given
        .mounts
        .iter()
        .map(|mount| mount.container_path.as_str())
        .collect();
    let root = "/var/run/nvidia-container-devices";
    assert_eq!(mounts, [format!("{root}/1"), format!("{root}/6")]);
    assert_eq!(given.envs["NVIDIA_VISIBLE_DEVICES"], root);
    assert!(given.devices.is_empty());
}

#[tokio::test]
async fn an_unknown_device_is_refused_with_words_that_help() {
    let node = Node::running(2).await;
    let mut plugin = node.plugin().await;
    for id in ["GPU-00000000-0000-0000-0000-000000000000", "0", ""] {
        let refusal = plugin.allocate(&[id]).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert!(refusal.message().contains(id), "{refusal}");
    }
}

#[tokio::test]
async fn a_preference_is_always_answered() {
    let node = Node::running(8).await;
    let mut plugin = node.plugin().await;
    let all: Vec<String> = (0..8).map(|index| Node::uuid(index).to_string()).collect();
    let ask =
        |available: &[String], must_include: &[String], size| ContainerPreferredAllocationRequest {
            available_device_ids: available.iter().cloned().map(Into::into).collect(),
            must_include_device_ids: must_include.to_vec(),
            allocation_size: size,
        };
    let unknown = vec!["nonsense".to_owned()];
    let container_requests = vec![
        ask(&all, &[], 4),
        ask(&all, &all[7..], 2),
        ask(&unknown, &[], 1),
        ask(&all, &unknown, 2),
        ask(&all[..2], &[], 5),
        ask(&[], &[], -1),
    ];
    let request = PreferredAllocationRequest { container_requests };
    let answer = plugin
        .client
        .get_preferred_allocation(request)
        .await
        .unwrap()
        .into_inner();
    let sizes: Vec<_> = answer
        .container_responses
        .iter()
        .map(|answer| answer.device_ids.len())
        .collect();
    assert_eq!(sizes, [4, 2, 0, 2, 2, 0]);
    // Four GPUs of one NUMA node, of eight that are equally linked.
    assert_eq!(answer.container_responses[0].device_ids, all[..4]);
    assert!(answer.container_responses[1].device_ids.contains(&all[7]));
}
