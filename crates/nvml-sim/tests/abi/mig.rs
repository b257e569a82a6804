//! Partitioned GPUs, as a C program partitions and reads them.

use std::collections::BTreeSet;
use std::ffi::{CString, c_uint};

use mizzen_nvml_sim::control::Gpus;
use mizzen_nvml_sim::node::DeviceNodes;
use mizzen_nvml_sim::scenario::{MigSetup, Scenario};
use nvml_wrapper_sys::bindings as b;
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::support::{
    ARGUMENT_VERSION_MISMATCH, INVALID_ARGUMENT, NO_PERMISSION, NOT_FOUND, NOT_SUPPORTED, Node,
    SUCCESS, text,
};

mod in_use;
mod loads;

const RESET_REQUIRED: nvmlReturn_t = 16;
const IN_USE: nvmlReturn_t = 19;
const INSUFFICIENT_RESOURCES: nvmlReturn_t = 23;

/// A node with MIG on and these instances on every GPU, initialised.
fn partitioned(short: &str, instances: &[&str]) -> Node {
    let node = Node::of(&scenario(short, instances));
    assert_eq!(node.init(), SUCCESS);
    node
}

fn scenario(short: &str, instances: &[&str]) -> Scenario {
    let mut scenario = Scenario::short(short).unwrap();
    scenario.gpus[0].mig = Some(MigSetup {
        enabled: true,
        instances: instances.iter().map(|name| (*name).to_owned()).collect(),
    });
    scenario
}

/// Calls a function that writes one value, a handle or a struct.
fn got<T>(call: impl FnOnce(*mut T) -> nvmlReturn_t) -> Result<T, nvmlReturn_t> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    match call(value.as_mut_ptr()) {
        // SAFETY: The function has written it; and every type here may be all zero.
        SUCCESS => Ok(unsafe { value.assume_init() }),
        code => Err(code),
    }
}

fn mig_device(node: &Node, gpu: c_uint, index: c_uint) -> Result<nvmlDevice_t, nvmlReturn_t> {
    // SAFETY: The pointer is valid.
    got(|at| unsafe { node.nvmlDeviceGetMigDeviceHandleByIndex(node.device(gpu), index, at) })
}

fn uuid(node: &Node, device: nvmlDevice_t) -> String {
    // SAFETY: The buffer is as long as said.
    text(|at, length| unsafe { node.nvmlDeviceGetUUID(device, at, length) })
}

/// The setters are root's; what they do is tested where the tests may.
fn is_root(node: &Node) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let mut status = 0;
        // SAFETY: The pointer is valid.
        let code = unsafe { node.nvmlDeviceSetMigMode(node.device(0), 1, &raw mut status) };
        assert_eq!(code, NO_PERMISSION);
    }
    root
}

fn create(node: &Node, profile: c_uint) -> Result<b::nvmlGpuInstance_t, nvmlReturn_t> {
    // SAFETY: The pointer is valid.
    got(|at| unsafe { node.nvmlDeviceCreateGpuInstance(node.device(0), profile, at) })
}

