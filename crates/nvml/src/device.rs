//! NVML's getters, each as a function that answers plain data.
#![allow(unsafe_code, reason = "calls the library's functions")]

use std::ffi::{CStr, c_char, c_uint};
use std::mem::{self, MaybeUninit};

use mizzen_core::driver::{DriverError, RecoveryAction, RowRemap};
use mizzen_core::gpu::{GpuUuid, PciBusId};
use mizzen_core::inventory::DriverVersions;
use mizzen_core::topology::{FabricClique, PcieRelation};
use nvml_wrapper_sys::bindings::{
    field_id, nvmlDevice_t, nvmlFieldValue_t, nvmlGpuFabricInfo_t, nvmlGpuFabricInfo_v2_t,
    nvmlMemory_v2_t, nvmlPciInfo_t, nvmlReturn_t,
};

use crate::library::{Library, code};

/// The longest text asked for: `NVML_DEVICE_NAME_V2_BUFFER_SIZE` and
/// `NVML_DEVICE_UUID_V2_BUFFER_SIZE`; versions need 80.
const TEXT_BYTES: usize = 96;

/// An NVML handle of a GPU: opaque, valid as long as NVML stays initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device(pub(crate) nvmlDevice_t);

// SAFETY: a handle is an opaque token that is never dereferenced here, and NVML's functions may
// be called from any thread.
unsafe impl Send for Device {}
// SAFETY: as above; the handle itself never changes.
unsafe impl Sync for Device {}

/// What the PCI bus knows of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pci {
    /// Where it is.
    pub(crate) place: PciBusId,
    /// What it is: `pciDeviceId`.
    pub(crate) device_id: u32,
}

/// A framebuffer, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) free: u64,
    /// Without what is reserved, where that is told.
    pub(crate) used: u64,
    /// What the driver keeps for itself; `None` where the driver is too old to tell.
    pub(crate) reserved: Option<u64>,
}

/// A kind of memory error (`nvmlMemoryErrorType_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum EccKind {
    /// `NVML_MEMORY_ERROR_TYPE_CORRECTED`
    Corrected = 0,
    /// `NVML_MEMORY_ERROR_TYPE_UNCORRECTED`
    Uncorrected = 1,
}

/// What is at the other end of an NVLink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    /// An NVSwitch, through which every GPU of the node is reached.
    Switch,
    /// The device at this place on the bus.
    Device(PciBusId),
    /// Something that is no way to another GPU, or that NVML does not tell.
    Other,
}

/// Calls an NVML function, or answers as NVML does when a function is missing.
macro_rules! call {
    ($library:expr, $function:ident ($($argument:expr),*)) => {
        match $library.functions.$function {
            // SAFETY: the arguments are of the function's types, every pointer is to live
            // memory of the size that NVML fills, and a bad handle is an error by NVML's word.
            Some(function) => unsafe { function($($argument),*) },
            None => code::FUNCTION_NOT_FOUND,
        }
    };
}
pub(crate) use call;

impl Library {
    pub(crate) fn init(&self) -> Result<(), DriverError> {
        self.checked("nvmlInit_v2", call!(self, init()))
    }

    pub(crate) fn shutdown(&self) -> Result<(), DriverError> {
        self.checked("nvmlShutdown", call!(self, shutdown()))
    }

    pub(crate) fn versions(&self) -> Result<DriverVersions, DriverError> {
        Ok(DriverVersions {
            driver: self.text("nvmlSystemGetDriverVersion", |text, length| {
                call!(self, driver_version(text, length))
            })?,
            nvml: self.text("nvmlSystemGetNVMLVersion", |text, length| {
                call!(self, nvml_version(text, length))
            })?,
            cuda: self.cuda_version(),
        })
    }

    /// 12040 is 12.4. The newer function asks `libcuda.so.1`, which may be absent where NVML is
    /// mounted alone; the older one asks the driver. 0.0 if neither answers.
    fn cuda_version(&self) -> (u32, u32) {
        let mut version = 0;
        let mut code = call!(self, cuda_version(&raw mut version));
        if code != code::SUCCESS {
            code = call!(self, cuda_version_v1(&raw mut version));
        }
        match u32::try_from(version) {
            Ok(version) if code == code::SUCCESS => (version / 1000, version % 1000 / 10),
            _ => (0, 0),
        }
    }

    pub(crate) fn count(&self) -> Result<u32, DriverError> {
        let mut count = 0;
        self.checked("nvmlDeviceGetCount_v2", call!(self, count(&raw mut count)))?;
        Ok(count)
    }

