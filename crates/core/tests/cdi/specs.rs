//! How specs look, and that they are what the schema of the format asks for.

use std::collections::BTreeSet;

use mizzen_core::cdi::{
    CdiKind, CdiSpec, DriverFiles, NameStrategy, SpecOptions, SpecText, Wanted, cdi_specs,
    host_paths, problems,
};
use mizzen_core::gpu::Gpu;

use crate::node::{add_dri, add_driver, add_node, config, files, gpu};

const EVERYTHING: &str = "flags:\n  migStrategy: mixed\n  gdsEnabled: true\n  mofedEnabled: true\n  \
                          gdrcopyEnabled: true\nimex: {channelIDs: [0]}\n";

/// A node with a whole GPU and one that is cut, and with everything that goes with them.
fn node() -> (Vec<Gpu>, DriverFiles) {
    let gpus = vec![gpu(0, None), gpu(1, Some(&["1g.10gb", "1g.10gb+gfx"]))];
    let mut files = files(&gpus);
    add_driver(&mut files, "/run/nvidia/driver");
    for gpu in &gpus {
        add_dri(&mut files, gpu);
    }
    for (path, major) in [
        ("/dev/nvidia-fs0", 500),
        ("/dev/nvidia-fs1", 500),
        ("/dev/infiniband/uverbs0", 231),
        ("/dev/infiniband/rdma_cm", 10),
        ("/dev/gdrdrv", 501),
        ("/dev/nvidia-nvswitch0", 502),
        ("/dev/nvidia-caps-imex-channels/channel0", 503),
        ("/dev/nvidia-caps-imex-channels/channel1", 503),
    ] {
        add_node(&mut files, path, (major, 0), 0o666, 0);
    }
    (gpus, files)
}

fn of_plugin() -> Vec<CdiSpec> {
    let (gpus, files) = node();
    let config = config(EVERYTHING);
    let options = SpecOptions::of_config(&config);
    cdi_specs(&gpus, &files, &Wanted::of_plugin(&config), &options)
}

fn of_kind(kind: &str) -> CdiSpec {
    let (gpus, files) = node();
    let strategies = [
        NameStrategy::Index,
        NameStrategy::Uuid,
        NameStrategy::TypeIndex,
    ];
    let kind: CdiKind = kind.parse().unwrap();
    let wanted = Wanted::of_kind(kind, BTreeSet::from(strategies)).unwrap();
    let options = SpecOptions::of_config(&config(""));
    cdi_specs(&gpus, &files, &[wanted], &options).remove(0)
}

fn names(spec: &CdiSpec) -> Vec<&str> {
    let devices = spec.devices.iter();
    devices.map(|device| device.name.as_str()).collect()
}

fn nodes<'a>(spec: &'a CdiSpec, name: &str) -> Vec<&'a str> {
    let mut devices = spec.devices.iter();
    let device = devices.find(|device| device.name == name).unwrap();
    let nodes = device.container_edits.device_nodes.iter();
    nodes.map(|node| node.path.as_str()).collect()
}

#[test]
fn the_spec_of_a_node_looks_as_it_should() {
    let spec = &of_plugin()[0];
    let text = serde_json::to_string_pretty(spec).unwrap() + "\n";
    let expected = include_str!("fixtures/plugin.spec.json");
    assert!(text == expected, "it looks so:\n{text}");
}

#[test]
fn every_spec_is_valid_by_the_schema_of_the_format() {
    let definitions: serde_json::Value =
        serde_json::from_str(include_str!("fixtures/defs.json")).unwrap();
    // One file instead of two, which name each other.
    let text = include_str!("fixtures/schema.json").replace("defs.json#", "#");
    let mut schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    schema["definitions"] = definitions["definitions"].clone();
    let validator = jsonschema::draft7::new(&schema).unwrap();
    let by_hand = [
        "nvidia.com/gpu",
        "management.nvidia.com/gpu",
        "nvidia.com/nvswitch",
    ]
    .map(of_kind);
    let all: Vec<CdiSpec> = of_plugin().into_iter().chain(by_hand).collect();
    assert_eq!(all.len(), 8);
    for spec in all {
        let document = serde_json::to_value(&spec).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&document)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{}: {errors:?}", spec.kind);
        assert_eq!(problems(&spec), []);
        let read = SpecText::parse(&document.to_string()).unwrap();
        assert_eq!(read.spec, spec);
    }
    let broken =
        serde_json::json!({"cdiVersion": "0.5.0", "kind": "a/b", "devices": [{"name": 1}]});
    assert!(!validator.is_valid(&broken));
}

