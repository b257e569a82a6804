//! What the library tells agrees with the scenario.

use std::ffi::{c_int, c_uint, c_ulong};

use mizzen_nvml_sim::node::LinkPeer;
use mizzen_nvml_sim::scenario::Scenario;
use nvml_wrapper_sys::bindings::{nvmlMemory_t, nvmlPciInfo_t};

use crate::support::{INVALID_ARGUMENT, NOT_SUPPORTED, Node, SUCCESS, text, value};

const MIXED: &str = "\
driver_version: 550.54.15
cuda_version: 12.4
gpus:
- {model: l40s, count: 2}
- {model: a100-80gb, count: 2, memory: 40GiB}
- {model: v100-sxm2, count: 4}
- {model: t4, name: Odd One, compute_capability: 7.6, minor: 42}
";

fn mixed() -> Node {
    let node = Node::of(&Scenario::parse(MIXED, "mixed.yaml").unwrap());
    assert_eq!(node.init(), SUCCESS);
    node
}

#[test]
fn versions_are_the_scenarios() {
    let node = mixed();
    // SAFETY: Buffers are as long as said, pointers valid.
    unsafe {
        assert_eq!(
            text(|at, length| node.nvmlSystemGetDriverVersion(at, length)),
            "550.54.15"
        );
        assert_eq!(
            text(|at, length| node.nvmlSystemGetNVMLVersion(at, length)),
            "12.550.54.15"
        );
        let cuda: c_int = value(|at| node.nvmlSystemGetCudaDriverVersion_v2(at));
        assert_eq!(cuda, 12040);
    }
}

#[test]
fn each_gpu_is_what_the_scenario_says() {
    let node = mixed();
    let planned = node.simulator.node().unwrap().gpus;
    // SAFETY: Buffers are as long as said, pointers valid.
    unsafe {
        let count: c_uint = value(|at| node.nvmlDeviceGetCount_v2(at));
        assert_eq!(count as usize, planned.len());
        for (gpu, index) in planned.iter().zip(0..) {
            let device = node.device(index);
            assert_eq!(
                text(|at, n| node.nvmlDeviceGetName(device, at, n)),
                gpu.name
            );
            assert_eq!(
                text(|at, n| node.nvmlDeviceGetUUID(device, at, n)),
                gpu.uuid.to_string()
            );
            assert_eq!(
                text(|at, n| node.nvmlDeviceGetSerial(device, at, n)),
                gpu.serial
            );
            let minor: c_uint = value(|at| node.nvmlDeviceGetMinorNumber(device, at));
            assert_eq!(minor, gpu.minor);
            let mut memory: nvmlMemory_t = std::mem::zeroed();
            assert_eq!(
                node.nvmlDeviceGetMemoryInfo(device, &raw mut memory),
                SUCCESS
            );
            assert_eq!(memory.total, gpu.memory_mib << 20);
            assert_eq!(memory.used + memory.free, memory.total);
            let (mut major, mut minor) = (0, 0);
            node.nvmlDeviceGetCudaComputeCapability(device, &raw mut major, &raw mut minor);
            assert_eq!(
                (major.cast_unsigned(), minor.cast_unsigned()),
                gpu.compute_capability
            );
            let mut pci: nvmlPciInfo_t = std::mem::zeroed();
            assert_eq!(node.nvmlDeviceGetPciInfo_v3(device, &raw mut pci), SUCCESS);
            assert_eq!(
                (pci.domain, pci.bus),
                (gpu.pci.domain, c_uint::from(gpu.pci.bus))
            );
            assert_eq!(pci.pciDeviceId, c_uint::from(gpu.device_id) << 16 | 0x10de);
        }
    }
}

#[test]
fn handles_are_found_by_uuid_serial_and_bus_id_and_are_the_same() {
    let node = mixed();
    for (gpu, index) in node.simulator.node().unwrap().gpus.iter().zip(0..) {
        let uuid = std::ffi::CString::new(gpu.uuid.to_string()).unwrap();
        let serial = std::ffi::CString::new(gpu.serial.clone()).unwrap();
        let pci = std::ffi::CString::new(gpu.pci.nvml()).unwrap();
        let mut found = [std::ptr::null_mut(); 3];
        // SAFETY: Texts end with zeros, pointers are valid.
        unsafe {
            node.nvmlDeviceGetHandleByUUID(uuid.as_ptr(), &raw mut found[0]);
            node.nvmlDeviceGetHandleBySerial(serial.as_ptr(), &raw mut found[1]);
            node.nvmlDeviceGetHandleByPciBusId_v2(pci.as_ptr(), &raw mut found[2]);
        }
        assert_eq!(found, [node.device(index); 3]);
    }
}

