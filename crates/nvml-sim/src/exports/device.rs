//! What a device is.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlBrandType_t, nvmlDevice_t, nvmlDeviceAddressingMode_v1_t, nvmlDeviceArchitecture_t,
    nvmlDeviceCapabilities_v1_t, nvmlEnableState_t, nvmlInforomObject_t, nvmlPdi_v1_t,
    nvmlReturn_t, nvmlUUID_t,
};

use super::global::{by_bytes, by_uuid, put_handle, with_device};
use super::mig::Either;
use super::pointer::{check_version, put_text};
use super::{
    answer, getters, getters_of_either, pair_getters, text_getters, text_getters_of_either,
    versioned_getters,
};
use crate::engine::Failure;

/// `NVML_UUID_TYPE_ASCII` and `NVML_UUID_TYPE_BINARY`.
const ASCII: c_uint = 1;
const BINARY: c_uint = 2;

getters! {
    nvmlDeviceGetBrand(device) -> nvmlBrandType_t = Ok(device.model().brand as nvmlBrandType_t);
    nvmlDeviceGetArchitecture(device) -> nvmlDeviceArchitecture_t =
        Ok(device.model().architecture as nvmlDeviceArchitecture_t);
    nvmlDeviceGetMinorNumber(device) -> c_uint = Ok(device.minor());
    nvmlDeviceGetModuleId(device) -> c_uint = Ok(device.module_id());
    nvmlDeviceGetBoardId(device) -> c_uint = Ok(device.board_id());
    nvmlDeviceGetMultiGpuBoard(_device) -> c_uint = Ok(0);
    nvmlDeviceGetNumGpuCores(device) -> c_uint = Ok(device.model().cores);
    nvmlDeviceGetMemoryBusWidth(device) -> c_uint = Ok(device.model().memory_bus_bits);
    nvmlDeviceGetIrqNum(device) -> c_uint = Ok(100 + device.minor());
    nvmlDeviceGetDisplayMode(_device) -> nvmlEnableState_t = Ok(0);
    nvmlDeviceGetDisplayActive(_device) -> nvmlEnableState_t = Ok(0);
    nvmlDeviceGetInforomConfigurationChecksum(device) -> c_uint =
        Ok(u32::from(device.model().device_id).wrapping_mul(0x9e37_79b9));
    nvmlDeviceGetVirtualizationMode(_device) -> c_uint = Ok(0);
}

pair_getters! {
    nvmlDeviceGetCudaComputeCapability(device) -> (c_int, c_int) = {
        let (major, minor) = device.compute_capability();
        Ok((c_int::try_from(major).unwrap_or(0), c_int::try_from(minor).unwrap_or(0)))
    };
    nvmlDeviceGetGspFirmwareMode(_device) -> (c_uint, c_uint) = Ok((1, 1));
}

getters_of_either! {
    // A MIG device's index counts those of its GPU.
    nvmlDeviceGetIndex(either) -> c_uint = {
        let index = match either {
            Either::Gpu(device) => device.index(),
            Either::Mig(device, mig) => {
                let all = device.mig_devices()?;
                all.iter().position(|other| other == mig).ok_or(Failure::InvalidArgument)?
            }
        };
        Ok(c_uint::try_from(index).unwrap_or(0))
    };
}

text_getters_of_either! {
    nvmlDeviceGetName(either) = Ok(match either {
        Either::Gpu(device) => device.name().to_owned(),
        Either::Mig(device, mig) => mig.name(device.name()),
    });
    nvmlDeviceGetUUID(either) = Ok(match either {
        Either::Gpu(device) => device.uuid().to_string(),
        Either::Mig(_, mig) => {
            let (session, _) = super::global::session()?;
            mig.uuid(session.driver_version()).to_string()
        }
    });
}