#[test]
fn mig_devices_tell_what_they_are() {
    let node = partitioned("2xh100-80gb", &["3g.40gb", "1g.10gb", "1g.10gb+me"]);
    let mut uuids = BTreeSet::new();
    for gpu in 0..2 {
        let mut seen = Vec::new();
        for index in 0..3 {
            let device = mig_device(&node, gpu, index).unwrap();
            // SAFETY: Pointers are valid, buffers as long as said.
            unsafe {
                let name = text(|at, length| node.nvmlDeviceGetName(device, at, length));
                let is_mig = got(|at| node.nvmlDeviceIsMigDeviceHandle(device, at));
                let parent =
                    got(|at| node.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device, at));
                let told = got(|at| node.nvmlDeviceGetIndex(device, at));
                assert_eq!(
                    (is_mig, parent, told),
                    (Ok(1), Ok(node.device(gpu)), Ok(index))
                );
                let instance = got(|at| node.nvmlDeviceGetGpuInstanceId(device, at)).unwrap();
                let compute = got(|at| node.nvmlDeviceGetComputeInstanceId(device, at));
                assert_eq!(compute, Ok(0));
                let all = got(|at| node.nvmlDeviceGetAttributes_v2(device, at)).unwrap();
                let memory: b::nvmlMemory_t =
                    got(|at| node.nvmlDeviceGetMemoryInfo(device, at)).unwrap();
                assert_eq!(memory.total, all.memorySizeMB << 20);
                assert_eq!(all.gpuInstanceSliceCount, all.computeInstanceSliceCount);
                seen.push((instance, name, all.multiprocessorCount, all.memorySizeMB));

                let id = uuid(&node, device);
                let id_text = CString::new(id.clone()).unwrap();
                let found = got(|at| node.nvmlDeviceGetHandleByUUID(id_text.as_ptr(), at));
                assert_eq!(found, Ok(device));
                assert!(id.starts_with("MIG-") && id.len() == 40, "{id}");
                uuids.insert(id);
            }
        }
        let named = |id, profile: &str, sms, mib| {
            (id, format!("NVIDIA H100 80GB HBM3 MIG {profile}"), sms, mib)
        };
        let expected = [
            named(2, "3g.40gb", 60, 40_448),
            named(7, "1g.10gb+me", 16, 9984),
            named(8, "1g.10gb", 16, 9984),
        ];
        let sorted: BTreeSet<_> = seen
            .iter()
            .map(|(_, name, sms, mib)| (name, sms, mib))
            .collect();
        let wanted: BTreeSet<_> = expected.iter().map(|(_, n, s, m)| (n, s, m)).collect();
        assert_eq!(sorted, wanted);
        assert!(seen.iter().map(|(id, ..)| id).is_sorted());
        assert_eq!(mig_device(&node, gpu, 3), Err(NOT_FOUND));
        assert_eq!(mig_device(&node, gpu, 7), Err(INVALID_ARGUMENT));
    }
    assert_eq!(uuids.len(), 6);
}

#[test]
fn before_r470_a_mig_device_is_named_by_its_place_and_found_by_either_uuid() {
    let mut scenario = scenario("2xa100-40gb", &["3g.20gb", "1g.5gb"]);
    scenario.driver_version = "450.80.02".to_owned();
    let old = Node::of(&scenario);
    assert_eq!(old.init(), SUCCESS);
    let new = partitioned("2xa100-40gb", &["3g.20gb", "1g.5gb"]);
    for index in 0..2 {
        let device = mig_device(&old, 1, index).unwrap();
        let id = uuid(&old, device);
        let gpu = uuid(&old, old.device(1));
        // SAFETY: The pointer is valid.
        let instance = got(|at| unsafe { old.nvmlDeviceGetGpuInstanceId(device, at) }).unwrap();
        assert_eq!(id, format!("MIG-{gpu}/{instance}/0"));
        let own = uuid(&new, mig_device(&new, 1, index).unwrap());
        for id in [id, own] {
            let id = CString::new(id).unwrap();
            // SAFETY: The pointers are valid.
            let found = got(|at| unsafe { old.nvmlDeviceGetHandleByUUID(id.as_ptr(), at) });
            assert_eq!(found, Ok(device));
        }
        let status = old.simulator.status().unwrap();
        let mig = status.gpus[1].mig.as_ref().unwrap();
        let mut told = mig.gpu_instances.iter().flat_map(|one| &one.devices);
        assert!(told.any(|one| one.uuid.to_string() == uuid(&old, device)));
    }
}

