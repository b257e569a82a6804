//! The parts of the config file that are more than single settings: `resources`, `sharing` and
//! `health`.
//!
//! What is read here has passed [`shape::check`](super::shape::check), which has dropped and told
//! everything that does not fit.

use super::duration::parse_duration;
use super::error::{ConfigError, ConfigWarning, Location};
use super::file::warning;
use super::kind::parse_integer;
use super::naming::{NamingRule, ResourceNaming};
use super::rules::{FaultAction, FaultRule, HealthRules, XidRule, XidSet};
use super::shares::Shares;
use super::sharing::SharingConfig;
use super::tree::Node;
use super::types::Choice;
use crate::driver::RecoveryAction;
use crate::xid::Xid;

/// What these parts say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sections {
    pub(super) naming: ResourceNaming,
    pub(super) sharing: SharingConfig,
    /// Where `sharing.mps` stands.
    pub(super) mps_at: Option<Location>,
    pub(super) health: HealthRules,
}

/// Reads them from the file's root.
pub(super) fn read(
    root: &Node,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<ConfigWarning>,
) -> Sections {
    let resources = root.get("resources");
    let mut naming = |list: &str, meaning: &str| {
        let rules = resources.and_then(|resources| resources.get(list));
        naming_rules(&format!("resources.{list}"), rules, meaning, warnings)
    };
    let passed_over = "these names hold; the reference passes them over";
    let gpus = naming("gpus", passed_over);
    let mig = naming("mig", passed_over);
    let mut shares = Shares { errors, warnings };
    let (sharing, mps_at) = shares.read(root.get("sharing"));
    Sections {
        naming: ResourceNaming { gpus, mig },
        sharing,
        mps_at,
        health: health(root.get("health"), errors, warnings),
    }
}

pub(super) fn parsed<T: std::str::FromStr>(node: &Node, key: &str) -> Option<T> {
    node.get(key)?.text()?.parse().ok()
}

pub(super) fn choice<T: Choice>(node: &Node, key: &str) -> Option<T> {
    T::from_word(node.get(key)?.text()?)
}

pub(super) fn number(node: &Node, key: &str) -> Option<u32> {
    parse_integer(node.get(key)?.text()?)
}

fn naming_rules(
    path: &str,
    node: Option<&Node>,
    meaning: &str,
    warnings: &mut Vec<ConfigWarning>,
) -> Vec<NamingRule> {
    let mut rules: Vec<NamingRule> = Vec::new();
    if let Some(node) = node.filter(|node| !node.items().is_empty()) {
        warnings.push(warning(path, node.location, meaning));
    }
    for (at, item) in node.map(Node::items).unwrap_or_default().iter().enumerate() {
        let pattern = item.get("pattern").and_then(Node::text);
        let (Some(pattern), Some(name)) = (pattern, parsed(item, "name")) else {
            continue;
        };
        let hidden = rules
            .iter()
            .any(|rule| rule.pattern.is_any() || rule.pattern.to_string() == pattern);
        if hidden {
            let message = "it never counts: a pattern before it matches all that it does";
            warnings.push(warning(&format!("{path}[{at}]"), item.location, message));
        }
        rules.push(NamingRule {
            pattern: pattern.into(),
            name,
        });
    }
    rules
}

/// The keys of `health.recoveryActions` and what they stand for.
pub(super) const RECOVERY_ACTIONS: [(&str, RecoveryAction); 5] = [
    ("gpu-reset", RecoveryAction::GpuReset),
    ("node-reboot", RecoveryAction::NodeReboot),
    ("drain-p2p", RecoveryAction::DrainP2p),
    ("drain-and-reset", RecoveryAction::DrainAndReset),
    ("recover-imex-domain", RecoveryAction::RecoverImexDomain),
];

fn health(
    node: Option<&Node>,
    errors: &mut Vec<ConfigError>,
    warnings: &mut Vec<ConfigWarning>,
) -> HealthRules {
    let default = HealthRules::default();
    let Some(node) = node else { return default };
    let mut rule = |section: &str, key: &str, default: FaultRule| {
        let found = node.get(section).and_then(|section| section.get(key));
        found.map_or(default, |node| fault_rule(node, errors).unwrap_or(default))
    };
    let double_bit_ecc = rule("ecc", "doubleBit", default.double_bit_ecc);
    let single_bit_ecc = rule("ecc", "singleBit", default.single_bit_ecc);
    let row_remap_failure = rule("rowRemap", "failure", default.row_remap_failure);
    let row_remap_pending = rule("rowRemap", "pending", default.row_remap_pending);
    let items = node.get("xids").map(Node::items).unwrap_or_default();
    let mut xids: Vec<XidRule> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let Some(rule) = xid_rule(item, errors) else {
            continue;
        };
        let before = xids.iter().flat_map(|rule| &rule.xids);
        let before: Vec<&XidSet> = before.collect();
        let hidden = |set: &XidSet| before.iter().any(|other| other.covers(set));
        if rule.xids.iter().all(hidden) {
            let message = "it never counts: rules before it name all of its Xids";
            let path = format!("health.xids[{at}]");
            warnings.push(warning(&path, item.location, message));
        }
        xids.push(rule);
    }
    let actions = node.get("recoveryActions");
    let recovery_actions = RECOVERY_ACTIONS.iter().filter_map(|(key, action)| {
        let what = choice::<FaultAction>(actions?, key)?;
        Some((*action, what))
    });
    HealthRules {
        xids,
        double_bit_ecc,
        single_bit_ecc,
        row_remap_failure,
        row_remap_pending,
        recovery_actions: recovery_actions.collect(),
    }
}

fn xid_rule(node: &Node, errors: &mut Vec<ConfigError>) -> Option<XidRule> {
    let named = node.get("xids")?;
    let texts = named.items().iter().chain([named]).filter_map(Node::text);
    Some(XidRule {
        xids: texts.filter_map(parse_xids).collect(),
        rule: fault_rule(node, errors)?,
    })
}

/// Reads one word for an action, or a mapping with `action`, `count`, `within` and `holdDown`.
fn fault_rule(node: &Node, errors: &mut Vec<ConfigError>) -> Option<FaultRule> {
    if let Some(word) = node.text() {
        return FaultAction::from_word(word).map(FaultRule::each);
    }
    let count = number(node, "count").unwrap_or(1);
    let within = node.get("within");
    if let Some(within) = within.filter(|_| count == 1) {
        errors.push(ConfigError::File {
            location: Some(within.location),
            message: "within needs a count of 2 or more: a single fault comes at one time"
                .to_owned(),
        });
    }
    let action = choice(node, "action")?;
    let hold_down = node.get("holdDown");
    if let Some(hold_down) = hold_down.filter(|_| action != FaultAction::Unhealthy) {
        errors.push(ConfigError::File {
            location: Some(hold_down.location),
            message: "holdDown needs the action unhealthy: only that is recovered from".to_owned(),
        });
    }
    let duration = |node: &Node| parse_duration(node.text()?).ok();
    Some(FaultRule {
        action,
        count,
        within: within.and_then(duration),
        hold_down: hold_down.and_then(duration),
    })
}

/// Reads `79`, `60-65`, `all` or `application`; there is no Xid 0.
pub(super) fn parse_xids(text: &str) -> Option<XidSet> {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && *number > 0);
        number.map(Xid)
    };
    match text {
        "all" => Some(XidSet::All),
        "application" => Some(XidSet::Application),
        _ => match text.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(XidSet::Range(first, last))
            }
            None => number(text).map(|xid| XidSet::Range(xid, xid)),
        },
    }
}
