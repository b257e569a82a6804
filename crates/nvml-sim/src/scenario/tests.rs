//! What may be written in a scenario, and what comes of it.

use super::*;
use crate::node::{Ancestor, LinkPeer};

fn planned(yaml: &str) -> Node {
    Scenario::parse(yaml, "test.yaml").unwrap().plan().unwrap()
}

fn refusal(yaml: &str) -> String {
    Scenario::parse(yaml, "test.yaml").unwrap_err().to_string()
}

#[test]
fn no_scenario_is_eight_h100_on_nvswitch() {
    let node = Scenario::default().plan().unwrap();
    assert_eq!(node.gpus.len(), 8);
    for gpu in &node.gpus {
        assert_eq!(gpu.name, "NVIDIA H100 80GB HBM3");
        assert_eq!(gpu.links, vec![LinkPeer::Switch; 18]);
    }
    assert_eq!(node.gpus[3].numa, 0);
    assert_eq!(node.gpus[4].numa, 1);
}

#[test]
fn a_scenario_round_trips_through_its_yaml() {
    for scenario in [
        Scenario::default(),
        Scenario::short("4xt4,2xa100-40gb").unwrap(),
        Scenario {
            nvlink: NvLink::Pairs(vec![LinkedPair {
                gpus: [0, 1],
                links: 4,
            }]),
            ..Scenario::short("2xa30").unwrap()
        },
        Scenario {
            gpus: vec![GpuGroup {
                mig: Some(MigSetup {
                    enabled: true,
                    instances: vec!["1g.24gb+me.all".to_owned(), "2g.48gb-me".to_owned()],
                }),
                ..GpuGroup::new("rtx-pro-6000".parse().unwrap(), 2)
            }],
            ..Scenario::default()
        },
        Scenario {
            nvlink: NvLink::All(Wiring::None),
            numa_nodes: vec![NumaNode {
                cpus: CpuList::range(0, 3),
            }],
            pcie: Some(PcieShape {
                gpus_per_switch: 2,
                gpus_per_root: 4,
            }),
            ..Scenario::default()
        },
    ] {
        let yaml = scenario.to_yaml().unwrap();
        assert_eq!(Scenario::parse(&yaml, "again").unwrap(), scenario, "{yaml}");
    }
}

#[test]
fn everything_can_be_overridden() {
    let node = planned(
        "driver_version: 550.54.15\ncuda_version: 12.4\nhostname: n1\ndevice_nodes: enforce\n\
         gpus:\n- model: t4\n  name: My GPU\n  memory: 8GiB\n  compute_capability: 10.3\n  uuid: GPU-4d4d4d4d-0000-0000-0000-0123456789ab\n  pci: 0000:3b:00.0\n  numa: 1\n  minor: 7\n  serial: '42'\n  device_id: 0x1234\nnuma_nodes: [{cpus: 0-3}, {}]\n",
    );
    let gpu = &node.gpus[0];
    assert_eq!(node.cuda_version, (12, 4));
    assert_eq!(node.device_nodes, DeviceNodes::Enforce);
    assert_eq!((gpu.name.as_str(), gpu.memory_mib), ("My GPU", 8192));
    assert_eq!(gpu.compute_capability, (10, 3));
    assert_eq!(
        gpu.uuid.to_string(),
        "GPU-4d4d4d4d-0000-0000-0000-0123456789ab"
    );
    assert_eq!((gpu.pci.bus, gpu.numa, gpu.minor), (0x3b, 1, 7));
    assert_eq!((gpu.serial.as_str(), gpu.device_id), ("42", 0x1234));
    assert_eq!(node.numa_nodes[1], CpuList::default());
}

