//! The device nodes, and the links to them by their numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::commands::on_host;
use super::finding::Notes;
use super::{LinkFact, Looked, NodeFact, NodeState, NodesFacts, counted, some};

/// The minor numbers of NVIDIA's control and mode-setting nodes.
const CONTROL: u32 = 255;
const MODESET: u32 = 254;

/// A device node that is to be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedNode {
    /// Its path.
    pub path: String,
    /// Its numbers, where the kernel tells the major one.
    pub numbers: Option<(u32, u32)>,
    /// Whether GPUs are of use without it.
    pub is_needed: bool,
}

/// The nodes of a machine with GPUs and MIG capabilities of these minor numbers. `majors` are the
/// character devices of `/proc/devices`, by name.
pub fn expected_nodes(
    majors: &BTreeMap<String, u32>,
    gpus: &BTreeSet<u32>,
    capabilities: &BTreeSet<u32>,
) -> Vec<ExpectedNode> {
    // Before R515 there is one name for all, before R555 that of the front end.
    let major = |names: &[&str]| names.iter().find_map(|name| majors.get(*name).copied());
    let node = |path: String, names: &[&str], minor: u32, is_needed: bool| ExpectedNode {
        path,
        numbers: major(names).map(|major| (major, minor)),
        is_needed,
    };
    let fixed = [
        node(
            "/dev/nvidiactl".to_owned(),
            &["nvidiactl", "nvidia-frontend", "nvidia"],
            CONTROL,
            true,
        ),
        node("/dev/nvidia-uvm".to_owned(), &["nvidia-uvm"], 0, true),
        node(
            "/dev/nvidia-uvm-tools".to_owned(),
            &["nvidia-uvm"],
            1,
            false,
        ),
        node(
            "/dev/nvidia-modeset".to_owned(),
            &["nvidia-modeset", "nvidia-frontend", "nvidia"],
            MODESET,
            false,
        ),
    ];
    let of_gpu = |minor: &u32| {
        let path = format!("/dev/nvidia{minor}");
        node(path, &["nvidia", "nvidia-frontend"], *minor, true)
    };
    let of_capability = |minor: &u32| {
        let path = format!("/dev/nvidia-caps/nvidia-cap{minor}");
        node(path, &["nvidia-caps"], *minor, true)
    };
    let gpus = gpus.iter().map(of_gpu);
    fixed
        .into_iter()
        .chain(gpus)
        .chain(capabilities.iter().map(of_capability))
        .collect()
}

pub(super) fn judge(facts: &NodesFacts, notes: &mut Notes) {
    missing(facts, notes);
    for node in &facts.nodes {
        numbers(node, notes);
        opened(node, notes);
    }
    links(facts, notes);
    if notes.is_clean() {
        let there = facts
            .nodes
            .iter()
            .filter(|node| node.state != NodeState::Missing);
        let words = if facts.are_simulated {
            "are there; they belong to a simulated machine and were not opened"
        } else {
            "are there and can be opened"
        };
        notes.ok(
            "device-nodes",
            format!("{} {words}", counted(there.count(), "node")),
        );
    }
}

fn missing(facts: &NodesFacts, notes: &mut Notes) {
    let lacks = |needed: bool| -> Vec<&str> {
        let expected = facts.nodes.iter();
        expected
            .filter(|node| node.state == NodeState::Missing && node.is_needed == needed)
            .map(|node| node.path.as_str())
            .collect()
    };
    let needed = lacks(true);
    if !needed.is_empty() {
        let is_capability = needed.iter().all(|path| path.contains("nvidia-cap"));
        notes
            .error("node-missing", format!("missing: {}", some(&needed)))
            .means("containers cannot be given what these nodes stand for; CUDA fails without nvidia-uvm")
            .advise("have the driver's helper make them; nvidia-persistenced keeps them")
            .run(if is_capability {
                "sudo nvidia-modprobe -f /proc/driver/nvidia/capabilities/mig/config"
            } else {
                "sudo nvidia-smi; sudo nvidia-modprobe -c 0 -u"
            });
    }
    let optional = lacks(false);
    if !optional.is_empty() {
        notes
            .hint("node-optional", format!("not there: {}", some(&optional)))
            .means("profilers and graphics may want them; computing does not")
            .run("sudo nvidia-modprobe -m -u -c 0");
    }
}

fn numbers(node: &NodeFact, notes: &mut Notes) {
    let path = &node.path;
    let found = match (node.state, node.expected) {
        (NodeState::NoDevice, _) => format!("{path} is no device node"),
        (NodeState::Device(major, minor), Some(expected)) if (major, minor) != expected => format!(
            "{path} has the numbers {major}:{minor}; the running driver's are {}:{}",
            expected.0, expected.1
        ),
        _ => return,
    };
    let make = node.expected.map(|(major, minor)| {
        let path = on_host(path);
        format!("sudo rm -f {path} && sudo mknod -m 666 {path} c {major} {minor}")
    });
    let finding = notes.error("node-wrong", found);
    finding.means("it was made by hand or before the driver was loaded anew, and leads elsewhere");
    if let Some(command) = make {
        finding.run(command);
    }
}

