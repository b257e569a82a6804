//! Finding the runtime that the kubelet uses, and its files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mizzen_core::runtime::{
    CriAnswer, KNOWN_PLACES, KnownPlace, PrivacyRisk, Remark, RuntimeKind, RuntimeReport,
    RuntimeVersion, SourceFile, TOOLKIT_CONFIG, ToolkitConfig, config_beside, import_patterns,
    kubelet_endpoint, privacy_risks, read_containerd, read_crio, read_docker, read_toolkit,
};
use mizzen_nvml::HostRoot;

use super::glob::{matches, names};

/// Where CRI-O and Podman look for OCI hooks.
const HOOK_DIRECTORIES: [&str; 2] = [
    "/usr/share/containers/oci/hooks.d",
    "/etc/containers/oci/hooks.d",
];
/// The most files that a config may import.
const MOST_FILES: usize = 256;
/// The kubelet's config file.
const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// The flags that kubeadm starts a kubelet with.
const KUBEADM_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";

/// Which runtime is meant, where it is not to be found out.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// This one.
    pub kind: Option<RuntimeKind>,
    /// Its main config is this file, by its path on the host.
    pub config: Option<String>,
    /// Its socket is this one, as this process sees it.
    pub socket: Option<PathBuf>,
}

/// A runtime of the node.
#[derive(Debug, Clone)]
pub struct FoundRuntime {
    /// How it is installed.
    pub place: KnownPlace,
    /// Why it is this one, in words.
    pub why: String,
    /// The path of its main config on the host, which need not exist.
    pub config: String,
    /// Its main config, if there is one, and what counts besides, in the order in which it reads
    /// them.
    pub files: Vec<SourceFile>,
    /// The file that the main config is made of.
    pub template: Option<SourceFile>,
    /// Its socket as this process sees it, if there is one.
    pub socket: Option<PathBuf>,
    /// Its version, if it is known.
    pub version: Option<RuntimeVersion>,
    /// What it said of itself, if it was asked.
    pub answer: Option<CriAnswer>,
    /// What could not be read, in words.
    pub remarks: Vec<Remark>,
    /// The settings of NVIDIA's toolkit.
    pub toolkit: ToolkitConfig,
    /// The OCI hooks of the node.
    pub hooks: Vec<SourceFile>,
}

impl FoundRuntime {
    /// Takes in what the runtime said of itself.
    pub fn take(&mut self, answer: CriAnswer) {
        self.version = answer.version().or(self.version);
        self.answer = Some(answer);
    }

    /// What its files say, and what it says itself.
    pub fn report(&self) -> RuntimeReport {
        let mut report = self.report_of_files();
        if let Some(answer) = &self.answer {
            answer.correct(&mut report);
        }
        report
    }

    /// What its files say, which a running process may not have read yet.
    pub fn report_of_files(&self) -> RuntimeReport {
        let mut report = match self.place.kind {
            RuntimeKind::Containerd => read_containerd(&self.files, self.version),
            RuntimeKind::Crio => read_crio(&self.files, self.version),
            RuntimeKind::Docker => read_docker(self.files.first(), self.version),
        };
        report.remarks.extend(self.remarks.iter().cloned());
        report.doubt();
        report
    }

    /// By which settings a pod may take GPUs that it did not ask for.
    pub fn privacy_risks(&self) -> Vec<PrivacyRisk> {
        privacy_risks(&self.report(), &self.toolkit, &self.hooks)
    }
}

/// Finds the runtime of the node whose root is `host`: the one that is wished for, or the one that
/// the kubelet was told of, or one whose socket or config is there. `None` if there is none.
pub fn find(host: &HostRoot, wish: &Wish) -> Option<FoundRuntime> {
    let (place, why) = chosen(host, wish)?;
    let config = wish.config.clone();
    let config = config.unwrap_or_else(|| place.config.to_owned());
    let mut remarks = Vec::new();
    let files = files(host, &place, &config, &mut remarks);
    let socket = wish.socket.clone().or_else(|| {
        let socket = host.resolve(place.socket).ok()?;
        exists(&socket).then_some(socket)
    });
    let template = place.template.and_then(|path| read(host, path));
    let hooks = HOOK_DIRECTORIES.iter().flat_map(|directory| {
        let names = names(host, directory).into_iter();
        names.filter_map(move |name| read(host, &format!("{directory}/{name}")))
    });
    let mut found = FoundRuntime {
        place,
        why,
        config,
        files,
        template,
        socket,
        version: None,
        answer: None,
        remarks,
        toolkit: read_toolkit(None),
        hooks: hooks.collect(),
    };
    found.toolkit = toolkit(host, &found.report_of_files());
    Some(found)
}

/// The settings of NVIDIA's toolkit: those beside the runtime that containers get by default, else
/// beside another runtime of NVIDIA's, else those of the node.
fn toolkit(host: &HostRoot, report: &RuntimeReport) -> ToolkitConfig {
    let mut runtimes: Vec<_> = report.nvidia_runtimes().collect();
    runtimes.sort_by_key(|runtime| runtime.name != report.default_runtime);
    let programs = runtimes
        .iter()
        .filter_map(|runtime| runtime.program.as_deref());
    let beside = programs
        .filter_map(config_beside)
        .find_map(|path| read(host, &path));
    read_toolkit(beside.or_else(|| read(host, TOOLKIT_CONFIG)).as_ref())
}

