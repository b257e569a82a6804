//! Which GPUs are offered, and under which names.

use std::fmt;
use std::str::FromStr;

use super::types::MigStrategy;
use crate::gpu::{Gpu, GpuUuid, PciBusId};
use crate::mig::MigProfile;
use crate::resource::ResourceName;

/// A pattern for the names of GPU models or MIG profiles, in which `*` stands for any text.
///
/// A model matches by the name that NVML gives (`NVIDIA H100 80GB HBM3`) or by the same name as
/// node labels have it (`NVIDIA-H100-80GB-HBM3`); upper and lower case are one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamePattern(Box<str>);

impl NamePattern {
    /// The pattern that matches every name.
    pub fn any() -> Self {
        Self("*".into())
    }

    /// Whether it matches every name.
    pub fn is_any(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*') && !self.0.is_empty()
    }

    /// Whether it matches a name.
    pub fn matches(&self, name: &str) -> bool {
        let pattern = self.0.to_lowercase();
        let name = name.to_lowercase();
        matches(&pattern, &name) || matches(&pattern, &name.replace(' ', "-"))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for NamePattern {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// Whether `name` is what `pattern` says, `*` being any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(head) else {
        return false;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // Each piece as early as can be leaves the most for the later ones.
    for piece in middle.split('*').filter(|piece| !piece.is_empty()) {
        match name.find(piece) {
            Some(at) => name = &name[at + piece.len()..],
            None => return false,
        }
    }
    name.ends_with(tail)
}

/// A name for the GPUs or MIG devices that match a pattern: `resources.gpus[]`,
/// `resources.mig[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamingRule {
    /// Which models, or profiles.
    pub pattern: NamePattern,
    /// The resource they are offered as.
    pub name: ResourceName,
}

/// The names of resources by model and profile. The first rule that matches counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceNaming {
    /// For whole GPUs; those that no rule matches are `nvidia.com/gpu`.
    pub gpus: Vec<NamingRule>,
    /// For MIG devices, by profile.
    pub mig: Vec<NamingRule>,
}

impl ResourceNaming {
    /// The resource that a whole GPU is offered as where it is not shared.
    pub fn of_gpu(&self, gpu: &Gpu) -> ResourceName {
        let rule = self
            .gpus
            .iter()
            .find(|rule| rule.pattern.matches(&gpu.name));
        rule.map_or_else(ResourceName::gpu, |rule| rule.name.clone())
    }

    /// The resource that MIG devices of a profile are offered as where they are not shared; by
    /// the strategy where no rule says more: `nvidia.com/mig-1g.10gb` or, with `single`,
    /// `nvidia.com/gpu`.
    pub fn of_mig(&self, profile: MigProfile, strategy: MigStrategy) -> ResourceName {
        let (name, dotted) = (profile.to_string(), profile.dotted());
        let matches =
            |rule: &&NamingRule| rule.pattern.matches(&name) || rule.pattern.matches(&dotted);
        match (self.mig.iter().find(matches), strategy) {
            (Some(rule), _) => rule.name.clone(),
            (None, MigStrategy::Mixed) => ResourceName::of_mig(profile),
            (None, MigStrategy::None | MigStrategy::Single) => ResourceName::gpu(),
        }
    }
}

/// Something that picks GPUs: NVML's index, a UUID, a place on the bus, or a model's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuSelector {
    /// NVML's index.
    Index(u32),
    /// One board.
    Uuid(GpuUuid),
    /// One place on the PCI bus.
    Pci(PciBusId),
    /// Models by their names.
    Model(NamePattern),
}

impl GpuSelector {
    /// Whether it picks this GPU.
    pub fn picks(&self, gpu: &Gpu) -> bool {
        match self {
            Self::Index(index) => gpu.index == *index,
            Self::Uuid(uuid) => gpu.uuid == *uuid,
            Self::Pci(pci) => gpu.pci == *pci,
            Self::Model(pattern) => pattern.matches(&gpu.name),
        }
    }
}

/// Why a text picks no GPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} picks no GPU: expected {SELECTOR}")]
pub struct InvalidGpuSelector(String);

/// What a [`GpuSelector`] is written as.
pub(super) const SELECTOR: &str =
    "an index (0), a UUID (GPU-...), a PCI bus id (0000:3b:00.0), a model's name (*H100*) or all";

