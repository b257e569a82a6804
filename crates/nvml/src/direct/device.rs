//! A GPU, or a MIG device, and what it answers.

use std::ffi::{c_char, c_uint, c_ulonglong};
use std::mem;

use nvml_wrapper_sys::bindings::{
    nvmlBAR1Memory_t, nvmlDevice_t, nvmlDeviceAttributes_t, nvmlMemory_t, nvmlMemory_v2_t,
    nvmlPciInfo_t, nvmlProcessInfo_v1_t, nvmlProcessInfo_v2_t, nvmlUtilization_t,
};

use super::{Answer, Code, Nvml, TEXT_BYTES, call, text};

/// `nvmlMemory_v2`: the size of the structure, and its version in the highest byte.
#[allow(clippy::cast_possible_truncation, reason = "it is 40 bytes long")]
const MEMORY_VERSION: u32 = mem::size_of::<nvmlMemory_v2_t>() as u32 | 2 << 24;

/// A GPU, or a MIG device of one.
#[derive(Debug, Clone, Copy)]
pub struct Device<'a> {
    nvml: &'a Nvml,
    handle: nvmlDevice_t,
}

/// Where a GPU is, and what it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pci {
    /// `00000000:1B:00.0`, as NVML writes it.
    pub bus_id: String,
    /// The domain.
    pub domain: u32,
    /// The bus.
    pub bus: u32,
    /// The place on the bus.
    pub device: u32,
    /// Device and vendor: `0x233010DE`.
    pub device_id: u32,
    /// The same of the board.
    pub sub_device_id: u32,
}

/// Framebuffer, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What the driver keeps for itself; none with drivers that count it as used.
    pub reserved: Option<u64>,
    /// What programs use.
    pub used: u64,
    /// The rest.
    pub free: u64,
}

/// The part of the framebuffer that the processor sees, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar1 {
    /// All of it.
    pub total: u64,
    /// What is mapped.
    pub used: u64,
}

/// What a MIG device has of its GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines; shared, as those that follow, with the others of its GPU instance.
    pub copy_engines: u32,
    /// Video decoders.
    pub decoders: u32,
    /// Video encoders.
    pub encoders: u32,
    /// JPEG engines.
    pub jpeg: u32,
    /// Optical flow accelerators.
    pub ofa: u32,
}

/// A process on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Framebuffer in bytes; none where the driver does not tell.
    pub memory: Option<u64>,
    /// The GPU instance and compute instance that it is on; none if it is on the whole GPU.
    pub instance: Option<(u32, u32)>,
}

/// A clock (`nvmlClockType_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Clock {
    /// `NVML_CLOCK_GRAPHICS`
    Graphics = 0,
    /// `NVML_CLOCK_SM`
    Sm = 1,
    /// `NVML_CLOCK_MEM`
    Memory = 2,
    /// `NVML_CLOCK_VIDEO`
    Video = 3,
}

/// Which memory errors (`nvmlMemoryErrorType_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum EccCounter {
    /// Corrected ones.
    Corrected = 0,
    /// The others.
    Uncorrected = 1,
}

/// Since when (`nvmlEccCounterType_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum EccSpan {
    /// Since the driver was loaded.
    Volatile = 0,
    /// In the GPU's life.
    Aggregate = 1,
}

/// Where memory errors are counted (`nvmlMemoryLocation_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum EccMemory {
    /// `NVML_MEMORY_LOCATION_L1_CACHE`
    L1Cache = 0,
    /// `NVML_MEMORY_LOCATION_L2_CACHE`
    L2Cache = 1,
    /// `NVML_MEMORY_LOCATION_DRAM`
    Dram = 2,
    /// `NVML_MEMORY_LOCATION_REGISTER_FILE`
    RegisterFile = 3,
    /// `NVML_MEMORY_LOCATION_TEXTURE_MEMORY`
    TextureMemory = 4,
    /// `NVML_MEMORY_LOCATION_CBU`
    Cbu = 6,
    /// `NVML_MEMORY_LOCATION_SRAM`
    Sram = 7,
}

/// Getters of one text.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> Answer<String> {
            text::<TEXT_BYTES>(|buffer, length| call!(self.nvml, $name(self.handle, buffer, length)))
        }
    )+};
}

/// Getters of one number.
macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> Answer<u32> {
            let mut value: c_uint = 0;
            call!(self.nvml, $name(self.handle, &raw mut value))?;
            Ok(value)
        }
    )+};
}

/// Getters of two numbers.
macro_rules! pairs {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> Answer<(u32, u32)> {
            let (mut one, mut other): (c_uint, c_uint) = (0, 0);
            call!(self.nvml, $name(self.handle, &raw mut one, &raw mut other))?;
            Ok((one, other))
        }
    )+};
}

/// Getters of the MHz of a clock.
macro_rules! clocks {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        pub fn $name(&self, clock: Clock) -> Answer<u32> {
            let mut mhz: c_uint = 0;
            call!(self.nvml, $name(self.handle, clock as c_uint, &raw mut mhz))?;
            Ok(mhz)
        }
    )+};
}