    pub(crate) fn device(&self, index: u32) -> Result<Device, DriverError> {
        let mut device: nvmlDevice_t = std::ptr::null_mut();
        self.checked(
            "nvmlDeviceGetHandleByIndex_v2",
            call!(self, handle_by_index(index, &raw mut device)),
        )?;
        Ok(Device(device))
    }

    pub(crate) fn uuid(&self, device: Device) -> Result<GpuUuid, DriverError> {
        let call = "nvmlDeviceGetUUID";
        let text = self.text(call, |text, length| {
            call!(self, uuid(device.0, text, length))
        })?;
        text.parse().map_err(|error| unexpected(call, &error))
    }

    pub(crate) fn name(&self, device: Device) -> Result<String, DriverError> {
        self.text("nvmlDeviceGetName", |text, length| {
            call!(self, name(device.0, text, length))
        })
    }

    pub(crate) fn minor(&self, device: Device) -> Result<u32, DriverError> {
        let mut minor = 0;
        self.checked(
            "nvmlDeviceGetMinorNumber",
            call!(self, minor(device.0, &raw mut minor)),
        )?;
        Ok(minor)
    }

    pub(crate) fn pci(&self, device: Device) -> Result<Pci, DriverError> {
        let call = "nvmlDeviceGetPciInfo_v3";
        let mut info = zeroed_pci();
        self.checked(call, call!(self, pci(device.0, &raw mut info)))?;
        let place = bus_id(&info).ok_or_else(|| unexpected(call, &"no place on the bus"))?;
        Ok(Pci {
            place,
            device_id: info.pciDeviceId,
        })
    }

    /// Total framebuffer in bytes.
    pub(crate) fn memory_total(&self, device: Device) -> Result<u64, DriverError> {
        Ok(self.memory(device)?.total)
    }

    /// The framebuffer of a GPU or a MIG device. The second version of the call came with driver
    /// 510; both tell the same total.
    pub(crate) fn memory(&self, device: Device) -> Result<Memory, DriverError> {
        let mut memory = nvmlMemory_v2_t {
            version: struct_version::<nvmlMemory_v2_t>(2),
            total: 0,
            reserved: 0,
            free: 0,
            used: 0,
        };
        if call!(self, memory_v2(device.0, &raw mut memory)) == code::SUCCESS {
            return Ok(Memory {
                total: memory.total,
                free: memory.free,
                used: memory.used,
                reserved: Some(memory.reserved),
            });
        }
        let mut memory = MaybeUninit::zeroed();
        self.checked(
            "nvmlDeviceGetMemoryInfo",
            call!(self, memory(device.0, memory.as_mut_ptr())),
        )?;
        // SAFETY: three integers, for which zero bytes are a value, filled on success.
        let memory = unsafe { memory.assume_init() };
        Ok(Memory {
            total: memory.total,
            free: memory.free,
            used: memory.used,
            reserved: None,
        })
    }

    pub(crate) fn compute_capability(&self, device: Device) -> Result<(u32, u32), DriverError> {
        let call = "nvmlDeviceGetCudaComputeCapability";
        let (mut major, mut minor) = (0, 0);
        self.checked(
            call,
            call!(
                self,
                compute_capability(device.0, &raw mut major, &raw mut minor)
            ),
        )?;
        match (u32::try_from(major), u32::try_from(minor)) {
            (Ok(major), Ok(minor)) => Ok((major, minor)),
            _ => Err(unexpected(call, &format!("{major}.{minor}"))),
        }
    }

    pub(crate) fn common_ancestor(
        &self,
        a: Device,
        b: Device,
    ) -> Result<PcieRelation, DriverError> {
        let mut level = 0;
        self.checked(
            "nvmlDeviceGetTopologyCommonAncestor",
            call!(self, common_ancestor(a.0, b.0, &raw mut level)),
        )?;
        Ok(match level {
            0 => PcieRelation::SameBoard,
            10 => PcieRelation::SingleSwitch,
            20 => PcieRelation::MultiSwitch,
            30 => PcieRelation::HostBridge,
            40 => PcieRelation::SameCpu,
            50 => PcieRelation::CrossCpu,
            _ => PcieRelation::Unknown,
        })
    }