#[test]
fn mistakes_are_refused_with_their_place_and_the_fix() {
    for (yaml, place, words) in [
        ("gpus:\n- model: h100\n", "test.yaml:2:", "h100-80gb"),
        ("gpus:\n- model: t4\n  cuont: 2\n", "test.yaml:3:", "cuont"),
        ("gpuz: []\n", "test.yaml:1:", "gpuz"),
        (
            "gpus:\n- model: t4\n- model: t4\n  uuid: nonsense\n",
            "test.yaml:4:",
            "8-4-4-4-12",
        ),
        (
            "gpus:\n- model: t4\n- model: t4\n  numa: 9\n",
            "test.yaml:3:",
            "NUMA",
        ),
        (
            "gpus: [{model: t4, count: 65}]\n",
            "test.yaml: ",
            "at most 64",
        ),
        (
            "gpus: [{model: t4, count: 2, minor: 3}]\n",
            "test.yaml:1:",
            "count 1",
        ),
        (
            "gpus: [{model: a30, count: 2}]\nnvlink:\n- {gpus: [0, 2], links: 1}\n",
            "test.yaml:3:",
            "0 to 1",
        ),
        (
            "gpus: [{model: a30, count: 2}]\nnvlink:\n- {gpus: [0, 1], links: 5}\n",
            "test.yaml:3:",
            "4 free",
        ),
        ("gpus: []\nnvlink: nvswich\n", "test.yaml:2:", "nvswitch"),
        (
            "nvlink:\n- {gpu: [0, 1], links: 5}\n",
            "test.yaml:2:",
            "gpu",
        ),
        ("driver_version: new\n", "test.yaml: ", "580.95.05"),
    ] {
        let message = refusal(yaml);
        assert!(message.starts_with(place), "{yaml}\n=> {message}");
        assert!(message.contains(words), "{yaml}\n=> {message}");
    }
}

#[test]
fn the_short_form_counts_models() {
    let scenario = Scenario::short("4xt4, 2xa100-40gb,l4").unwrap();
    let counts: Vec<_> = scenario
        .gpus
        .iter()
        .map(|g| (g.count, g.model.0.key))
        .collect();
    assert_eq!(counts, [(4, "t4"), (2, "a100-40gb"), (1, "l4")]);
    for text in ["", "0xt4", "8x", "8xh1000", "65xt4", "8 h100-80gb", "-1xt4"] {
        assert!(Scenario::short(text).is_err(), "{text:?} was accepted");
    }
}

#[test]
fn sixteen_and_sixty_four_gpus_have_identities_of_their_own() {
    for count in [16, 17, 64] {
        let node = Scenario::short(&format!("{count}xh100-80gb"))
            .unwrap()
            .plan()
            .unwrap();
        assert_eq!(node.gpus.len(), count);
        let mut pci: Vec<_> = node.gpus.iter().map(|gpu| gpu.pci).collect();
        pci.dedup();
        assert!(pci.is_sorted() && pci.len() == count);
    }
}

#[test]
fn the_pcie_tree_decides_the_common_ancestor() {
    let node =
        planned("gpus: [{model: l40s, count: 16}]\npcie: {gpus_per_switch: 2, gpus_per_root: 4}\n");
    let level = |a: usize, b: usize| node.gpus[a].common_ancestor(&node.gpus[b]);
    assert_eq!(level(0, 1), Ancestor::Switch);
    assert_eq!(level(0, 2), Ancestor::Switches);
    assert_eq!(level(0, 4), Ancestor::NumaNode);
    assert_eq!(level(0, 8), Ancestor::System);
    let node =
        planned("gpus: [{model: l40s, count: 4}]\npcie: {gpus_per_switch: 0, gpus_per_root: 2}\n");
    assert_eq!(
        node.gpus[0].common_ancestor(&node.gpus[1]),
        Ancestor::HostBridge
    );
}

#[test]
fn every_nvlink_has_another_end() {
    for text in [
        "8xv100-sxm2",
        "4xv100-sxm2",
        "3xv100-sxm2",
        "2xv100-sxm2",
        "4xa30",
        "3xh100-nvl",
    ] {
        let node = Scenario::short(text).unwrap().plan().unwrap();
        let count = |from: usize, to: usize| {
            let peer = LinkPeer::Gpu(u8::try_from(to).unwrap());
            node.gpus[from]
                .links
                .iter()
                .filter(|link| **link == peer)
                .count()
        };
        for a in 0..node.gpus.len() {
            for b in 0..node.gpus.len() {
                assert_eq!(count(a, b), count(b, a), "{text}: {a} and {b}");
            }
        }
    }
}