#[test]
fn a_gpu_is_no_mig_device() {
    let node = partitioned("1xa100-40gb", &["7g.40gb"]);
    let device = node.device(0);
    // SAFETY: Pointers are valid.
    unsafe {
        assert_eq!(
            got(|at| node.nvmlDeviceIsMigDeviceHandle(device, at)),
            Ok(0)
        );
        assert_eq!(
            got(|at| node.nvmlDeviceGetGpuInstanceId(device, at)),
            Err(NOT_SUPPORTED)
        );
        assert_eq!(
            got(|at| node.nvmlDeviceGetAttributes_v2(device, at)).err(),
            Some(NOT_SUPPORTED)
        );
        assert_eq!(
            got(|at| node.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device, at)),
            Err(INVALID_ARGUMENT)
        );
        assert_eq!(
            got(|at| node.nvmlDeviceGetMaxMigDeviceCount(device, at)),
            Ok(7)
        );
        assert_eq!(got(|at| node.nvmlDeviceGetCount_v2(at)), Ok(1));
    }
}

#[test]
fn profiles_are_told_in_every_version_of_their_struct() {
    let node = Node::initialised("1xrtx-pro-6000,1xa100-80gb,1xt4");
    let planned = node.simulator.node().unwrap().gpus;
    for (gpu, index) in planned.iter().zip(0..) {
        let device = node.device(index);
        for kind in 0..=17 {
            let profile = gpu.model.mig.and_then(|table| table.by_kind(kind));
            // SAFETY: Pointers are valid, and larger structs follow their version words.
            unsafe {
                let first = got(|at| node.nvmlDeviceGetGpuInstanceProfileInfo(device, kind, at));
                let mut second: b::nvmlGpuInstanceProfileInfo_v2_t = std::mem::zeroed();
                second.version = u32::try_from(size_of_val(&second)).unwrap() | 2 << 24;
                let mut third: b::nvmlGpuInstanceProfileInfo_v3_t = std::mem::zeroed();
                third.version = u32::try_from(size_of_val(&third)).unwrap() | 3 << 24;
                let of_second =
                    node.nvmlDeviceGetGpuInstanceProfileInfoV(device, kind, &raw mut second);
                let of_third = node.nvmlDeviceGetGpuInstanceProfileInfoV(
                    device,
                    kind,
                    (&raw mut third).cast(),
                );
                let Some(profile) = profile else {
                    let expected = if kind == 17 {
                        INVALID_ARGUMENT
                    } else {
                        NOT_SUPPORTED
                    };
                    assert_eq!(first.err(), Some(expected), "{kind}");
                    assert_eq!((of_second, of_third), (expected, expected));
                    continue;
                };
                let first = first.unwrap();
                assert_eq!((of_second, of_third), (SUCCESS, SUCCESS));
                assert_eq!(
                    (first.id, first.memorySizeMB),
                    (profile.id, profile.memory_mib)
                );
                assert_eq!((second.id, third.id), (profile.id, profile.id));
                assert_eq!(second.instanceCount, first.instanceCount);
                assert_eq!(
                    third.capabilities,
                    u32::from(profile.name.ends_with("gfx")) << 1
                );
                let name = std::ffi::CStr::from_ptr(third.name.as_ptr());
                assert_eq!(name.to_str().unwrap(), format!("MIG {}", profile.name));
                let mut again: b::nvmlGpuInstanceProfileInfo_v2_t = std::mem::zeroed();
                again.version = second.version;
                let code = node.nvmlDeviceGetGpuInstanceProfileInfoByIdV(
                    device,
                    profile.id,
                    &raw mut again,
                );
                assert_eq!((code, again.sliceCount), (SUCCESS, first.sliceCount));
                again.version += 1;
                assert_eq!(
                    node.nvmlDeviceGetGpuInstanceProfileInfoV(device, kind, &raw mut again),
                    ARGUMENT_VERSION_MISMATCH
                );
            }
        }
    }
}

