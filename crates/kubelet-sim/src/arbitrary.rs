//! Arbitrary choices that can be repeated: a kubelet keeps devices in unordered sets, so plugins
//! must not rely on any order, and tests must be able to try many.

use std::collections::BTreeSet;

/// A small generator (`SplitMix64`). Not for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Arbitrary(u64);

impl Arbitrary {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The members of a set in some order.
    pub(crate) fn order(&mut self, set: &BTreeSet<String>) -> Vec<String> {
        let mut members: Vec<String> = set.iter().cloned().collect();
        for last in (1..members.len()).rev() {
            let below = u64::try_from(last + 1).unwrap_or(u64::MAX);
            let pick = usize::try_from(self.next() % below).unwrap_or(0);
            members.swap(last, pick);
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_order_and_another_seed_another() {
        let set: BTreeSet<String> = (0..16).map(|n| n.to_string()).collect();
        let order = |seed| Arbitrary::new(seed).order(&set);
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
        assert_eq!(order(7).into_iter().collect::<BTreeSet<_>>(), set);
    }
}
