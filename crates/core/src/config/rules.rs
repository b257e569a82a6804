//! What faults mean for a GPU, as the config says it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::types::Choice;
use crate::driver::{Questions, RecoveryAction};
use crate::xid::{APPLICATION_XIDS, Xid};

/// What is done about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultAction {
    /// Nothing.
    Ignore,
    /// It is logged as a warning; the GPU stays healthy.
    Report,
    /// The GPU is unhealthy.
    Unhealthy,
}

impl Choice for FaultAction {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("ignore", Self::Ignore),
        ("report", Self::Report),
        ("unhealthy", Self::Unhealthy),
    ];
}

/// When how much is done about a kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultRule {
    /// What is done.
    pub action: FaultAction,
    /// How many such faults of one GPU it takes, at least 1.
    pub count: u32,
    /// Within which time they must come; `None` = however far apart.
    pub within: Option<Duration>,
    /// How long a GPU that is unhealthy for it must be well to be healthy again; `None` = as
    /// long as after everything else.
    pub hold_down: Option<Duration>,
}

impl FaultRule {
    /// The rule that does this about every fault.
    pub const fn each(action: FaultAction) -> Self {
        Self {
            action,
            count: 1,
            within: None,
            hold_down: None,
        }
    }
}

/// Which Xids a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XidSet {
    /// All.
    All,
    /// Those of the application: [`APPLICATION_XIDS`](crate::xid::APPLICATION_XIDS).
    Application,
    /// From the first to the last, both included.
    Range(Xid, Xid),
}

impl XidSet {
    /// Whether it surely holds every Xid that `other` does.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) | (Self::Application, Self::Application) => true,
            (Self::Range(first, last), Self::Range(from, to)) => first <= from && to <= last,
            _ => false,
        }
    }

    /// Whether `xid` is one of them.
    pub fn contains(&self, xid: Xid) -> bool {
        match self {
            Self::All => true,
            Self::Application => APPLICATION_XIDS.contains(&xid),
            Self::Range(first, last) => (*first..=*last).contains(&xid),
        }
    }
}

/// A rule for Xids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XidRule {
    /// For which.
    pub xids: Vec<XidSet>,
    /// What is done about them.
    pub rule: FaultRule,
}

/// What faults mean: `health` in the config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthRules {
    /// For Xids, the first rule that names an Xid counts; for those that none names the
    /// reference's defaults hold.
    pub xids: Vec<XidRule>,
    /// For uncorrectable memory errors.
    pub double_bit_ecc: FaultRule,
    /// For corrected memory errors.
    pub single_bit_ecc: FaultRule,
    /// For a remapping of memory rows that failed.
    pub row_remap_failure: FaultRule,
    /// For a remapping of memory rows that waits for a reset.
    pub row_remap_pending: FaultRule,
    /// For what the driver asks to be done; `unhealthy` for those that are not named.
    pub recovery_actions: BTreeMap<RecoveryAction, FaultAction>,
}

impl Default for HealthRules {
    /// The reference's: of row remapping it takes no notice.
    fn default() -> Self {
        Self {
            xids: Vec::new(),
            double_bit_ecc: FaultRule::each(FaultAction::Unhealthy),
            single_bit_ecc: FaultRule::each(FaultAction::Ignore),
            row_remap_failure: FaultRule::each(FaultAction::Ignore),
            row_remap_pending: FaultRule::each(FaultAction::Ignore),
            recovery_actions: BTreeMap::new(),
        }
    }
}

impl HealthRules {
    /// What is done when the driver asks for this.
    pub fn recovery_action(&self, action: RecoveryAction) -> FaultAction {
        let named = self.recovery_actions.get(&action).copied();
        named.unwrap_or(FaultAction::Unhealthy)
    }

    /// What GPUs must be asked so that these rules can be followed.
    pub fn questions(&self) -> Questions {
        let counts = |rule: FaultRule| rule.action != FaultAction::Ignore;
        Questions {
            single_bit_ecc: counts(self.single_bit_ecc),
            row_remap: counts(self.row_remap_failure) || counts(self.row_remap_pending),
        }
    }
}