#[test]
fn placements_and_instances_are_listed_without_being_counted_first() {
    let node = partitioned("1xh200-141gb", &["1g.18gb", "1g.18gb", "2g.35gb"]);
    let device = node.device(0);
    let nothing = b::nvmlGpuInstancePlacement_t {
        start: 99,
        size: 99,
    };
    let mut places = [nothing; 8];
    let mut count = 0;
    // SAFETY: The arrays are longer than any profile's lists.
    unsafe {
        for (profile, starts) in [
            (19, &[0, 1, 2, 3, 4, 5, 6][..]),
            (15, &[0, 2, 4, 6]),
            (9, &[0, 4]),
        ] {
            let at = &raw mut count;
            let code = node.nvmlDeviceGetGpuInstancePossiblePlacements_v2(
                device,
                profile,
                std::ptr::null_mut(),
                at,
            );
            assert_eq!((code, count as usize), (SUCCESS, starts.len()));
            let to = places.as_mut_ptr();
            let code = node.nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, profile, to, at);
            let told: Vec<u32> = places[..count as usize].iter().map(|p| p.start).collect();
            assert_eq!((code, &told[..]), (SUCCESS, starts));
        }
        let mut handles = [std::ptr::null_mut(); 8];
        for (profile, expected) in [(19, 2), (14, 1), (0, 0)] {
            let to = handles.as_mut_ptr();
            let code = node.nvmlDeviceGetGpuInstances(device, profile, to, &raw mut count);
            assert_eq!((code, count), (SUCCESS, expected));
            for handle in &handles[..count as usize] {
                let info = got(|at| node.nvmlGpuInstanceGetInfo(*handle, at)).unwrap();
                assert_eq!((info.device, info.profileId), (device, profile));
                let by_id = got(|at| node.nvmlDeviceGetGpuInstanceById(device, info.id, at));
                assert_eq!(by_id, Ok(*handle));
            }
        }
        // Two 1g are at 6 and 4 and the 2g at 0: what is left is 5, 2 and 3.
        for (profile, left) in [(19, 3), (15, 1), (14, 1), (9, 0), (5, 0), (0, 0)] {
            let told =
                got(|at| node.nvmlDeviceGetGpuInstanceRemainingCapacity(device, profile, at));
            assert_eq!(told, Ok(left), "{profile}");
        }
        let unknown = got(|at| node.nvmlDeviceGetGpuInstanceById(device, 0, at));
        assert_eq!(unknown, Err(NOT_FOUND));
    }
}

#[test]
fn instances_are_created_and_destroyed_as_the_driver_does() {
    let node = partitioned("1xh100-80gb", &[]);
    if !is_root(&node) {
        return;
    }
    let device = node.device(0);
    // SAFETY: Pointers are valid or null on purpose.
    unsafe {
        let half = create(&node, 9).unwrap();
        assert_eq!(
            got(|at| node.nvmlGpuInstanceGetInfo(half, at))
                .unwrap()
                .placement
                .start,
            4
        );
        let whole = create(&node, 0);
        assert_eq!(whole, Err(INSUFFICIENT_RESOURCES));
        assert_eq!(create(&node, 77), Err(NOT_SUPPORTED));
        let place = b::nvmlGpuInstancePlacement_t { start: 1, size: 2 };
        let at_one = got(|at| {
            node.nvmlDeviceCreateGpuInstanceWithPlacement(device, 14, &raw const place, at)
        });
        assert_eq!(at_one, Err(INVALID_ARGUMENT));
        let place = b::nvmlGpuInstancePlacement_t { start: 4, size: 2 };
        let taken = got(|at| {
            node.nvmlDeviceCreateGpuInstanceWithPlacement(device, 14, &raw const place, at)
        });
        assert_eq!(taken, Err(INSUFFICIENT_RESOURCES));

        // No MIG device before its compute instance.
        assert_eq!(mig_device(&node, 0, 0), Err(NOT_FOUND));
        let part = got(|at| node.nvmlGpuInstanceCreateComputeInstance(half, 1, at)).unwrap();
        let info = got(|at| node.nvmlComputeInstanceGetInfo_v2(part, at)).unwrap();
        assert_eq!(
            (info.gpuInstance, info.profileId, info.placement.size),
            (half, 1, 2)
        );
        let mig = mig_device(&node, 0, 0).unwrap();
        let name = text(|at, length| node.nvmlDeviceGetName(mig, at, length));
        assert_eq!(name, "NVIDIA H100 80GB HBM3 MIG 2c.3g.40gb");
        let more = got(|at| node.nvmlGpuInstanceCreateComputeInstance(half, 1, at));
        assert_eq!(more, Err(INSUFFICIENT_RESOURCES));
        assert_eq!(
            got(|at| node.nvmlGpuInstanceGetComputeInstanceRemainingCapacity(half, 0, at)),
            Ok(1)
        );

        assert_eq!(node.nvmlGpuInstanceDestroy(half), IN_USE);
        let mut status = 0;
        assert_eq!(
            node.nvmlDeviceSetMigMode(device, 0, &raw mut status),
            IN_USE
        );
        assert_eq!(node.nvmlComputeInstanceDestroy(part), SUCCESS);
        assert_eq!(node.nvmlGpuInstanceDestroy(half), SUCCESS);
        assert_eq!(
            node.nvmlDeviceSetMigMode(device, 0, &raw mut status),
            SUCCESS
        );
        assert_eq!(status, SUCCESS);
        assert_eq!(create(&node, 9), Err(NOT_SUPPORTED));
    }
}

