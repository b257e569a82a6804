//! What a careless caller gives: null pointers, stale handles, buffers that are too small.

use std::ffi::{c_char, c_uint, c_ulong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::support::{
    INSUFFICIENT_SIZE, INVALID_ARGUMENT, NOT_FOUND, Node, SUCCESS, UNINITIALIZED, text,
};

type Getter = unsafe extern "C" fn(nvmlDevice_t, *mut u8) -> nvmlReturn_t;
type Wide = unsafe extern "C" fn(nvmlDevice_t, c_ulong, c_ulong, c_ulong, c_ulong) -> nvmlReturn_t;

/// Simulated functions whose first argument is a device and whose others are pointers, lengths
/// and numbers, for which zero is null or wrong.
fn simulated() -> Vec<&'static str> {
    let unsimulated = include_str!("../../src/exports/unsimulated.rs");
    include_str!("functions.txt")
        .lines()
        .filter(|name| name.starts_with("nvmlDeviceGet"))
        .filter(|name| !unsimulated.contains(&format!(" {name}\n")))
        .filter(|name| !name.contains("GetCount") && !name.contains("GetHandleBy"))
        .collect()
}

fn call(node: &Node, name: &str, device: nvmlDevice_t) -> nvmlReturn_t {
    // SAFETY: Extra arguments are not looked at; null pointers and zeros are what is tested.
    unsafe { (node.nvml.__library.get::<Wide>(name.as_bytes()).unwrap())(device, 0, 0, 0, 0) }
}

#[test]
fn nothing_works_before_initialisation_or_after_shutdown() {
    let node = Node::new("1xt4");
    for _ in 0..2 {
        for name in simulated() {
            let result = call(&node, name, std::ptr::null_mut());
            assert_eq!(result, UNINITIALIZED, "{name}");
        }
        // SAFETY: The functions take nothing, or a valid pointer.
        unsafe {
            let mut count: c_uint = 7;
            assert_eq!(node.nvmlDeviceGetCount_v2(&raw mut count), UNINITIALIZED);
            assert_eq!(count, 7);
            assert_eq!(node.nvmlShutdown(), UNINITIALIZED);
            assert_eq!(node.init(), SUCCESS);
            assert_eq!(node.nvmlShutdown(), SUCCESS);
        }
    }
}

#[test]
fn initialisations_are_counted() {
    let node = Node::initialised("1xt4");
    assert_eq!(node.init(), SUCCESS);
    // SAFETY: The functions take nothing, or a valid pointer.
    unsafe {
        assert_eq!(node.nvmlShutdown(), SUCCESS);
        let mut count: c_uint = 0;
        assert_eq!(node.nvmlDeviceGetCount_v2(&raw mut count), SUCCESS);
        assert_eq!(node.nvmlShutdown(), SUCCESS);
        assert_eq!(node.nvmlShutdown(), UNINITIALIZED);
    }
}

#[test]
fn null_pointers_are_invalid_arguments() {
    let node = Node::initialised("2xh100-80gb");
    let device = node.device(0);
    // These answer that they are not supported whatever they are given.
    let refusing = ["nvmlDeviceGetRetiredPages", "nvmlDeviceGetRetiredPages_v2"];
    for name in simulated() {
        if refusing.contains(&name) {
            continue;
        }
        assert_eq!(call(&node, name, device), INVALID_ARGUMENT, "{name}");
    }
}

#[test]
fn null_handles_garbage_and_handles_of_an_ended_session_are_invalid_arguments() {
    let node = Node::initialised("2xt4");
    let stale = node.device(1);
    // SAFETY: The function takes nothing.
    assert_eq!(unsafe { node.nvmlShutdown() }, SUCCESS);
    assert_eq!(node.init(), SUCCESS);
    let mut buffer = [0_u8; 4096];
    let garbage = [
        0,
        1,
        8,
        0x1000,
        stale.addr(),
        usize::MAX,
        buffer.as_ptr().addr(),
    ];
    for handle in garbage {
        let handle: nvmlDevice_t = std::ptr::without_provenance_mut(handle);
        for name in simulated() {
            // SAFETY: The buffer is larger than any struct; a bad handle is what is tested.
            let result = unsafe {
                let getter = node.nvml.__library.get::<Getter>(name.as_bytes()).unwrap();
                getter(handle, buffer.as_mut_ptr())
            };
            assert_eq!(result, INVALID_ARGUMENT, "{name} of {handle:?}");
        }
    }
}

#[test]
fn buffers_that_are_too_small_are_left_alone() {
    let node = Node::initialised("1xh100-80gb");
    let device = node.device(0);
    type Text = unsafe extern "C" fn(nvmlDevice_t, *mut c_char, c_uint) -> nvmlReturn_t;
    for name in [
        "nvmlDeviceGetName",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetSerial",
        "nvmlDeviceGetVbiosVersion",
        "nvmlDeviceGetBoardPartNumber",
    ] {
        // SAFETY: Each call is given the true size of its buffer, or less.
        unsafe {
            let function = node.nvml.__library.get::<Text>(name.as_bytes()).unwrap();
            let whole = text(|buffer, length| function(device, buffer, length));
            let length = c_uint::try_from(whole.len()).unwrap();
            for short in [0, 1, length] {
                let mut buffer = [0x55_u8; 128];
                let result = function(device, buffer.as_mut_ptr().cast(), short);
                assert_eq!(result, INSUFFICIENT_SIZE, "{name} with {short} bytes");
                assert!(buffer.iter().all(|&byte| byte == 0x55), "{name} wrote");
            }
            let mut buffer = [0x55_u8; 128];
            assert_eq!(
                function(device, buffer.as_mut_ptr().cast(), length + 1),
                SUCCESS
            );
            assert_eq!(buffer[whole.len() + 1], 0x55, "{name} wrote past its end");
        }
    }
}

#[test]
fn devices_that_do_not_exist_are_not_found() {
    let node = Node::initialised("2xt4");
    let mut device = std::ptr::null_mut();
    // SAFETY: Texts end with zeros, and the handle's pointer is valid or null on purpose.
    unsafe {
        let at = &raw mut device;
        assert_eq!(node.nvmlDeviceGetHandleByIndex_v2(2, at), INVALID_ARGUMENT);
        assert_eq!(
            node.nvmlDeviceGetHandleByIndex_v2(0, std::ptr::null_mut()),
            INVALID_ARGUMENT
        );
        assert_eq!(
            node.nvmlDeviceGetHandleByUUID(std::ptr::null(), at),
            INVALID_ARGUMENT
        );
        for uuid in [
            c"",
            c"GPU-",
            c"GPU-00000000-0000-0000-0000-000000000000",
            c"nonsense",
        ] {
            assert_eq!(node.nvmlDeviceGetHandleByUUID(uuid.as_ptr(), at), NOT_FOUND);
        }
        assert_eq!(
            node.nvmlDeviceGetHandleByUUID(c"\xff".as_ptr(), at),
            INVALID_ARGUMENT
        );
        assert_eq!(
            node.nvmlDeviceGetHandleByPciBusId_v2(c"0000:99:00.0".as_ptr(), at),
            NOT_FOUND
        );
        assert_eq!(
            node.nvmlDeviceGetHandleBySerial(c"1".as_ptr(), at),
            NOT_FOUND
        );
    }
    assert!(device.is_null());
}
