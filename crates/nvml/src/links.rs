//! From what each GPU tells of its links to the node's link matrix.

use mizzen_core::driver::DriverError;
use mizzen_core::gpu::PciBusId;
use mizzen_core::topology::{Link, LinkMatrix, PcieRelation};

use crate::device::{Device, LinkEnd};
use crate::library::Library;

/// The most links asked for; `NVML_NVLINK_MAX_LINKS` of API 13. A GPU ends the count itself by
/// refusing the first number it does not have.
const MAX_LINKS: u32 = 36;

/// What one GPU tells of its ways to the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ways {
    /// The other end of each active NVLink.
    pub(crate) ends: Vec<LinkEnd>,
    /// The way through PCIe to each of the GPUs after this one, in their order.
    pub(crate) pcie: Vec<PcieRelation>,
}

/// Asks one GPU for its ways to `later`, the GPUs after it. What cannot be had is left out:
/// unknown links make a choice of GPUs poorer, never impossible.
pub(crate) fn ways(library: &Library, device: Device, later: &[Device]) -> Ways {
    Ways {
        ends: link_ends(library, device).unwrap_or_default(),
        pcie: later
            .iter()
            .map(|&other| {
                library
                    .common_ancestor(device, other)
                    .unwrap_or(PcieRelation::Unknown)
            })
            .collect(),
    }
}

fn link_ends(library: &Library, device: Device) -> Result<Vec<LinkEnd>, DriverError> {
    let mut ends = Vec::new();
    for link in 0..MAX_LINKS {
        match library.link_is_up(device, link)? {
            Some(true) => ends.push(library.link_end(device, link).unwrap_or(LinkEnd::Other)),
            Some(false) => {}
            None => break,
        }
    }
    Ok(ends)
}

/// The matrix of GPUs at these places with these ways, and the pairs whose two ends do not
/// agree (the lower count holds).
///
/// Links to an NVSwitch reach every other GPU of the node that has such links too, over as many
/// as both have; direct links reach the GPU at their other end.
pub(crate) fn matrix(places: &[PciBusId], ways: &[Ways]) -> (LinkMatrix, Vec<(usize, usize)>) {
    let to_switch = |gpu: usize| count(&ways[gpu], LinkEnd::Switch);
    let direct = |from: usize, to: usize| count(&ways[from], LinkEnd::Device(places[to]));
    let mut disagreeing = Vec::new();
    let matrix = LinkMatrix::from_fn(places.len(), |a, b| {
        let (there, back) = (direct(a, b), direct(b, a));
        if there != back {
            disagreeing.push((a, b));
        }
        let nvlinks = there.min(back) + to_switch(a).min(to_switch(b));
        Link {
            pcie: ways[a]
                .pcie
                .get(b - a - 1)
                .copied()
                .unwrap_or(PcieRelation::Unknown),
            nvlinks: u8::try_from(nvlinks).unwrap_or(u8::MAX),
        }
    });
    (matrix, disagreeing)
}

fn count(ways: &Ways, end: LinkEnd) -> usize {
    ways.ends.iter().filter(|&&other| other == end).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(bus: u8) -> PciBusId {
        PciBusId {
            domain: 0,
            bus,
            device: 0,
            function: 0,
        }
    }

    fn ways(ends: &[LinkEnd], pcie: &[PcieRelation]) -> Ways {
        Ways {
            ends: ends.to_vec(),
            pcie: pcie.to_vec(),
        }
    }

    #[test]
    fn links_through_a_switch_count_as_many_as_both_gpus_have_up() {
        let places = [place(1), place(2), place(3)];
        let pcie = PcieRelation::SameCpu;
        let (matrix, disagreeing) = matrix(
            &places,
            &[
                ways(&[LinkEnd::Switch; 18], &[pcie, PcieRelation::CrossCpu]),
                ways(&[LinkEnd::Switch; 17], &[PcieRelation::CrossCpu]),
                ways(&[], &[]),
            ],
        );
        assert_eq!(matrix.get(1, 0), Link { pcie, nvlinks: 17 });
        assert_eq!(matrix.get(0, 2).nvlinks, 0);
        assert!(disagreeing.is_empty());
    }

    #[test]
    fn direct_links_count_by_the_place_at_their_other_end_and_the_lower_count_holds() {
        let places = [place(1), place(2), place(3)];
        let to = |bus| LinkEnd::Device(place(bus));
        let (matrix, disagreeing) = matrix(
            &places,
            &[
                // The last is a GPU outside this session, and a link to a CPU.
                ways(&[to(2), to(2), to(3), to(9), LinkEnd::Other], &[]),
                ways(&[to(1), to(1)], &[]),
                ways(&[], &[]),
            ],
        );
        assert_eq!(matrix.get(0, 1).nvlinks, 2);
        assert_eq!(matrix.get(0, 2).nvlinks, 0);
        assert_eq!(disagreeing, [(0, 2)]);
        assert_eq!(matrix.get(1, 2), Link::UNKNOWN);
    }
}
