//! PCI.

use std::ffi::{c_char, c_uint};

use nvml_wrapper_sys::bindings::{
    nvmlBusType_t, nvmlDevice_t, nvmlPciInfo_t, nvmlPciInfoExt_v1_t, nvmlPcieUtilCounter_t,
    nvmlReturn_t,
};

use super::global::with_device;
use super::pointer::{fill, put, required};
use super::{answer, getters, keyed_getters, versioned_getters};
use crate::engine::{Device, Failure};
use crate::identity::PciAddress;

/// `NVML_BUS_TYPE_PCIE`.
const PCIE: nvmlBusType_t = 2;

/// What the first version of the function wrote.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PciInfoV1 {
    bus_id: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    device_id: c_uint,
}

/// What the second version wrote: one field more.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PciInfoV2 {
    first: PciInfoV1,
    subsystem_id: c_uint,
}

fn legacy_id(address: PciAddress) -> [c_char; 16] {
    let mut id = [0; 16];
    fill(&mut id, &address.nvml_legacy());
    id
}

fn info_v1(device: &Device<'_>) -> PciInfoV1 {
    let address = device.pci();
    PciInfoV1 {
        bus_id: legacy_id(address),
        domain: address.domain,
        bus: c_uint::from(address.bus),
        device: c_uint::from(address.device),
        device_id: device.pci_device_id(),
    }
}

/// The struct of the current version for any device on the bus.
pub(super) fn info_v3(
    address: PciAddress,
    device_id: c_uint,
    subsystem_id: c_uint,
) -> nvmlPciInfo_t {
    let mut bus_id = [0; 32];
    fill(&mut bus_id, &address.nvml());
    nvmlPciInfo_t {
        busIdLegacy: legacy_id(address),
        domain: address.domain,
        bus: c_uint::from(address.bus),
        device: c_uint::from(address.device),
        pciDeviceId: device_id,
        pciSubSystemId: subsystem_id,
        busId: bus_id,
    }
}

getters! {
    nvmlDeviceGetPciInfo(device) -> PciInfoV1 = Ok(info_v1(device));
    nvmlDeviceGetPciInfo_v2(device) -> PciInfoV2 = Ok(PciInfoV2 {
        first: info_v1(device),
        subsystem_id: device.pci_subsystem_id(),
    });
    nvmlDeviceGetPciInfo_v3(device) -> nvmlPciInfo_t =
        Ok(info_v3(device.pci(), device.pci_device_id(), device.pci_subsystem_id()));
    nvmlDeviceGetBusType(_device) -> nvmlBusType_t = Ok(PCIE);
    nvmlDeviceGetMaxPcieLinkGeneration(device) -> c_uint = Ok(device.model().pcie_generation);
    nvmlDeviceGetGpuMaxPcieLinkGeneration(device) -> c_uint = Ok(device.model().pcie_generation);
    nvmlDeviceGetMaxPcieLinkWidth(device) -> c_uint = Ok(device.model().pcie_width);
    nvmlDeviceGetCurrPcieLinkGeneration(device) -> c_uint = Ok(device.model().pcie_generation);
    nvmlDeviceGetCurrPcieLinkWidth(device) -> c_uint = Ok(device.model().pcie_width);
    nvmlDeviceGetPcieReplayCounter(device) -> c_uint =
        Ok(c_uint::try_from(device.pcie_replays()).unwrap_or(c_uint::MAX));
    // Enumerated as 1 for 2.5 GT/s up to 5 for 32 GT/s: the generation.
    nvmlDeviceGetPcieLinkMaxSpeed(device) -> c_uint = Ok(device.model().pcie_generation);
    nvmlDeviceGetPcieSpeed(device) -> c_uint = Ok(megabits(device.model().pcie_generation));
}

fn megabits(generation: u32) -> c_uint {
    match generation {
        1 => 2_500,
        2 => 5_000,
        3 => 8_000,
        4 => 16_000,
        _ => 32_000,
    }
}

keyed_getters! {
    // KB/s; proportional to the utilisation, for want of traffic.
    nvmlDeviceGetPcieThroughput(device, counter: nvmlPcieUtilCounter_t) -> c_uint = match counter {
        0 => Ok(device.utilization().0 * 1200),
        1 => Ok(device.utilization().0 * 2400),
        _ => Err(Failure::InvalidArgument),
    };
}

versioned_getters! {
    nvmlDeviceGetPciInfoExt(device, value: nvmlPciInfoExt_v1_t, 1) = {
        let address = device.pci();
        (value.baseClass, value.subClass) = device.pci_class();
        value.domain = address.domain;
        value.bus = c_uint::from(address.bus);
        value.device = c_uint::from(address.device);
        value.pciDeviceId = device.pci_device_id();
        value.pciSubSystemId = device.pci_subsystem_id();
        fill(&mut value.busId, &address.nvml());
        Ok(())
    };
}

/// Writes the struct of a device at the other end of an NVLink.
pub(super) unsafe fn put_remote(
    device: nvmlDevice_t,
    pci: *mut nvmlPciInfo_t,
    find: impl FnOnce(&Device<'_>) -> Result<nvmlPciInfo_t, Failure>,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let pci = required(pci)?;
            let info = find(device)?;
            // SAFETY: nvml.h: a pointer that is not null points to a writable struct.
            unsafe { put(pci, info) };
            Ok(())
        })
    })
}
