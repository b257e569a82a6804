//! What is told of two specs that differ.

use mizzen_core::cdi::{CdiSpec, SpecOptions, Wanted, cdi_specs, compare};
use mizzen_core::gpu::Gpu;

use crate::node::{add_driver, config, files, gpu};

fn spec(gpus: &[Gpu], root: &str) -> CdiSpec {
    let config = config("flags: {migStrategy: mixed}\n");
    let mut files = files(gpus);
    add_driver(&mut files, root);
    let options = SpecOptions::of_config(&config);
    cdi_specs(gpus, &files, &Wanted::of_plugin(&config), &options).remove(0)
}

fn told(before: &CdiSpec, after: &CdiSpec) -> Vec<String> {
    let all = compare(before, after).differences;
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn a_spec_does_not_differ_from_itself_in_another_order() {
    let before = spec(&[gpu(0, None), gpu(1, Some(&["1g.10gb"]))], "");
    let mut after = before.clone();
    after.devices.reverse();
    after.container_edits.mounts.reverse();
    assert_eq!(told(&before, &after), [] as [&str; 0]);
}

#[test]
fn a_gpu_that_is_cut_loses_its_names_and_gets_those_of_its_parts() {
    let before = spec(&[gpu(0, None)], "");
    let after = spec(&[gpu(0, Some(&["1g.10gb"]))], "");
    assert_eq!(
        told(&before, &after),
        [
            "device 0: without the device",
            "device GPU-4d697a7a-656e-4000-8000-000000000000: without the device",
            "device all: with node /dev/nvidia-caps/nvidia-cap1 511:1 mode 0444 rwm",
            "device all: with node /dev/nvidia-caps/nvidia-cap2 511:2 mode 0444 rwm",
            "device 0:0: with the device",
            "device MIG-4d697a7a-656e-4000-8000-000000000000: with the device",
        ]
    );
}

#[test]
fn a_driver_that_moves_is_told_mount_by_mount() {
    let (before, after) = (
        spec(&[gpu(0, None)], ""),
        spec(&[gpu(0, None)], "/run/nvidia/driver"),
    );
    let told = told(&before, &after);
    let options = "(ro,nosuid,nodev,rbind,rprivate)";
    let smi = format!(
        "all devices: mount /usr/bin/nvidia-smi {options} becomes mount /usr/bin/nvidia-smi from \
         /run/nvidia/driver/usr/bin/nvidia-smi {options}"
    );
    assert!(told.contains(&smi), "{told:#?}");
    assert_eq!(told.len(), 5, "{told:#?}");
}

#[test]
fn parts_of_every_kind_are_told() {
    let before = spec(&[gpu(0, None)], "");
    let mut after = before.clone();
    after.cdi_version = "1.1.0".to_owned();
    after.annotations.insert("a".to_owned(), "b".to_owned());
    let edits = &mut after.container_edits;
    edits.env[0] = "NVIDIA_VISIBLE_DEVICES=all".to_owned();
    edits.additional_gids.push(44);
    edits.hooks.pop();
    edits.device_nodes[0].gid = Some(5);
    let told = told(&before, &after);
    assert_eq!(
        told,
        [
            "all devices: version 0.5.0 becomes version 1.1.0",
            "all devices: without hook disable-device-node-modification: createContainer \
             /var/lib/mizzen/bin/mizzen-hook mizzen-hook disable-device-node-modification \
             NVIDIA_CTK_DEBUG=false",
            "all devices: node /dev/nvidia-modeset 195:254 mode 0666 rwm becomes node \
             /dev/nvidia-modeset 195:254 mode 0666 group 5 rwm",
            "all devices: variable NVIDIA_VISIBLE_DEVICES=void becomes variable \
             NVIDIA_VISIBLE_DEVICES=all",
            "all devices: with annotation a=b",
            "all devices: with group 44",
        ]
    );
}
