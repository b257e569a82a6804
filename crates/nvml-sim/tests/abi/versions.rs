//! Old versions of functions, and structs with a version word: each is written to its own size.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings as b;
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::support::{ARGUMENT_VERSION_MISMATCH, Node, SUCCESS};

/// A buffer as large as any struct, filled so that untouched bytes show.
const FILLER: u8 = 0xa5;

type Getter = unsafe extern "C" fn(nvmlDevice_t, *mut u8) -> nvmlReturn_t;

fn get(node: &Node, name: &str, buffer: &mut [u8; 8192]) -> nvmlReturn_t {
    // SAFETY: The buffer is larger than any struct.
    unsafe {
        let getter = node.nvml.__library.get::<Getter>(name.as_bytes()).unwrap();
        getter(node.device(0), buffer.as_mut_ptr())
    }
}

fn buffer(version_word: u32) -> Box<[u8; 8192]> {
    let mut buffer = Box::new([FILLER; 8192]);
    buffer[..4].copy_from_slice(&version_word.to_ne_bytes());
    buffer
}

/// Every struct with a version word: function, size, version.
fn versioned() -> Vec<(&'static str, usize, u32)> {
    vec![
        (
            "nvmlDeviceGetMemoryInfo_v2",
            size_of::<b::nvmlMemory_v2_t>(),
            2,
        ),
        (
            "nvmlDeviceGetPciInfoExt",
            size_of::<b::nvmlPciInfoExt_v1_t>(),
            1,
        ),
        (
            "nvmlDeviceGetTemperatureV",
            size_of::<b::nvmlTemperature_v1_t>(),
            1,
        ),
        (
            "nvmlDeviceGetMarginTemperature",
            size_of::<b::nvmlMarginTemperature_v1_t>(),
            1,
        ),
        (
            "nvmlDeviceGetCapabilities",
            size_of::<b::nvmlDeviceCapabilities_v1_t>(),
            1,
        ),
        (
            "nvmlDeviceGetAddressingMode",
            size_of::<b::nvmlDeviceAddressingMode_v1_t>(),
            1,
        ),
        ("nvmlDeviceGetPdi", size_of::<b::nvmlPdi_v1_t>(), 1),
        (
            "nvmlDeviceGetSramEccErrorStatus",
            size_of::<b::nvmlEccSramErrorStatus_v1_t>(),
            1,
        ),
        (
            "nvmlDeviceGetRepairStatus",
            size_of::<b::nvmlRepairStatus_v1_t>(),
            1,
        ),
        (
            "nvmlDeviceGetGpuFabricInfoV",
            size_of::<b::nvmlGpuFabricInfo_v2_t>(),
            2,
        ),
        (
            "nvmlDeviceGetGpuFabricInfoV",
            size_of::<b::nvmlGpuFabricInfo_v3_t>(),
            3,
        ),
    ]
}

#[test]
fn structs_with_their_version_word_are_filled_to_their_size_and_no_further() {
    let node = Node::initialised("1xh100-80gb");
    for (name, size, version) in versioned() {
        let word = u32::try_from(size).unwrap() | version << 24;
        let mut buffer = buffer(word);
        if name == "nvmlDeviceGetTemperatureV" {
            buffer[4..8].fill(0);
        }
        assert_eq!(
            get(&node, name, &mut buffer),
            SUCCESS,
            "{name} version {version}"
        );
        assert_eq!(
            buffer[..4],
            word.to_ne_bytes(),
            "{name} changed the version word"
        );
        assert!(
            buffer[size..].iter().all(|&byte| byte == FILLER),
            "{name} wrote past its struct"
        );
    }
}

#[test]
fn wrong_version_words_are_refused_and_nothing_is_written() {
    let node = Node::initialised("1xh100-80gb");
    for (name, size, version) in versioned() {
        let right = u32::try_from(size).unwrap() | version << 24;
        for wrong in [0, right + 1, right ^ 0x8000_0000, version << 24, u32::MAX] {
            let mut given = buffer(wrong);
            let result = get(&node, name, &mut given);
            assert_eq!(result, ARGUMENT_VERSION_MISMATCH, "{name} with {wrong:#x}");
            assert!(
                given[4..].iter().all(|&byte| byte == FILLER),
                "{name} wrote"
            );
        }
    }
}

#[test]
fn each_version_of_a_function_writes_what_its_callers_have_room_for() {
    let node = Node::initialised("1xh100-80gb");
    for (name, size) in [
        ("nvmlDeviceGetPciInfo", 32),
        ("nvmlDeviceGetPciInfo_v2", 36),
        ("nvmlDeviceGetPciInfo_v3", size_of::<b::nvmlPciInfo_t>()),
        ("nvmlDeviceGetMemoryInfo", 24),
        ("nvmlDeviceGetBAR1MemoryInfo", 24),
        ("nvmlDeviceGetUtilizationRates", 8),
        (
            "nvmlDeviceGetGpuFabricInfo",
            size_of::<b::nvmlGpuFabricInfo_t>(),
        ),
    ] {
        let mut buffer = buffer(0);
        assert_eq!(get(&node, name, &mut buffer), SUCCESS, "{name}");
        assert!(
            buffer[size..].iter().all(|&byte| byte == FILLER),
            "{name} wrote too much"
        );
    }
}

#[test]
fn old_functions_agree_with_new_ones() {
    let node = Node::new("2xt4");
    type Init = unsafe extern "C" fn() -> nvmlReturn_t;
    type Count = unsafe extern "C" fn(*mut c_uint) -> nvmlReturn_t;
    type ByIndex = unsafe extern "C" fn(c_uint, *mut nvmlDevice_t) -> nvmlReturn_t;
    // SAFETY: Signatures are nvml.h's, and pointers are valid.
    unsafe {
        let library = &node.nvml.__library;
        let init = library.get::<Init>(b"nvmlInit").unwrap();
        assert_eq!(node.with_environment(|| init()), SUCCESS);
        let mut count = 0;
        assert_eq!(
            library.get::<Count>(b"nvmlDeviceGetCount").unwrap()(&raw mut count),
            SUCCESS
        );
        assert_eq!(count, 2);
        let mut device = std::ptr::null_mut();
        let by_index = library
            .get::<ByIndex>(b"nvmlDeviceGetHandleByIndex")
            .unwrap();
        assert_eq!(by_index(1, &raw mut device), SUCCESS);
        assert_eq!(device, node.device(1));
    }
    let mut first = buffer(0);
    let mut third = buffer(0);
    assert_eq!(get(&node, "nvmlDeviceGetPciInfo", &mut first), SUCCESS);
    assert_eq!(get(&node, "nvmlDeviceGetPciInfo_v3", &mut third), SUCCESS);
    assert_eq!(first[..32], third[..32]);
}
