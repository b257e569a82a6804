//! NVLinks, the fabric, and what GPUs can do to each other.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEnableState_t, nvmlGpuFabricInfo_t, nvmlGpuFabricInfo_v2_t,
    nvmlGpuFabricInfo_v3_t, nvmlGpuP2PCapsIndex_t, nvmlGpuP2PStatus_t, nvmlIntNvLinkDeviceType_t,
    nvmlNvLinkCapability_t, nvmlNvLinkErrorCounter_t, nvmlPciInfo_t, nvmlReturn_t,
};

use super::global::{with_device, with_devices};
use super::pci::{info_v3, put_remote};
use super::pointer::{put, required, version_of, version_word};
use super::{answer, getters, keyed_getters};
use crate::engine::{Device, Failure, LinkEnd};
use crate::identity::fnv1a;
use crate::node::NvLinkError;

/// PCI device id of an NVSwitch of the third generation.
const NVSWITCH: c_uint = 0x22a3_10de;
/// `NVML_P2P_STATUS_OK`, `..._NOT_SUPPORTED`.
const P2P_OK: nvmlGpuP2PStatus_t = 0;
const P2P_NOT_SUPPORTED: nvmlGpuP2PStatus_t = 5;
/// `NVML_GPU_FABRIC_STATE_NOT_SUPPORTED`, `..._COMPLETED`.
const FABRIC_NOT_SUPPORTED: u8 = 0;
const FABRIC_COMPLETED: u8 = 3;
/// Nothing degraded: each property of two bits says "false", 2, where it is supported.
const FABRIC_HEALTHY_MASK: c_uint = 2;

keyed_getters! {
    nvmlDeviceGetNvLinkState(device, link: c_uint) -> nvmlEnableState_t =
        Ok(u32::from(device.nvlink(link)?.end.is_some()));
    nvmlDeviceGetNvLinkVersion(device, link: c_uint) -> c_uint = {
        device.nvlink(link)?;
        Ok(device.model().nvlink_version)
    };
    nvmlDeviceGetNvLinkRemoteDeviceType(device, link: c_uint) -> nvmlIntNvLinkDeviceType_t =
        match end(device, link)? {
            LinkEnd::Gpu(_) => Ok(0),
            LinkEnd::Switch(_) => Ok(2),
        };
}

fn end(device: &Device<'_>, link: c_uint) -> Result<LinkEnd, Failure> {
    device.nvlink(link)?.end.ok_or(Failure::NotSupported)
}

