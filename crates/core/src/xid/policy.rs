//! Which Xids make a GPU unhealthy.

use std::collections::BTreeSet;
use std::fmt;

use super::Xid;
use crate::config::{FaultAction, FaultRule, XidRule};

/// The Xids that tell of a fault of the application, not of the GPU: the reference's list.
pub const APPLICATION_XIDS: [Xid; 6] = [Xid(13), Xid(31), Xid(43), Xid(45), Xid(68), Xid(109)];

/// What is done about an Xid, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XidVerdict {
    /// What is done.
    pub rule: FaultRule,
    /// By whose word.
    pub authority: XidAuthority,
}

/// Who decides about an Xid; the first of these that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XidAuthority {
    /// `DP_ENABLE_HEALTHCHECKS`.
    Enabled,
    /// `DP_DISABLE_HEALTHCHECKS`.
    Disabled,
    /// The rule at this position of the config file's `health.xids`.
    File(usize),
    /// The list of [`APPLICATION_XIDS`].
    Application,
    /// Nobody: all other Xids make a GPU unhealthy.
    Default,
}

/// Writes why an Xid is ignored, or only reported.
impl fmt::Display for XidAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enabled => f.write_str("DP_ENABLE_HEALTHCHECKS says so"),
            Self::Disabled => f.write_str("DP_DISABLE_HEALTHCHECKS says so"),
            Self::File(at) => write!(f, "health.xids[{at}] of the config file says so"),
            Self::Application => f.write_str("it is the application's fault, not the GPU's"),
            Self::Default => f.write_str("nothing else is said"),
        }
    }
}