#[test]
fn handles_of_what_is_gone_or_never_was_are_refused() {
    let node = partitioned("1xh100-80gb", &["1g.10gb"]);
    let old = mig_device(&node, 0, 0).unwrap();
    let id = uuid(&node, old);
    let gpus = Gpus::All;
    node.simulator.destroy_gpu_instances(&gpus, None).unwrap();
    node.simulator
        .create_mig_devices(&gpus, &["1g.10gb"])
        .unwrap();
    let new = mig_device(&node, 0, 0).unwrap();
    // The same device once more, and yet another one to who holds a handle.
    assert_eq!(uuid(&node, new), id);
    assert_ne!(old, new);
    // SAFETY: Pointers are valid; handles are what a careless caller gives.
    unsafe {
        let is_mig = |device| got(|at| node.nvmlDeviceIsMigDeviceHandle(device, at));
        assert_eq!(is_mig(old), Err(INVALID_ARGUMENT));
        for made_up in [1, 0x4D61_0001_0001_0000, usize::MAX, new.addr() ^ 0x8] {
            let handle = std::ptr::without_provenance_mut::<u8>(made_up);
            assert_eq!(is_mig(handle.cast()), Err(INVALID_ARGUMENT), "{made_up:#x}");
            let info = got(|at| node.nvmlGpuInstanceGetInfo(handle.cast(), at));
            assert_eq!(info.err(), Some(INVALID_ARGUMENT));
            assert_eq!(node.nvmlGpuInstanceDestroy(handle.cast()), INVALID_ARGUMENT);
            assert_eq!(
                node.nvmlComputeInstanceDestroy(handle.cast()),
                INVALID_ARGUMENT
            );
        }
        // A MIG device is no GPU.
        assert_eq!(
            got(|at| node.nvmlDeviceGetMinorNumber(new, at)),
            Err(INVALID_ARGUMENT)
        );
        node.simulator.destroy_gpu_instances(&gpus, None).unwrap();
        let id = CString::new(id).unwrap();
        let found = got(|at| node.nvmlDeviceGetHandleByUUID(id.as_ptr(), at));
        assert_eq!(found, Err(NOT_FOUND));
    }
}

