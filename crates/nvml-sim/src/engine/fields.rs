//! NVML's field values, `NVML_FI_*`.

use super::{Device, EccLocation, Failure};
use crate::node::NvLinkError;

/// A value with its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldValue {
    /// `NVML_VALUE_TYPE_UNSIGNED_INT`.
    Small(u32),
    /// `NVML_VALUE_TYPE_UNSIGNED_LONG_LONG`.
    Big(u64),
    /// `NVML_VALUE_TYPE_SIGNED_INT`.
    Signed(i32),
}

/// What a field answers.
pub type Reading = Result<FieldValue, Failure>;

use FieldValue::{Big, Signed, Small};

/// Averages and instants, where a field tells them apart: the GPU, or the whole module.
const SCOPE_GPU: u32 = 0;
const SCOPE_MODULE: u32 = 1;
const SCOPE_MEMORY: u32 = 2;
/// All NVLinks together.
const ALL_LINKS: u32 = u32::MAX;

impl Device<'_> {
    /// The value of a field; `scope` is the link or the power scope, where the field has one.
    ///
    /// # Errors
    /// The field does not exist, or is not simulated, or not supported by this GPU.
    pub fn field(&self, field: u32, scope: u32) -> Reading {
        match field {
            1 | 2 => Ok(Small(u32::from(self.has_ecc()))),
            3..=28 => Ok(Big(self.ecc_field(field))),
            29..=31 | 92 | 93 => self.retirement_field(field),
            32..=73 | 84..=90 | 96..=141 | 148..=166 => self.nvlink_field(field, scope),
            91 => self.with_nvlink(Small(self.nvlink_count())),
            142..=145 => self.remapping_field(field),
            147 => self.with_nvlink(Small(self.nvswitch_links())),
            74..=81 => Ok(Big(self.violation(field))),
            82 => self.memory_temperature().map(Small),
            83 | 191 => Ok(Big(self.energy())),
            94 => Ok(Small(
                u32::try_from(self.pcie_replays()).unwrap_or(u32::MAX),
            )),
            95 | 169 | 170 | 173..=183 => Ok(Small(0)),
            184 | 199 => Ok(Small(u32::from(
                self.model().mig.is_some() && self.model().has_gpm(),
            ))),
            185..=190 | 192 => self.power_field(field, scope),
            193..=196 => self.thermal_margin(field),
            197 | 198 => Ok(Big(0)),
            226 | 227 => Ok(Small(u32::from(
                self.recovery_action() == 4 || self.recovery_action() == 1,
            ))),
            230 => Ok(Small(self.recovery_action())),
            269 | 270 => Ok(Big(self.throttled()[1])),
            271 => Ok(Big(self.throttled()[0])),
            301 | 302 => self.remapped_rows().map(|_| Small(0)),
            _ => Err(Failure::NotSupported),
        }
    }

    /// ECC fields come in pairs (corrected, not correctable): totals, then single places, of
    /// which the framebuffer alone has errors here.
    fn ecc_field(&self, field: u32) -> u64 {
        let (uncorrected, aggregate) = match field {
            3 | 11 => (false, false),
            4 | 12 => (true, false),
            5 | 22 => (false, true),
            6 | 23 => (true, true),
            _ => return 0,
        };
        self.ecc_errors(uncorrected, aggregate, EccLocation::Dram)
    }

    fn retirement_field(&self, field: u32) -> Reading {
        let (single, double, pending) = self.retired_pages()?;
        Ok(match field {
            29 => Big(single),
            30 => Big(double),
            _ => Big(u64::from(pending)),
        })
    }

    fn remapping_field(&self, field: u32) -> Reading {
        let rows = self.remapped_rows()?;
        Ok(Small(match field {
            142 => rows.corrected,
            143 => rows.uncorrected,
            144 => u32::from(rows.pending),
            _ => u32::from(rows.failed),
        }))
    }

    fn with_nvlink(&self, value: FieldValue) -> Reading {
        if self.nvlink_count() == 0 {
            return Err(Failure::NotSupported);
        }
        Ok(value)
    }

    fn nvlink_field(&self, field: u32, scope: u32) -> Reading {
        let model = self.model();
        self.with_nvlink(Small(0))?;
        match field {
            // Speeds: of one link, and the one that all have in common.
            84..=89 => self
                .nvlink(field - 84)
                .map(|_| Small(model.nvlink_speed_mbps())),
            132..=137 => self
                .nvlink(field - 132 + 6)
                .map(|_| Small(model.nvlink_speed_mbps())),
            90 => Ok(Small(model.nvlink_speed_mbps())),
            164 => self.nvlink(scope).map(|_| Small(model.nvlink_speed_mbps())),
            165 => self
                .nvlink(scope)
                .map(|link| Small(u32::from(link.end.is_some()))),
            166 => Ok(Small(model.nvlink_version)),
            // Errors: in all, and of the first link, which makes them all.
            32 | 38 => Ok(Big(self.nvlink_errors(NvLinkError::CrcFlit))),
            39 | 45 => Ok(Big(self.nvlink_errors(NvLinkError::CrcData))),
            46 | 52 => Ok(Big(self.nvlink_errors(NvLinkError::Replay))),
            53 | 59 => Ok(Big(self.nvlink_errors(NvLinkError::Recovery))),
            138..=141 => {
                let link = Some(scope).filter(|scope| *scope != ALL_LINKS);
                let data = self.link_traffic(link)?;
                // With what the protocol adds to the data: an eighth.
                Ok(Big(if field < 140 { data } else { data / 8 * 9 }))
            }
            // Errors of other links, and the traffic that older drivers counted: none.
            _ => Ok(Big(0)),
        }
    }

    /// Nanoseconds of violation: power, heat; the rest never happens here.
    fn violation(&self, field: u32) -> u64 {
        match field {
            74 => self.throttled()[0],
            75 => self.throttled()[1],
            _ => 0,
        }
    }

    fn power_field(&self, field: u32, scope: u32) -> Reading {
        match scope {
            SCOPE_GPU => {}
            SCOPE_MODULE | SCOPE_MEMORY => return Err(Failure::NotSupported),
            _ => return Err(Failure::InvalidArgument),
        }
        let (least, most) = self.power_limits();
        Ok(Small(match field {
            187 => least,
            188 => most,
            189 => self.default_power_limit(),
            190 | 192 => self.power_limit(),
            _ => self.power(),
        }))
    }

    /// Thresholds as distances from the one of normal work.
    fn thermal_margin(&self, field: u32) -> Reading {
        if !self.model().has_gpm() {
            return Err(Failure::NotSupported);
        }
        let thermal = self.model().thermal;
        let signed = |degrees: u32| i32::try_from(degrees).unwrap_or(0);
        let from_operating = |degrees: u32| signed(thermal.max_operating) - signed(degrees);
        Ok(Signed(match field {
            193 => from_operating(thermal.shutdown),
            194 => from_operating(thermal.slowdown),
            _ => 0,
        }))
    }
}