/// Which Xids make a GPU unhealthy: all but the application's own, as two lists change it.
///
/// `DP_DISABLE_HEALTHCHECKS` and `DP_ENABLE_HEALTHCHECKS` hold numbers separated by commas, or
/// `all` or `xids`, each of which stands for every Xid, whatever else the list holds. Case and
/// spaces do not matter. What is enabled outranks what is disabled and the application's own, so
/// that with everything disabled single Xids can still be enabled. Both outrank the rules of the
/// config file, as the environment outranks the file everywhere.
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

    /// What is done about `xid`, with these rules in the config file.
    pub fn classify(&self, xid: Xid, rules: &[XidRule]) -> XidVerdict {
        let file = || {
            let names = |rule: &XidRule| rule.xids.iter().any(|set| set.contains(xid));
            let at = rules.iter().position(names)?;
            Some((XidAuthority::File(at), rules[at].rule))
        };
        let each = |authority, action| (authority, FaultRule::each(action));
        let (authority, rule) = if self.enabled.holds(xid) {
            each(XidAuthority::Enabled, FaultAction::Unhealthy)
        } else if self.disabled.holds(xid) {
            each(XidAuthority::Disabled, FaultAction::Ignore)
        } else if let Some(found) = file() {
            found
        } else if APPLICATION_XIDS.contains(&xid) {
            each(XidAuthority::Application, FaultAction::Ignore)
        } else {
            each(XidAuthority::Default, FaultAction::Unhealthy)
        };
        XidVerdict { rule, authority }
    }

    /// Whether the two lists leave any Xid that can make a GPU unhealthy, whatever the config
    /// file says. The reference watches no GPU where they leave none.
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
    use crate::config::XidSet;

    fn policy(disabled: &str, enabled: &str) -> XidPolicy {
        XidPolicy::from_lists(disabled, enabled).0
    }

    const fn verdict(authority: XidAuthority, action: FaultAction) -> XidVerdict {
        let rule = FaultRule::each(action);
        XidVerdict { rule, authority }
    }

    const ENABLED: XidVerdict = verdict(XidAuthority::Enabled, FaultAction::Unhealthy);
    const DISABLED: XidVerdict = verdict(XidAuthority::Disabled, FaultAction::Ignore);
    const APPLICATION: XidVerdict = verdict(XidAuthority::Application, FaultAction::Ignore);
    const DEFAULT: XidVerdict = verdict(XidAuthority::Default, FaultAction::Unhealthy);

    /// What is done without rules in the file.
    fn classify(policy: &XidPolicy, xid: u64) -> XidVerdict {
        policy.classify(Xid(xid), &[])
    }

    #[test]
    fn by_default_only_the_applications_own_xids_are_ignored() {
        let policy = XidPolicy::default();
        for xid in 1..=200 {
            let expected = if [13, 31, 43, 45, 68, 109].contains(&xid) {
                APPLICATION
            } else {
                DEFAULT
            };
            assert_eq!(classify(&policy, xid), expected, "Xid {xid}");
        }
        assert!(policy.any_enabled());
    }

    #[test]
    fn a_list_of_disabled_xids_adds_to_the_applications_own() {
        let policy = policy(" 48 ,,79", "");
        assert_eq!(classify(&policy, 48), DISABLED);
        assert_eq!(classify(&policy, 79), DISABLED);
        assert_eq!(classify(&policy, 13), APPLICATION);
        assert_eq!(classify(&policy, 74), DEFAULT);
    }

    #[test]
    fn all_and_xids_disable_every_xid_in_any_case_and_among_others() {
        for text in ["all", "xids", "ALL", "79,Xids"] {
            let policy = policy(text, "");
            assert_eq!(classify(&policy, 74), DISABLED, "{text}");
            assert!(!policy.any_enabled(), "{text}");
        }
    }

    #[test]
    fn what_is_enabled_outranks_what_is_disabled_and_the_applications_own() {
        let some = policy("all", "79,13");
        assert_eq!(classify(&some, 79), ENABLED);
        assert_eq!(classify(&some, 13), ENABLED);
        assert_eq!(classify(&some, 74), DISABLED);
        assert!(some.any_enabled());

        let every = policy("all", "all");
        assert!((1..200).all(|xid| classify(&every, xid) == ENABLED));
    }

    #[test]
    fn entries_that_are_no_xids_are_passed_over_and_named() {
        let (policy, malformed) = XidPolicy::from_lists("x48,-1,0,+3,48", "1e3");
        assert_eq!(classify(&policy, 48), DISABLED);
        assert_eq!(classify(&policy, 3), DEFAULT);
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

    fn rule(xids: &[XidSet], action: FaultAction) -> XidRule {
        XidRule {
            xids: xids.to_vec(),
            rule: FaultRule::each(action),
        }
    }

    #[test]
    fn the_first_rule_of_the_file_that_names_an_xid_decides() {
        let rules = [
            rule(&[XidSet::Range(Xid(31), Xid(33))], FaultAction::Report),
            rule(&[XidSet::Application], FaultAction::Unhealthy),
            rule(
                &[XidSet::Range(Xid(74), Xid(74)), XidSet::All],
                FaultAction::Ignore,
            ),
        ];
        let policy = XidPolicy::default();
        for (xid, at, action) in [
            (31, 0, FaultAction::Report),
            (33, 0, FaultAction::Report),
            (13, 1, FaultAction::Unhealthy),
            (74, 2, FaultAction::Ignore),
            (34, 2, FaultAction::Ignore),
        ] {
            let expected = verdict(XidAuthority::File(at), action);
            assert_eq!(policy.classify(Xid(xid), &rules), expected, "Xid {xid}");
        }
        let only_first = &rules[..1];
        assert_eq!(policy.classify(Xid(13), only_first), APPLICATION);
        assert_eq!(policy.classify(Xid(79), only_first), DEFAULT);
    }

    #[test]
    fn the_environment_outranks_the_file() {
        let rules = [
            rule(&[XidSet::Range(Xid(94), Xid(94))], FaultAction::Report),
            rule(&[XidSet::All], FaultAction::Unhealthy),
        ];
        let policy = policy("48,94", "94");
        assert_eq!(policy.classify(Xid(94), &rules), ENABLED);
        assert_eq!(policy.classify(Xid(48), &rules), DISABLED);
        assert_eq!(
            policy.classify(Xid(13), &rules),
            verdict(XidAuthority::File(1), FaultAction::Unhealthy)
        );
    }
}
