//! Forms in which the kernel writes values.

use crate::node::{CpuList, Node};

/// A set of CPUs as words of 32 bits, highest first: `00ffffff,ffffffff`. The kernel writes as
/// many words as the machine can have CPUs; here it is as many as it needs.
pub(super) fn cpu_mask(cpus: &CpuList) -> String {
    let mask = cpus.mask();
    let words: Vec<u64> = mask
        .iter()
        .flat_map(|word| [word & 0xffff_ffff, word >> 32])
        .collect();
    let used = words.iter().rposition(|word| *word != 0).unwrap_or(0);
    let texts: Vec<String> = words[..=used]
        .iter()
        .rev()
        .map(|word| format!("{word:08x}"))
        .collect();
    texts.join(",")
}

/// All CPUs of the machine.
pub(super) fn all_cpus(node: &Node) -> CpuList {
    let mut mask = CpuList::default().mask();
    for cpus in &node.numa_nodes {
        for (all, some) in mask.iter_mut().zip(cpus.mask()) {
            *all |= some;
        }
    }
    CpuList::from_mask(&mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_in_words_of_32_bits_highest_first() {
        for (list, mask) in [
            ("", "00000000"),
            ("0-3", "0000000f"),
            ("31-32", "00000001,80000000"),
            ("64", "00000001,00000000,00000000"),
        ] {
            assert_eq!(cpu_mask(&list.parse().unwrap()), mask);
        }
    }
}