impl<'a> Device<'a> {
    pub(super) fn new(nvml: &'a Nvml, handle: nvmlDevice_t) -> Self {
        Self { nvml, handle }
    }

    texts! {
        /// The product's name; of a MIG device, with its profile behind `MIG`.
        name;
        /// `GPU-…` or `MIG-…`
        uuid;
        /// The board's serial number.
        serial;
        /// The version of its firmware.
        vbios_version;
        /// The version of the image of its infoROM.
        inforom_version;
    }

    numbers! {
        /// Per cent of what the fan can.
        fan_speed;
        /// 0 for P0; 32 if unknown.
        performance_state;
        /// Milliwatts.
        power_usage;
        /// Milliwatts.
        power_limit;
        /// Milliwatts.
        default_power_limit;
        /// Milliwatts, the lowest of all limits.
        enforced_power_limit;
        /// 1 if it is on.
        persistence_mode;
        /// 1 if a display is connected.
        display_mode;
        /// 1 if a display is driven.
        display_active;
        /// 0 default, 2 prohibited, 3 exclusive process.
        compute_mode;
        /// The PCIe generation in use.
        link_generation;
        /// The highest one possible.
        max_link_generation;
        /// PCIe lanes in use.
        link_width;
        /// The most possible.
        max_link_width;
        /// Of a GPU: how many MIG devices it can have at most.
        max_mig_devices;
        /// Of a MIG device.
        gpu_instance;
        /// Of a MIG device.
        compute_instance;
    }

    pairs! {
        /// Lowest and highest power limit, in milliwatts.
        power_limits;
        /// Per cent, and the time it was measured over in microseconds.
        encoder_utilization;
        /// Per cent, and the time it was measured over in microseconds.
        decoder_utilization;
        /// Whether it is on, now and after the next reboot.
        ecc_mode;
        /// Whether it is on, now and after the next reset.
        mig_mode;
    }

    clocks! {
        /// MHz now.
        clock;
        /// MHz at most.
        max_clock;
        /// MHz that programs are given.
        applications_clock;
    }

    /// Where it is. The oldest drivers tell the short form of the place alone.
    pub fn pci(&self) -> Answer<Pci> {
        // SAFETY: integers and arrays of them, for which zero bytes are a value.
        let mut info: nvmlPciInfo_t = unsafe { mem::zeroed() };
        call!(self.nvml, pci(self.handle, &raw mut info))?;
        let long = words(&info.busId);
        Ok(Pci {
            bus_id: if long.is_empty() {
                words(&info.busIdLegacy)
            } else {
                long
            },
            domain: info.domain,
            bus: info.bus,
            device: info.device,
            device_id: info.pciDeviceId,
            sub_device_id: info.pciSubSystemId,
        })
    }

    /// Framebuffer.
    pub fn memory(&self) -> Answer<Memory> {
        let mut memory = nvmlMemory_v2_t {
            version: MEMORY_VERSION,
            total: 0,
            reserved: 0,
            free: 0,
            used: 0,
        };
        if call!(self.nvml, memory_v2(self.handle, &raw mut memory)).is_ok() {
            return Ok(Memory {
                total: memory.total,
                reserved: Some(memory.reserved),
                used: memory.used,
                free: memory.free,
            });
        }
        let mut memory = nvmlMemory_t {
            total: 0,
            free: 0,
            used: 0,
        };
        call!(self.nvml, memory(self.handle, &raw mut memory))?;
        Ok(Memory {
            total: memory.total,
            reserved: None,
            used: memory.used,
            free: memory.free,
        })
    }

    /// What the processor sees of it.
    pub fn bar1(&self) -> Answer<Bar1> {
        let mut memory = nvmlBAR1Memory_t {
            bar1Total: 0,
            bar1Free: 0,
            bar1Used: 0,
        };
        call!(self.nvml, bar1(self.handle, &raw mut memory))?;
        Ok(Bar1 {
            total: memory.bar1Total,
            used: memory.bar1Used,
        })
    }

    /// Per cent of the last sample in which a kernel ran, and in which memory was accessed.
    pub fn utilization(&self) -> Answer<(u32, u32)> {
        let mut rates = nvmlUtilization_t { gpu: 0, memory: 0 };
        call!(self.nvml, utilization(self.handle, &raw mut rates))?;
        Ok((rates.gpu, rates.memory))
    }

    /// Major and minor compute capability.
    pub fn compute_capability(&self) -> Answer<(i32, i32)> {
        let (mut major, mut minor) = (0, 0);
        call!(
            self.nvml,
            compute_capability(self.handle, &raw mut major, &raw mut minor)
        )?;
        Ok((major, minor))
    }

    /// Degrees Celsius of the die.
    pub fn temperature(&self) -> Answer<u32> {
        let mut celsius = 0;
        call!(self.nvml, temperature(self.handle, 0, &raw mut celsius))?;
        Ok(celsius)
    }

    /// Why the clocks are not higher: a set of the bits in nvml.h.
    pub fn clock_event_reasons(&self) -> Answer<u64> {
        let mut reasons: c_ulonglong = 0;
        call!(
            self.nvml,
            clock_event_reasons(self.handle, &raw mut reasons)
        )?;
        Ok(reasons)
    }

