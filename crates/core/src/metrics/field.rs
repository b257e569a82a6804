//! The fields that a GPU can be asked for, by the names that DCGM gives them.

use std::fmt;
use std::str::FromStr;

/// How a field's values are to be read (the types of the Prometheus exposition format).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldKind {
    /// It goes up and down.
    Gauge,
    /// It only goes up.
    Counter,
}

/// No field has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no field of DCGM that Mizzen reads")]
pub struct UnknownField(pub String);

/// Declares the fields: variant, name, type, help.
macro_rules! fields {
    ($($variant:ident $name:literal $kind:ident $help:literal)+) => {
        /// A number that a GPU, or a MIG device of it, can be asked for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field {
            $(#[doc = $help] $variant,)+
        }

        impl Field {
            /// All of them, in the order of the exporter's file of counters.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// DCGM's name, which is the metric's.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Whether it counts.
            pub fn kind(self) -> FieldKind {
                match self { $(Self::$variant => FieldKind::$kind,)+ }
            }

            /// What it is, with its unit, in the exporter's words.
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)+ }
            }
        }
    };
}

fields! {
    SmClock "DCGM_FI_DEV_SM_CLOCK" Gauge "SM clock frequency (in MHz)."
    MemClock "DCGM_FI_DEV_MEM_CLOCK" Gauge "Memory clock frequency (in MHz)."
    VideoClock "DCGM_FI_DEV_VIDEO_CLOCK" Gauge "Video encoder and decoder clock frequency (in MHz)."
    MaxSmClock "DCGM_FI_DEV_MAX_SM_CLOCK" Gauge "Highest SM clock frequency (in MHz)."
    MaxMemClock "DCGM_FI_DEV_MAX_MEM_CLOCK" Gauge "Highest memory clock frequency (in MHz)."
    ClockThrottleReasons "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS" Gauge "Bits of the reasons why the clocks are below their highest."
    MemoryTemp "DCGM_FI_DEV_MEMORY_TEMP" Gauge "Memory temperature (in C)."
    GpuTemp "DCGM_FI_DEV_GPU_TEMP" Gauge "GPU temperature (in C)."
    SlowdownTemp "DCGM_FI_DEV_SLOWDOWN_TEMP" Gauge "Temperature at which the GPU slows down (in C)."
    ShutdownTemp "DCGM_FI_DEV_SHUTDOWN_TEMP" Gauge "Temperature at which the GPU shuts down (in C)."
    FanSpeed "DCGM_FI_DEV_FAN_SPEED" Gauge "Fan speed (in % of the highest)."
    PowerUsage "DCGM_FI_DEV_POWER_USAGE" Gauge "Power draw (in W)."
    PowerLimit "DCGM_FI_DEV_POWER_MGMT_LIMIT" Gauge "Power limit that is set (in W)."
    EnforcedPowerLimit "DCGM_FI_DEV_ENFORCED_POWER_LIMIT" Gauge "Power limit in force (in W)."
    TotalEnergy "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION" Counter "Total energy consumption since boot (in mJ)."
    Pstate "DCGM_FI_DEV_PSTATE" Gauge "Performance state, 0 is the fastest."
    PcieReplayCounter "DCGM_FI_DEV_PCIE_REPLAY_COUNTER" Counter "Total number of PCIe retries."
    PcieLinkGen "DCGM_FI_DEV_PCIE_LINK_GEN" Gauge "PCIe generation of the link now."
    PcieLinkWidth "DCGM_FI_DEV_PCIE_LINK_WIDTH" Gauge "PCIe lanes of the link now."
    PcieMaxLinkGen "DCGM_FI_DEV_PCIE_MAX_LINK_GEN" Gauge "Highest PCIe generation of the link."
    PcieMaxLinkWidth "DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH" Gauge "Most PCIe lanes of the link."
    GpuUtil "DCGM_FI_DEV_GPU_UTIL" Gauge "GPU utilization (in %)."
    MemCopyUtil "DCGM_FI_DEV_MEM_COPY_UTIL" Gauge "Memory utilization (in %)."
    EncUtil "DCGM_FI_DEV_ENC_UTIL" Gauge "Encoder utilization (in %)."
    DecUtil "DCGM_FI_DEV_DEC_UTIL" Gauge "Decoder utilization (in %)."
    XidErrors "DCGM_FI_DEV_XID_ERRORS" Gauge "Value of the last XID error encountered."
    PowerViolation "DCGM_FI_DEV_POWER_VIOLATION" Counter "Throttling duration due to power constraints (in ns)."
    ThermalViolation "DCGM_FI_DEV_THERMAL_VIOLATION" Counter "Throttling duration due to thermal constraints (in ns)."
    SyncBoostViolation "DCGM_FI_DEV_SYNC_BOOST_VIOLATION" Counter "Throttling duration due to sync-boost constraints (in ns)."
    BoardLimitViolation "DCGM_FI_DEV_BOARD_LIMIT_VIOLATION" Counter "Throttling duration due to board limit constraints (in ns)."
    LowUtilViolation "DCGM_FI_DEV_LOW_UTIL_VIOLATION" Counter "Throttling duration due to low utilization (in ns)."
    ReliabilityViolation "DCGM_FI_DEV_RELIABILITY_VIOLATION" Counter "Throttling duration due to reliability constraints (in ns)."
    FbTotal "DCGM_FI_DEV_FB_TOTAL" Gauge "Framebuffer memory in all (in MiB)."
    FbFree "DCGM_FI_DEV_FB_FREE" Gauge "Framebuffer memory free (in MiB)."
    FbUsed "DCGM_FI_DEV_FB_USED" Gauge "Framebuffer memory used (in MiB)."
    FbReserved "DCGM_FI_DEV_FB_RESERVED" Gauge "Framebuffer memory reserved (in MiB)."
    FbUsedPercent "DCGM_FI_DEV_FB_USED_PERCENT" Gauge "Framebuffer memory used, of what is not reserved (ratio)."
    EccSbeVolTotal "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL" Counter "Total number of single-bit volatile ECC errors."
    EccDbeVolTotal "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL" Counter "Total number of double-bit volatile ECC errors."
    EccSbeAggTotal "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL" Counter "Total number of single-bit persistent ECC errors."
    EccDbeAggTotal "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL" Counter "Total number of double-bit persistent ECC errors."
    RetiredSbe "DCGM_FI_DEV_RETIRED_SBE" Counter "Total number of retired pages due to single-bit errors."
    RetiredDbe "DCGM_FI_DEV_RETIRED_DBE" Counter "Total number of retired pages due to double-bit errors."
    RetiredPending "DCGM_FI_DEV_RETIRED_PENDING" Counter "Total number of pages pending retirement."
    NvlinkCrcFlitErrors "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL" Counter "Total number of NVLink flow-control CRC errors."
    NvlinkCrcDataErrors "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL" Counter "Total number of NVLink data CRC errors."
    NvlinkReplayErrors "DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL" Counter "Total number of NVLink retries."
    NvlinkRecoveryErrors "DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL" Counter "Total number of NVLink recovery errors."
    NvlinkBandwidthTotal "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL" Counter "Total number of NVLink bandwidth counters for all lanes."
    NvlinkBandwidthL0 "DCGM_FI_DEV_NVLINK_BANDWIDTH_L0" Counter "The number of bytes of active NVLink rx or tx data including both header and payload."
    VgpuLicenseStatus "DCGM_FI_DEV_VGPU_LICENSE_STATUS" Gauge "vGPU License status"
    UncorrectableRemappedRows "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS" Counter "Number of remapped rows for uncorrectable errors"
    CorrectableRemappedRows "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS" Counter "Number of remapped rows for correctable errors"
    RowRemapFailure "DCGM_FI_DEV_ROW_REMAP_FAILURE" Gauge "Whether remapping of rows has failed"
    RowRemapPending "DCGM_FI_DEV_ROW_REMAP_PENDING" Gauge "Whether a remapping of rows waits for a reset"
    GrEngineActive "DCGM_FI_PROF_GR_ENGINE_ACTIVE" Gauge "Ratio of time the graphics engine is active."
    SmActive "DCGM_FI_PROF_SM_ACTIVE" Gauge "The ratio of cycles an SM has at least 1 warp assigned."
    SmOccupancy "DCGM_FI_PROF_SM_OCCUPANCY" Gauge "The ratio of number of warps resident on an SM."
    PipeTensorActive "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE" Gauge "Ratio of cycles the tensor (HMMA) pipe is active."
    DramActive "DCGM_FI_PROF_DRAM_ACTIVE" Gauge "Ratio of cycles the device memory interface is active sending or receiving data."
    PipeFp64Active "DCGM_FI_PROF_PIPE_FP64_ACTIVE" Gauge "Ratio of cycles the fp64 pipes are active."
    PipeFp32Active "DCGM_FI_PROF_PIPE_FP32_ACTIVE" Gauge "Ratio of cycles the fp32 pipes are active."
    PipeFp16Active "DCGM_FI_PROF_PIPE_FP16_ACTIVE" Gauge "Ratio of cycles the fp16 pipes are active."
    PcieTxBytes "DCGM_FI_PROF_PCIE_TX_BYTES" Gauge "The rate of data transmitted over the PCIe bus - including both protocol headers and data payloads - in bytes per second."
    PcieRxBytes "DCGM_FI_PROF_PCIE_RX_BYTES" Gauge "The rate of data received over the PCIe bus - including both protocol headers and data payloads - in bytes per second."
    NvlinkTxBytes "DCGM_FI_PROF_NVLINK_TX_BYTES" Gauge "The rate of data transmitted over NVLink, in bytes per second."
    NvlinkRxBytes "DCGM_FI_PROF_NVLINK_RX_BYTES" Gauge "The rate of data received over NVLink, in bytes per second."
}

