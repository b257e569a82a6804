//! Whether what this process writes for the host is on the host: in a container, whatever is not
//! mounted is the container's own, and vanishes with it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use mizzen_core::cdi::SPEC_DIRECTORIES;
use mizzen_core::config::{Config, HOOK_PROGRAM};
use mizzen_nvml::HostRoot;

use super::{directories, hook};

/// The host's root, where this process sees it besides its own: in a container, in which the
/// driver's root is mounted that is the host's.
pub(super) fn host_beside(config: &Config) -> Option<HostRoot> {
    let root = Path::new("/");
    let is_beside = config.host_root == root
        && config.driver_root == root
        && config.driver_root_ctr_path != root
        && config.driver_root_ctr_path.is_dir();
    is_beside.then(|| HostRoot::new(&config.driver_root_ctr_path))
}

/// What is written here and is not there on `host`, and which volume is missing: of the specs in
/// `specs` and of the program of the hooks, if it is ours and they have hooks.
pub(super) fn remarks(config: &Config, specs: &Path, host: &HostRoot) -> Vec<String> {
    let mut remarks = Vec::new();
    let of_host = directories(host).pop();
    if of_host.is_none_or(|of_host| !is_same(specs, &of_host)) {
        remarks.push(format!(
            "the CDI specs are written to {} of the agent's own container, not of the host, where \
             runtimes look for them: {}",
            specs.display(),
            mount(Path::new(SPEC_DIRECTORIES[1]))
        ));
    }
    if hook::is_ours(config) {
        let ours = hook::directory(config).join(HOOK_PROGRAM);
        let of_host = host.resolve(config.hook_dir.join(HOOK_PROGRAM));
        if of_host.map_or(true, |of_host| !is_same(&ours, &of_host)) {
            remarks.push(format!(
                "{}, which the CDI specs name for hooks, is in the agent's own container, not on \
                 the host: containers with GPUs will not start without it; {}",
                config.hook_dir.join(HOOK_PROGRAM).display(),
                mount(&config.hook_dir)
            ));
        }
    }
    remarks
}

fn mount(path: &Path) -> String {
    format!(
        "mount {0} of the host, or a directory above it, at the same path (a hostPath volume)",
        path.display()
    )
}

/// Whether both paths lead to one file or directory.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path| fs::metadata(path).map(|known| (known.dev(), known.ino()));
    matches!((place(one), place(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use mizzen_testkit::HostTree;

    use super::*;

    #[test]
    fn a_host_is_beside_where_its_root_is_the_drivers() {
        let host = HostTree::new();
        let mut config = Config {
            driver_root_ctr_path: host.path().to_owned(),
            ..Config::default()
        };
        assert_eq!(host_beside(&config).unwrap().as_path(), host.path());
        config.driver_root = "/run/nvidia/driver".into();
        assert!(
            host_beside(&config).is_none(),
            "the driver's, not the host's"
        );
        config.driver_root = "/".into();
        config.host_root = host.path().to_owned();
        assert!(host_beside(&config).is_none(), "ours is the host's");
        config.host_root = "/".into();
        config.driver_root_ctr_path = "/".into();
        assert!(host_beside(&config).is_none(), "the same");
        config.driver_root_ctr_path = "/no/such/place".into();
        assert!(host_beside(&config).is_none());
    }
}