#[test]
fn the_old_versions_write_no_further_than_their_callers_know() {
    let node = partitioned("1xa30", &["2g.12gb"]);
    let mig = mig_device(&node, 0, 0).unwrap();
    type Attributes = unsafe extern "C" fn(nvmlDevice_t, *mut u32) -> nvmlReturn_t;
    type Info = unsafe extern "C" fn(b::nvmlComputeInstance_t, *mut u8) -> nvmlReturn_t;
    // SAFETY: Signatures are nvml.h's, and the buffers are larger than the structs.
    unsafe {
        let library = &node.nvml.__library;
        let mut words = [0xa5a5_a5a5_u32; 16];
        let attributes = library
            .get::<Attributes>(b"nvmlDeviceGetAttributes")
            .unwrap();
        assert_eq!(attributes(mig, words.as_mut_ptr()), SUCCESS);
        assert_eq!(words[..6], [28, 2, 2, 0, 0, 0]);
        assert!(words[6..].iter().all(|word| *word == 0xa5a5_a5a5));

        let instance = got(|at| node.nvmlDeviceGetGpuInstanceById(node.device(0), 1, at));
        let instance = instance
            .or_else(|_| got(|at| node.nvmlDeviceGetGpuInstanceById(node.device(0), 2, at)));
        let compute =
            got(|at| node.nvmlGpuInstanceGetComputeInstanceById(instance.unwrap(), 0, at));
        let mut bytes = [0xa5_u8; 64];
        let info = library.get::<Info>(b"nvmlComputeInstanceGetInfo").unwrap();
        assert_eq!(info(compute.unwrap(), bytes.as_mut_ptr()), SUCCESS);
        assert_eq!(bytes[16..24], [0, 0, 0, 0, 1, 0, 0, 0]);
        assert!(bytes[24..].iter().all(|byte| *byte == 0xa5));
    }
}

#[test]
fn the_mode_is_pending_on_ampere_until_the_gpu_is_reset() {
    let node = Node::initialised("1xa100-80gb");
    if !is_root(&node) {
        return;
    }
    let device = node.device(0);
    let mode = || {
        let (mut now, mut pending) = (9, 9);
        // SAFETY: Pointers are valid.
        let code = unsafe { node.nvmlDeviceGetMigMode(device, &raw mut now, &raw mut pending) };
        (code, now, pending)
    };
    let mut status = 0;
    // SAFETY: The pointer is valid.
    unsafe {
        assert_eq!(
            node.nvmlDeviceSetMigMode(device, 2, &raw mut status),
            INVALID_ARGUMENT
        );
        assert_eq!(
            node.nvmlDeviceSetMigMode(device, 1, &raw mut status),
            SUCCESS
        );
    }
    assert_eq!((status, mode()), (RESET_REQUIRED, (SUCCESS, 0, 1)));
    assert_eq!(create(&node, 19), Err(NOT_SUPPORTED));
    node.simulator.heal(&Gpus::All).unwrap();
    assert_eq!(mode(), (SUCCESS, 1, 1));
    assert!(create(&node, 19).is_ok());
}

#[test]
fn another_process_sees_the_same_devices() {
    let node = partitioned("1xb200", &["1g.23gb"; 7]);
    let other = node.second_library();
    let theirs = crate::support::device(&other, 0);
    for index in 0..7 {
        let mine = uuid(&node, mig_device(&node, 0, index).unwrap());
        // SAFETY: Pointers are valid, buffers as long as said.
        let seen = unsafe {
            let device = got(|at| other.nvmlDeviceGetMigDeviceHandleByIndex(theirs, index, at));
            text(|at, length| other.nvmlDeviceGetUUID(device.unwrap(), at, length))
        };
        assert_eq!(mine, seen);
    }
}

#[test]
fn with_enforced_device_nodes_a_process_sees_the_instances_whose_capabilities_it_can_open() {
    let node = Node::of(&Scenario {
        device_nodes: DeviceNodes::Enforce,
        ..scenario("1xh100-80gb", &["1g.10gb", "1g.10gb"])
    });
    let dev = node.directory.path().join("root/dev");
    std::fs::create_dir_all(dev.join("nvidia-caps")).unwrap();
    // GPU instance 11 of GPU 0 is capability 3 + 11 × 9, its first compute instance the next.
    for name in [
        "nvidiactl",
        "nvidia0",
        "nvidia-caps/nvidia-cap102",
        "nvidia-caps/nvidia-cap103",
    ] {
        std::fs::write(dev.join(name), []).unwrap();
    }
    assert_eq!(node.init(), SUCCESS);
    let device = mig_device(&node, 0, 0).unwrap();
    // SAFETY: The pointer is valid.
    let instance = got(|at| unsafe { node.nvmlDeviceGetGpuInstanceId(device, at) });
    assert_eq!(instance, Ok(11));
    assert_eq!(mig_device(&node, 0, 1), Err(NOT_FOUND));
}
