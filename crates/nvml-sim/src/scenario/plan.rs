//! From what a person wrote to a node with nothing left to choose.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::Spanned;

use super::{GpuGroup, LinkedPair, NvLink, PcieShape, Scenario, Wiring, pool};
use crate::identity::{Uuid, fnv1a};
use crate::mig::Partition;
use crate::model::Fabric;
use crate::node::{
    CpuList, Gpu, InitialMig, LinkPeer, MAX_GPUS, MAX_NUMA_NODES, MAX_NVLINKS, MAX_SWITCH_DEPTH,
    Node,
};

/// Bytes that a product name may have, so that it fits NVML's buffer of 96.
const MAX_NAME: usize = 95;
/// Bytes that a serial number may have, so that it fits NVML's buffer of 30.
const MAX_SERIAL: usize = 29;

/// One reason why a scenario describes no possible node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, where known.
    pub position: Option<(u64, u64)>,
    /// What is wrong and what would be right.
    pub message: String,
    subject: Subject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Whole,
    Group(usize),
    Pair(usize),
}

fn problem(subject: Subject, message: impl Into<String>) -> Problem {
    Problem {
        position: None,
        message: message.into(),
        subject,
    }
}

/// The positions of the groups; read only when there is a problem.
#[derive(Deserialize)]
struct GroupPositions {
    #[serde(default)]
    gpus: Vec<Spanned<IgnoredAny>>,
}

/// The positions of the linked pairs, if `nvlink` is a list.
#[derive(Deserialize)]
struct PairPositions {
    nvlink: Vec<Spanned<IgnoredAny>>,
}

/// Gives each problem the position of what it is about.
pub(super) fn locate(mut problems: Vec<Problem>, text: &str) -> Vec<Problem> {
    let groups = serde_saphyr::from_str::<GroupPositions>(text)
        .map_or_else(|_| Vec::new(), |positions| positions.gpus);
    let pairs = serde_saphyr::from_str::<PairPositions>(text)
        .map_or_else(|_| Vec::new(), |positions| positions.nvlink);
    for problem in &mut problems {
        let part = match problem.subject {
            Subject::Whole => None,
            Subject::Group(index) => groups.get(index),
            Subject::Pair(index) => pairs.get(index),
        };
        problem.position = part.map(|part| (part.defined.line(), part.defined.column()));
    }
    problems
}

/// The node that `scenario` describes.
pub(super) fn node(scenario: &Scenario) -> Result<Node, Vec<Problem>> {
    let total = total(&scenario.gpus);
    let mut problems = whole_node_problems(scenario, total);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut node = Node {
        driver_version: scenario.driver_version.clone(),
        cuda_version: (scenario.cuda_version.major, scenario.cuda_version.minor),
        hostname: scenario.hostname.clone(),
        device_nodes: scenario.device_nodes,
        numa_nodes: numa_nodes(scenario, total),
        gpus: Vec::with_capacity(total),
    };
    for (index, group) in scenario.gpus.iter().enumerate() {
        let shape = scenario.pcie;
        let first = node.gpus.len() as u64;
        if let Err(messages) = add_group(&mut node, group, total, first, shape) {
            let subject = Subject::Group(index);
            problems.extend(messages.into_iter().map(|text| problem(subject, text)));
        }
    }
    if problems.is_empty() {
        problems.extend(wire(&mut node, &scenario.nvlink));
    }
    if problems.is_empty() {
        Ok(node)
    } else {
        Err(problems)
    }
}

fn total(groups: &[GpuGroup]) -> usize {
    groups
        .iter()
        .fold(0, |total: usize, group| total.saturating_add(group.count))
}

fn whole_node_problems(scenario: &Scenario, total: usize) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut whole = |wrong: bool, message: String| {
        if wrong {
            problems.push(problem(Subject::Whole, message));
        }
    };
    whole(
        total > MAX_GPUS,
        format!("{total} GPUs are too many: a node has at most {MAX_GPUS}"),
    );
    whole(
        scenario.numa_nodes.len() > MAX_NUMA_NODES,
        format!("more than {MAX_NUMA_NODES} NUMA nodes"),
    );
    let version = &scenario.driver_version;
    let numbers = version
        .split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    whole(
        !numbers || version.len() > 31,
        format!("driver_version {version:?} is not numbers with dots, such as 580.95.05"),
    );
    whole(
        scenario.hostname.is_empty() || scenario.hostname.len() > 63,
        "hostname must have 1 to 63 characters".to_owned(),
    );
    problems
}

