//! From what was found to what is changed in a container.

use std::collections::BTreeSet;

use super::files::{DriverFiles, FoundNode, HostFile, Library, Link};
use super::hooks::Hooks;
use super::spec::{ContainerEdits, DeviceNode, Mount};
use super::wanted::SpecOptions;
use crate::allocate::CONTROL_NODES;

/// How a driver's files are mounted.
const FILE_OPTIONS: [&str; 5] = ["ro", "nosuid", "nodev", "rbind", "rprivate"];
/// How sockets are mounted.
const SOCKET_OPTIONS: [&str; 5] = ["nosuid", "nodev", "rbind", "rprivate", "noexec"];

/// What a device is made of. Several together make one that is all of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts<'a> {
    /// Nodes by their paths in a container.
    pub(super) nodes: BTreeSet<(&'a str, &'a FoundNode)>,
    pub(super) links: BTreeSet<&'a Link>,
    pub(super) files: BTreeSet<&'a HostFile>,
}

impl<'a> Parts<'a> {
    /// The nodes at these paths; `None` if one of them is missing.
    pub(super) fn of_nodes<P: AsRef<str>>(
        files: &'a DriverFiles,
        paths: impl IntoIterator<Item = P>,
    ) -> Option<Self> {
        let find = |path: P| {
            let (path, node) = files.nodes.get_key_value(path.as_ref())?;
            Some((path.as_str(), node))
        };
        let nodes = paths.into_iter().map(find).collect::<Option<_>>()?;
        Some(Self {
            nodes,
            ..Self::default()
        })
    }

    /// All the nodes whose path is as asked.
    pub(super) fn of_all(files: &'a DriverFiles, is_wanted: impl Fn(&str) -> bool) -> Self {
        let nodes = files.nodes.iter().map(|(path, node)| (path.as_str(), node));
        Self {
            nodes: nodes.filter(|(path, _)| is_wanted(path)).collect(),
            ..Self::default()
        }
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.nodes.extend(&other.nodes);
        self.links.extend(&other.links);
        self.files.extend(&other.files);
    }

    pub(super) fn edits(&self, options: &SpecOptions) -> ContainerEdits {
        let mut edits = ContainerEdits {
            mounts: self
                .files
                .iter()
                .map(|file| mount(file, &FILE_OPTIONS))
                .collect(),
            ..ContainerEdits::default()
        };
        let links: Vec<Link> = self.links.iter().map(|link| (*link).clone()).collect();
        edits.hooks.extend(options.hooks.create_symlinks(&links));
        add_nodes(&mut edits, &self.nodes, options);
        sort(&mut edits);
        edits
    }
}

/// What every container with a GPU gets.
pub(super) fn common(files: &DriverFiles, options: &SpecOptions) -> ContainerEdits {
    let mut edits = of_driver(files, options, &options.hooks);
    let control = Parts::of_all(files, |path| CONTROL_NODES.contains(&path));
    add_nodes(&mut edits, &control.nodes, options);
    edits
        .env
        .insert(0, "NVIDIA_VISIBLE_DEVICES=void".to_owned());
    sort(&mut edits);
    edits
}

/// What a container gets that looks after the node.
pub(super) fn of_management(files: &DriverFiles, options: &SpecOptions) -> ContainerEdits {
    let mut edits = of_driver(files, options, &options.hooks.of_management());
    edits
        .env
        .insert(0, "NVIDIA_VISIBLE_DEVICES=void".to_owned());
    sort(&mut edits);
    edits
}

/// The files of the driver, and what makes them usable.
fn of_driver(files: &DriverFiles, options: &SpecOptions, hooks: &Hooks) -> ContainerEdits {
    let libraries = files.libraries.iter().map(|library| &library.file);
    let mounts = libraries
        .chain(&files.files)
        .map(|file| mount(file, &FILE_OPTIONS));
    let sockets = files.sockets.iter().filter(|_| options.sockets);
    let mut edits = ContainerEdits {
        mounts: mounts
            .chain(sockets.map(|file| mount(file, &SOCKET_OPTIONS)))
            .collect(),
        ..ContainerEdits::default()
    };
    let directories = directories(&files.libraries);
    let cuda: Vec<&str> = directories
        .iter()
        .copied()
        .filter(|directory| {
            let mut inside = files.libraries.iter();
            inside.any(|library| {
                library.directory() == *directory && library.name().starts_with("libcuda.so")
            })
        })
        .collect();
    if !cuda.is_empty() {
        edits
            .env
            .push(format!("NVIDIA_CTK_LIBCUDA_DIR={}", cuda.join(":")));
    }
    edits.hooks.extend(hooks.create_symlinks(&links(files)));
    if let Some(version) = &files.version
        && !cuda.is_empty()
    {
        edits.hooks.extend(hooks.enable_cuda_compat(version));
    }
    edits.hooks.extend(hooks.update_ldcache(directories));
    if !files.libraries.is_empty() {
        edits.hooks.extend(hooks.disable_node_modification());
    }
    edits
}

