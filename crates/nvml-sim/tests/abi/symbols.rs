//! Every function of nvml.h is there, and those that are not simulated say so.

use std::collections::BTreeSet;
use std::ffi::c_ulong;

use nvml_wrapper_sys::bindings::nvmlReturn_t;

use crate::support::{GPU_IS_LOST, NOT_SUPPORTED, Node, SUCCESS};
use mizzen_nvml_sim::control::Fault;
use mizzen_nvml_sim::library;

/// The names that nvml.h of API 13 declares, old versions of functions included.
const DECLARED: &str = include_str!("functions.txt");
/// The part of the crate that lists functions which are not simulated.
const UNSIMULATED: &str = include_str!("../../src/exports/unsimulated.rs");

/// More arguments than any function has, all zero.
type AnyFunction = unsafe extern "C" fn(
    c_ulong,
    c_ulong,
    c_ulong,
    c_ulong,
    c_ulong,
    c_ulong,
    c_ulong,
    c_ulong,
) -> nvmlReturn_t;

fn listed(name: &str) -> Vec<&'static str> {
    let (_, list) = UNSIMULATED.split_once(&format!("\n{name}! {{")).unwrap();
    list.split_once('}').unwrap().0.split_whitespace().collect()
}

fn call(node: &Node, name: &str, arguments: [c_ulong; 8]) -> nvmlReturn_t {
    let [first, second, third, fourth, fifth, sixth, seventh, eighth] = arguments;
    // SAFETY: In the C calling convention a function may get more arguments than it looks at,
    // and these look at one handle at most.
    unsafe {
        let function = node
            .nvml
            .__library
            .get::<AnyFunction>(name.as_bytes())
            .unwrap();
        function(first, second, third, fourth, fifth, sixth, seventh, eighth)
    }
}

/// Reads the names of the dynamic symbols that an ELF library defines.
fn exported(elf: &[u8]) -> BTreeSet<String> {
    let word = |at: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&elf[at..at + size]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    let (table, entry, count) = (word(0x28, 8), word(0x3a, 2), word(0x3c, 2));
    let section = |index: usize| table + index * entry;
    let symbols = (0..count)
        .map(section)
        .find(|&at| word(at + 4, 4) == 11)
        .unwrap();
    let names = word(section(word(symbols + 0x28, 4)) + 0x18, 8);
    let (start, size) = (word(symbols + 0x18, 8), word(symbols + 0x20, 8));
    (start..start + size)
        .step_by(24)
        .filter(|&at| word(at + 6, 2) != 0)
        .map(|at| {
            let name = &elf[names + word(at, 4)..];
            let end = name.iter().position(|&byte| byte == 0).unwrap();
            String::from_utf8(name[..end].to_vec()).unwrap()
        })
        .collect()
}

#[test]
fn the_library_exports_what_nvml_h_declares_and_nothing_else() {
    let declared: BTreeSet<String> = DECLARED.lines().map(str::to_owned).collect();
    assert!(declared.len() > 400);
    assert_eq!(exported(library::BYTES), declared);
}

#[test]
fn functions_that_are_not_simulated_say_so_with_and_without_a_session() {
    let node = Node::new("2xh100-80gb");
    let names: Vec<_> = [listed("unsimulated"), listed("unsimulated_for_devices")].concat();
    assert!(names.len() > 100);
    for name in &names {
        assert_eq!(
            call(&node, name, [0; 8]),
            NOT_SUPPORTED,
            "{name} before nvmlInit"
        );
    }
    assert_eq!(node.init(), SUCCESS);
    for name in &names {
        assert_eq!(call(&node, name, [0; 8]), NOT_SUPPORTED, "{name}");
        assert_eq!(
            call(&node, name, [0x1234_5678; 8]),
            NOT_SUPPORTED,
            "{name} with garbage"
        );
    }
}

#[test]
fn functions_that_are_not_simulated_know_a_lost_gpu() {
    let node = Node::initialised("1xh100-80gb");
    let device = node.device(0).addr() as c_ulong;
    node.simulator
        .inject(&Node::gpu(0), &Fault::Lost, None)
        .unwrap();
    for name in listed("unsimulated_for_devices") {
        assert_eq!(
            call(&node, name, [device, 0, 0, 0, 0, 0, 0, 0]),
            GPU_IS_LOST,
            "{name}"
        );
    }
}
