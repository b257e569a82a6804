//! Times that differ from node to node, so that ten thousand agents that start together do not
//! ask the API together.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::time::Duration;

/// A node's times: each call another one, each node others.
#[derive(Debug, Clone)]
pub(crate) struct Spread {
    node: String,
    drawn: u64,
}

impl Spread {
    pub(crate) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            drawn: 0,
        }
    }

    /// The next time in this range.
    pub(crate) fn within(&mut self, range: Range<Duration>) -> Duration {
        /// One in so many parts of the range.
        const PARTS: u32 = 1 << 20;
        let mut hasher = DefaultHasher::new();
        (&self.node, self.drawn).hash(&mut hasher);
        self.drawn += 1;
        let part = u32::try_from(hasher.finish() % u64::from(PARTS)).unwrap_or_default();
        range.start + range.end.saturating_sub(range.start) * part / PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_nodes_are_spread_evenly_over_the_time() {
        const SECONDS: usize = 30;
        let range = Duration::ZERO..Duration::from_secs(30);
        for draw in 0..3 {
            let mut each_second = [0_usize; SECONDS];
            for node in 0..10_000 {
                let mut spread = Spread::new(&format!("gpu-node-{node:05}.example.com"));
                let mut time = Duration::MAX;
                for _ in 0..=draw {
                    time = spread.within(range.clone());
                }
                each_second[usize::try_from(time.as_secs()).unwrap()] += 1;
            }
            let (least, most) = (each_second.iter().min(), each_second.iter().max());
            assert!(least > Some(&250) && most < Some(&420), "{each_second:?}");
        }
    }

    #[test]
    fn a_range_of_nothing_is_its_start() {
        let at = Duration::from_secs(5);
        assert_eq!(Spread::new("n").within(at..at), at);
    }
}
