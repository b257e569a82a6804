//! The names under which devices are offered to the kubelet.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dns::is_dns_subdomain;
use crate::mig::MigProfile;

/// The domain of every resource Mizzen offers, with its slash.
const PREFIX: &str = "nvidia.com/";

/// The longest resource name, domain included, that the reference accepts.
const MAX_LENGTH: usize = 63;

/// The name of an extended resource in NVIDIA's domain, such as `nvidia.com/gpu`.
///
/// Always valid: at most 63 characters, and the part after the slash is a DNS subdomain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceName(Box<str>);

impl ResourceName {
    /// `nvidia.com/gpu`, the resource of whole GPUs.
    pub fn gpu() -> Self {
        Self("nvidia.com/gpu".into())
    }

    /// `nvidia.com/mig-1g.10gb`, the resource of MIG devices of one profile; what `+` adds to a
    /// profile's name is joined by a dot.
    pub fn of_mig(profile: MigProfile) -> Self {
        // Numbers of at most ten digits and a short word: always a valid name.
        Self(format!("{PREFIX}mig-{}", profile.dotted()).into())
    }

    /// The whole name, domain included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the domain, `gpu` of `nvidia.com/gpu`.
    pub fn short(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    /// The name that the reference gives to a resource when it is shared, `nvidia.com/gpu.shared`.
    ///
    /// # Errors
    /// The name would be too long.
    pub fn shared(&self) -> Result<Self, InvalidResourceName> {
        format!("{self}.shared").parse()
    }

    /// The file name of the device plugin's socket for this resource, `nvidia-gpu.sock`, which
    /// lies beside the kubelet's.
    pub fn socket_name(&self) -> String {
        format!("nvidia-{}.sock", self.short())
    }
}

/// Why a text cannot name a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResourceName {
    /// Longer than 63 characters with the domain that is put before it.
    #[error(
        "{name:?} is {} characters long; a resource name has at most {MAX_LENGTH}", .name.len()
    )]
    TooLong {
        /// The name, domain included.
        name: String,
    },
    /// It is in another domain.
    #[error("{name:?} is not one of NVIDIA's resources: leave the domain out, or use {PREFIX}")]
    OtherDomain {
        /// The name.
        name: String,
    },
    /// The part after the domain is no DNS subdomain.
    #[error(
        "{name:?} is not a resource name: after nvidia.com/ it must be lower-case letters, digits, \
         '-' and '.', each part beginning and ending with a letter or digit"
    )]
    NotASubdomain {
        /// The name, domain included.
        name: String,
    },
}

impl FromStr for ResourceName {
    type Err = InvalidResourceName;

    /// Reads a name with or without `nvidia.com/`, which is put before it where it is missing.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let short = text.strip_prefix(PREFIX).unwrap_or(text);
        let name = format!("{PREFIX}{short}");
        if short.contains('/') {
            let name = text.to_owned();
            Err(InvalidResourceName::OtherDomain { name })
        } else if name.len() > MAX_LENGTH {
            Err(InvalidResourceName::TooLong { name })
        } else if is_dns_subdomain(short) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidResourceName::NotASubdomain { name })
        }
    }
}

impl TryFrom<String> for ResourceName {
    type Error = InvalidResourceName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ResourceName> for String {
    fn from(name: ResourceName) -> Self {
        name.0.into()
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_is_put_before_a_short_name_and_kept_on_a_long_one() {
        for text in ["gpu", "nvidia.com/gpu"] {
            let name: ResourceName = text.parse().unwrap();
            assert_eq!(name, ResourceName::gpu());
            assert_eq!(name.to_string(), "nvidia.com/gpu");
            assert_eq!(name.short(), "gpu");
        }
    }

    #[test]
    fn the_socket_is_named_after_the_part_behind_the_domain() {
        for (name, socket) in [
            ("gpu", "nvidia-gpu.sock"),
            ("gpu.shared", "nvidia-gpu.shared.sock"),
            ("mig-1g.5gb", "nvidia-mig-1g.5gb.sock"),
        ] {
            assert_eq!(name.parse::<ResourceName>().unwrap().socket_name(), socket);
        }
    }

    #[test]
    fn what_kubernetes_would_refuse_is_refused() {
        for bad in ["", "nvidia.com/", "GPU", "gpu_1", "-gpu", "gpu-", "gpu..a"] {
            assert!(
                matches!(
                    bad.parse::<ResourceName>(),
                    Err(InvalidResourceName::NotASubdomain { .. })
                ),
                "{bad:?} was accepted"
            );
        }
        for other in ["other.com/gpu", "nvidia.com/a/b", "Nvidia.com/gpu"] {
            let error = other.parse::<ResourceName>().unwrap_err();
            assert!(error.to_string().contains(other), "{error}");
        }
    }

    #[test]
    fn sixty_three_characters_fit_and_one_more_does_not() {
        let longest = "g".repeat(MAX_LENGTH - PREFIX.len());
        assert_eq!(
            longest.parse::<ResourceName>().unwrap().as_str().len(),
            MAX_LENGTH
        );
        assert!(matches!(
            format!("{longest}g").parse::<ResourceName>(),
            Err(InvalidResourceName::TooLong { .. })
        ));
    }
}
