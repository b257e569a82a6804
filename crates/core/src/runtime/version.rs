//! Versions of runtimes.

use core::fmt;

/// The numbers of a runtime's version, such as 1.7.12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuntimeVersion {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third; 0 where there is none.
    pub patch: u32,
}

impl RuntimeVersion {
    /// The version of these numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// The first word of `text` that is a version: `v2.3.4`, `1.7.12~ds1`, `28.2.2,`. So it takes
    /// what `containerd --version`, `crio --version`, `dockerd --version` and CRI's `Version` say.
    pub fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(Self::of_word)
    }

    fn of_word(word: &str) -> Option<Self> {
        let word = word.strip_prefix('v').unwrap_or(word);
        let word = word.split(['-', '~', '+']).next().unwrap_or(word);
        let mut numbers = word.splitn(3, '.');
        let major = numbers.next()?.parse().ok()?;
        let minor = leading_number(numbers.next()?)?;
        let patch = numbers.next().and_then(leading_number).unwrap_or(0);
        Some(Self::new(major, minor, patch))
    }
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|letter: char| !letter.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().ok()
}

impl fmt::Display for RuntimeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runtimes_say_of_their_version_is_understood() {
        for (text, version) in [
            (
                "containerd github.com/containerd/containerd/v2 v2.3.4 1c4457e",
                Some(RuntimeVersion::new(2, 3, 4)),
            ),
            (
                "containerd containerd.io 1.7.12~ds1-0ubuntu1",
                Some(RuntimeVersion::new(1, 7, 12)),
            ),
            ("crio version 1.31.0", Some(RuntimeVersion::new(1, 31, 0))),
            (
                "Docker version 28.2.2, build e6534b4",
                Some(RuntimeVersion::new(28, 2, 2)),
            ),
            ("v2.0-rc.1", Some(RuntimeVersion::new(2, 0, 0))),
            ("v2.1.5-k3s1.33", Some(RuntimeVersion::new(2, 1, 5))),
            ("1.7", Some(RuntimeVersion::new(1, 7, 0))),
            ("none", None),
            ("v2", None),
        ] {
            assert_eq!(RuntimeVersion::find(text), version, "{text}");
        }
    }
}
