//! Which containers the processes on GPUs belong to.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mizzen_core::config::Config;
use mizzen_core::metrics::Container;

use super::cgroup::{self, Place};
use super::logs::{self, Names};

/// How long the names of logs are good for a process that they did not tell of: a container's
/// process may be there before its log is.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long a process that is still on its GPU counts as the same without another look.
const VERIFY: Duration = Duration::from_secs(30);

/// Whose a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// A container's.
    Container(Container),
    /// A pod's; which container's cannot be told.
    Pod {
        namespace: String,
        pod: String,
        uid: String,
    },
    /// A pod's, where pods have no names.
    Unnamed,
    /// No pod's, as far as can be told.
    Nobody,
}

/// Tells whose processes are, and remembers it for as long as they live.
#[derive(Debug)]
pub(super) struct Owners {
    proc: PathBuf,
    /// Where the host's logs may be.
    roots: Vec<PathBuf>,
    known: BTreeMap<u32, Known>,
    names: Names,
    looked: Option<Instant>,
    verify: Duration,
}

#[derive(Debug, Clone)]
struct Known {
    verified: Instant,
    /// When it was started, in ticks since the machine was: what tells it from another process
    /// that has its id later.
    started: u64,
    place: Option<Place>,
    owner: Owner,
}

impl Owners {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            proc: config.host_root.join("proc"),
            roots: logs::roots(config),
            known: BTreeMap::new(),
            names: Names::default(),
            looked: None,
            verify: VERIFY,
        }
    }

    /// Whose these processes are. Others are forgotten.
    pub(super) fn of(&mut self, pids: &[u32]) -> BTreeMap<u32, Owner> {
        let mut now_known = BTreeMap::new();
        for &pid in pids {
            let before = self.known.remove(&pid);
            if let Some(known) = self.still(pid, before) {
                now_known.insert(pid, known);
            }
        }
        self.known = now_known;
        self.name_the_new();
        let known = self.known.iter();
        known
            .map(|(pid, known)| (*pid, self.told(&known.owner)))
            .collect()
    }

    /// Where other pods have names, one without is a stranger: nothing is guessed of it.
    fn told(&self, owner: &Owner) -> Owner {
        match owner {
            Owner::Unnamed if !self.names.is_empty() => Owner::Nobody,
            owner => owner.clone(),
        }
    }

    /// What is known of a process, of which this was known before; `None` if there is none.
    fn still(&self, pid: u32, before: Option<Known>) -> Option<Known> {
        if let Some(known) = &before
            && known.verified.elapsed() < self.verify
        {
            return before;
        }
        let started = self.started(pid)?;
        Some(match before.filter(|known| known.started == started) {
            Some(known) => Known {
                verified: Instant::now(),
                ..known
            },
            None => self.look(pid, started),
        })
    }

    fn started(&self, pid: u32) -> Option<u64> {
        let stat = fs::read_to_string(self.proc.join(pid.to_string()).join("stat")).ok()?;
        super::process::started(&stat)
    }

    fn look(&self, pid: u32, started: u64) -> Known {
        let path = self.proc.join(pid.to_string()).join("cgroup");
        let place = fs::read_to_string(path)
            .ok()
            .and_then(|text| cgroup::parse(&text));
        let owner = match &place {
            Some(_) => Owner::Unnamed,
            None => Owner::Nobody,
        };
        Known {
            verified: Instant::now(),
            started,
            place,
            owner,
        }
    }

    /// Looks for names where some process has none.
    fn name_the_new(&mut self) {
        let is_unnamed = |known: &Known| known.owner == Owner::Unnamed;
        if !self.known.values().any(is_unnamed) {
            return;
        }
        let is_over = |looked: Instant| looked.elapsed() >= LOOK_AGAIN;
        if self.looked.is_none_or(is_over) {
            self.names = Names::read(&self.roots);
            self.looked = Some(Instant::now());
        }
        for known in self.known.values_mut() {
            if is_unnamed(known)
                && let Some(place) = &known.place
                && let Some(owner) = named(place, &self.names)
            {
                known.owner = owner;
            }
        }
    }
}