fn numa_nodes(scenario: &Scenario, total: usize) -> Vec<CpuList> {
    if !scenario.numa_nodes.is_empty() {
        let nodes = scenario.numa_nodes.iter();
        return nodes.map(|node| node.cpus.clone()).collect();
    }
    let grace = |group: &GpuGroup| group.model.0.key == "gb200";
    if scenario.gpus.iter().any(grace) {
        return vec![CpuList::range(0, 71), CpuList::range(72, 143)];
    }
    let sockets: &[&str] = if total > 1 {
        &["0-55,112-167", "56-111,168-223"]
    } else {
        &["0-55"]
    };
    let parsed = sockets.iter().map(|cpus| cpus.parse().unwrap_or_default());
    parsed.collect()
}

/// Adds the GPUs of `group` to `node`. `total` is how many the node will have; `ordinal` numbers
/// the first of them, and identities are derived from it.
///
/// # Errors
/// Every reason why these GPUs cannot be in this node; then none of them is added.
pub(crate) fn add_group(
    node: &mut Node,
    group: &GpuGroup,
    total: usize,
    ordinal: u64,
    shape: Option<PcieShape>,
) -> Result<(), Vec<String>> {
    let mut messages = group_problems(node, group);
    let before = node.gpus.len();
    for offset in 0..group.count.min(MAX_GPUS) {
        if !messages.is_empty() {
            break;
        }
        let gpu = gpu(node, group, total, ordinal + offset as u64, shape);
        messages.extend(conflicts(&node.gpus, &gpu));
        node.gpus.push(gpu);
    }
    if messages.is_empty() {
        return Ok(());
    }
    node.gpus.truncate(before);
    Err(messages)
}

fn group_problems(node: &Node, group: &GpuGroup) -> Vec<String> {
    let mut messages = Vec::new();
    let mut check = |wrong: bool, message: String| {
        if wrong {
            messages.push(message);
        }
    };
    check(group.count == 0, "count must be at least 1".to_owned());
    let single = group.uuid.is_some()
        || group.serial.is_some()
        || group.pci.is_some()
        || group.minor.is_some();
    check(
        group.count > 1 && single,
        "uuid, serial, pci and minor belong to one GPU: give them in an entry with count 1"
            .to_owned(),
    );
    let fits = |text: &Option<String>, most: usize| {
        text.as_ref()
            .is_none_or(|text| !text.is_empty() && text.len() <= most && !text.contains('\0'))
    };
    check(
        !fits(&group.name, MAX_NAME),
        format!("name must have 1 to {MAX_NAME} bytes"),
    );
    check(
        !fits(&group.serial, MAX_SERIAL),
        format!("serial must have 1 to {MAX_SERIAL} bytes"),
    );
    let nodes = node.numa_nodes.len();
    check(
        group.numa.is_some_and(|numa| numa as usize >= nodes),
        format!("there is no such NUMA node: the machine has {nodes}, numbered from 0"),
    );
    check(
        group
            .memory
            .is_some_and(|memory| memory.0 < 1024 || memory.0 > 1 << 30),
        "memory must be at least 1024MiB".to_owned(),
    );
    let depth = group.pcie_switches.as_ref().map_or(0, Vec::len);
    check(
        depth > MAX_SWITCH_DEPTH,
        format!("at most {MAX_SWITCH_DEPTH} PCIe switches can be above a GPU"),
    );
    check(
        group.minor.is_some_and(|minor| minor > 253),
        "minor must be below 254: 254 is nvidia-modeset, 255 nvidiactl".to_owned(),
    );
    messages.extend(initial_mig(group).err());
    messages
}