fn opened(node: &NodeFact, notes: &mut Notes) {
    let path = &node.path;
    match &node.opened {
        None | Some(Looked::Seen(Ok(()))) => {}
        Some(Looked::Late(after)) => {
            notes
                .error(
                    "node-hangs",
                    format!("opening {path} did not end within {} s", after.as_secs()),
                )
                .means("the GPU behind it hangs; whatever opens it hangs as well")
                .run("sudo dmesg | grep -iE 'nvrm|xid'");
        }
        Some(Looked::Seen(Err(error))) if error == "EPERM" => {
            notes
                .error(
                    "node-forbidden",
                    format!("{path} may not be opened (EPERM)"),
                )
                .means(
                    "the device cgroup of this container does not allow it; a mount of /dev, \
                     whatever the modes of its files, changes nothing about that",
                )
                .advise(
                    "make the agent's container privileged, as in deploy/mizzen.yaml, or start it \
                     under NVIDIA's runtime class with NVIDIA_VISIBLE_DEVICES=all",
                );
        }
        Some(Looked::Seen(Err(error))) if error == "EACCES" => {
            notes
                .error("node-denied", format!("{path} may not be opened (EACCES)"))
                .means("its mode or owner keeps this user out, or /dev is mounted nodev")
                .run(format!("ls -l {}; id", on_host(path)))
                .run(format!("sudo chmod 666 {}", on_host(path)));
        }
        Some(Looked::Seen(Err(error))) => {
            notes
                .error("node-dead", format!("{path} cannot be opened ({error})"))
                .means("no driver answers behind it: the GPU failed to start, or the node is a leftover")
                .run("sudo dmesg | grep -iE 'nvrm|xid'");
        }
    }
}

fn links(facts: &NodesFacts, notes: &mut Notes) {
    let lacking = facts
        .nodes
        .iter()
        .filter(|node| node.link == LinkFact::Missing);
    let lacking: Vec<&NodeFact> = lacking.collect();
    if lacking.is_empty() || !facts.has_systemd {
        return;
    }
    let numbers = |node: &&NodeFact| match node.state {
        NodeState::Device(major, minor) => Some(format!("{major}:{minor}")),
        NodeState::Missing | NodeState::NoDevice => None,
    };
    let names: Vec<String> = lacking.iter().filter_map(numbers).collect();
    notes
        .warning(
            "dev-char-links",
            format!(
                "no link in /dev/char to {} of the nodes: {}",
                lacking.len(),
                some(&names)
            ),
        )
        .means(
            "where runc's cgroups are systemd's, a `systemctl daemon-reload` takes the GPUs away \
             from running containers: \"Failed to initialize NVML: Unknown Error\"",
        )
        .advise("make the links now, and at every start of the machine (a udev rule or a unit)")
        .run(
            "sudo sh -c 'for n in /dev/nvidia* /dev/nvidia-caps/*; do [ -c $n ] && \
             ln -sf $n /dev/char/$((0x$(stat -c %t $n))):$((0x$(stat -c %T $n))); done'",
        );
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn the_nodes_that_are_expected_have_the_numbers_of_the_kernels_list() {
        let majors = |names: &[(&str, u32)]| -> BTreeMap<String, u32> {
            names
                .iter()
                .map(|(name, major)| ((*name).to_owned(), *major))
                .collect()
        };
        let new = majors(&[
            ("nvidia", 195),
            ("nvidiactl", 195),
            ("nvidia-uvm", 505),
            ("nvidia-caps", 503),
        ]);
        let nodes = expected_nodes(&new, &BTreeSet::from([0, 3]), &BTreeSet::from([12]));
        let numbers = |path: &str| nodes.iter().find(|node| node.path == path).unwrap().numbers;
        assert_eq!(numbers("/dev/nvidiactl"), Some((195, 255)));
        assert_eq!(numbers("/dev/nvidia3"), Some((195, 3)));
        assert_eq!(numbers("/dev/nvidia-uvm-tools"), Some((505, 1)));
        assert_eq!(numbers("/dev/nvidia-caps/nvidia-cap12"), Some((503, 12)));
        let old = majors(&[("nvidia-frontend", 195)]);
        let nodes = expected_nodes(&old, &BTreeSet::from([0]), &BTreeSet::new());
        let known: Vec<_> = nodes
            .iter()
            .map(|node| node.numbers.map(|(major, _)| major))
            .collect();
        assert_eq!(known, [Some(195), None, None, Some(195), Some(195)]);
    }
}