impl Field {
    /// Whether the hardware's profiling counters are needed: NVML reads them from Hopper on (GPM),
    /// DCGM before.
    pub fn is_profiled(self) -> bool {
        self.name().starts_with("DCGM_FI_PROF_")
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Field {
    type Err = UnknownField;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.iter().copied();
        all.find(|field| field.name() == name)
            .ok_or_else(|| UnknownField(name.to_owned()))
    }
}

/// A set of fields.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Fields(u128);

impl Fields {
    /// Every field.
    pub fn all() -> Self {
        Field::ALL.iter().copied().collect()
    }

    /// Whether the field is one of them.
    pub fn contains(self, field: Field) -> bool {
        self.0 & Self::bit(field) != 0
    }

    /// Whether any of these fields is one of them.
    pub fn contains_any(self, fields: impl IntoIterator<Item = Field>) -> bool {
        fields.into_iter().any(|field| self.contains(field))
    }

    /// Adds a field.
    pub fn insert(&mut self, field: Field) {
        self.0 |= Self::bit(field);
    }

    /// Takes a field out.
    pub fn remove(&mut self, field: Field) {
        self.0 &= !Self::bit(field);
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The fields in their order.
    pub fn iter(self) -> impl Iterator<Item = Field> {
        let all = Field::ALL.iter().copied();
        all.filter(move |&field| self.contains(field))
    }

    fn bit(field: Field) -> u128 {
        1 << field as u32
    }
}

const _: () = assert!(
    Field::ALL.len() <= u128::BITS as usize,
    "a bit for each field"
);

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<Field> for Fields {
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Self {
        let mut set = Self::default();
        fields.into_iter().for_each(|field| set.insert(field));
        set
    }
}

/// Declares the fields that are words: variant, name, help.
macro_rules! text_fields {
    ($($variant:ident $name:literal $help:literal)+) => {
        /// Words that a GPU or its driver can be asked for, and that stay the same: labels of the
        /// other metrics.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum TextField {
            $(#[doc = $help] $variant,)+
        }

        impl TextField {
            /// All of them, in the order of the exporter's file of counters.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// DCGM's name, which is the label's.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

text_fields! {
    DriverVersion "DCGM_FI_DRIVER_VERSION" "Driver Version"
    NvmlVersion "DCGM_FI_NVML_VERSION" "NVML Version"
    Brand "DCGM_FI_DEV_BRAND" "Device Brand"
    Serial "DCGM_FI_DEV_SERIAL" "Device Serial Number"
    OemInforomVersion "DCGM_FI_DEV_OEM_INFOROM_VER" "OEM inforom version"
    EccInforomVersion "DCGM_FI_DEV_ECC_INFOROM_VER" "ECC inforom version"
    PowerInforomVersion "DCGM_FI_DEV_POWER_INFOROM_VER" "Power management object inforom version"
    InforomImageVersion "DCGM_FI_DEV_INFOROM_IMAGE_VER" "Inforom image version"
    VbiosVersion "DCGM_FI_DEV_VBIOS_VERSION" "VBIOS version of the device"
}

impl FromStr for TextField {
    type Err = UnknownField;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.iter().copied();
        all.find(|field| field.name() == name)
            .ok_or_else(|| UnknownField(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_field_has_one_name_and_is_found_by_it() {
        let names: BTreeSet<_> = Field::ALL.iter().map(|field| field.name()).collect();
        assert_eq!(names.len(), Field::ALL.len());
        for &field in Field::ALL {
            assert_eq!(field.name().parse(), Ok(field));
        }
        for &field in TextField::ALL {
            assert_eq!(field.name().parse(), Ok(field));
            assert!(!names.contains(field.name()));
        }
    }

    #[test]
    fn a_set_holds_every_field_in_its_order() {
        let all = Fields::all();
        assert!(all.iter().eq(Field::ALL.iter().copied()));
        let mut some = Fields::default();
        assert!(some.is_empty());
        some.insert(Field::NvlinkRxBytes);
        some.insert(Field::SmClock);
        assert!(some.iter().eq([Field::SmClock, Field::NvlinkRxBytes]));
        assert!(!some.contains(Field::GpuTemp));
        assert!(some.contains_any([Field::GpuTemp, Field::SmClock]));
    }

    #[test]
    fn what_needs_the_profiling_counters_is_known_by_its_name() {
        assert!(Field::DramActive.is_profiled());
        assert!(!Field::GpuUtil.is_profiled());
    }
}