    /// All memory errors.
    pub fn ecc_total(&self, counter: EccCounter, span: EccSpan) -> Answer<u64> {
        let mut count: c_ulonglong = 0;
        call!(
            self.nvml,
            ecc_total(
                self.handle,
                counter as c_uint,
                span as c_uint,
                &raw mut count
            )
        )?;
        Ok(count)
    }

    /// Memory errors in one place.
    pub fn ecc_count(&self, counter: EccCounter, span: EccSpan, memory: EccMemory) -> Answer<u64> {
        let mut count: c_ulonglong = 0;
        call!(
            self.nvml,
            ecc_counter(
                self.handle,
                counter as c_uint,
                span as c_uint,
                memory as c_uint,
                &raw mut count
            )
        )?;
        Ok(count)
    }

    /// Processes that compute.
    pub fn compute_processes(&self) -> Answer<Vec<Process>> {
        processes(
            |count, infos| call!(self.nvml, compute_processes(self.handle, count, infos)),
            |count, infos| call!(self.nvml, compute_processes_v1(self.handle, count, infos)),
        )
    }

    /// Processes that draw.
    pub fn graphics_processes(&self) -> Answer<Vec<Process>> {
        processes(
            |count, infos| call!(self.nvml, graphics_processes(self.handle, count, infos)),
            |count, infos| call!(self.nvml, graphics_processes_v1(self.handle, count, infos)),
        )
    }

    /// The MIG devices, by their numbers; numbers in between may be free.
    pub fn mig_devices(&self) -> Answer<Vec<(u32, Device<'a>)>> {
        let mut devices = Vec::new();
        for number in 0..self.max_mig_devices()? {
            let mut handle: nvmlDevice_t = std::ptr::null_mut();
            match call!(self.nvml, mig_device(self.handle, number, &raw mut handle)) {
                Ok(()) => devices.push((number, Device::new(self.nvml, handle))),
                Err(Code::NOT_FOUND) => {}
                Err(code) => return Err(code),
            }
        }
        Ok(devices)
    }

    /// Of a MIG device: what it has of its GPU.
    pub fn attributes(&self) -> Answer<Attributes> {
        // SAFETY: integers, for which zero bytes are a value.
        let mut attributes: nvmlDeviceAttributes_t = unsafe { mem::zeroed() };
        call!(self.nvml, attributes(self.handle, &raw mut attributes))?;
        Ok(Attributes {
            multiprocessors: attributes.multiprocessorCount,
            copy_engines: attributes.sharedCopyEngineCount,
            decoders: attributes.sharedDecoderCount,
            encoders: attributes.sharedEncoderCount,
            jpeg: attributes.sharedJpegCount,
            ofa: attributes.sharedOfaCount,
        })
    }
}

/// By the second form of the call, or by the first one where a driver has no other.
fn processes(
    second: impl Fn(*mut c_uint, *mut nvmlProcessInfo_v2_t) -> Answer<()>,
    first: impl Fn(*mut c_uint, *mut nvmlProcessInfo_v1_t) -> Answer<()>,
) -> Answer<Vec<Process>> {
    let told = |memory: c_ulonglong| (memory != c_ulonglong::MAX).then_some(memory);
    match list(second) {
        Err(Code::FUNCTION_NOT_FOUND) => {}
        answer => {
            let process = |info: &nvmlProcessInfo_v2_t| Process {
                pid: info.pid,
                memory: told(info.usedGpuMemory),
                instance: (info.gpuInstanceId != c_uint::MAX)
                    .then_some((info.gpuInstanceId, info.computeInstanceId)),
            };
            return Ok(answer?.iter().map(process).collect());
        }
    }
    let process = |info: &nvmlProcessInfo_v1_t| Process {
        pid: info.pid,
        memory: told(info.usedGpuMemory),
        instance: None,
    };
    Ok(list(first)?.iter().map(process).collect())
}

/// A list that `fill` writes, however long it becomes between two calls.
fn list<T: Clone>(fill: impl Fn(*mut c_uint, *mut T) -> Answer<()>) -> Answer<Vec<T>> {
    let mut room = 64;
    loop {
        // SAFETY: the structures of NVML's lists are integers, for which zero bytes are a value.
        let empty: T = unsafe { mem::zeroed() };
        let mut infos = vec![empty; room];
        let mut count = c_uint::try_from(room).map_err(|_| Code::UNKNOWN)?;
        match fill(&raw mut count, infos.as_mut_ptr()) {
            Err(Code::INSUFFICIENT_SIZE) if room < 1 << 20 => {
                // It tells how many there are; a few more may come meanwhile.
                room = (count as usize).max(room) * 2;
            }
            answer => {
                answer?;
                infos.truncate(count as usize);
                return Ok(infos);
            }
        }
    }
}

/// The text in a structure's array.
fn words(chars: &[c_char]) -> String {
    let bytes = chars.iter().map(|char| char.cast_unsigned());
    let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