#[test]
fn gpus_have_a_name_of_each_kind_and_a_cut_gpu_only_its_parts() {
    let spec = of_kind("nvidia.com/gpu");
    let expected = [
        "0",
        "1:0",
        "1:1",
        "GPU-4d697a7a-656e-4000-8000-000000000000",
        "MIG-4d697a7a-656e-4000-8000-000000000064",
        "MIG-4d697a7a-656e-4000-8000-000000000065",
        "all",
        "gpu0",
        "mig1:0",
        "mig1:1",
    ];
    assert_eq!(names(&spec), expected);
    assert_eq!(
        nodes(&spec, "gpu0"),
        ["/dev/nvidia4", "/dev/dri/card0", "/dev/dri/renderD128"]
    );
    assert_eq!(
        nodes(&spec, "1:0"),
        [
            "/dev/nvidia5",
            "/dev/nvidia-caps/nvidia-cap101",
            "/dev/nvidia-caps/nvidia-cap102"
        ]
    );
    assert!(
        nodes(&spec, "mig1:1").contains(&"/dev/dri/card1"),
        "it can draw"
    );
    assert_eq!(nodes(&spec, "all").len(), 2 + 4 + 4);
}

#[test]
fn the_extras_have_a_device_that_is_all_of_them() {
    let specs = of_plugin();
    let kinds: Vec<&str> = specs.iter().map(|spec| spec.kind.as_str()).collect();
    let vendor = "k8s.device-plugin.nvidia.com";
    let classes = ["gpu", "imex-channel", "gdrcopy", "gds", "mofed"];
    assert_eq!(kinds, classes.map(|class| format!("{vendor}/{class}")));
    assert_eq!(names(&specs[1]), ["0"], "the channel that is configured");
    assert_eq!(nodes(&specs[2], "all"), ["/dev/gdrdrv"]);
    assert_eq!(
        nodes(&specs[3], "all"),
        ["/dev/nvidia-fs0", "/dev/nvidia-fs1"]
    );
    let udev = &specs[3].devices[0].container_edits.mounts[0];
    assert_eq!(udev.container_path, "/run/udev");
    assert_eq!(
        nodes(&specs[4], "all"),
        ["/dev/infiniband/rdma_cm", "/dev/infiniband/uverbs0"]
    );
}

#[test]
fn what_looks_after_the_node_gets_every_node_and_may_make_some() {
    let spec = of_kind("management.nvidia.com/gpu");
    let nodes = nodes(&spec, "all");
    assert_eq!(nodes.len(), 3 + 2 + 4 + 2, "{nodes:?}");
    for path in ["/dev/nvidiactl", "/dev/nvidia-caps-imex-channels/channel1"] {
        assert!(nodes.contains(&path));
    }
    assert!(
        !nodes
            .iter()
            .any(|path| path.contains("nvswitch") || path.contains("nvidia-fs"))
    );
    let hooks = spec.container_edits.hooks.iter();
    let args: Vec<&str> = hooks.map(|hook| hook.args[1].as_str()).collect();
    assert_eq!(
        args,
        ["create-symlinks", "enable-cuda-compat", "update-ldcache"]
    );
}

