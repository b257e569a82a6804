//! Patterns of paths, as containerd has them in `imports`.

use std::fs;

use mizzen_nvml::HostRoot;

/// The paths on the host that match `pattern`, in order; the pattern itself, if it has no `*`.
pub(super) fn matches(host: &HostRoot, pattern: &str) -> Vec<String> {
    if !pattern.contains('*') {
        return vec![pattern.to_owned()];
    }
    let parts = pattern.split('/').filter(|part| !part.is_empty());
    parts.fold(vec![String::new()], |found, part| {
        found
            .iter()
            .flat_map(|parent| children(host, parent, part))
            .collect()
    })
}

fn children(host: &HostRoot, parent: &str, part: &str) -> Vec<String> {
    if !part.contains(['*', '?']) {
        return vec![format!("{parent}/{part}")];
    }
    let mut names = names(host, if parent.is_empty() { "/" } else { parent });
    names.retain(|name| is_match(part.as_bytes(), name.as_bytes()));
    names
        .into_iter()
        .map(|name| format!("{parent}/{name}"))
        .collect()
}

/// What is in a directory of the host, by name; nothing if it cannot be read.
pub(super) fn names(host: &HostRoot, directory: &str) -> Vec<String> {
    let entries = host.resolve(directory).and_then(fs::read_dir);
    let names = entries.into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            is_match(rest, name) || (!name.is_empty() && is_match(pattern, &name[1..]))
        }
        (Some((b'?', pattern)), Some((_, name))) => is_match(pattern, name),
        (Some((one, pattern)), Some((other, name))) => one == other && is_match(pattern, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_part_of_a_name() {
        let is = |pattern: &str, name: &str| is_match(pattern.as_bytes(), name.as_bytes());
        assert!(is("*.toml", "99-a.toml"));
        assert!(is("a*b*", "aXbY") && is("*", "x") && is("a?c", "abc"));
        assert!(!is("*.toml", "a.toml.bak") && !is("a", "ab") && !is("ab", "a"));
    }
}
