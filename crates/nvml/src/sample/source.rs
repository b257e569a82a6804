//! Where each field comes from.

use mizzen_core::metrics::Field;

/// What NVML is asked for a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A function of its own.
    Call,
    /// A field value (`NVML_FI_*`): all of them are asked in one call.
    Value(u32),
    /// The traffic over NVLinks, as field values of a link or of all of them.
    Links(u32),
    /// `nvmlDeviceGetUtilizationRates`, which tells two fields.
    Utilization,
    /// `nvmlDeviceGetMemoryInfo_v2`, which tells five.
    Memory,
    /// A GPM metric (`NVML_GPM_METRIC_*`) in %.
    Ratio(u32),
    /// A GPM metric in MiB/s.
    Traffic(u32),
    /// `nvmlDeviceGetGridLicensableFeatures_v4`, which says the same for as long as a machine has
    /// no vGPUs.
    Licences,
    /// Events tell it, and no question.
    Events,
}

/// All NVLinks together, as a field's scope.
const ALL_LINKS: u32 = u32::MAX;

/// Where a field comes from. The ids are nvml.h's.
pub(super) fn source(field: Field) -> Source {
    use Source::{Call, Events, Licences, Links, Memory, Ratio, Traffic, Utilization, Value};
    match field {
        Field::SmClock
        | Field::MemClock
        | Field::VideoClock
        | Field::MaxSmClock
        | Field::MaxMemClock
        | Field::ClockThrottleReasons
        | Field::GpuTemp
        | Field::SlowdownTemp
        | Field::ShutdownTemp
        | Field::FanSpeed
        | Field::PowerUsage
        | Field::PowerLimit
        | Field::EnforcedPowerLimit
        | Field::Pstate
        | Field::PcieLinkGen
        | Field::PcieLinkWidth
        | Field::PcieMaxLinkGen
        | Field::PcieMaxLinkWidth
        | Field::EncUtil
        | Field::DecUtil => Call,
        Field::EccSbeVolTotal => Value(3),
        Field::EccDbeVolTotal => Value(4),
        Field::EccSbeAggTotal => Value(5),
        Field::EccDbeAggTotal => Value(6),
        Field::RetiredSbe => Value(29),
        Field::RetiredDbe => Value(30),
        Field::RetiredPending => Value(31),
        Field::NvlinkCrcFlitErrors => Value(38),
        Field::NvlinkCrcDataErrors => Value(45),
        Field::NvlinkReplayErrors => Value(52),
        Field::NvlinkRecoveryErrors => Value(59),
        Field::PowerViolation => Value(74),
        Field::ThermalViolation => Value(75),
        Field::SyncBoostViolation => Value(76),
        Field::BoardLimitViolation => Value(77),
        Field::LowUtilViolation => Value(78),
        Field::ReliabilityViolation => Value(79),
        Field::MemoryTemp => Value(82),
        Field::TotalEnergy => Value(83),
        Field::PcieReplayCounter => Value(94),
        Field::CorrectableRemappedRows => Value(142),
        Field::UncorrectableRemappedRows => Value(143),
        Field::RowRemapPending => Value(144),
        Field::RowRemapFailure => Value(145),
        Field::NvlinkBandwidthTotal => Links(ALL_LINKS),
        Field::NvlinkBandwidthL0 => Links(0),
        Field::GpuUtil | Field::MemCopyUtil => Utilization,
        Field::FbTotal
        | Field::FbFree
        | Field::FbUsed
        | Field::FbReserved
        | Field::FbUsedPercent => Memory,
        Field::VgpuLicenseStatus => Licences,
        Field::XidErrors => Events,
        Field::GrEngineActive => Ratio(1),
        Field::SmActive => Ratio(2),
        Field::SmOccupancy => Ratio(3),
        Field::PipeTensorActive => Ratio(5),
        Field::DramActive => Ratio(10),
        Field::PipeFp64Active => Ratio(11),
        Field::PipeFp32Active => Ratio(12),
        Field::PipeFp16Active => Ratio(13),
        Field::PcieTxBytes => Traffic(20),
        Field::PcieRxBytes => Traffic(21),
        Field::NvlinkRxBytes => Traffic(60),
        Field::NvlinkTxBytes => Traffic(61),
    }
}

/// Whether NVML refuses it of a GPU that is partitioned: "On MIG-enabled GPUs, querying … is not
/// currently supported" (nvml.h).
pub(super) fn refused_with_mig(field: Field) -> bool {
    field.is_profiled()
        || matches!(
            field,
            Field::GpuUtil
                | Field::MemCopyUtil
                | Field::EncUtil
                | Field::DecUtil
                | Field::EccSbeVolTotal
                | Field::EccDbeVolTotal
        )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_fields_have_the_same_source() {
        let mut seen = BTreeSet::new();
        for &field in Field::ALL {
            let source = source(field);
            assert_eq!(
                field.is_profiled(),
                matches!(source, Source::Ratio(_) | Source::Traffic(_)),
                "{field}"
            );
            if let Source::Value(id) | Source::Ratio(id) | Source::Traffic(id) = source {
                assert!(seen.insert((field.is_profiled(), id)), "{field}");
            }
        }
    }
}