text_getters! {
    nvmlDeviceGetSerial(device) = Ok(device.serial().to_owned());
    nvmlDeviceGetVbiosVersion(device) = Ok(device.model().vbios.to_owned());
    nvmlDeviceGetBoardPartNumber(device) = Ok(device.model().part_number.to_owned());
    nvmlDeviceGetInforomImageVersion(device) = {
        let digits: String =
            device.model().part_number.chars().filter(char::is_ascii_digit).skip(3).take(8).collect();
        Ok(format!("G{digits}.00.01"))
    };
}

versioned_getters! {
    nvmlDeviceGetCapabilities(_device, value: nvmlDeviceCapabilities_v1_t, 1) = {
        value.capMask = 0;
        Ok(())
    };
    nvmlDeviceGetAddressingMode(device, value: nvmlDeviceAddressingMode_v1_t, 1) = {
        // A Grace CPU shares its page tables (ATS); others use HMM.
        value.value = if device.model().key == "gb200" { 2 } else { 1 };
        Ok(())
    };
    nvmlDeviceGetPdi(device, value: nvmlPdi_v1_t, 1) = {
        let bytes = device.uuid().bytes();
        value.value = bytes.iter().fold(0, |pdi: c_ulonglong, byte| pdi.rotate_left(5) ^ c_ulonglong::from(*byte));
        Ok(())
    };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetInforomVersion(
    device: nvmlDevice_t,
    object: nvmlInforomObject_t,
    version: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |_| {
            let text = match object {
                0 => "2.1",
                1 => "7.16",
                2 | 3 => return Err(Failure::NotSupported),
                _ => return Err(Failure::InvalidArgument),
            };
            // SAFETY: nvml.h: a text that is not null has room for `length` bytes.
            unsafe { put_text(version, length, text) }
        })
    })
}

/// What every version of the struct of licences begins with: whether vGPU software needs one
/// here, and how many features it licenses. No bare machine has any.
type NoLicences = [c_uint; 2];

getters! {
    nvmlDeviceGetGridLicensableFeatures(_device) -> NoLicences = Ok([0, 0]);
    nvmlDeviceGetGridLicensableFeatures_v2(_device) -> NoLicences = Ok([0, 0]);
    nvmlDeviceGetGridLicensableFeatures_v3(_device) -> NoLicences = Ok([0, 0]);
    nvmlDeviceGetGridLicensableFeatures_v4(_device) -> NoLicences = Ok([0, 0]);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceValidateInforom(device: nvmlDevice_t) -> nvmlReturn_t {
    answer(|| with_device(device, |_| Ok(())))
}

/// The buffer has 64 bytes, `NVML_GSP_FIRMWARE_VERSION_BUF_SIZE`; no length is passed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGspFirmwareVersion(
    device: nvmlDevice_t,
    version: *mut c_char,
) -> nvmlReturn_t {
    answer(|| {
        let driver = super::global::session()?.0.driver_version().to_owned();
        with_device(device, |_| {
            // SAFETY: nvml.h: a text that is not null has room for 64 bytes.
            unsafe { put_text(version, 64, &driver) }
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUIDV(
    uuid: *const nvmlUUID_t,
    device: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    answer(|| {
        super::global::session()?;
        // SAFETY: nvml.h: a pointer that is not null points to a value with a version word.
        unsafe { check_version(uuid, 1)? };
        // SAFETY: The version word says that the value is of this type.
        let uuid = unsafe { &*uuid };
        // SAFETY: nvml.h: the handle's pointer is null or valid; both variants of the union are
        // plain bytes, and the text is only read inside its array.
        unsafe {
            put_handle(device, |session| match uuid.type_ {
                ASCII => {
                    let bytes = uuid.value.str_.map(c_char::to_ne_bytes);
                    let bytes: Vec<u8> = bytes
                        .into_iter()
                        .flatten()
                        .take_while(|b| *b != 0)
                        .collect();
                    by_uuid(session, &String::from_utf8_lossy(&bytes))
                }
                BINARY => by_bytes(session, uuid.value.bytes),
                _ => Err(Failure::InvalidArgument),
            })
        }
    })
}
