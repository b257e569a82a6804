//! What concerns the whole system.

use std::ffi::{c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings::{
    nvmlExcludedDeviceInfo_t, nvmlHwbcEntry_t, nvmlReturn_t, nvmlSystemDriverBranchInfo_v1_t,
    nvmlUnit_t,
};

use super::answer;
use super::global::session;
use super::pointer::{check_version, fill, put, put_list, put_text, required};
use crate::engine::Failure;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(
    version: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    answer(|| {
        let (session, _) = session()?;
        // SAFETY: nvml.h: a text that is not null has room for `length` bytes.
        unsafe { put_text(version, length, session.driver_version()) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetNVMLVersion(
    version: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    answer(|| {
        let (session, _) = session()?;
        // SAFETY: nvml.h: a text that is not null has room for `length` bytes.
        unsafe { put_text(version, length, &session.nvml_version()) }
    })
}

unsafe fn cuda_version(version: *mut c_int) -> nvmlReturn_t {
    answer(|| {
        let (session, _) = session()?;
        // SAFETY: nvml.h: a pointer that is not null points to a writable number.
        unsafe { put(required(version)?, session.cuda_version()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion(version: *mut c_int) -> nvmlReturn_t {
    // SAFETY: The caller's promise, passed on.
    unsafe { cuda_version(version) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> nvmlReturn_t {
    // SAFETY: The caller's promise, passed on.
    unsafe { cuda_version(version) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverBranch(
    info: *mut nvmlSystemDriverBranchInfo_v1_t,
    length: c_uint,
) -> nvmlReturn_t {
    answer(|| {
        let (session, _) = session()?;
        // SAFETY: nvml.h: a pointer that is not null points to a value with a version word.
        unsafe { check_version(info, 1)? };
        let major = session
            .driver_version()
            .split('.')
            .next()
            .unwrap_or("0")
            .to_owned();
        let branch = format!("r{major}_00");
        if branch.len() >= length as usize {
            return Err(Failure::InsufficientSize);
        }
        // SAFETY: The version word says that the value is of this type.
        let info = unsafe { &mut *info };
        fill(&mut info.branch, &branch);
        Ok(())
    })
}

/// The name of a process: its command line, as the real library gives it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetProcessName(
    pid: c_uint,
    name: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    answer(|| {
        session()?;
        let name = required(name)?;
        if length == 0 {
            return Err(Failure::InvalidArgument);
        }
        let line =
            std::fs::read(format!("/proc/{pid}/cmdline")).map_err(|error| match error.kind() {
                std::io::ErrorKind::PermissionDenied => Failure::NoPermission,
                _ => Failure::NotFound,
            })?;
        let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let program = String::from_utf8_lossy(program);
        let mut end = program.len().min(length as usize - 1);
        while !program.is_char_boundary(end) {
            end -= 1;
        }
        // SAFETY: nvml.h: the buffer has room for `length` bytes.
        unsafe { put_text(name.as_ptr(), length, &program[..end]) }
    })
}

/// There are no host interface cards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetHicVersion(
    count: *mut c_uint,
    entries: *mut nvmlHwbcEntry_t,
) -> nvmlReturn_t {
    answer(|| {
        session()?;
        // SAFETY: nvml.h: the count is null or valid, the array null or as long as it says.
        unsafe { put_list(count, entries, Vec::new()) }
    })
}

/// There are no S-class units.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlUnitGetCount(count: *mut c_uint) -> nvmlReturn_t {
    answer(|| {
        session()?;
        // SAFETY: nvml.h: a pointer that is not null points to a writable number.
        unsafe { put(required(count)?, 0) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlUnitGetHandleByIndex(
    _index: c_uint,
    _unit: *mut nvmlUnit_t,
) -> nvmlReturn_t {
    answer(|| {
        session()?;
        Err(Failure::InvalidArgument)
    })
}

/// No GPU is excluded. This works without a session, as nvml.h says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGetExcludedDeviceCount(count: *mut c_uint) -> nvmlReturn_t {
    answer(|| {
        // SAFETY: nvml.h: a pointer that is not null points to a writable number.
        unsafe { put(required(count)?, 0) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGetExcludedDeviceInfoByIndex(
    _index: c_uint,
    _info: *mut nvmlExcludedDeviceInfo_t,
) -> nvmlReturn_t {
    answer(|| Err(Failure::InvalidArgument))
}