#[test]
fn the_example_of_the_documentation_is_a_scenario() {
    let page = include_str!("../../../../docs/simulator.md");
    let example = page.split("```yaml\n").nth(1).unwrap();
    let node = planned(example.split("```").next().unwrap());
    assert_eq!(node.gpus.len(), 7);
    assert_eq!(node.gpus[6].minor, 15);
}

#[test]
fn the_documentation_lists_every_model_with_its_name_and_memory() {
    let page = include_str!("../../../../docs/simulator.md");
    for model in crate::model::MODELS {
        let row = format!(
            "| `{}` | {} | {} |",
            model.key, model.name, model.memory_mib
        );
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn gpus_are_partitioned_as_the_scenario_says() {
    let node = planned(
        "gpus:\n- {model: h100-80gb, mig: {instances: [3g.40gb, 1g.10gb+me]}}\n\
         - {model: a30, mig: {}}\n- {model: b200}\n",
    );
    let partitions: Vec<_> = node
        .gpus
        .iter()
        .map(crate::mig::Partition::initial)
        .collect();
    let names = |index: usize| -> Vec<&str> {
        let partition = partitions[index].as_ref().unwrap();
        let all = partition.gpu_instances.iter();
        all.map(|instance| instance.profile.name).collect()
    };
    assert_eq!(names(0), ["3g.40gb", "1g.10gb+me"]);
    assert_eq!(partitions[0].as_ref().unwrap().compute_instances.len(), 2);
    assert!(names(1).is_empty());
    assert_eq!(partitions[2], None);
}

#[test]
fn a_partition_that_cannot_be_is_refused_with_what_can() {
    for (mig, words) in [
        ("{model: t4, mig: {}}", "t4 cannot be partitioned"),
        (
            "{model: b200, mig: {instances: [1g.10gb]}}",
            "1g.23gb, 1g.23gb+me",
        ),
        (
            "{model: b200, mig: {instances: [4g.90gb, 4g.90gb]}}",
            "no room for 4g.90gb, number 2 of the list: what still fits is 1g.23gb (3)",
        ),
        (
            "{model: b200, mig: {instances: [7g.180gb, 1g.23gb]}}",
            "nothing else fits",
        ),
        (
            "{model: b200, mig: {enabled: false, instances: [1g.23gb]}}",
            "enabled: true",
        ),
        ("{model: b200, mig: {instanzes: []}}", "instanzes"),
    ] {
        let message = refusal(&format!("gpus:\n- {mig}\n"));
        assert!(message.starts_with("test.yaml:2:"), "{message}");
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn the_documentation_lists_the_profiles_of_every_model() {
    let page = include_str!("../../../../docs/simulator.md");
    for model in crate::model::MODELS {
        let Some(table) = model.mig else { continue };
        let profiles = table.profiles.iter().map(|profile| {
            let count = table.count(profile);
            let times = if count == 1 {
                String::new()
            } else {
                format!(" ×{count}")
            };
            format!("{}{times}", profile.name)
        });
        let profiles = profiles.collect::<Vec<_>>().join(", ");
        let key = format!("`{}`", model.key);
        let mut rows = page.lines().filter(|line| line.contains(&key));
        assert!(
            rows.any(|row| row.ends_with(&format!("| {profiles} |"))),
            "{key}"
        );
    }
}

#[test]
fn a_model_that_does_not_exist_is_answered_with_those_that_were_probably_meant() {
    for (text, meant) in [
        ("8xh100", "did you mean h100-80gb or h100-nvl? "),
        ("H200", "did you mean h200-141gb? "),
        ("h100-81gb", "did you mean h100-80gb? "),
        ("xyz", ""),
        ("t5", ""),
    ] {
        let error = Scenario::short(text).unwrap_err().to_string();
        let model = text.trim_start_matches("8x");
        let expected = format!("there is no built-in GPU model {model:?}; {meant}there are t4, ");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn the_reason_why_a_file_cannot_be_read_is_told_once() {
    let error = Scenario::load(std::path::Path::new("/no/such/file")).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
    assert!(std::error::Error::source(&error).is_none());
}
