//! What each reason counts for, by the settings.

use std::time::Duration;

use super::{Reason, Sign};
use crate::config::{Config, FaultAction, FaultRule, HealthRules};
use crate::xid::{XidAuthority, XidPolicy};

/// What each [`Reason`] counts for.
#[derive(Debug, Clone, Copy)]
pub struct HealthPolicy<'a> {
    xids: &'a XidPolicy,
    rules: &'a HealthRules,
    hold_down: Duration,
}

/// A rule of the settings that can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RuleKey {
    /// The one at this position of `health.xids`.
    Xids(usize),
    DoubleBitEcc,
    SingleBitEcc,
    RowRemapFailure,
    RowRemapPending,
}

impl<'a> HealthPolicy<'a> {
    /// The policy of these settings.
    pub fn of(config: &'a Config) -> Self {
        Self {
            xids: &config.xid_policy,
            rules: &config.health_rules,
            hold_down: config.health.hold_down,
        }
    }

    /// What is done about `reason`. There is no rule about a GPU that cannot be used: it is
    /// unhealthy.
    pub fn rule(&self, reason: &Reason) -> FaultRule {
        match reason {
            Reason::Xid(xid) => self.xids.classify(*xid, &self.rules.xids).rule,
            Reason::DoubleBitEcc => self.rules.double_bit_ecc,
            Reason::SingleBitEcc => self.rules.single_bit_ecc,
            Reason::RowRemapFailure => self.rules.row_remap_failure,
            Reason::RowRemapPending => self.rules.row_remap_pending,
            Reason::RecoveryAction(action) => FaultRule::each(self.rules.recovery_action(*action)),
            Reason::Lost | Reason::Hung | Reason::Broken(_) | Reason::Missing => {
                FaultRule::each(FaultAction::Unhealthy)
            }
        }
    }

    /// Who says so, for a log line.
    pub fn authority(&self, reason: &Reason) -> String {
        let key = match reason {
            Reason::Xid(xid) => {
                let verdict = self.xids.classify(*xid, &self.rules.xids);
                return verdict.authority.to_string();
            }
            Reason::DoubleBitEcc => "ecc.doubleBit",
            Reason::SingleBitEcc => "ecc.singleBit",
            Reason::RowRemapFailure => "rowRemap.failure",
            Reason::RowRemapPending => "rowRemap.pending",
            _ => "recoveryActions",
        };
        format!("health.{key} of the config file says so")
    }

    /// The rule that counts `reason`, if there can be one that does.
    pub(super) fn key(&self, reason: &Reason) -> Option<RuleKey> {
        Some(match reason {
            Reason::Xid(xid) => match self.xids.classify(*xid, &self.rules.xids).authority {
                XidAuthority::File(at) => RuleKey::Xids(at),
                _ => return None,
            },
            Reason::DoubleBitEcc => RuleKey::DoubleBitEcc,
            Reason::SingleBitEcc => RuleKey::SingleBitEcc,
            Reason::RowRemapFailure => RuleKey::RowRemapFailure,
            Reason::RowRemapPending => RuleKey::RowRemapPending,
            _ => return None,
        })
    }

    /// How long a GPU with these signs must be well: the longest that one of them asks for.
    pub(super) fn hold_down(&self, signs: &[Sign]) -> Duration {
        let asked = signs
            .iter()
            .map(|sign| self.rule(&sign.reason).hold_down.unwrap_or(self.hold_down));
        asked.max().unwrap_or(self.hold_down)
    }
}
