//! NVLinks.

use std::sync::atomic::Ordering::Relaxed;

use super::{Device, Failure};
use crate::identity::PciAddress;
use crate::node::{LinkPeer, NvLinkError};

/// What is at the other end of an NVLink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEnd {
    /// A GPU at this place on the bus.
    Gpu(PciAddress),
    /// The NVSwitch at this place on the bus.
    Switch(PciAddress),
}

/// One NVLink of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NvLink {
    /// The other end; none = the link is down.
    pub end: Option<LinkEnd>,
}

/// Switches on a board, over which links are spread.
const SWITCHES: u32 = 4;

impl Device<'_> {
    /// One of its NVLinks.
    ///
    /// # Errors
    /// The GPU has no NVLinks, or fewer than that.
    pub fn nvlink(&self, link: u32) -> Result<NvLink, Failure> {
        if self.gpu().links.is_empty() {
            return Err(Failure::NotSupported);
        }
        let peer = self
            .gpu()
            .links
            .get(link as usize)
            .ok_or(Failure::InvalidArgument)?;
        let end = match *peer {
            LinkPeer::Down => None,
            LinkPeer::Switch => Some(LinkEnd::Switch(switch_address(link))),
            LinkPeer::Gpu(slot) => self.neighbour(slot).map(LinkEnd::Gpu),
        };
        Ok(NvLink { end })
    }

    /// The GPU in a slot, if it is still there; it need not be visible to this process.
    fn neighbour(&self, slot: u8) -> Option<PciAddress> {
        self.session.store.address_in_slot(usize::from(slot))
    }

    /// Errors of one kind since the last reset: all of them are the first link's.
    pub fn nvlink_errors(&self, error: NvLinkError) -> u64 {
        self.slot.nvlink_errors[error as usize].load(Relaxed)
    }

    /// How many NVLinks it has, up or down.
    pub fn nvlink_count(&self) -> u32 {
        u32::try_from(self.gpu().links.len()).unwrap_or(0)
    }

    /// How many NVLinks are up.
    pub(super) fn links_up(&self) -> u32 {
        let links = self.gpu().links.iter();
        let up = links.filter(|link| **link != LinkPeer::Down);
        u32::try_from(up.count()).unwrap_or(0)
    }

    /// How many of its NVLinks go to an NVSwitch.
    pub fn nvswitch_links(&self) -> u32 {
        let to_switch = self
            .gpu()
            .links
            .iter()
            .filter(|link| **link == LinkPeer::Switch);
        u32::try_from(to_switch.count()).unwrap_or(0)
    }

    /// Whether two GPUs can reach each other's memory: over NVLink, directly or through
    /// switches, or over one PCIe root complex.
    pub fn can_reach(&self, other: &Self) -> bool {
        self.joined_by_nvlink(other)
            || self.gpu().common_ancestor(other.gpu()) <= crate::node::Ancestor::HostBridge
    }

    /// Whether NVLinks join two GPUs, directly or through switches.
    pub fn joined_by_nvlink(&self, other: &Self) -> bool {
        let switched = |device: &Self| device.gpu().links.contains(&LinkPeer::Switch);
        let direct = self.gpu().links.iter().any(|link| {
            *link == u8::try_from(other.entry.slot).map_or(LinkPeer::Down, LinkPeer::Gpu)
        });
        direct || (switched(self) && switched(other))
    }
}

/// Where the NVSwitch behind a link sits: buses of their own, as in DGX machines.
fn switch_address(link: u32) -> PciAddress {
    let bus = u8::try_from(link % SWITCHES).unwrap_or(0) + 0x05;
    PciAddress::new(0, bus, 0)
}
