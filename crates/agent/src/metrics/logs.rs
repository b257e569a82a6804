//! The names of pods and containers, by the names of their logs.
//!
//! A kubelet names the directory of a pod's logs `/var/log/pods/<namespace>_<pod>_<uid>`, and
//! makes for each container a link
//! `/var/log/containers/<pod>_<namespace>_<container>-<id>.log`. So UIDs and ids have names
//! without a right to ask the API.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mizzen_core::config::Config;
use mizzen_core::metrics::Container;
use mizzen_nvml::HostRoot;

const PODS: &str = "var/log/pods";
const CONTAINERS: &str = "var/log/containers";

/// Where the host's logs may be: below the root of the host's files, or where the host's own root
/// is mounted for its driver.
pub(super) fn roots(config: &Config) -> Vec<PathBuf> {
    vec![
        config.host_root.clone(),
        config.driver_root_ctr_path.clone(),
    ]
}

/// What the names of logs tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Containers by their ids, without the UIDs of their pods.
    containers: BTreeMap<String, Container>,
    /// Namespace and name of pods, by UID.
    pods: BTreeMap<String, (String, String)>,
    /// UIDs by namespace and name: of several, of the newest.
    uids: BTreeMap<(String, String), (SystemTime, String)>,
}

impl Names {
    /// Reads the directories below the first of these roots that has them.
    pub(super) fn read(roots: &[PathBuf]) -> Self {
        let mut names = Self::default();
        for root in roots {
            let host = HostRoot::new(root);
            let (Ok(pods), containers) = (host.resolve(PODS), host.resolve(CONTAINERS)) else {
                continue;
            };
            for (name, path) in entries(&pods) {
                names.add_pod(&name, &path);
            }
            for (name, _) in containers.map(|dir| entries(&dir)).unwrap_or_default() {
                names.containers.extend(container(&name));
            }
            break;
        }
        names
    }

    fn add_pod(&mut self, name: &str, path: &Path) {
        let mut parts = name.split('_');
        let (Some(namespace), Some(pod), Some(uid), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let name = (namespace.to_owned(), pod.to_owned());
        let made = fs::metadata(path).and_then(|found| found.modified());
        let made = made.unwrap_or(SystemTime::UNIX_EPOCH);
        let newest = self.uids.get(&name).is_none_or(|(known, _)| *known < made);
        if newest {
            self.uids.insert(name.clone(), (made, uid.to_owned()));
        }
        self.pods.insert(uid.to_owned(), name);
    }

    /// Whether nothing is known of any pod: the directories are not there.
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Namespace and name of the pod with this UID.
    pub(super) fn pod(&self, uid: &str) -> Option<&(String, String)> {
        self.pods.get(uid)
    }

    /// The container with this id.
    pub(super) fn container(&self, id: &str) -> Option<&Container> {
        self.containers.get(id)
    }

    /// The UID of the newest pod of this name.
    pub(super) fn uid(&self, namespace: &str, pod: &str) -> Option<&str> {
        let name = (namespace.to_owned(), pod.to_owned());
        self.uids.get(&name).map(|(_, uid)| uid.as_str())
    }
}

fn entries(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry)));
    named.map(|(name, entry)| (name, entry.path())).collect()
}

/// A container and its id, by the name of its log.
fn container(name: &str) -> Option<(String, Container)> {
    let (rest, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
    let mut parts = rest.split('_');
    let (pod, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
    let container = Container {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        pod_uid: None,
        container: container.to_owned(),
    };
    parts.next().is_none().then(|| (id.to_owned(), container))
}

#[cfg(test)]
mod tests {
    use mizzen_testkit::HostTree;

    use super::*;

    #[test]
    fn names_are_read_where_the_host_is() {
        let host = HostTree::new();
        host.file("var/log/pods/ml_train-0_1-2/main/0.log", "")
            .file("var/log/pods/odd/0.log", "")
            .file("var/log/containers/train-0_ml_main-gpu-ab12.log", "")
            .file("var/log/containers/odd.log", "");
        let roots = [host.path().join("nowhere"), host.path().to_owned()];
        let names = Names::read(&roots);
        let (namespace, pod) = names.pod("1-2").unwrap();
        assert_eq!((namespace.as_str(), pod.as_str()), ("ml", "train-0"));
        assert_eq!(names.uid("ml", "train-0"), Some("1-2"));
        let container = names.container("ab12").unwrap();
        assert_eq!(container.container, "main-gpu");
        assert_eq!(
            (container.namespace.as_str(), container.pod.as_str()),
            ("ml", "train-0")
        );
        assert!(!names.is_empty());
        assert!(Names::read(&roots[..1]).is_empty());
    }
}
