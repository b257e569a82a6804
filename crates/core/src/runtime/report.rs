//! What is known of a runtime.

use core::fmt;

use super::version::RuntimeVersion;
use crate::cdi::SPEC_DIRECTORIES;

/// A container runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuntimeKind {
    /// containerd.
    Containerd,
    /// CRI-O.
    Crio,
    /// Docker Engine, which Kubernetes uses through cri-dockerd.
    Docker,
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Containerd => "containerd",
            Self::Crio => "CRI-O",
            Self::Docker => "Docker",
        })
    }
}

/// A file of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path on the host.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// Where a setting is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, by its path on the host.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Whether a runtime resolves CDI names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CdiState {
    /// It does.
    On,
    /// It could.
    Off,
    /// It cannot: it is too old, or runs no containers for Kubernetes.
    Unsupported,
    /// Nothing that was found tells.
    Unknown,
}

/// Whether a runtime resolves CDI names, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdiSupport {
    /// Whether it does.
    pub state: CdiState,
    /// From what that is concluded, in words.
    pub why: String,
    /// The setting, if one decides.
    pub place: Option<Place>,
}

/// The directories that a runtime reads specs in, lowest rank first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecDirectories {
    /// Their paths on the host.
    pub directories: Vec<String>,
    /// The setting, if it is not the default.
    pub place: Option<Place>,
}

impl Default for SpecDirectories {
    fn default() -> Self {
        Self {
            directories: SPEC_DIRECTORIES.map(str::to_owned).to_vec(),
            place: None,
        }
    }
}

impl SpecDirectories {
    /// Whether what the agent writes lies in one of them. `/var/run` is a link to `/run` on every
    /// host.
    pub fn hold_ours(&self) -> bool {
        let ours = plain(SPEC_DIRECTORIES[1]);
        self.directories
            .iter()
            .any(|directory| plain(directory) == ours)
    }
}

fn plain(directory: &str) -> String {
    let directory = directory.trim_end_matches('/');
    match directory.strip_prefix("/var/run/") {
        Some(rest) => format!("/run/{rest}"),
        None => directory.to_owned(),
    }
}

/// A low-level runtime that containers can be run by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinedRuntime {
    /// Its name, which a `RuntimeClass` has as its handler.
    pub name: String,
    /// The program, where it is told.
    pub program: Option<String>,
    /// Where it is defined; `None` if the runtime itself told of it.
    pub place: Option<Place>,
}

impl DefinedRuntime {
    /// Whether it is NVIDIA's, which gives GPUs to containers by their environment.
    pub fn is_nvidia(&self) -> bool {
        let program = self.program.as_deref().unwrap_or(&self.name);
        let file = program.rsplit('/').next().unwrap_or(program);
        file.starts_with("nvidia-container-runtime")
            || (self.program.is_none() && file.starts_with("nvidia"))
    }
}

/// Something that the reader should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What it is.
    pub text: String,
    /// Where.
    pub place: Option<Place>,
    /// Whether a file could not be read, so that nobody knows what it sets.
    pub is_unread: bool,
}

impl Remark {
    /// Something that is known.
    pub fn new(text: impl Into<String>, place: Option<Place>) -> Self {
        Self {
            text: text.into(),
            place,
            is_unread: false,
        }
    }

    /// Why a file could not be read.
    pub fn unread(text: impl Into<String>, place: Option<Place>) -> Self {
        Self {
            is_unread: true,
            ..Self::new(text, place)
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// What is known of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeReport {
    /// Which one it is.
    pub kind: RuntimeKind,
    /// Its version, if it is known.
    pub version: Option<RuntimeVersion>,
    /// Whether it resolves CDI names.
    pub cdi: CdiSupport,
    /// Where it reads specs.
    pub spec_directories: SpecDirectories,
    /// The runtimes that containers can be run by, by name.
    pub runtimes: Vec<DefinedRuntime>,
    /// The name of the one that a pod gets that asks for none.
    pub default_runtime: String,
    /// Where that is set, if it is.
    pub default_runtime_place: Option<Place>,
    /// Where its service for Kubernetes is switched off, if it is: then no kubelet uses it.
    pub switched_off: Option<Place>,
    /// What else there is to say.
    pub remarks: Vec<Remark>,
}

impl RuntimeReport {
    /// NVIDIA's runtime, if it is what a pod gets that asks for none.
    pub fn nvidia_by_default(&self) -> bool {
        let by_name = self
            .runtimes
            .iter()
            .find(|runtime| runtime.name == self.default_runtime);
        by_name.map_or_else(
            || self.default_runtime.starts_with("nvidia"),
            DefinedRuntime::is_nvidia,
        )
    }

    /// NVIDIA's runtimes, default or not.
    pub fn nvidia_runtimes(&self) -> impl Iterator<Item = &DefinedRuntime> {
        self.runtimes.iter().filter(|runtime| runtime.is_nvidia())
    }

    /// Whether names in the CRI's own field are resolved, and not only those in annotations. Of a
    /// CRI-O whose version is not known it is not assumed: every one with CDI takes annotations.
    pub fn takes_cri_field(&self) -> bool {
        match (self.kind, self.version) {
            (RuntimeKind::Containerd, Some(version)) => version >= RuntimeVersion::new(1, 7, 2),
            (RuntimeKind::Crio, Some(version)) => version >= RuntimeVersion::new(1, 27, 0),
            (RuntimeKind::Containerd, None) => true,
            (RuntimeKind::Crio, None) | (RuntimeKind::Docker, _) => false,
        }
    }

    /// Why a file could not be read, if one could not: what it sets is not known then.
    pub fn unread(&self) -> Option<&Remark> {
        self.remarks.iter().find(|remark| remark.is_unread)
    }

    /// Takes back what was concluded from files of which one could not be read.
    pub fn doubt(&mut self) {
        if self.cdi.state == CdiState::Unsupported {
            return;
        }
        if let Some(unread) = self.unread() {
            self.cdi = CdiSupport {
                state: CdiState::Unknown,
                why: unread.to_string(),
                place: unread.place.clone(),
            };
        }
    }

    /// The runtime with its version, `containerd 2.3.4`.
    pub fn name(&self) -> String {
        match self.version {
            Some(version) => format!("{} {version}", self.kind),
            None => self.kind.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_specs_is_the_same_under_run_and_var_run() {
        let dirs = |each: &[&str]| SpecDirectories {
            directories: each.iter().map(|path| (*path).to_owned()).collect(),
            place: None,
        };
        assert!(SpecDirectories::default().hold_ours());
        assert!(dirs(&["/run/cdi/"]).hold_ours());
        assert!(!dirs(&["/etc/cdi", "/opt/var/run/cdi"]).hold_ours());
        assert!(!dirs(&[]).hold_ours());
    }

    #[test]
    fn nvidias_runtime_is_told_by_its_program() {
        let runtime = |name: &str, program: Option<&str>| DefinedRuntime {
            name: name.to_owned(),
            program: program.map(str::to_owned),
            place: None,
        };
        assert!(runtime("gpu", Some("/usr/bin/nvidia-container-runtime.cdi")).is_nvidia());
        assert!(runtime("nvidia", None).is_nvidia());
        assert!(!runtime("nvidia", Some("/usr/bin/runc")).is_nvidia());
        assert!(!runtime("runc", None).is_nvidia());
    }
}
