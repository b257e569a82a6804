//! The C functions of nvml.h: a thin shell that checks what the caller gave, asks the engine,
//! and writes the answer. Only the shared library has it.
#![allow(
    unsafe_code,
    reason = "C callers pass pointers, and symbols need their C names"
)]
#![allow(
    unreachable_pub,
    reason = "C callers reach the functions by their symbols"
)]
#![allow(non_snake_case, reason = "the names are nvml.h's")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the contract of every function is nvml.h's: pointers are null or valid"
)]
#![allow(
    missing_docs,
    reason = "nvml.h documents the functions; the simulator's differences are in docs/simulator.md"
)]

mod clocks;
mod device;
mod events;
mod fields;
mod global;
mod gpm;
mod health;
mod memory;
mod mig;
mod nvlink;
mod pci;
mod pointer;
mod power;
mod processes;
mod settings;
mod system;
mod topology;
mod unsimulated;

use std::panic::{AssertUnwindSafe, catch_unwind};

use nvml_wrapper_sys::bindings::nvmlReturn_t;

use crate::engine::Failure;

/// `NVML_SUCCESS`.
const SUCCESS: nvmlReturn_t = 0;

/// Runs the body of a C function. A panic must not leave the library: it becomes
/// `NVML_ERROR_UNKNOWN`.
fn answer(body: impl FnOnce() -> Result<(), Failure>) -> nvmlReturn_t {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => SUCCESS,
        Ok(Err(failure)) => failure as nvmlReturn_t,
        Err(_) => Failure::Unknown as nvmlReturn_t,
    }
}

/// Functions of the shape `(device, T *value)`.
macro_rules! getters {
    ($($name:ident($device:pat) -> $type:ty = $value:expr;)+) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            device: nvml_wrapper_sys::bindings::nvmlDevice_t,
            value: *mut $type,
        ) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            $crate::exports::answer(|| {
                $crate::exports::global::with_device(device, |$device| {
                    let value = $crate::exports::pointer::required(value)?;
                    let answer: Result<$type, $crate::engine::Failure> = $value;
                    // SAFETY: nvml.h: a pointer that is not null points to a writable value.
                    unsafe { $crate::exports::pointer::put(value, answer?) };
                    Ok(())
                })
            })
        }
    )+};
}

/// Functions of the shape `(device, A *first, B *second)`.
macro_rules! pair_getters {
    ($($name:ident($device:pat) -> ($a:ty, $b:ty) = $value:expr;)+) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            device: nvml_wrapper_sys::bindings::nvmlDevice_t,
            first: *mut $a,
            second: *mut $b,
        ) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            $crate::exports::answer(|| {
                $crate::exports::global::with_device(device, |$device| {
                    let first = $crate::exports::pointer::required(first)?;
                    let second = $crate::exports::pointer::required(second)?;
                    let answer: Result<($a, $b), $crate::engine::Failure> = $value;
                    let (a, b) = answer?;
                    // SAFETY: nvml.h: pointers that are not null point to writable values.
                    unsafe {
                        $crate::exports::pointer::put(first, a);
                        $crate::exports::pointer::put(second, b);
                    }
                    Ok(())
                })
            })
        }
    )+};
}

/// Functions of the shape `(device, U key, T *value)`.
macro_rules! keyed_getters {
    ($($name:ident($device:pat, $key:ident: $key_type:ty) -> $type:ty = $value:expr;)+) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            device: nvml_wrapper_sys::bindings::nvmlDevice_t,
            $key: $key_type,
            value: *mut $type,
        ) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            $crate::exports::answer(|| {
                $crate::exports::global::with_device(device, |$device| {
                    let value = $crate::exports::pointer::required(value)?;
                    let answer: Result<$type, $crate::engine::Failure> = $value;
                    // SAFETY: nvml.h: a pointer that is not null points to a writable value.
                    unsafe { $crate::exports::pointer::put(value, answer?) };
                    Ok(())
                })
            })
        }
    )+};
}

/// Functions of the shape `(device, char *text, unsigned int length)`.
macro_rules! text_getters {
    ($($name:ident($device:pat) = $value:expr;)+) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            device: nvml_wrapper_sys::bindings::nvmlDevice_t,
            text: *mut std::ffi::c_char,
            length: std::ffi::c_uint,
        ) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            $crate::exports::answer(|| {
                $crate::exports::global::with_device(device, |$device| {
                    let answer: Result<String, $crate::engine::Failure> = $value;
                    // SAFETY: nvml.h: a text that is not null has room for `length` bytes.
                    unsafe { $crate::exports::pointer::put_text(text, length, &answer?) }
                })
            })
        }
    )+};
}

/// Functions of the shape `(device, T *value)` where T begins with a version word.
macro_rules! versioned_getters {
    ($($name:ident($device:pat, $value:ident: $type:ty, $version:literal) = $fill:expr;)+) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            device: nvml_wrapper_sys::bindings::nvmlDevice_t,
            value: *mut $type,
        ) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            $crate::exports::answer(|| {
                $crate::exports::global::with_device(device, |$device| {
                    // SAFETY: nvml.h: a pointer that is not null points to a value that begins
                    // with its version word.
                    unsafe { $crate::exports::pointer::check_version::<$type>(value, $version)? };
                    // SAFETY: The version word says that the value is of this type.
                    let $value = unsafe { &mut *value };
                    let filled: Result<(), $crate::engine::Failure> = $fill;
                    filled
                })
            })
        }
    )+};
}

/// As [`getters`], for GPUs and MIG devices.
macro_rules! getters_of_either {
    ($($name:ident($either:pat) -> $type:ty = $value:expr;)+) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            device: nvml_wrapper_sys::bindings::nvmlDevice_t,
            value: *mut $type,
        ) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            $crate::exports::answer(|| {
                $crate::exports::mig::with_either(device, |$either| {
                    let value = $crate::exports::pointer::required(value)?;
                    let answer: Result<$type, $crate::engine::Failure> = $value;
                    // SAFETY: nvml.h: a pointer that is not null points to a writable value.
                    unsafe { $crate::exports::pointer::put(value, answer?) };
                    Ok(())
                })
            })
        }
    )+};
}

/// As [`text_getters`], for GPUs and MIG devices.
macro_rules! text_getters_of_either {
    ($($name:ident($either:pat) = $value:expr;)+) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            device: nvml_wrapper_sys::bindings::nvmlDevice_t,
            text: *mut std::ffi::c_char,
            length: std::ffi::c_uint,
        ) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            $crate::exports::answer(|| {
                $crate::exports::mig::with_either(device, |$either| {
                    let answer: Result<String, $crate::engine::Failure> = $value;
                    // SAFETY: nvml.h: a text that is not null has room for `length` bytes.
                    unsafe { $crate::exports::pointer::put_text(text, length, &answer?) }
                })
            })
        }
    )+};
}

pub(super) use {
    getters, getters_of_either, keyed_getters, pair_getters, text_getters, text_getters_of_either,
    versioned_getters,
};
