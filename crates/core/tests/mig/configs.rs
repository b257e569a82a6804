//! What configs want of the GPUs that there are.

use mizzen_core::mig::{
    MigConfigError, MigConfigFile, MigGpu, MigTable, MigTargets, Unreachable, builtin_names,
    plan_mig, targets,
};

use crate::machine::{Machine, keys, table};

/// An H100, an A30, and a T4, which cannot be partitioned.
struct Node {
    h100: MigTable,
    a30: MigTable,
}

impl Node {
    fn new() -> Self {
        Self {
            h100: table("h100-80gb"),
            a30: table("a30"),
        }
    }

    fn gpus(&self) -> [MigGpu<'_>; 3] {
        let gpu = |index, device_id, name, table| MigGpu {
            index,
            device_id,
            name,
            table,
        };
        [
            gpu(0, 0x2330_10DE, "NVIDIA H100 80GB HBM3", Some(&self.h100)),
            gpu(1, 0x20B7_10DE, "NVIDIA A30", Some(&self.a30)),
            gpu(2, 0x1EB8_10DE, "Tesla T4", None),
        ]
    }

    fn targets(&self, name: &str, file: &str) -> Result<MigTargets, MigConfigError> {
        let file = MigConfigFile::parse(file).unwrap();
        targets(name, Some(&file), &self.gpus())
    }
}

fn words(targets: &MigTargets) -> Vec<String> {
    let each = targets.of.iter();
    each.map(|target| target.as_ref().map_or("-".to_owned(), ToString::to_string))
        .collect()
}

const T4_IS_LEFT: &str = "GPU 2 (Tesla T4) cannot be partitioned and is left as it is";

#[test]
fn later_items_of_a_file_outrank_earlier_ones() {
    let node = Node::new();
    let file = "
version: v1
mig-configs:
  mixed:
  - devices: all
    mig-enabled: false
  - devices: [0, 1]
    mig-enabled: true
    mig-devices: {1g.6gb: 4}
  - device-filter: ['0x233010de', '0x233110DE']
    devices: all
    mig-enabled: true
    mig-devices: {1g.10gb: 2, 3g.40gb: 1, 7g.80gb: 0}
";
    let found = node.targets("mixed", file).unwrap();
    assert_eq!(
        words(&found),
        ["1g.10gb x2, 3g.40gb", "1g.6gb x4", "MIG off"]
    );
    assert_eq!(found.remarks, Vec::<String>::new());
}

#[test]
fn what_a_file_says_of_gpus_that_there_are_not_is_remarked() {
    let node = Node::new();
    let file = "
version: v1
mig-configs:
  elsewhere:
  - {devices: [7, 3, 7], mig-enabled: false}
  other-model:
  - {device-filter: 0x290110DE, devices: all, mig-enabled: false}
  everything:
  - {devices: all, mig-enabled: true, mig-devices: {}}
";
    let found = node.targets("elsewhere", file).unwrap();
    assert_eq!(words(&found), ["-", "-", "-"]);
    assert_eq!(
        found.remarks,
        [
            "elsewhere names GPUs that this node does not have: 3, 7",
            "elsewhere says nothing about any GPU of this node"
        ]
    );
    let found = node.targets("other-model", file).unwrap();
    assert_eq!(
        found.remarks,
        ["other-model says nothing about any GPU of this node"]
    );
    let found = node.targets("everything", file).unwrap();
    let empty = "MIG on, no devices";
    assert_eq!(words(&found), [empty, empty, "-"]);
    assert_eq!(found.remarks, [T4_IS_LEFT]);
}

#[test]
fn names_that_need_no_file_are_made_of_what_the_gpus_can_be() {
    let node = Node::new();
    let gpus = node.gpus();
    let find = |name| targets(name, None, &gpus).unwrap();
    let off = find("all-disabled");
    assert_eq!(words(&off), ["MIG off"; 3]);
    assert_eq!(off.remarks, Vec::<String>::new());
    let balanced = find("all-balanced");
    assert_eq!(
        words(&balanced),
        ["1g.10gb x2, 2g.20gb, 3g.40gb", "1g.6gb x2, 2g.12gb", "-"]
    );
    assert_eq!(balanced.remarks, [T4_IS_LEFT]);
    for name in ["all-1g.10gb.me", "all-1g.10gb+me"] {
        let only = find(name);
        assert_eq!(words(&only), ["1g.10gb+me", "-", "-"]);
        assert_eq!(
            only.remarks,
            [
                "GPU 1 (NVIDIA A30) has no profile 1g.10gb+me and is left as it is",
                T4_IS_LEFT
            ]
        );
    }
    assert_eq!(words(&find("all-2g.12gb")), ["-", "2g.12gb x2", "-"]);
    let names = builtin_names(&gpus);
    for name in &names {
        assert!(targets(name, None, &gpus).is_ok(), "{name}");
    }
    assert_eq!(names.len(), 3 + 7 + 5);
    assert_eq!(builtin_names(&gpus[2..]), ["all-disabled"]);
}

#[test]
fn a_file_may_say_otherwise_of_a_name_that_needs_none() {
    let file = "
version: v1
mig-configs:
  all-balanced:
  - {devices: [1], mig-enabled: true, mig-devices: {4g.24gb: 1}}
";
    let found = Node::new().targets("all-balanced", file).unwrap();
    assert_eq!(words(&found), ["-", "4g.24gb", "-"]);
}

#[test]
fn an_unknown_name_is_told_with_the_one_that_was_meant_and_all_that_there_are() {
    let node = Node::new();
    let gpus = &node.gpus()[1..];
    let file = "
version: v1
mig-configs:
  training: [{devices: all, mig-enabled: false}]
";
    let file = MigConfigFile::parse(file).unwrap();
    let names = "there are training, all-disabled, all-enabled, all-balanced, all-1g.6gb, \
                 all-1g.6gb.me, all-2g.12gb, all-2g.12gb.me, all-4g.24gb";
    let refused = |name| targets(name, Some(&file), gpus).unwrap_err().to_string();
    assert_eq!(
        refused("traning"),
        format!("there is no MIG config \"traning\"; did you mean \"training\"?; {names}")
    );
    assert_eq!(
        refused("all-7g.80gb"),
        format!("no GPU of this node can be partitioned as \"all-7g.80gb\" says; {names}")
    );
    assert_eq!(
        refused("all-1c.2g.12gb"),
        format!(
            "there is no MIG config \"all-1c.2g.12gb\"; did you mean \"all-2g.12gb\"?; {names}"
        )
    );
}

#[test]
fn every_built_in_config_fits_onto_every_model_that_it_is_for() {
    for key in keys() {
        let table = table(key);
        let gpu = MigGpu {
            index: 0,
            device_id: 0,
            name: key,
            table: Some(&table),
        };
        let layout = Machine::new(key).layout();
        let names = builtin_names(&[gpu]);
        assert_eq!(names.len(), 3 + table.profiles.len());
        for name in names {
            let found = targets(&name, None, &[gpu]).unwrap();
            let target = found.of[0].as_ref().unwrap();
            let plan: Result<_, Unreachable> =
                plan_mig(&table, &layout, target, &std::collections::BTreeSet::new());
            assert!(plan.is_ok(), "{key}, {name}: {plan:?}");
        }
    }
}