/// How the GPUs of a group are partitioned, or why they cannot be so.
fn initial_mig(group: &GpuGroup) -> Result<InitialMig, String> {
    let Some(setup) = &group.mig else {
        return Ok(InitialMig::default());
    };
    let model = group.model.0;
    let table = model
        .mig
        .ok_or_else(|| format!("mig: {} cannot be partitioned", model.key))?;
    if !setup.enabled && !setup.instances.is_empty() {
        return Err("mig: instances need enabled: true".to_owned());
    }
    let plan = Partition::empty(table).plan(&setup.instances);
    let plan = plan.map_err(|reason| format!("mig: {reason}"))?;
    Ok(InitialMig {
        enabled: setup.enabled,
        instances: plan.iter().map(|profile| profile.kind).collect(),
    })
}

fn conflicts(others: &[Gpu], gpu: &Gpu) -> Vec<String> {
    let clash = |what: &str, same: fn(&Gpu, &Gpu) -> bool, text: String| {
        others
            .iter()
            .any(|other| same(other, gpu))
            .then(|| format!("{what} {text} is given twice"))
    };
    [
        clash("uuid", |a, b| a.uuid == b.uuid, gpu.uuid.to_string()),
        clash("pci", |a, b| a.pci == b.pci, gpu.pci.to_string()),
        clash("serial", |a, b| a.serial == b.serial, gpu.serial.clone()),
        clash("minor", |a, b| a.minor == b.minor, gpu.minor.to_string()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn gpu(node: &Node, group: &GpuGroup, total: usize, ordinal: u64, shape: Option<PcieShape>) -> Gpu {
    let model = group.model.0;
    let position = node.gpus.len();
    let place = Place::new(position, total, node.numa_nodes.len(), group, shape);
    let capability = group.compute_capability;
    Gpu {
        model,
        name: group.name.clone().unwrap_or_else(|| model.name.to_owned()),
        uuid: group
            .uuid
            .unwrap_or_else(|| Uuid::derived(&node.hostname, ordinal)),
        serial: group
            .serial
            .clone()
            .unwrap_or_else(|| pool::serial(fnv1a(node.hostname.as_bytes()), ordinal)),
        minor: group.minor.unwrap_or_else(|| free_minor(&node.gpus)),
        pci: group
            .pci
            .unwrap_or_else(|| pool::address(model, position, total, &node.gpus)),
        device_id: group.device_id.unwrap_or(model.device_id),
        subsystem_id: group.subsystem_id.unwrap_or(model.subsystem_id),
        memory_mib: group.memory.map_or(model.memory_mib, |memory| memory.0),
        compute_capability: capability.map_or(model.compute_capability, |version| {
            (version.major, version.minor)
        }),
        power_limit: group.power_limit.unwrap_or(model.power.limit),
        numa: place.numa,
        pcie_root: place.root,
        pcie_switches: place.switches,
        module_id: u32::try_from(position % 8 + 1).unwrap_or(1),
        links: vec![LinkPeer::Down; usize::from(model.nvlinks)],
        mig: initial_mig(group).unwrap_or_default(),
    }
}

fn free_minor(gpus: &[Gpu]) -> u32 {
    let taken = |minor: &u32| gpus.iter().any(|gpu| gpu.minor == *minor);
    let last = u32::try_from(gpus.len()).unwrap_or(u32::MAX);
    (0..=last).find(|minor| !taken(minor)).unwrap_or(last)
}

/// Where a GPU hangs in the PCIe tree.
struct Place {
    numa: u32,
    root: u16,
    switches: Vec<u16>,
}

impl Place {
    fn new(
        position: usize,
        total: usize,
        numa_nodes: usize,
        group: &GpuGroup,
        shape: Option<PcieShape>,
    ) -> Self {
        let shape = shape.unwrap_or_else(|| usual_shape(group));
        let narrow = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        let per_root = shape.gpus_per_root.max(1);
        let spread = (position * numa_nodes.max(1)) / total.max(position + 1);
        let switch = position % per_root / shape.gpus_per_switch.max(1);
        let switches = match shape.gpus_per_switch {
            0 => Vec::new(),
            per_switch if per_switch >= per_root => vec![0],
            _ => vec![0, narrow(switch + 1)],
        };
        Self {
            numa: group.numa.unwrap_or(u32::try_from(spread).unwrap_or(0)),
            root: group.pcie_root.unwrap_or(narrow(position / per_root)),
            switches: group.pcie_switches.clone().unwrap_or(switches),
        }
    }
}

/// SXM boards have a switch and a root complex to themselves; cards share them in pairs.
fn usual_shape(group: &GpuGroup) -> PcieShape {
    let shared = match group.model.0.fabric {
        Fabric::NvSwitch => 1,
        Fabric::None | Fabric::Pairs | Fabric::Mesh => 2,
    };
    PcieShape {
        gpus_per_switch: shared,
        gpus_per_root: shared,
    }
}

fn wire(node: &mut Node, nvlink: &NvLink) -> Vec<Problem> {
    match nvlink {
        NvLink::All(Wiring::Auto) => wire_as_usual(node),
        NvLink::All(Wiring::None) => {}
        NvLink::All(Wiring::NvSwitch) => {
            for gpu in &mut node.gpus {
                gpu.links.fill(LinkPeer::Switch);
            }
        }
        NvLink::Pairs(pairs) => {
            return pairs
                .iter()
                .enumerate()
                .filter_map(|(index, pair)| {
                    let message = wire_pair(node, pair).err()?;
                    Some(problem(Subject::Pair(index), message))
                })
                .collect();
        }
    }
    Vec::new()
}

fn wire_pair(node: &mut Node, pair: &LinkedPair) -> Result<(), String> {
    let [a, b] = pair.gpus;
    let count = node.gpus.len();
    if a >= count || b >= count || a == b {
        return Err(format!(
            "gpus: [{a}, {b}] must be two different GPUs, numbered 0 to {}",
            count.saturating_sub(1)
        ));
    }
    for gpu in [a, b] {
        let free = node.gpus[gpu]
            .links
            .iter()
            .filter(|link| **link == LinkPeer::Down)
            .count();
        if free < pair.links {
            return Err(format!(
                "GPU {gpu} ({}) has {free} free NVLinks, fewer than {}",
                node.gpus[gpu].model.key, pair.links
            ));
        }
    }
    join(&mut node.gpus, a, b, pair.links);
    Ok(())
}

fn join(gpus: &mut [Gpu], a: usize, b: usize, links: usize) {
    for (from, to) in [(a, b), (b, a)] {
        let peer = LinkPeer::Gpu(u8::try_from(to).unwrap_or(u8::MAX));
        let free = gpus[from]
            .links
            .iter_mut()
            .filter(|link| **link == LinkPeer::Down);
        free.take(links.min(MAX_NVLINKS))
            .for_each(|link| *link = peer);
    }
}

/// The hybrid cube mesh of a DGX-1: which of eight GPUs are joined by how many links.
const CUBE_MESH: [(usize, usize, usize); 16] = [
    (0, 1, 1),
    (0, 2, 1),
    (0, 3, 2),
    (0, 4, 2),
    (1, 2, 2),
    (1, 3, 1),
    (1, 5, 2),
    (2, 3, 2),
    (2, 6, 1),
    (3, 7, 1),
    (4, 5, 1),
    (4, 6, 1),
    (4, 7, 2),
    (5, 6, 2),
    (5, 7, 1),
    (6, 7, 2),
];

fn wire_as_usual(node: &mut Node) {
    let mut mesh = Vec::new();
    let mut waiting: Option<usize> = None;
    for index in 0..node.gpus.len() {
        let model = node.gpus[index].model;
        match model.fabric {
            Fabric::None => {}
            Fabric::NvSwitch => node.gpus[index].links.fill(LinkPeer::Switch),
            Fabric::Mesh => mesh.push(index),
            Fabric::Pairs => match waiting.take() {
                Some(partner) if node.gpus[partner].model == model => {
                    join(&mut node.gpus, partner, index, usize::from(model.nvlinks));
                }
                _ => waiting = Some(index),
            },
        }
    }
    for board in mesh.chunks(8) {
        wire_board(&mut node.gpus, board);
    }
}

fn wire_board(gpus: &mut [Gpu], board: &[usize]) {
    if board.len() > 4 {
        for (a, b, links) in CUBE_MESH {
            if let (Some(&a), Some(&b)) = (board.get(a), board.get(b)) {
                join(gpus, a, b, links);
            }
        }
        return;
    }
    let links = 6 / board.len().saturating_sub(1).max(1);
    for (position, &a) in board.iter().enumerate() {
        for &b in &board[position + 1..] {
            join(gpus, a, b, links);
        }
    }
}