impl FromStr for GpuSelector {
    type Err = InvalidGpuSelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidGpuSelector(text.to_owned());
        let no_letter = !text.contains(|c: char| c.is_ascii_alphabetic() || c == '*');
        let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if no_letter && !number && !text.contains(':') {
            // Nothing, -1, or a range: no model is called so.
            Err(invalid())
        } else if text == "all" {
            Ok(Self::Model(NamePattern::any()))
        } else if number {
            text.parse().map(Self::Index).map_err(|_| invalid())
        } else if text.starts_with("GPU-") {
            text.parse().map(Self::Uuid).map_err(|_| invalid())
        } else if text.contains(':') {
            text.parse().map(Self::Pci).map_err(|_| invalid())
        } else {
            Ok(Self::Model(text.into()))
        }
    }
}

impl fmt::Display for GpuSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => index.fmt(f),
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::Pci(pci) => pci.fmt(f),
            Self::Model(pattern) => pattern.fmt(f),
        }
    }
}

/// Which GPUs of the node are offered at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuFilter {
    /// Only these; all where there are none.
    pub include: Vec<GpuSelector>,
    /// Not these, even if they are included.
    pub exclude: Vec<GpuSelector>,
}

impl GpuFilter {
    /// A filter of these lists; to include all is to include without a list.
    pub fn new(include: Vec<GpuSelector>, exclude: Vec<GpuSelector>) -> Self {
        let any = |selector: &GpuSelector| match selector {
            GpuSelector::Model(pattern) => pattern.is_any(),
            _ => false,
        };
        let all = include.iter().any(any);
        Self {
            include: if all { Vec::new() } else { include },
            exclude,
        }
    }

    /// Whether a GPU is offered.
    pub fn admits(&self, gpu: &Gpu) -> bool {
        let picked =
            |selectors: &[GpuSelector]| selectors.iter().any(|selector| selector.picks(gpu));
        (self.include.is_empty() || picked(&self.include)) && !picked(&self.exclude)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "GPU-4d4d4d4d-0000-0000-0000-0123456789ab";

    fn gpu() -> Gpu {
        Gpu {
            index: 3,
            minor: 7,
            uuid: UUID.parse().unwrap(),
            pci: "0000:3b:00.0".parse().unwrap(),
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            memory_mib: 81_559,
            compute_capability: (9, 0),
            numa_node: Some(0),
            device_id: 0,
            mig: None,
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for pattern in [
            "*",
            "**",
            "*H100*",
            "NVIDIA H100 80GB HBM3",
            "nvidia-h100-80gb-hbm3",
            "NVIDIA*",
            "*HBM3",
            "N*H*8*3",
        ] {
            assert!(
                NamePattern::from(pattern).matches(&gpu().name),
                "{pattern:?}"
            );
        }
        for pattern in [
            "",
            "H100",
            "*H200*",
            "NVIDIA",
            "*HBM3*HBM3",
            "H100*",
            "*H100",
        ] {
            assert!(
                !NamePattern::from(pattern).matches(&gpu().name),
                "{pattern:?}"
            );
        }
        assert!(!NamePattern::from("ab*ba").matches("aba"));
    }

    #[test]
    fn a_selector_picks_by_what_it_looks_like() {
        for text in ["3", UUID, "0000:3b:00.0", "00000000:3B:00.0", "*H100*"] {
            let selector: GpuSelector = text.parse().unwrap();
            assert!(selector.picks(&gpu()), "{text}");
        }
        for text in ["7", "0000:3c:00.0", "T4"] {
            let selector: GpuSelector = text.parse().unwrap();
            assert!(!selector.picks(&gpu()), "{text}");
        }
        for bad in ["", "GPU-1", "99999999999", "0:1", "-1", "3-5", "1.5"] {
            assert!(bad.parse::<GpuSelector>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_excluded_is_not_offered_even_if_it_is_included() {
        let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let admits = |include: &[&str], exclude: &[&str]| {
            GpuFilter {
                include: list(include),
                exclude: list(exclude),
            }
            .admits(&gpu())
        };
        assert!(admits(&[], &[]));
        assert!(admits(&["*H100*"], &["2"]));
        assert!(!admits(&["0"], &[]));
        assert!(!admits(&["*H100*"], &["3"]));
    }

    #[test]
    fn the_first_rule_that_matches_names_a_gpu() {
        let rule = |pattern: &str, name: &str| NamingRule {
            pattern: pattern.into(),
            name: name.parse().unwrap(),
        };
        let naming = ResourceNaming {
            gpus: vec![rule("*H100*", "h100"), rule("*", "other")],
            mig: Vec::new(),
        };
        assert_eq!(naming.of_gpu(&gpu()).as_str(), "nvidia.com/h100");
        let t4 = Gpu {
            name: "Tesla T4".to_owned(),
            ..gpu()
        };
        assert_eq!(naming.of_gpu(&t4).as_str(), "nvidia.com/other");
        assert_eq!(ResourceNaming::default().of_gpu(&t4), ResourceName::gpu());
    }
}
