//! The forms that Kubernetes wants names in (RFC 1123).

/// Whether Kubernetes takes `text` as the name of a namespace.
pub(crate) fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_label_of_any_length(text)
}

/// Whether Kubernetes takes `text` as the name of a Node, a ConfigMap or a resource: for these it
/// bounds the whole, and no part of it.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_of_any_length)
}

fn is_label_of_any_length(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether Kubernetes takes `text` as the key of a label.
pub(crate) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text
        .split_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_dns_subdomain) && !name.is_empty() && is_label_value(name)
}

/// The most characters of a label's value, and of its key without the prefix.
pub(crate) const LONGEST_LABEL: usize = 63;

/// Whether Kubernetes takes `text` as the value of a label.
pub(crate) fn is_label_value(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let outer = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= LONGEST_LABEL
        && text.bytes().all(inner)
        && outer(text.bytes().next())
        && outer(text.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keys_are_those_of_kubernetes() {
        for key in ["nvidia.com/device-plugin.config", "config", "a.b/C_d-e.f"] {
            assert!(is_label_key(key), "{key}");
        }
        for key in ["", "a/", "/b", "a/b/c", "-a", "a-", "a b", "a_b/c"] {
            assert!(!is_label_key(key), "{key:?}");
        }
    }

    #[test]
    fn label_values_are_those_of_kubernetes() {
        let longest = "a".repeat(LONGEST_LABEL);
        for value in ["", "a", "A.b_C-9", longest.as_str()] {
            assert!(is_label_value(value), "{value:?}");
        }
        let too_long = "a".repeat(LONGEST_LABEL + 1);
        for value in ["-a", "a.", "a b", "a/b", "ä", too_long.as_str()] {
            assert!(!is_label_value(value), "{value:?}");
        }
    }
}
