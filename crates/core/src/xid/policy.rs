//! Which Xids make a GPU unhealthy.

use std::collections::BTreeSet;
use std::fmt;

use super::Xid;

/// The Xids that tell of a fault of the application, not of the GPU: the reference's list.
pub const APPLICATION_XIDS: [Xid; 6] = [Xid(13), Xid(31), Xid(43), Xid(45), Xid(68), Xid(109)];

/// What an Xid means for its GPU's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XidVerdict {
    /// The GPU stays as it is.
    Ignore(IgnoreReason),
    /// The GPU is unhealthy.
    Unhealthy,
}

/// Why an Xid leaves its GPU healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IgnoreReason {
    /// It is one of [`APPLICATION_XIDS`].
    Application,
    /// `DP_DISABLE_HEALTHCHECKS` names it, or all.
    Disabled,
}

/// Which Xids make a GPU unhealthy: all but the application's own, as two lists change it.
///
/// `DP_DISABLE_HEALTHCHECKS` and `DP_ENABLE_HEALTHCHECKS` hold numbers separated by commas, or
/// `all` or `xids`, each of which stands for every Xid, whatever else the list holds. Case and
/// spaces do not matter. What is enabled outranks what is disabled and the application's own, so
/// that with everything disabled single Xids can still be enabled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct XidPolicy {
    disabled: Selection,
    enabled: Selection,
}

impl XidPolicy {
    /// The policy that the texts of the two variables ask for, and the entries that are no Xids
    /// and were passed over.
    pub fn from_lists(disabled: &str, enabled: &str) -> (Self, Vec<MalformedXid>) {
        let mut malformed = Vec::new();
        let policy = Self {
            disabled: Selection::parse(disabled, XidList::Disabled, &mut malformed),
            enabled: Selection::parse(enabled, XidList::Enabled, &mut malformed),
        };
        (policy, malformed)
    }

    /// What `xid` means for its GPU.
    pub fn classify(&self, xid: Xid) -> XidVerdict {
        if self.enabled.holds(xid) {
            XidVerdict::Unhealthy
        } else if self.disabled.holds(xid) {
            XidVerdict::Ignore(IgnoreReason::Disabled)
        } else if APPLICATION_XIDS.contains(&xid) {
            XidVerdict::Ignore(IgnoreReason::Application)
        } else {
            XidVerdict::Unhealthy
        }
    }

    /// Whether any Xid at all can make a GPU unhealthy. The reference watches no GPU where none
    /// can.
    pub fn any_enabled(&self) -> bool {
        self.disabled != Selection::All || self.enabled != Selection::default()
    }
}

/// A set of Xids.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Selection {
    All,
    These(BTreeSet<Xid>),
}

impl Default for Selection {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Selection {
    fn holds(&self, xid: Xid) -> bool {
        match self {
            Self::All => true,
            Self::These(xids) => xids.contains(&xid),
        }
    }

    fn parse(text: &str, list: XidList, malformed: &mut Vec<MalformedXid>) -> Self {
        let mut all = false;
        let mut xids = BTreeSet::new();
        for entry in text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            if ["all", "xids"]
                .iter()
                .any(|word| entry.eq_ignore_ascii_case(word))
            {
                all = true;
            } else if let Some(number) = parse_number(entry) {
                xids.insert(Xid(number));
            } else {
                malformed.push(MalformedXid {
                    list,
                    entry: entry.to_owned(),
                });
            }
        }
        if all { Self::All } else { Self::These(xids) }
    }
}

/// There is no Xid 0; someone who writes it means something else.
fn parse_number(entry: &str) -> Option<u64> {
    let digits = entry.bytes().all(|byte| byte.is_ascii_digit());
    entry.parse().ok().filter(|number| digits && *number > 0)
}

/// One of the two lists of an [`XidPolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XidList {
    /// `DP_DISABLE_HEALTHCHECKS`.
    Disabled,
    /// `DP_ENABLE_HEALTHCHECKS`.
    Enabled,
}

/// An entry of a list that is no Xid and was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedXid {
    /// The list.
    pub list: XidList,
    /// The entry.
    pub entry: String,
}

impl fmt::Display for MalformedXid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is passed over: expected numbers of Xids separated by commas, or all",
            self.entry
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(disabled: &str, enabled: &str) -> XidPolicy {
        XidPolicy::from_lists(disabled, enabled).0
    }

    const DISABLED: XidVerdict = XidVerdict::Ignore(IgnoreReason::Disabled);
    const APPLICATION: XidVerdict = XidVerdict::Ignore(IgnoreReason::Application);

    #[test]
    fn by_default_only_the_applications_own_xids_are_ignored() {
        let policy = XidPolicy::default();
        for xid in 1..=200 {
            let expected = if [13, 31, 43, 45, 68, 109].contains(&xid) {
                APPLICATION
            } else {
                XidVerdict::Unhealthy
            };
            assert_eq!(policy.classify(Xid(xid)), expected, "Xid {xid}");
        }
        assert!(policy.any_enabled());
    }

    #[test]
    fn a_list_of_disabled_xids_adds_to_the_applications_own() {
        let policy = policy(" 48 ,,79", "");
        assert_eq!(policy.classify(Xid(48)), DISABLED);
        assert_eq!(policy.classify(Xid(79)), DISABLED);
        assert_eq!(policy.classify(Xid(13)), APPLICATION);
        assert_eq!(policy.classify(Xid(74)), XidVerdict::Unhealthy);
    }

    #[test]
    fn all_and_xids_disable_every_xid_in_any_case_and_among_others() {
        for text in ["all", "xids", "ALL", "79,Xids"] {
            let policy = policy(text, "");
            assert_eq!(policy.classify(Xid(74)), DISABLED, "{text}");
            assert!(!policy.any_enabled(), "{text}");
        }
    }

    #[test]
    fn what_is_enabled_outranks_what_is_disabled_and_the_applications_own() {
        let some = policy("all", "79,13");
        assert_eq!(some.classify(Xid(79)), XidVerdict::Unhealthy);
        assert_eq!(some.classify(Xid(13)), XidVerdict::Unhealthy);
        assert_eq!(some.classify(Xid(74)), DISABLED);
        assert!(some.any_enabled());

        let every = policy("all", "all");
        assert!((1..200).all(|xid| every.classify(Xid(xid)) == XidVerdict::Unhealthy));
    }

    #[test]
    fn entries_that_are_no_xids_are_passed_over_and_named() {
        let (policy, malformed) = XidPolicy::from_lists("x48,-1,0,+3,48", "1e3");
        assert_eq!(policy.classify(Xid(48)), DISABLED);
        assert_eq!(policy.classify(Xid(3)), XidVerdict::Unhealthy);
        let named: Vec<_> = malformed
            .iter()
            .map(|bad| (bad.list, bad.entry.as_str()))
            .collect();
        assert_eq!(
            named,
            [
                (XidList::Disabled, "x48"),
                (XidList::Disabled, "-1"),
                (XidList::Disabled, "0"),
                (XidList::Disabled, "+3"),
                (XidList::Enabled, "1e3"),
            ]
        );
    }
}