fn named(place: &Place, names: &Names) -> Option<Owner> {
    let uid = place.pod_uid.clone();
    let (namespace, pod) = names.pod(&uid).cloned()?;
    let of_id = place
        .container_id
        .as_ref()
        .and_then(|id| names.container(id));
    let same = |found: &&Container| found.namespace == namespace && found.pod == pod;
    Some(match of_id.filter(same) {
        Some(container) => Owner::Container(Container {
            pod_uid: Some(uid),
            ..container.clone()
        }),
        None => Owner::Pod {
            namespace,
            pod,
            uid,
        },
    })
}

#[cfg(test)]
mod tests {
    use mizzen_testkit::HostTree;

    use super::*;

    const UID: &str = "0c4a8b8e-6f0e-4d5c-9a53-1f0b7f6f2a11";
    const ID: &str = "4f1c0d3b5a697887d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3";

    fn owners(host: &HostTree) -> Owners {
        Owners::new(&Config {
            host_root: host.path().to_owned(),
            ..Config::default()
        })
    }

    fn process(host: &HostTree, pid: u32, started: u64, group: &str) {
        let zeros = "0 ".repeat(18);
        let stat = format!("{pid} (a (b) c) S {zeros}{started} 0 0\n");
        host.file(&format!("proc/{pid}/stat"), &stat);
        host.file(&format!("proc/{pid}/cgroup"), &format!("0::{group}\n"));
    }

    fn pod_group() -> String {
        format!("/kubepods/pod{UID}/{ID}")
    }

    #[test]
    fn a_process_is_its_containers_of_which_the_log_has_the_name() {
        let host = HostTree::new();
        process(&host, 7, 100, &pod_group());
        process(&host, 8, 100, "/user.slice");
        host.file(&format!("var/log/pods/ml_train_{UID}/main/0.log"), "");
        host.file(&format!("var/log/containers/train_ml_main-{ID}.log"), "");
        let of = owners(&host).of(&[7, 8, 9]);
        let container = Container {
            namespace: "ml".to_owned(),
            pod: "train".to_owned(),
            pod_uid: Some(UID.to_owned()),
            container: "main".to_owned(),
        };
        assert_eq!(of[&7], Owner::Container(container));
        assert_eq!(of[&8], Owner::Nobody);
        assert!(!of.contains_key(&9), "there is no such process");
    }

    #[test]
    fn without_logs_the_uid_is_all_that_is_known() {
        let host = HostTree::new();
        process(&host, 7, 100, &pod_group());
        let mut owners = owners(&host);
        let uid = UID.to_owned();
        assert_eq!(owners.of(&[7])[&7], Owner::Unnamed);
        // They are not looked for each time.
        host.file(&format!("var/log/pods/ml_train_{UID}/main/0.log"), "");
        assert_eq!(owners.of(&[7])[&7], Owner::Unnamed);
        owners.looked = None;
        let (namespace, pod) = ("ml".to_owned(), "train".to_owned());
        let expected = Owner::Pod {
            namespace,
            pod,
            uid,
        };
        assert_eq!(owners.of(&[7])[&7], expected);
    }

    #[test]
    fn another_process_with_the_same_id_is_looked_at_anew() {
        let host = HostTree::new();
        process(&host, 7, 100, "/user.slice");
        let mut owners = owners(&host);
        owners.verify = Duration::ZERO;
        assert_eq!(owners.of(&[7])[&7], Owner::Nobody);
        host.file("proc/7/cgroup", &format!("0::{}\n", pod_group()));
        assert_eq!(
            owners.of(&[7])[&7],
            Owner::Nobody,
            "the same process stays what it is"
        );
        process(&host, 7, 101, &pod_group());
        assert!(owners.of(&[7])[&7] == Owner::Unnamed);
        assert!(owners.of(&[]).is_empty() && owners.known.is_empty());
    }
}