#[test]
fn the_lowest_version_that_holds_a_spec_is_told() {
    let gpus = [gpu(0, None)];
    let mut files = files(&gpus);
    let version = |files: &DriverFiles, strategy, settings: &str| {
        let config = config(settings);
        let kind = "nvidia.com/gpu".parse().unwrap();
        let mut wanted = Wanted::of_kind(kind, BTreeSet::from([strategy])).unwrap();
        if let mizzen_core::cdi::Contents::Gpus(names) = &mut wanted.contents {
            names.all = false;
        }
        let specs = cdi_specs(&gpus, files, &[wanted], &SpecOptions::of_config(&config));
        specs[0].cdi_version.clone()
    };
    assert_eq!(version(&files, NameStrategy::TypeIndex, ""), "0.3.0");
    assert_eq!(version(&files, NameStrategy::Index, ""), "0.5.0");
    add_dri(&mut files, &gpus[0]);
    assert_eq!(
        version(&files, NameStrategy::TypeIndex, ""),
        "0.7.0",
        "groups of the nodes"
    );
    let node = files.nodes.get_mut("/dev/nvidia4").unwrap();
    "/run/nvidia/driver/dev/nvidia4".clone_into(&mut node.host);
    files.dri.clear();
    assert_eq!(
        version(&files, NameStrategy::TypeIndex, ""),
        "0.5.0",
        "paths of the host"
    );
}

#[test]
fn hooks_are_called_as_their_program_wants_and_can_be_left_out() {
    let (gpus, files) = node();
    let hooks = |path: &str, disabled: &[&str]| {
        let mut config = config("");
        config.cdi_hook_path = Some(path.into());
        config.cdi_disable_hooks = disabled.iter().map(|name| (*name).to_owned()).collect();
        let options = SpecOptions::of_config(&config);
        let spec = cdi_specs(&gpus, &files, &Wanted::of_plugin(&config), &options).remove(0);
        let hooks = spec.container_edits.hooks.into_iter();
        hooks.map(|hook| hook.args.join(" ")).collect::<Vec<_>>()
    };
    let directory = "/usr/lib/x86_64-linux-gnu";
    let links = format!(
        "create-symlinks --link libcuda.so.550.54.15::{directory}/libcuda.so.1 --link \
         libcuda.so.1::{directory}/libcuda.so --link \
         libGLX_nvidia.so.550.54.15::{directory}/libGLX_nvidia.so.0 --link \
         libGLX_nvidia.so.550.54.15::{directory}/libGLX_indirect.so.0"
    );
    let rest = [
        "enable-cuda-compat --host-driver-version=550.54.15".to_owned(),
        format!("update-ldcache --folder {directory}"),
        "disable-device-node-modification".to_owned(),
    ];
    let all = [&[links][..], &rest].concat();
    let called = |program: &str| {
        all.iter()
            .map(|args| format!("{program} {args}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(hooks("/usr/bin/nvidia-ctk", &[]), called("nvidia-ctk hook"));
    assert_eq!(
        hooks("/opt/nvidia-cdi-hook", &[]),
        called("nvidia-cdi-hook")
    );
    assert_eq!(
        hooks(
            "/opt/nvidia-cdi-hook",
            &["enable-cuda-compat", "create-symlinks"]
        ),
        called("nvidia-cdi-hook")[2..]
    );
    assert!(hooks("/opt/nvidia-cdi-hook", &["all"]).is_empty());
}

#[test]
fn feature_flags_leave_groups_and_sockets_out() {
    let (gpus, files) = node();
    let spec = |flags: &str| {
        let mut config = config("");
        config.cdi_feature_flags = flags.split_whitespace().map(str::to_owned).collect();
        let options = SpecOptions::of_config(&config);
        cdi_specs(&gpus, &files, &Wanted::of_plugin(&config), &options).remove(0)
    };
    let has = |spec: &CdiSpec| {
        let groups = spec
            .devices
            .iter()
            .any(|device| !device.container_edits.additional_gids.is_empty());
        let mut paths = host_paths(spec).into_iter();
        (groups, paths.any(|host| host.path.ends_with("/socket")))
    };
    assert_eq!(has(&spec("")), (true, true));
    let without = spec("no-additional-gids-for-device-nodes disable-ipc-discoverer");
    assert_eq!(has(&without), (false, false));
    assert_eq!(without.cdi_version, "0.5.0");
}

#[test]
fn what_has_no_device_has_no_spec() {
    let config = config(EVERYTHING);
    let options = SpecOptions::of_config(&config);
    let files = files(&[]);
    assert_eq!(
        cdi_specs(&[], &files, &Wanted::of_plugin(&config), &options),
        []
    );
}