fn remote(device: &Device<'_>, link: c_uint) -> Result<nvmlPciInfo_t, Failure> {
    Ok(match end(device, link)? {
        LinkEnd::Gpu(address) => {
            info_v3(address, device.pci_device_id(), device.pci_subsystem_id())
        }
        LinkEnd::Switch(address) => info_v3(address, NVSWITCH, 0),
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo(
    device: nvmlDevice_t,
    link: c_uint,
    pci: *mut nvmlPciInfo_t,
) -> nvmlReturn_t {
    // SAFETY: The caller's promise, passed on.
    unsafe { put_remote(device, pci, |device| remote(device, link)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    device: nvmlDevice_t,
    link: c_uint,
    pci: *mut nvmlPciInfo_t,
) -> nvmlReturn_t {
    // SAFETY: The caller's promise, passed on.
    unsafe { put_remote(device, pci, |device| remote(device, link)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkCapability(
    device: nvmlDevice_t,
    link: c_uint,
    capability: nvmlNvLinkCapability_t,
    result: *mut c_uint,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let result = required(result)?;
            let up = device.nvlink(link)?.end.is_some();
            let able = match capability {
                0..=3 | 5 => up,
                4 => false,
                _ => return Err(Failure::InvalidArgument),
            };
            // SAFETY: nvml.h: a pointer that is not null points to a writable number.
            unsafe { put(result, c_uint::from(able)) };
            Ok(())
        })
    })
}

/// The first link makes all errors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkErrorCounter(
    device: nvmlDevice_t,
    link: c_uint,
    counter: nvmlNvLinkErrorCounter_t,
    value: *mut c_ulonglong,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let value = required(value)?;
            device.nvlink(link)?;
            let error = match counter {
                0 => Some(NvLinkError::Replay),
                1 => Some(NvLinkError::Recovery),
                2 => Some(NvLinkError::CrcFlit),
                3 => Some(NvLinkError::CrcData),
                4 => None,
                _ => return Err(Failure::InvalidArgument),
            };
            let error = error.filter(|_| link == 0);
            let count = error.map_or(0, |error| device.nvlink_errors(error));
            // SAFETY: nvml.h: a pointer that is not null points to a writable number.
            unsafe { put(value, count) };
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceResetNvLinkErrorCounters(
    device: nvmlDevice_t,
    link: c_uint,
) -> nvmlReturn_t {
    answer(|| with_device(device, |device| device.clear_nvlink_errors(link)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetP2PStatus(
    first: nvmlDevice_t,
    second: nvmlDevice_t,
    capability: nvmlGpuP2PCapsIndex_t,
    status: *mut nvmlGpuP2PStatus_t,
) -> nvmlReturn_t {
    answer(|| {
        with_devices(first, second, |_, first, second| {
            let status = required(status)?;
            if first.index() == second.index() {
                return Err(Failure::InvalidArgument);
            }
            let able = match capability {
                // Read, write and atomics over anything; NVLink; PCIe.
                0 | 1 | 3 => first.can_reach(second),
                2 => first.joined_by_nvlink(second),
                4 => !first.joined_by_nvlink(second) && first.can_reach(second),
                _ => return Err(Failure::InvalidArgument),
            };
            // SAFETY: nvml.h: a pointer that is not null points to a writable status.
            unsafe { put(status, if able { P2P_OK } else { P2P_NOT_SUPPORTED }) };
            Ok(())
        })
    })
}

/// What the fabric manager knows of a GPU: the UUID of its cluster and its clique there.
struct Membership {
    state: u8,
    cluster: [u8; 16],
    clique: c_uint,
}

fn membership(device: &Device<'_>) -> Result<Membership, Failure> {
    if !device.model().has_gpm() {
        return Err(Failure::NotSupported);
    }
    if !device.model().has_fabric() || device.nvswitch_links() == 0 {
        return Ok(Membership {
            state: FABRIC_NOT_SUPPORTED,
            cluster: [0; 16],
            clique: 0,
        });
    }
    // Only racks that span nodes have a cluster: one board's UUID is zero.
    let cluster = if device.model().key == "gb200" {
        crate::identity::Uuid::derived("fabric", fnv1a(b"rack")).bytes()
    } else {
        [0; 16]
    };
    Ok(Membership {
        state: FABRIC_COMPLETED,
        cluster,
        clique: 0,
    })
}

getters! {
    nvmlDeviceGetGpuFabricInfo(device) -> nvmlGpuFabricInfo_t = {
        let member = membership(device)?;
        Ok(nvmlGpuFabricInfo_t {
            clusterUuid: member.cluster,
            status: 0,
            cliqueId: member.clique,
            state: member.state,
        })
    };
}

/// Two versions of the struct share the function; each is written to its own size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuFabricInfoV(
    device: nvmlDevice_t,
    info: *mut nvmlGpuFabricInfo_v3_t,
) -> nvmlReturn_t {
    const V2: u32 = version_word::<nvmlGpuFabricInfo_v2_t>(2);
    const V3: u32 = version_word::<nvmlGpuFabricInfo_v3_t>(3);
    answer(|| {
        with_device(device, |device| {
            // SAFETY: nvml.h: a pointer that is not null points to a value with a version word.
            let version = unsafe { version_of(info)? };
            if version != V2 && version != V3 {
                return Err(Failure::ArgumentVersionMismatch);
            }
            let member = membership(device)?;
            let second = nvmlGpuFabricInfo_v2_t {
                version,
                clusterUuid: member.cluster,
                status: 0,
                cliqueId: member.clique,
                state: member.state,
                healthMask: FABRIC_HEALTHY_MASK,
            };
            let info = required(info)?;
            // SAFETY: The version word says which of the two structs the value is.
            unsafe {
                if version == V2 {
                    put(info.cast(), second);
                } else {
                    put(info, third(&second));
                }
            }
            Ok(())
        })
    })
}

fn third(second: &nvmlGpuFabricInfo_v2_t) -> nvmlGpuFabricInfo_v3_t {
    nvmlGpuFabricInfo_v3_t {
        version: second.version,
        clusterUuid: second.clusterUuid,
        status: second.status,
        cliqueId: second.cliqueId,
        state: second.state,
        healthMask: second.healthMask,
        // Healthy, or not supported.
        healthSummary: u8::from(second.state == FABRIC_COMPLETED),
    }
}
