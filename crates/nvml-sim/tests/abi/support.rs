//! A simulated node and a library of one's own on it.

use std::ffi::{c_char, c_uint};
use std::ops::Deref;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mizzen_nvml_sim::control::{GpuRef, Gpus, Simulator};
use mizzen_nvml_sim::library;
use mizzen_nvml_sim::scenario::Scenario;
use nvml_wrapper_sys::bindings::{NvmlLib, nvmlDevice_t, nvmlReturn_t};

pub(crate) const SUCCESS: nvmlReturn_t = 0;
pub(crate) const UNINITIALIZED: nvmlReturn_t = 1;
pub(crate) const INVALID_ARGUMENT: nvmlReturn_t = 2;
pub(crate) const NOT_SUPPORTED: nvmlReturn_t = 3;
pub(crate) const NO_PERMISSION: nvmlReturn_t = 4;
pub(crate) const NOT_FOUND: nvmlReturn_t = 6;
pub(crate) const INSUFFICIENT_SIZE: nvmlReturn_t = 7;
pub(crate) const DRIVER_NOT_LOADED: nvmlReturn_t = 9;
pub(crate) const TIMEOUT: nvmlReturn_t = 10;
pub(crate) const GPU_IS_LOST: nvmlReturn_t = 15;
pub(crate) const ARGUMENT_VERSION_MISMATCH: nvmlReturn_t = 25;

/// The library reads its environment when it is initialised, and the environment is the
/// process's: one test at a time sets it and initialises.
static ENVIRONMENT: Mutex<()> = Mutex::new(());

/// A node, and a library loaded on it. Each is a copy of the file, so that the dynamic linker
/// gives each its own memory.
pub(crate) struct Node {
    pub(crate) nvml: NvmlLib,
    pub(crate) simulator: Simulator,
    pub(crate) directory: tempfile::TempDir,
}

impl Deref for Node {
    type Target = NvmlLib;

    fn deref(&self) -> &NvmlLib {
        &self.nvml
    }
}

impl Node {
    /// A node of the short form, with the library loaded and not initialised.
    pub(crate) fn new(short: &str) -> Self {
        Self::of(&Scenario::short(short).unwrap())
    }

    /// As [`Self::new`], initialised.
    pub(crate) fn initialised(short: &str) -> Self {
        let node = Self::new(short);
        assert_eq!(node.init(), SUCCESS);
        node
    }

    pub(crate) fn of(scenario: &Scenario) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let simulator = Simulator::create(&directory.path().join("state"), scenario).unwrap();
        let nvml = load(directory.path());
        Self {
            nvml,
            simulator,
            directory,
        }
    }

    /// A second library on the same node, as in another process.
    pub(crate) fn second_library(&self) -> NvmlLib {
        let place = self.directory.path().join("second");
        let nvml = load(&place);
        // SAFETY: The function takes nothing.
        let result = self.with_environment(|| unsafe { nvml.nvmlInit_v2() });
        assert_eq!(result, SUCCESS);
        nvml
    }

    /// Runs `initialise` with the environment that names this node.
    pub(crate) fn with_environment<T>(&self, initialise: impl FnOnce() -> T) -> T {
        let _guard = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: Only the library reads these variables, when it is initialised, which every
        // test does under this lock.
        unsafe {
            std::env::set_var("MIZZEN_SIM_STATE", self.directory.path().join("state"));
            std::env::set_var("MIZZEN_SIM_DEV_ROOT", self.directory.path().join("root"));
            std::env::remove_var("MIZZEN_SIM");
        }
        initialise()
    }

    pub(crate) fn init(&self) -> nvmlReturn_t {
        // SAFETY: The function takes nothing.
        self.with_environment(|| unsafe { self.nvml.nvmlInit_v2() })
    }

    pub(crate) fn device(&self, index: c_uint) -> nvmlDevice_t {
        device(&self.nvml, index)
    }

    pub(crate) fn gpu(index: u32) -> Gpus {
        GpuRef::Index(index).into()
    }
}

fn load(directory: &Path) -> NvmlLib {
    let path = library::place(directory).unwrap();
    // SAFETY: Loading runs no code of the library.
    unsafe { NvmlLib::new(path).unwrap() }
}

pub(crate) fn device(nvml: &NvmlLib, index: c_uint) -> nvmlDevice_t {
    let mut device = std::ptr::null_mut();
    // SAFETY: The pointer is to a handle of this function's.
    let result = unsafe { nvml.nvmlDeviceGetHandleByIndex_v2(index, &raw mut device) };
    assert_eq!(result, SUCCESS);
    device
}

/// Lets time go by: what grows with time has grown then.
pub(crate) fn pass(time: Duration) {
    let before = Instant::now();
    while before.elapsed() < time {
        std::thread::yield_now();
    }
}

/// Calls a function that writes a text.
pub(crate) fn text(call: impl FnOnce(*mut c_char, c_uint) -> nvmlReturn_t) -> String {
    let mut buffer = [0x55_u8; 128];
    assert_eq!(call(buffer.as_mut_ptr().cast(), 128), SUCCESS);
    let end = buffer.iter().position(|&byte| byte == 0).unwrap();
    assert!(
        buffer[end + 1..].iter().all(|&byte| byte == 0x55),
        "wrote past the text"
    );
    String::from_utf8(buffer[..end].to_vec()).unwrap()
}

/// Calls a function that writes one value.
pub(crate) fn value<T: Default>(call: impl FnOnce(*mut T) -> nvmlReturn_t) -> T {
    let mut value = T::default();
    assert_eq!(call(&raw mut value), SUCCESS);
    value
}
