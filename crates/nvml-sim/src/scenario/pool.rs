//! Names for GPUs that were given none: places on the bus and serial numbers.

use crate::identity::{PciAddress, mix};
use crate::model::GpuModel;
use crate::node::Gpu;

/// Buses of an eight-GPU machine (DGX H100).
const EIGHT: [u8; 8] = [0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf];
/// Buses of a sixteen-GPU machine (DGX-2).
const SIXTEEN: [u8; 16] = [
    0x34, 0x36, 0x39, 0x3b, 0x57, 0x59, 0x5c, 0x5e, 0xb7, 0xb9, 0xbc, 0xbe, 0xe0, 0xe2, 0xe5, 0xe7,
];
/// Domains of a GB200 board, one GPU in each.
const GB200: [u32; 4] = [0x8, 0x9, 0x18, 0x19];

/// The place of the `ordinal`-th of `total` GPUs; the first that no other GPU has.
pub(super) fn address(model: &GpuModel, ordinal: usize, total: usize, taken: &[Gpu]) -> PciAddress {
    // One more try than there are GPUs, of which each can be in the way once.
    (ordinal..=ordinal + taken.len())
        .map(|ordinal| usual(model, ordinal, total))
        .find(|address| taken.iter().all(|gpu| gpu.pci != *address))
        .unwrap_or(PciAddress::new(0xffff, 0, 0))
}

fn usual(model: &GpuModel, ordinal: usize, total: usize) -> PciAddress {
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    if model.key == "gb200" {
        let domain = GB200[ordinal % 4] + 0x20 * narrow(ordinal / 4);
        return PciAddress::new(domain, 1, 0);
    }
    let buses: &[u8] = if total <= 8 { &EIGHT } else { &SIXTEEN };
    let domain = narrow(ordinal / buses.len());
    PciAddress::new(domain, buses[ordinal % buses.len()], 0)
}

/// A serial number of thirteen digits, as boards of data-centre GPUs have.
pub(super) fn serial(seed: u64, ordinal: u64) -> String {
    format!("165{:010}", mix(seed ^ mix(ordinal)) % 10_000_000_000)
}
