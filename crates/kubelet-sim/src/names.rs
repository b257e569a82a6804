//! The rules for names: resources, pods, containers.

/// Longest name part of a qualified name.
const NAME_LIMIT: usize = 63;
/// Longest DNS subdomain.
const SUBDOMAIN_LIMIT: usize = 253;
/// What the API server puts before a resource's name to ask for a quota.
const QUOTA_PREFIX: &str = "requests.";

/// Whether a resource is one that a device plugin may offer: `vendor.com/name`, outside
/// `kubernetes.io`.
pub(crate) fn is_extended_resource(name: &str) -> bool {
    !is_native_resource(name)
        && !name.starts_with(QUOTA_PREFIX)
        && is_qualified_name(&format!("{QUOTA_PREFIX}{name}"))
}

/// Whether a resource is Kubernetes' own: without a domain, or in `kubernetes.io`.
pub(crate) fn is_native_resource(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// `[prefix/]name`, where the prefix is a DNS subdomain.
pub(crate) fn is_qualified_name(text: &str) -> bool {
    let mut parts = text.rsplitn(2, '/');
    let name = parts.next().unwrap_or_default();
    let prefix_is_good = parts.next().is_none_or(is_dns_subdomain);
    prefix_is_good
        && name.len() <= NAME_LIMIT
        && starts_and_ends(name, |b| b.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// RFC 1123: lower-case labels, joined with dots.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_LIMIT
        && text
            .split('.')
            .all(|label| is_lowercase_label(label) && !label.is_empty())
}

/// RFC 1123: one lower-case label of 63 characters at most.
pub(crate) fn is_dns_label(text: &str) -> bool {
    text.len() <= NAME_LIMIT && is_lowercase_label(text)
}

fn is_lowercase_label(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    starts_and_ends(text, alphanumeric) && text.bytes().all(|b| alphanumeric(b) || b == b'-')
}

fn starts_and_ends(text: &str, good: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| good(*b)) && bytes.last().is_some_and(|b| good(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_may_offer_names_with_a_domain_of_their_own() {
        for name in [
            "nvidia.com/gpu",
            "nvidia.com/gpu.shared",
            "nvidia.com/mig-1g.5gb",
            "a/b",
        ] {
            assert!(is_extended_resource(name), "{name}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        let long = format!("nvidia.com/{}", "g".repeat(64));
        for name in [
            "",
            "gpu",
            "cpu",
            "kubernetes.io/gpu",
            "example.kubernetes.io/gpu",
            "requests.nvidia.com/gpu",
            "nvidia.com/",
            "/gpu",
            "nvidia.com/a/b",
            "Nvidia.com/gpu",
            "nvidia.com/gpu-",
            "nvidia.com/g pu",
            &long,
        ] {
            assert!(!is_extended_resource(name), "{name}");
        }
    }
}
