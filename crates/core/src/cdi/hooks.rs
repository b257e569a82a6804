//! The program that finishes a container's file system, called as `nvidia-ctk` and
//! `nvidia-cdi-hook` are.

use std::collections::BTreeSet;

use super::files::Link;
use super::spec::Hook;

/// Which program carries hooks out, and which are not wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    path: String,
    disabled: BTreeSet<String>,
}

/// The names by which hooks are left out: `all`, ours, and then those that some version of NVIDIA's
/// toolkit has and our specs never name.
pub const HOOK_NAMES: &[&str] = &[
    ALL,
    CREATE_SYMLINKS,
    UPDATE_LDCACHE,
    ENABLE_CUDA_COMPAT,
    DISABLE_NODE_MODIFICATION,
    "chmod",
    "create-soname-symlinks",
    "update-application-profile",
];

const ALL: &str = "all";
const CREATE_SYMLINKS: &str = "create-symlinks";
const UPDATE_LDCACHE: &str = "update-ldcache";
const ENABLE_CUDA_COMPAT: &str = "enable-cuda-compat";
const DISABLE_NODE_MODIFICATION: &str = "disable-device-node-modification";

impl Hooks {
    /// The hooks of the program at `path` on the host, but for those `disabled` by name; `all`
    /// disables every one.
    pub fn new(path: impl Into<String>, disabled: impl IntoIterator<Item = String>) -> Self {
        Self {
            path: path.into(),
            disabled: disabled.into_iter().collect(),
        }
    }

    /// The path of the program; `None` where no hook is wanted.
    pub fn path(&self) -> Option<&str> {
        (!self.disabled.contains(ALL)).then_some(&self.path)
    }

    /// The same for a container that looks after the node: it may make device nodes.
    pub(super) fn of_management(&self) -> Self {
        let mut hooks = self.clone();
        hooks.disabled.insert(DISABLE_NODE_MODIFICATION.to_owned());
        hooks
    }

    /// Makes links in the container; none for no links.
    pub(super) fn create_symlinks(&self, links: &[Link]) -> Option<Hook> {
        let each = links
            .iter()
            .map(|Link { target, path }| format!("{target}::{path}"));
        self.with_each(CREATE_SYMLINKS, "--link", each)
    }

    /// Lets the container's dynamic linker find libraries in these directories; none for none.
    pub(super) fn update_ldcache<'a>(
        &self,
        directories: impl IntoIterator<Item = &'a str>,
    ) -> Option<Hook> {
        let each = directories.into_iter().map(str::to_owned);
        self.with_each(UPDATE_LDCACHE, "--folder", each)
    }

    /// Prefers the CUDA libraries of the image where those are newer than the host's driver.
    pub(super) fn enable_cuda_compat(&self, version: &str) -> Option<Hook> {
        let version = format!("--host-driver-version={version}");
        self.hook(ENABLE_CUDA_COMPAT, [version])
    }

    /// Keeps the driver's library from making device nodes in the container.
    pub(super) fn disable_node_modification(&self) -> Option<Hook> {
        self.hook(DISABLE_NODE_MODIFICATION, [])
    }

    fn with_each(
        &self,
        name: &str,
        flag: &str,
        each: impl Iterator<Item = String>,
    ) -> Option<Hook> {
        let args: Vec<String> = each.flat_map(|value| [flag.to_owned(), value]).collect();
        if args.is_empty() {
            return None;
        }
        self.hook(name, args)
    }

    fn hook(&self, name: &str, args: impl IntoIterator<Item = String>) -> Option<Hook> {
        if self.disabled.contains(name) {
            return None;
        }
        let path = self.path()?.to_owned();
        let program = path
            .rsplit_once('/')
            .map_or(path.as_str(), |(_, name)| name);
        // The toolkit's main program has its hooks one level down.
        let level = (program == "nvidia-ctk").then_some("hook");
        let words = [program].into_iter().chain(level).chain([name]);
        let args = words.map(str::to_owned).chain(args).collect();
        Some(Hook {
            hook_name: "createContainer".to_owned(),
            args,
            env: vec!["NVIDIA_CTK_DEBUG=false".to_owned()],
            timeout: None,
            path,
        })
    }
}
