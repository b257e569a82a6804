//! The GPU models the simulator knows.

pub mod mig;
mod table;

use serde::Serialize;

pub use mig::MigTable;
pub use table::MODELS;

/// GPU architectures, numbered as `NVML_DEVICE_ARCH_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Architecture {
    /// V100.
    Volta = 5,
    /// T4.
    Turing = 6,
    /// A10, A30, A100.
    Ampere = 7,
    /// L4, L40S.
    Ada = 8,
    /// H100, H200.
    Hopper = 9,
    /// B200, GB200, RTX PRO 6000.
    Blackwell = 10,
}

/// Product brands, numbered as `nvmlBrandType_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u32)]
pub enum Brand {
    /// `NVML_BRAND_TESLA`.
    Tesla = 2,
    /// `NVML_BRAND_NVIDIA_RTX`.
    NvidiaRtx = 12,
    /// `NVML_BRAND_NVIDIA`.
    Nvidia = 14,
}

/// How GPUs of a model are usually linked to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fabric {
    /// No NVLink.
    None,
    /// NVLink bridges that join GPUs in pairs.
    Pairs,
    /// NVLink from each GPU to each of its neighbours in a board of four or eight.
    Mesh,
    /// Every link goes to an NVSwitch.
    NvSwitch,
}

/// Clocks in MHz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Clocks {
    /// Highest graphics and SM clock.
    pub graphics: u32,
    /// Memory clock under load.
    pub memory: u32,
    /// Highest video clock.
    pub video: u32,
    /// Graphics clock of an idle GPU.
    pub idle_graphics: u32,
    /// Memory clock of an idle GPU.
    pub idle_memory: u32,
}

/// Power in watts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Power {
    /// Default limit, the board's TDP.
    pub limit: u32,
    /// Lowest limit that can be set.
    pub min: u32,
    /// Highest limit that can be set.
    pub max: u32,
    /// Draw of an idle GPU.
    pub idle: u32,
}

/// Temperatures in °C.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Thermal {
    /// The GPU switches itself off.
    pub shutdown: u32,
    /// The clocks are cut in hardware.
    pub slowdown: u32,
    /// Highest temperature of normal work.
    pub max_operating: u32,
    /// Highest temperature of the memory, where it has a sensor of its own.
    pub max_memory: Option<u32>,
}

/// One product, as its NVML driver describes it.
///
/// Sources: NVIDIA's data sheets and the PCI id database for ids, clocks, power and cores;
/// `nvidia-smi -q` outputs published in issue trackers for the sizes of memory and BAR1, which
/// differ from the marketing numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GpuModel {
    /// What scenarios call it: `h100-80gb`.
    pub key: &'static str,
    /// `nvmlDeviceGetName`.
    pub name: &'static str,
    /// `nvmlDeviceGetArchitecture`.
    pub architecture: Architecture,
    /// `nvmlDeviceGetBrand`.
    pub brand: Brand,
    /// CUDA compute capability.
    pub compute_capability: (u32, u32),
    /// PCI device id; the vendor is 0x10de.
    pub device_id: u16,
    /// PCI subsystem device id; the subsystem vendor is 0x10de.
    pub subsystem_id: u16,
    /// Framebuffer that NVML reports as total, MiB.
    pub memory_mib: u64,
    /// Part of the framebuffer that the driver keeps for itself, MiB.
    pub reserved_mib: u64,
    /// BAR1 aperture, MiB.
    pub bar1_mib: u64,
    /// Width of the memory bus in bits.
    pub memory_bus_bits: u32,
    /// CUDA cores.
    pub cores: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Clocks.
    pub clocks: Clocks,
    /// Power limits.
    pub power: Power,
    /// Temperature thresholds.
    pub thermal: Thermal,
    /// Highest PCIe generation.
    pub pcie_generation: u32,
    /// Lanes.
    pub pcie_width: u32,
    /// NVLinks on the board; 0 = none.
    pub nvlinks: u8,
    /// NVLink version; 0 = none.
    pub nvlink_version: u32,
    /// How its NVLinks are usually wired.
    pub fabric: Fabric,
    /// How it can be partitioned (MIG), if it can.
    pub mig: Option<&'static MigTable>,
    /// PCI class 0x0300 (graphics) instead of 0x0302 (compute).
    pub graphics: bool,
    /// Board part number.
    pub part_number: &'static str,
    /// VBIOS version.
    pub vbios: &'static str,
}

impl GpuModel {
    /// The model that scenarios call `key`.
    pub fn by_key(key: &str) -> Option<&'static Self> {
        MODELS.iter().find(|model| model.key == key)
    }

    /// Whether single rows of memory can be remapped (HBM of Ampere and later); GPUs before
    /// that retire whole pages.
    pub fn remaps_rows(&self) -> bool {
        self.architecture >= Architecture::Ampere
    }

    /// Whether NVML's GPM metrics exist for it (Hopper and later).
    pub fn has_gpm(&self) -> bool {
        self.architecture >= Architecture::Hopper
    }

    /// Whether it is registered with a fabric manager (NVSwitch of Hopper and later).
    pub fn has_fabric(&self) -> bool {
        self.architecture >= Architecture::Hopper && self.fabric == Fabric::NvSwitch
    }

    /// Speed of one NVLink in MB/s, each direction, as NVML's field 90 gives it.
    pub fn nvlink_speed_mbps(&self) -> u32 {
        match self.nvlink_version {
            2 => 25_781,
            3 => 25_000,
            4 => 26_562,
            5 => 53_125,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_unique_and_found() {
        for model in MODELS {
            assert_eq!(GpuModel::by_key(model.key), Some(model));
            let same = MODELS.iter().filter(|other| other.key == model.key);
            assert_eq!(same.count(), 1, "{}", model.key);
        }
        assert!(GpuModel::by_key("gtx-480").is_none());
    }

    #[test]
    fn every_model_is_consistent_with_itself() {
        for model in MODELS {
            let power = model.power;
            assert!(power.idle < power.limit, "{}", model.key);
            assert!(power.min <= power.limit && power.limit <= power.max);
            assert!(model.clocks.idle_graphics < model.clocks.graphics);
            assert!(model.reserved_mib < model.memory_mib / 10);
            assert_eq!(model.nvlinks == 0, model.nvlink_version == 0);
            assert_eq!(model.nvlinks == 0, model.fabric == Fabric::None);
            assert_eq!(model.cores % model.multiprocessors, 0, "{}", model.key);
            assert!(model.name.len() < 96, "NVML's name buffer holds 96 bytes");
        }
    }
}