#[test]
fn nvlinks_lead_where_the_scenario_says() {
    let node = mixed();
    let planned = node.simulator.node().unwrap().gpus;
    // SAFETY: Pointers are valid.
    unsafe {
        for (gpu, index) in planned.iter().zip(0..) {
            let device = node.device(index);
            let mut state = 0;
            for (link, peer) in gpu.links.iter().zip(0..).map(|(peer, link)| (link, *peer)) {
                assert_eq!(
                    node.nvmlDeviceGetNvLinkState(device, link, &raw mut state),
                    SUCCESS
                );
                assert_eq!(state == 1, peer != LinkPeer::Down);
                let mut pci: nvmlPciInfo_t = std::mem::zeroed();
                let result = node.nvmlDeviceGetNvLinkRemotePciInfo_v2(device, link, &raw mut pci);
                assert_eq!(result, if state == 1 { SUCCESS } else { NOT_SUPPORTED });
                if let LinkPeer::Gpu(slot) = peer {
                    let other = &planned[usize::from(slot)];
                    assert_eq!(pci.bus, c_uint::from(other.pci.bus));
                }
            }
            let past = c_uint::try_from(gpu.links.len()).unwrap();
            let refusal = if past == 0 {
                NOT_SUPPORTED
            } else {
                INVALID_ARGUMENT
            };
            assert_eq!(
                node.nvmlDeviceGetNvLinkState(device, past, &raw mut state),
                refusal
            );
        }
    }
}

#[test]
fn topology_and_affinity_follow_the_pcie_tree() {
    let node = mixed();
    let planned = node.simulator.node().unwrap();
    // SAFETY: Pointers are valid, and sets as long as said.
    unsafe {
        for (a, first) in planned.gpus.iter().zip(0..) {
            let mut set: [c_ulong; 16] = [0; 16];
            let device = node.device(first);
            assert_eq!(
                node.nvmlDeviceGetCpuAffinity(device, 16, set.as_mut_ptr()),
                SUCCESS
            );
            assert_eq!(
                set.to_vec(),
                planned.numa_nodes[a.numa as usize].mask().to_vec()
            );
            let mut nodes: c_ulong = 0;
            assert_eq!(
                node.nvmlDeviceGetMemoryAffinity(device, 1, &raw mut nodes, 0),
                SUCCESS
            );
            assert_eq!(nodes, 1 << a.numa);
            for (b, second) in planned.gpus.iter().zip(0..) {
                let mut level = 99;
                let other = node.device(second);
                let at = &raw mut level;
                assert_eq!(
                    node.nvmlDeviceGetTopologyCommonAncestor(device, other, at),
                    SUCCESS
                );
                let expected = if first == second {
                    0
                } else {
                    a.common_ancestor(b) as u32
                };
                assert_eq!(level, expected);
            }
        }
    }
}

#[test]
fn mig_is_offered_by_those_who_can_and_refused_by_the_others() {
    let node = mixed();
    for (gpu, index) in node.simulator.node().unwrap().gpus.iter().zip(0..) {
        let (mut current, mut pending) = (9, 9);
        // SAFETY: Pointers are valid.
        let result = unsafe {
            node.nvmlDeviceGetMigMode(node.device(index), &raw mut current, &raw mut pending)
        };
        let expected = if gpu.model.mig.is_some() {
            (SUCCESS, 0, 0)
        } else {
            (NOT_SUPPORTED, 9, 9)
        };
        assert_eq!((result, current, pending), expected, "{}", gpu.name);
    }
}

#[test]
fn the_scenario_file_alone_is_enough() {
    let node = Node::new("1xt4");
    let file = node.directory.path().join("node.yaml");
    std::fs::write(&file, "gpus: [{model: b200, count: 3}]\n").unwrap();
    // SAFETY: As in `with_environment`, whose lock is held.
    let result = node.with_environment(|| unsafe {
        std::env::set_var("MIZZEN_SIM", &file);
        std::env::set_var("MIZZEN_SIM_STATE", node.directory.path().join("other"));
        let result = node.nvmlInit_v2();
        std::env::remove_var("MIZZEN_SIM");
        result
    });
    assert_eq!(result, SUCCESS);
    // SAFETY: The buffer is as long as said.
    let name = text(|at, length| unsafe { node.nvmlDeviceGetName(node.device(2), at, length) });
    assert_eq!(name, "NVIDIA B200");
}
