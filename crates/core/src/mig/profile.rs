//! The names of what a GPU can be cut into.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kind of a MIG device, as `nvidia-smi` names it: `1g.10gb` is one slice of the GPU's
/// multiprocessors with 10 GB; `1c.3g.40gb` is one of the three slices of such a GPU instance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MigProfile {
    /// Slices of the GPU instance.
    pub gpu_slices: u32,
    /// Slices of the compute instance; as many as the GPU instance has, unless it is split.
    pub compute_slices: u32,
    /// Memory, in the GB that the name has.
    pub memory_gb: u32,
    /// What else it has, or lacks.
    pub extra: ProfileExtra,
}

/// What sets profiles of the same size apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ProfileExtra {
    /// Nothing.
    #[default]
    None,
    /// The media extensions: a JPEG decoder and an optical flow accelerator (`+me`).
    Media,
    /// All media engines of the GPU (`+me.all`).
    AllMedia,
    /// No media engines (`-me`).
    NoMedia,
    /// It can draw (`+gfx`).
    Graphics,
}

impl ProfileExtra {
    const WORDS: [(&'static str, Self); 4] = [
        ("+me", Self::Media),
        ("+me.all", Self::AllMedia),
        ("-me", Self::NoMedia),
        ("+gfx", Self::Graphics),
    ];

    /// What it adds to a profile's name.
    pub fn as_str(self) -> &'static str {
        let word = Self::WORDS.iter().find(|(_, extra)| *extra == self);
        word.map_or("", |(word, _)| word)
    }
}

impl MigProfile {
    /// The profile of a whole GPU instance.
    pub fn of_gpu_instance(slices: u32, memory_gb: u32, extra: ProfileExtra) -> Self {
        Self {
            gpu_slices: slices,
            compute_slices: slices,
            memory_gb,
            extra,
        }
    }

    /// Whether it is a part of its GPU instance's multiprocessors.
    pub fn is_split(self) -> bool {
        self.compute_slices != self.gpu_slices
    }

    /// The profile of the GPU instance that it is in.
    #[must_use]
    pub fn gpu_instance(self) -> Self {
        self.with_compute_slices(self.gpu_slices)
    }

    /// The profile of a compute instance of so many slices in the same kind of GPU instance.
    #[must_use]
    pub fn with_compute_slices(self, compute_slices: u32) -> Self {
        Self {
            compute_slices,
            ..self
        }
    }

    /// The name in a form that resources and labels may have: `+` is `.`, `1g.10gb.me`.
    pub fn dotted(self) -> String {
        self.to_string().replace('+', ".")
    }

    /// Reads a name in the form of [`dotted`](Self::dotted), or with `+`.
    pub fn from_dotted(text: &str) -> Option<Self> {
        let plain = text.parse().ok();
        plain.or_else(|| text.replace("gb.", "gb+").parse().ok())
    }

    /// The GB in the name of a profile with `memory_mib` on a GPU that has `total_mib`: the share
    /// in eighths of what the GPU has in GiB, rounded up, as NVIDIA's tools count it.
    pub fn gigabytes(total_mib: u64, memory_mib: u64) -> u32 {
        let eighths = (memory_mib * 8).div_ceil(total_mib.max(1));
        let total = total_mib.div_ceil(1024);
        u32::try_from((eighths * total * 2 + 8) / 16).unwrap_or(u32::MAX)
    }
}

/// Why a text names no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MIG profile: expected a form such as 1g.10gb, 1g.10gb+me or 1c.3g.40gb")]
pub struct InvalidMigProfile(String);

