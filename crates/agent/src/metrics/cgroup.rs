//! Whose a process is, by the names of its control groups.
//!
//! Kubelets name the groups of pods by their UIDs, and runtimes those of containers by their ids:
//! `kubepods/burstable/pod<uid>/<id>` with the driver `cgroupfs`, and with `systemd`
//! `kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope`, in which the UID has `_` for
//! `-`. CRI-O says `crio-<id>`, cri-dockerd `docker-<id>`. Seen from another namespace of control
//! groups, a path begins with `/..`.

/// What the names tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// The pod's UID.
    pub(super) pod_uid: String,
    /// The container's id.
    pub(super) container_id: Option<String>,
}

/// The pod that a process is in, of the text of its `/proc/<pid>/cgroup`; `None` if it is in none.
pub(super) fn parse(text: &str) -> Option<Place> {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let places: Vec<Place> = paths.filter_map(of_path).collect();
    let mut whole = places.iter();
    // Version 1 has many hierarchies, of which some may end at the pod.
    let whole = whole.find(|place| place.container_id.is_some());
    whole.or(places.first()).cloned()
}

fn of_path(path: &str) -> Option<Place> {
    let mut names = path.split('/');
    let pod_uid = names.find_map(pod_uid)?;
    Some(Place {
        pod_uid,
        container_id: names.next().and_then(container_id),
    })
}

fn pod_uid(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match name.rsplit_once("-pod") {
        Some((before, uid)) if before.contains("kubepods") => uid,
        _ => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let is_uid = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    (uid.len() >= 32 && uid.bytes().all(is_uid)).then_some(uid)
}

fn container_id(name: &str) -> Option<String> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = name.rsplit_once('-').map_or(name, |(_, id)| id);
    let is_id = id.len() >= 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0c4a8b8e-6f0e-4d5c-9a53-1f0b7f6f2a11";
    const SLICED: &str = "0c4a8b8e_6f0e_4d5c_9a53_1f0b7f6f2a11";
    const ID: &str = "4f1c0d3b5a697887d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3";

    fn whole() -> Place {
        Place {
            pod_uid: UID.to_owned(),
            container_id: Some(ID.to_owned()),
        }
    }

    #[test]
    fn pods_are_found_whatever_names_the_groups() {
        for path in [
            format!("/kubepods/burstable/pod{UID}/{ID}"),
            format!("/kubepods/pod{UID}/{ID}"),
            format!("/kubepods.slice/kubepods-pod{SLICED}.slice/cri-containerd-{ID}.scope"),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICED}.slice/\
                 crio-{ID}.scope"
            ),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
                 kubelet-kubepods-burstable-pod{SLICED}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods/besteffort/pod{UID}/crio-{ID}/container"),
            format!("/system.slice/kind/kubepods/pod{UID}/docker-{ID}.scope/init.scope"),
            format!("/../../kubepods-pod{SLICED}.slice/cri-containerd-{ID}.scope"),
        ] {
            assert_eq!(parse(&format!("0::{path}\n")), Some(whole()), "{path}");
        }
    }

    #[test]
    fn of_many_hierarchies_the_one_that_names_the_container_counts() {
        let text = format!(
            "12:pids:/kubepods/burstable/pod{UID}\n11:cpu,cpuacct:/kubepods/burstable/pod{UID}/{ID}\n\
             1:name=systemd:/\n0::/\n"
        );
        assert_eq!(parse(&text), Some(whole()));
    }

    #[test]
    fn static_pods_have_uids_of_their_own_kind() {
        let uid = "3f2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d";
        let place = parse(&format!("0::/kubepods/burstable/pod{uid}/{ID}\n")).unwrap();
        assert_eq!(place.pod_uid, uid);
    }

    #[test]
    fn what_is_in_no_pod_is_nobodys() {
        for text in [
            "",
            "0::/\n",
            "0::/user.slice/user-0.slice/session-1.scope\n",
            "0::/system.slice/podman.service\n",
            "0::/kubepods.slice/kubepods-burstable.slice\n",
            "nonsense",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
