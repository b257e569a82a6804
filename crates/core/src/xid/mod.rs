//! NVIDIA's Xid errors: what they mean and which of them make a GPU unhealthy.

mod catalog;
mod info;
mod policy;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use catalog::CATALOG;
pub use info::{XidAction, XidCause, XidInfo};
pub use policy::{APPLICATION_XIDS, MalformedXid, XidAuthority, XidList, XidPolicy, XidVerdict};

/// The number of an error that NVIDIA's driver reports of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Xid(pub u64);

impl Xid {
    /// What NVIDIA's catalogue says of it, in short; `None` for a number that is not in it.
    pub fn info(self) -> Option<&'static XidInfo> {
        let at = CATALOG.binary_search_by_key(&self.0, |info| u64::from(info.number));
        at.ok().map(|at| &CATALOG[at])
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Xid {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_in_order_so_that_it_can_be_searched() {
        assert!(
            CATALOG
                .windows(2)
                .all(|pair| pair[0].number < pair[1].number)
        );
        for info in CATALOG {
            assert_eq!(Xid(u64::from(info.number)).info(), Some(info));
        }
    }

    #[test]
    fn numbers_that_mean_nothing_are_not_in_the_catalogue() {
        for unused in [
            0,
            5,
            10,
            14,
            15,
            17,
            23,
            49,
            55,
            87,
            90,
            91,
            10_000,
            u64::MAX,
        ] {
            assert_eq!(Xid(unused).info(), None, "Xid {unused}");
        }
    }

    #[test]
    fn every_entry_can_be_put_into_a_sentence() {
        for info in CATALOG {
            for text in [info.title, info.meaning, info.action.advice()] {
                assert!(
                    !text.is_empty() && !text.ends_with('.'),
                    "Xid {}",
                    info.number
                );
                assert!(!text.contains("  "), "Xid {}: {text}", info.number);
            }
            let shouts = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            assert!(info.mnemonic.chars().all(shouts), "{}", info.mnemonic);
        }
    }

    #[test]
    fn the_xids_people_meet_say_who_is_to_blame_and_what_to_do() {
        for (number, cause, action) in [
            (13, XidCause::Application, XidAction::RestartApplication),
            (31, XidCause::Application, XidAction::RestartApplication),
            (48, XidCause::Hardware, XidAction::ResetGpu),
            (63, XidCause::Event, XidAction::Nothing),
            (64, XidCause::Hardware, XidAction::ResetGpu),
            (74, XidCause::Link, XidAction::CheckLinks),
            (79, XidCause::Machine, XidAction::RebootNode),
            (94, XidCause::Hardware, XidAction::RestartApplication),
            (95, XidCause::Hardware, XidAction::ResetGpu),
            (119, XidCause::Driver, XidAction::ResetGpu),
            (154, XidCause::Event, XidAction::FollowRecoveryAction),
        ] {
            let info = Xid(number).info().unwrap();
            assert_eq!((info.cause, info.action), (cause, action), "Xid {number}");
        }
    }
}