impl FromStr for MigProfile {
    type Err = InvalidMigProfile;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| InvalidMigProfile(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<MigProfile> {
    let (base, extra) = match text.split_once("gb")? {
        (base, "") => (base, ProfileExtra::None),
        (base, rest) => {
            let known = ProfileExtra::WORDS.iter().find(|(word, _)| *word == rest)?;
            (base, known.1)
        }
    };
    let parts: Vec<&str> = base.split('.').collect();
    let (compute, gpu, memory) = match parts[..] {
        [gpu, memory] => (None, gpu, memory),
        [compute, gpu, memory] => (Some(compute), gpu, memory),
        _ => return None,
    };
    let gpu_slices = number(gpu.strip_suffix('g')?)?;
    let compute_slices = match compute {
        Some(compute) => number(compute.strip_suffix('c')?)?,
        None => gpu_slices,
    };
    let profile = MigProfile {
        gpu_slices,
        compute_slices,
        memory_gb: number(memory)?,
        extra,
    };
    // A whole GPU instance has one name only.
    let canonical = compute.is_none() || compute_slices < gpu_slices;
    canonical.then_some(profile)
}

/// A number from 1 as a name has it.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits)
}

impl TryFrom<String> for MigProfile {
    type Error = InvalidMigProfile;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MigProfile> for String {
    fn from(profile: MigProfile) -> Self {
        profile.to_string()
    }
}

impl fmt::Display for MigProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_split() {
            write!(f, "{}c.", self.compute_slices)?;
        }
        let extra = self.extra.as_str();
        write!(f, "{}g.{}gb{extra}", self.gpu_slices, self.memory_gb)
    }
}

impl fmt::Debug for MigProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_name_round_trips() {
        for text in [
            "1g.5gb",
            "7g.180gb",
            "1g.10gb+me",
            "1g.24gb+me.all",
            "1g.24gb-me",
            "4g.96gb+gfx",
            "1c.3g.20gb",
            "2c.4g.40gb",
            "1c.2g.48gb+gfx",
        ] {
            let profile: MigProfile = text.parse().unwrap();
            assert_eq!(profile.to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            "1g",
            "1g.",
            "1g.gb",
            "g.5gb",
            "0g.5gb",
            "01g.5gb",
            "+1g.5gb",
            "1g.5GB",
            "1g.5gb+",
            "1g.5gb+xx",
            "3c.3g.20gb",
            "4c.3g.20gb",
            "1c.1c.3g.20gb",
            "1g.5gb.me",
        ] {
            assert!(bad.parse::<MigProfile>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_plus_becomes_a_dot_where_names_may_not_have_it() {
        let dotted = |text: &str| text.parse::<MigProfile>().unwrap().dotted();
        assert_eq!(dotted("1g.10gb+me"), "1g.10gb.me");
        assert_eq!(dotted("1g.24gb+me.all"), "1g.24gb.me.all");
        assert_eq!(dotted("1g.24gb-me"), "1g.24gb-me");
        for text in ["1g.10gb", "1g.10gb+me", "1g.24gb+me.all", "1g.24gb-me"] {
            let profile = text.parse().unwrap();
            assert_eq!(MigProfile::from_dotted(text), Some(profile));
            assert_eq!(MigProfile::from_dotted(&dotted(text)), Some(profile));
        }
        assert_eq!(MigProfile::from_dotted("1g.10gb."), None);
    }

    #[test]
    fn the_gigabytes_of_a_name_are_counted_in_eighths_of_the_gpu() {
        for (total, part, gigabytes) in [
            (40_960, 4_864, 5),
            (40_960, 19_968, 20),
            (81_559, 9_984, 10),
            (81_559, 80_640, 80),
            (24_576, 5_952, 6),
        ] {
            assert_eq!(MigProfile::gigabytes(total, part), gigabytes);
        }
    }

    #[test]
    fn a_split_knows_its_gpu_instance() {
        let split: MigProfile = "1c.3g.20gb".parse().unwrap();
        assert!(split.is_split());
        let whole = split.gpu_instance();
        assert_eq!(whole.to_string(), "3g.20gb");
        assert!(!whole.is_split());
        assert_eq!(whole.with_compute_slices(1), split);
    }
}