    /// Whether NVLink `link` is up; `None` when the GPU has no such link.
    pub(crate) fn link_is_up(
        &self,
        device: Device,
        link: u32,
    ) -> Result<Option<bool>, DriverError> {
        let mut state = 0;
        let code = call!(self, link_state(device.0, link, &raw mut state));
        if code == code::INVALID_ARGUMENT {
            return Ok(None);
        }
        match self.checked("nvmlDeviceGetNvLinkState", code) {
            Ok(()) => Ok(Some(state == 1)),
            Err(DriverError::NotSupported) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What NVLink `link` leads to. Drivers that do not tell the kind of the other end (before
    /// 465) tell at least its place on the bus.
    pub(crate) fn link_end(&self, device: Device, link: u32) -> Result<LinkEnd, DriverError> {
        let mut kind = 0;
        let code = call!(self, link_remote_type(device.0, link, &raw mut kind));
        match self.checked("nvmlDeviceGetNvLinkRemoteDeviceType", code) {
            Ok(()) if kind == 2 => return Ok(LinkEnd::Switch),
            Ok(()) if kind != 0 => return Ok(LinkEnd::Other),
            Ok(()) | Err(DriverError::NotSupported) => {}
            Err(error) => return Err(error),
        }
        let mut info = zeroed_pci();
        self.checked(
            "nvmlDeviceGetNvLinkRemotePciInfo_v2",
            call!(self, link_remote_pci(device.0, link, &raw mut info)),
        )?;
        Ok(bus_id(&info).map_or(LinkEnd::Other, LinkEnd::Device))
    }

    /// The fabric clique that the GPU has joined; `None` where it is in none, has not joined it
    /// yet, or the driver is too old to tell.
    pub(crate) fn fabric(&self, device: Device) -> Result<Option<FabricClique>, DriverError> {
        const COMPLETED: u8 = 3;
        let call = "nvmlDeviceGetGpuFabricInfoV";
        // SAFETY: integers and arrays of them, for which zero bytes are a value.
        let mut info: nvmlGpuFabricInfo_v2_t = unsafe { mem::zeroed() };
        info.version = struct_version::<nvmlGpuFabricInfo_v2_t>(2);
        let mut code = call!(self, fabric_info_v2(device.0, &raw mut info));
        if code == code::FUNCTION_NOT_FOUND {
            // SAFETY: as above.
            let mut first: nvmlGpuFabricInfo_t = unsafe { mem::zeroed() };
            code = call!(self, fabric_info(device.0, &raw mut first));
            info.clusterUuid = first.clusterUuid;
            info.cliqueId = first.cliqueId;
            info.state = first.state;
            info.status = first.status;
        }
        let joined = offered(self.checked(call, code))?.is_some()
            && info.state == COMPLETED
            && info.status == code::SUCCESS;
        // A board's own fabric, which reaches no other node, has no UUID.
        let named = info.clusterUuid.iter().any(|byte| *byte != 0);
        Ok((joined && named).then_some(FabricClique {
            cluster: info.clusterUuid,
            clique: info.cliqueId,
        }))
    }

    /// Asks the GPU's temperature, only to see whether the GPU answers.
    pub(crate) fn touch(&self, device: Device) -> Result<(), DriverError> {
        let mut celsius = 0;
        let code = call!(self, temperature(device.0, 0, &raw mut celsius));
        // A GPU without a sensor of its own has answered too.
        offered(self.checked("nvmlDeviceGetTemperature", code)).map(|_| ())
    }

    /// Memory errors since the driver was loaded; `None` without ECC.
    pub(crate) fn ecc_errors(
        &self,
        device: Device,
        kind: EccKind,
    ) -> Result<Option<u64>, DriverError> {
        const VOLATILE: c_uint = 0;
        let mut count = 0;
        let code = call!(
            self,
            total_ecc_errors(device.0, kind as c_uint, VOLATILE, &raw mut count)
        );
        offered(
            self.checked("nvmlDeviceGetTotalEccErrors", code)
                .map(|()| count),
        )
    }

    /// How the remapping of memory rows stands; `None` on GPUs before Ampere, which have none.
    pub(crate) fn row_remap(&self, device: Device) -> Result<Option<RowRemap>, DriverError> {
        let (mut corrected, mut uncorrected, mut pending, mut failure) = (0, 0, 0, 0);
        let code = call!(
            self,
            remapped_rows(
                device.0,
                &raw mut corrected,
                &raw mut uncorrected,
                &raw mut pending,
                &raw mut failure
            )
        );
        let rows = RowRemap {
            pending: pending != 0,
            failure: failure != 0,
        };
        offered(
            self.checked("nvmlDeviceGetRemappedRows", code)
                .map(|()| rows),
        )
    }

    /// What the driver says must be done to the GPU; `None` where the driver, or the GPU, is too
    /// old to tell.
    pub(crate) fn recovery_action(
        &self,
        device: Device,
    ) -> Result<Option<RecoveryAction>, DriverError> {
        let call = "nvmlDeviceGetFieldValues";
        // SAFETY: integers and a union of numbers, for which zero bytes are a value.
        let mut value: nvmlFieldValue_t = unsafe { mem::zeroed() };
        value.fieldId = field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION;
        let mut code = call!(self, field_values(device.0, 1, &raw mut value));
        if code == code::SUCCESS {
            code = value.nvmlReturn;
        }
        let value = self.checked(call, code).map(|()| field_number(&value));
        Ok(offered(value)?.flatten().map(recovery_action))
    }

    /// A text that NVML writes into a buffer of a given length.
    pub(crate) fn text(
        &self,
        call: &'static str,
        fill: impl FnOnce(*mut c_char, c_uint) -> nvmlReturn_t,
    ) -> Result<String, DriverError> {
        let mut buffer = [0u8; TEXT_BYTES];
        #[allow(clippy::cast_possible_truncation, reason = "96 fits")]
        let length = TEXT_BYTES as c_uint;
        self.checked(call, fill(buffer.as_mut_ptr().cast(), length))?;
        CStr::from_bytes_until_nul(&buffer)
            .map(|text| text.to_string_lossy().into_owned())
            .map_err(|error| unexpected(call, &error))
    }
}

/// `None` for what the driver or the GPU does not offer, or not to us. A GPU must not count as
/// sick because it is asked something it does not know; an unknown field is a bad argument to
/// drivers that know fields but not this one.
pub(crate) fn offered<T>(answer: Result<T, DriverError>) -> Result<Option<T>, DriverError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(
            DriverError::NotSupported
            | DriverError::NoPermission
            | DriverError::Nvml {
                code: code::INVALID_ARGUMENT | code::NO_DATA | code::DEPRECATED,
                ..
            },
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The version word of a versioned structure (`NVML_STRUCT_VERSION`).
#[allow(
    clippy::cast_possible_truncation,
    reason = "NVML's structures are small"
)]
pub(crate) const fn struct_version<T>(version: u32) -> u32 {
    mem::size_of::<T>() as u32 | version << 24
}

fn zeroed_pci() -> nvmlPciInfo_t {
    // SAFETY: integers and arrays of them, for which zero bytes are a value.
    unsafe { mem::zeroed() }
}

/// The place on the bus; `None` when NVML left it blank, or says that there is none.
fn bus_id(info: &nvmlPciInfo_t) -> Option<PciBusId> {
    // The first version of the call fills the short form alone.
    [text_of(&info.busId), text_of(&info.busIdLegacy)]
        .iter()
        .flatten()
        .find_map(|text| text.parse().ok())
}

fn text_of(chars: &[c_char]) -> Option<String> {
    let bytes = chars.iter().map(|&char| char.cast_unsigned());
    let bytes: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
    String::from_utf8(bytes).ok()
}

/// A field's value as a whole number, whatever type NVML chose for it.
pub(crate) fn field_number(value: &nvmlFieldValue_t) -> Option<u64> {
    // SAFETY: `valueType` says which member NVML wrote, and the whole union was zeroed before.
    unsafe {
        match value.valueType {
            1 => Some(u64::from(value.value.uiVal)),
            2 | 3 => Some(value.value.ullVal),
            4 => u64::try_from(value.value.sllVal).ok(),
            5 => u64::try_from(value.value.siVal).ok(),
            6 => Some(u64::from(value.value.usVal)),
            _ => None,
        }
    }
}

/// `nvmlDeviceGpuRecoveryAction_t`.
fn recovery_action(value: u64) -> RecoveryAction {
    match value {
        0 => RecoveryAction::None,
        1 => RecoveryAction::GpuReset,
        2 => RecoveryAction::NodeReboot,
        3 => RecoveryAction::DrainP2p,
        4 => RecoveryAction::DrainAndReset,
        5 => RecoveryAction::RecoverImexDomain,
        other => RecoveryAction::Unknown(u32::try_from(other).unwrap_or(u32::MAX)),
    }
}

/// The error of an answer that is a success by its code and makes no sense.
pub(crate) fn unexpected(call: &'static str, what: &impl ToString) -> DriverError {
    DriverError::Nvml {
        call,
        code: code::UNKNOWN,
        message: what.to_string(),
    }
}