/// The directories of what a dynamic linker looks for, in the order of the libraries.
fn directories(libraries: &[Library]) -> Vec<&str> {
    let mut directories: Vec<&str> = Vec::new();
    for library in libraries
        .iter()
        .filter(|library| is_linked_by_name(library))
    {
        if !directories.contains(&library.directory()) {
            directories.push(library.directory());
        }
    }
    directories
}

/// Whether a library is `lib*.so*`: plug-ins of the X server are not.
fn is_linked_by_name(library: &Library) -> bool {
    let name = library.name();
    let is_plugin =
        library.directory().contains("/xorg") || library.directory().contains("/modules");
    name.starts_with("lib") && name.contains(".so") && !is_plugin
}

/// All links: those of the host, and those that programs rely on although installers do not
/// always make them.
fn links(files: &DriverFiles) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    let mut add = |link: Link| {
        // The host's word counts where both have one.
        if !links.iter().any(|known| known.path == link.path) {
            links.push(link);
        }
    };
    for library in &files.libraries {
        library.links.iter().cloned().for_each(&mut add);
        usual_links(library).into_iter().for_each(&mut add);
    }
    files.links.iter().cloned().for_each(&mut add);
    links
}

/// What a library is looked for as, besides its own name.
fn usual_links(library: &Library) -> Option<Link> {
    let name = library.name();
    let (target, link) = match name.split_once(".so.")? {
        // Many programs open it without a version.
        ("libcuda", _) => ("libcuda.so.1", "libcuda.so"),
        // GLVND wants it for indirect rendering.
        ("libGLX_nvidia", _) => (name, "libGLX_indirect.so.0"),
        ("libnvidia-opticalflow", _) => ("libnvidia-opticalflow.so.1", "libnvidia-opticalflow.so"),
        ("libnvidia-allocator", _) => ("../libnvidia-allocator.so.1", "gbm/nvidia-drm_gbm.so"),
        ("libnvidia-vulkan-producer", _) => (name, "libnvidia-vulkan-producer.so"),
        ("libglxserver_nvidia", _) => (name, "libglxserver_nvidia.so"),
        _ => return None,
    };
    Some(Link {
        target: target.to_owned(),
        path: format!("{}/{link}", library.directory()),
    })
}

fn mount(file: &HostFile, options: &[&str]) -> Mount {
    Mount {
        host_path: file.host.clone(),
        container_path: file.container.clone(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        mount_type: String::new(),
    }
}

fn add_nodes(
    edits: &mut ContainerEdits,
    nodes: &BTreeSet<(&str, &FoundNode)>,
    options: &SpecOptions,
) {
    let mut groups = BTreeSet::new();
    for (path, found) in nodes {
        edits.device_nodes.push(node(path, found));
        groups.extend(found.numbers.filter(|numbers| {
            let world = numbers.mode & 0o6;
            numbers.gid != 0 && world != 0o6
        }));
    }
    if options.additional_gids {
        let gids: BTreeSet<u32> = groups.into_iter().map(|numbers| numbers.gid).collect();
        edits.additional_gids.extend(gids);
    }
}

fn node(path: &str, found: &FoundNode) -> DeviceNode {
    let mut node = DeviceNode {
        path: path.to_owned(),
        ..DeviceNode::default()
    };
    if found.host != path {
        node.host_path.clone_from(&found.host);
    }
    if let Some(numbers) = found.numbers {
        node.major = numbers.major.into();
        node.minor = numbers.minor.into();
        node.file_mode = Some(numbers.mode).filter(|mode| *mode != 0);
        "rwm".clone_into(&mut node.permissions);
        node.gid = Some(numbers.gid).filter(|gid| *gid != 0);
    }
    node
}

/// Brings nodes and mounts into the order of their paths, those higher up first: a mount must not
/// be hidden by one that comes after it.
fn sort(edits: &mut ContainerEdits) {
    fn key(path: &str) -> (usize, String) {
        (path.matches('/').count(), path.to_owned())
    }
    edits
        .device_nodes
        .sort_by_cached_key(|node| key(&node.path));
    edits.device_nodes.dedup();
    edits
        .mounts
        .sort_by_cached_key(|mount| key(&mount.container_path));
    edits
        .mounts
        .dedup_by(|a, b| a.container_path == b.container_path);
}
