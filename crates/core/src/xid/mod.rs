//! NVIDIA's Xid errors: what they mean and which of them make a GPU unhealthy.

mod catalog;
mod policy;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use catalog::{CATALOG, XidAction, XidCause, XidInfo};
pub use policy::{APPLICATION_XIDS, IgnoreReason, MalformedXid, XidList, XidPolicy, XidVerdict};

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
