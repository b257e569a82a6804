//! NVML call by call, without deadlines and without a picture of the node: for programs that ask
//! a little, print it and end. What never ends unless it is told to uses the session instead.
#![allow(unsafe_code, reason = "loads the library and calls its functions")]

mod device;
mod functions;

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::fmt;

use libloading::os::unix::{Library as Handle, RTLD_LAZY, RTLD_LOCAL};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

pub use device::{
    Attributes, Bar1, Clock, Device, EccCounter, EccMemory, EccSpan, Memory, Pci, Process,
};
use functions::Functions;

/// The library, as the dynamic linker looks for it.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// Longer than any text of NVML's but names of processes.
const TEXT_BYTES: usize = 96;
/// What a process may be called.
const PROCESS_BYTES: usize = 1024;

/// What an NVML function answered instead of success (`nvmlReturn_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// `NVML_ERROR_UNINITIALIZED`
    pub const UNINITIALIZED: Self = Self(1);
    /// `NVML_ERROR_INVALID_ARGUMENT`
    pub const INVALID_ARGUMENT: Self = Self(2);
    /// `NVML_ERROR_NOT_SUPPORTED`
    pub const NOT_SUPPORTED: Self = Self(3);
    /// `NVML_ERROR_NO_PERMISSION`
    pub const NO_PERMISSION: Self = Self(4);
    /// `NVML_ERROR_NOT_FOUND`
    pub const NOT_FOUND: Self = Self(6);
    /// `NVML_ERROR_INSUFFICIENT_SIZE`
    pub const INSUFFICIENT_SIZE: Self = Self(7);
    /// `NVML_ERROR_DRIVER_NOT_LOADED`
    pub const DRIVER_NOT_LOADED: Self = Self(9);
    /// `NVML_ERROR_FUNCTION_NOT_FOUND`, also that of a function that the library does not have.
    pub const FUNCTION_NOT_FOUND: Self = Self(13);
    /// `NVML_ERROR_GPU_IS_LOST`
    pub const GPU_IS_LOST: Self = Self(15);
    /// `NVML_ERROR_LIB_RM_VERSION_MISMATCH`
    pub const VERSION_MISMATCH: Self = Self(18);
    /// `NVML_ERROR_UNKNOWN`
    pub const UNKNOWN: Self = Self(999);
}

/// What an NVML call answers.
pub type Answer<T> = Result<T, Code>;

/// Why NVML cannot be used.
#[derive(Debug)]
pub enum OpenError {
    /// The dynamic linker does not find it, or cannot load it.
    Library(libloading::Error),
    /// It has no function that starts it.
    NotNvml,
    /// It does not start.
    Init(Box<Nvml>, Code),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(error) => write!(f, "{LIBRARY} cannot be loaded: {error}"),
            Self::NotNvml => write!(f, "{LIBRARY} is no NVML"),
            Self::Init(nvml, code) => write!(f, "NVML does not start: {}", nvml.words(*code)),
        }
    }
}

impl std::error::Error for OpenError {}

/// NVML, started. It is shut down when this is dropped.
#[derive(Debug)]
pub struct Nvml {
    functions: Functions,
    started: bool,
    // After the functions, so that none outlives it.
    _handle: Handle,
}

/// Calls a function of the library, or answers as NVML does when it is missing.
macro_rules! call {
    ($nvml:expr, $function:ident ($($argument:expr),*)) => {
        match $nvml.functions.$function {
            // SAFETY: the arguments are of the types that nvml.h declares, every pointer is to
            // live memory of the size that is filled, and a bad handle is an error by NVML's word.
            Some(function) => $crate::direct::checked(unsafe { function($($argument),*) }),
            None => Err($crate::direct::Code::FUNCTION_NOT_FOUND),
        }
    };
}
use call;

fn checked(code: nvmlReturn_t) -> Answer<()> {
    match code {
        0 => Ok(()),
        code => Err(Code(code)),
    }
}

/// A text that `fill` writes into a buffer of at most `N` bytes.
fn text<const N: usize>(fill: impl FnOnce(*mut c_char, c_uint) -> Answer<()>) -> Answer<String> {
    let mut buffer = [0u8; N];
    // One byte less than there is: it ends with NUL, whatever the library thinks.
    let length = c_uint::try_from(N - 1).map_err(|_| Code::UNKNOWN)?;
    fill(buffer.as_mut_ptr().cast(), length)?;
    let text = CStr::from_bytes_until_nul(&buffer).map_err(|_| Code::UNKNOWN)?;
    Ok(text.to_string_lossy().into_owned())
}

impl Nvml {
    /// Loads the `libnvidia-ml.so.1` that the dynamic linker finds, and starts it.
    ///
    /// # Errors
    /// See [`OpenError`]; one that does not start still has words for it.
    pub fn open() -> Result<Self, OpenError> {
        // SAFETY: loading runs the library's initialisers, which are made for this.
        let handle = unsafe { Handle::open(Some(LIBRARY), RTLD_LAZY | RTLD_LOCAL) }
            .map_err(OpenError::Library)?;
        let mut nvml = Self {
            functions: Functions::resolve(&handle),
            started: false,
            _handle: handle,
        };
        if nvml.functions.init.is_none() {
            return Err(OpenError::NotNvml);
        }
        match call!(nvml, init()) {
            Ok(()) => {
                nvml.started = true;
                Ok(nvml)
            }
            Err(code) => Err(OpenError::Init(Box::new(nvml), code)),
        }
    }

    /// NVML's own words for a code: `Unknown Error`.
    pub fn words(&self, code: Code) -> String {
        let unknown = || format!("error {}", code.0);
        let Some(error_string) = self.functions.error_string else {
            return unknown();
        };
        // SAFETY: takes any code, needs no start, and answers a static text or NULL.
        let text = unsafe { error_string(code.0) };
        if text.is_null() {
            return unknown();
        }
        // SAFETY: not NULL, and NVML's texts are static and end with NUL.
        unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned()
    }

    /// The kernel driver's version: `580.95.05`.
    pub fn driver_version(&self) -> Answer<String> {
        text::<TEXT_BYTES>(|buffer, length| call!(self, driver_version(buffer, length)))
    }

    /// The library's own version, the driver's in front of it left away or not.
    pub fn nvml_version(&self) -> Answer<String> {
        text::<TEXT_BYTES>(|buffer, length| call!(self, nvml_version(buffer, length)))
    }

    /// The CUDA version that the driver is for, 13000 for 13.0.
    pub fn cuda_version(&self) -> Answer<u32> {
        let mut version: c_int = 0;
        call!(self, cuda_version(&raw mut version))
            .or_else(|_| call!(self, cuda_version_v1(&raw mut version)))?;
        u32::try_from(version).map_err(|_| Code::UNKNOWN)
    }

    /// How many GPUs this process may see.
    pub fn count(&self) -> Answer<u32> {
        let mut count = 0;
        call!(self, count(&raw mut count))?;
        Ok(count)
    }

    /// The GPU of this index, in the order of the bus.
    pub fn device(&self, index: u32) -> Answer<Device<'_>> {
        let mut handle: nvmlDevice_t = std::ptr::null_mut();
        call!(self, device(index, &raw mut handle))?;
        Ok(Device::new(self, handle))
    }

    /// What a process is called, as its command line begins.
    pub fn process_name(&self, pid: u32) -> Answer<String> {
        text::<PROCESS_BYTES>(|buffer, length| call!(self, process_name(pid, buffer, length)))
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        if self.started {
            // There is nothing to do about one that does not stop.
            let _ended = call!(self, shutdown());
        }
    }
}