fn chosen(host: &HostRoot, wish: &Wish) -> Option<(KnownPlace, String)> {
    let of_kind = || {
        KNOWN_PLACES
            .iter()
            .filter(|place| wish.kind.is_none_or(|kind| kind == place.kind))
    };
    if let Some(config) = &wish.config
        && let Some(place) = of_kind().find(|place| place.config == config)
    {
        return Some((*place, format!("it has the config {config}")));
    }
    let has_config = |place: &&KnownPlace| is_there(host, place.config);
    if let Some(socket) = &wish.socket {
        let path = socket.strip_prefix(host.as_path()).unwrap_or(socket);
        let path = Path::new("/").join(path).display().to_string();
        let fitting = || of_kind().filter(|place| place.has_socket(&path));
        if let Some(place) = fitting().find(has_config).or_else(|| fitting().next()) {
            return Some((*place, format!("it has the socket {path}")));
        }
    }
    let has_socket = |place: &&KnownPlace| is_there(host, place.socket);
    let text = |path| read(host, path).map(|file| file.text);
    let endpoint = kubelet_endpoint(
        text(KUBELET_CONFIG).as_deref(),
        text(KUBEADM_FLAGS).as_deref(),
    );
    if let Some(endpoint) = endpoint {
        let fitting = || of_kind().filter(|place| place.has_socket(&endpoint));
        if let Some(place) = fitting().find(has_config).or_else(|| fitting().next()) {
            return Some((*place, format!("the kubelet uses {endpoint}")));
        }
    }
    // Two distributions share a socket.
    let both = of_kind().find(|place| has_socket(place) && has_config(place));
    if let Some(place) = both.or_else(|| of_kind().find(has_socket)) {
        return Some((*place, format!("its socket {} is there", place.socket)));
    }
    let has_drop_ins =
        |place: &&KnownPlace| place.drop_ins.is_some_and(|path| is_there(host, path));
    if let Some(place) = of_kind().find(|place| has_config(place) || has_drop_ins(place)) {
        return Some((*place, format!("its config {} is there", place.config)));
    }
    let kind = wish.kind?;
    let plain = KNOWN_PLACES.iter().rfind(|place| place.kind == kind)?;
    Some((*plain, "it was asked for".to_owned()))
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn is_there(host: &HostRoot, path: &str) -> bool {
    host.resolve(path).is_ok_and(|path| exists(&path))
}

/// The main config and what counts besides, in the order in which the runtime reads them.
fn files(
    host: &HostRoot,
    place: &KnownPlace,
    config: &str,
    remarks: &mut Vec<Remark>,
) -> Vec<SourceFile> {
    let main = match host.resolve(config).and_then(fs::read_to_string) {
        Ok(text) => Some(SourceFile {
            path: config.to_owned(),
            text,
        }),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                remarks.push(unreadable(config, &error));
            }
            None
        }
    };
    match place.kind {
        RuntimeKind::Containerd => main.map_or_else(Vec::new, |main| imported(host, main, remarks)),
        RuntimeKind::Docker => main.into_iter().collect(),
        RuntimeKind::Crio => {
            let parent = Path::new(config).parent().unwrap_or(Path::new("/"));
            let directory = format!("{}/crio.conf.d", parent.display());
            let names = names(host, &directory).into_iter();
            let dropped = names.filter_map(|name| read(host, &format!("{directory}/{name}")));
            main.into_iter().chain(dropped).collect()
        }
    }
}

/// A config of containerd's and what it imports: each file once, those that a file imports after
/// all that were imported before.
fn imported(host: &HostRoot, main: SourceFile, remarks: &mut Vec<Remark>) -> Vec<SourceFile> {
    let mut seen = BTreeSet::from([main.path.clone()]);
    let mut files = vec![main];
    let mut at = 0;
    while at < files.len() && files.len() < MOST_FILES {
        let patterns = import_patterns(&files[at]).unwrap_or_default();
        let paths = patterns.iter().flat_map(|pattern| matches(host, pattern));
        let paths: Vec<String> = paths.filter(|path| seen.insert(path.clone())).collect();
        for path in paths {
            match host.resolve(&path).and_then(fs::read_to_string) {
                Ok(text) => files.push(SourceFile { path, text }),
                Err(error) => remarks.push(unreadable(&path, &error)),
            }
        }
        at += 1;
    }
    files
}

fn unreadable(path: &str, error: &std::io::Error) -> Remark {
    let text = format!("{path} cannot be read: {error}");
    if error.kind() == std::io::ErrorKind::NotFound {
        // It sets nothing.
        Remark::new(text, None)
    } else {
        Remark::unread(text, None)
    }
}

fn read(host: &HostRoot, path: &str) -> Option<SourceFile> {
    let text = host.resolve(path).and_then(fs::read_to_string).ok()?;
    Some(SourceFile {
        path: path.to_owned(),
        text,
    })
}
