//! Where things lie: the cache of built programs, and the directory of a running cluster.
//! The only module that reads the environment.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// The kubelet's directory. Its device manager's sockets are at this path whatever
/// `--root-dir` says, and the manifests mount it, so the suite uses the real one.
pub(crate) const KUBELET: &str = "/var/lib/kubelet";
/// Where the agent's manifests keep its state on the node.
pub(crate) const AGENT_STATE: [&str; 2] = ["/var/lib/mizzen", "/var/lib/mizzen-simulated"];

/// The longest directory that leaves room for the socket names below it: a unix socket's
/// path has at most 107 bytes.
const LONGEST_ROOT: usize = 56;

/// The directory of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout under `root`, which must be an absolute and short path.
    pub(crate) fn new(root: &Path) -> Result<Self> {
        if !root.is_absolute() || root.as_os_str().len() > LONGEST_ROOT {
            bail!(
                "--root {}: want an absolute path of at most {LONGEST_ROOT} bytes \
                 (unix sockets are made below it)",
                root.display()
            );
        }
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Certificates and keys.
    pub(crate) fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// Configuration files and kubeconfigs.
    pub(crate) fn etc(&self) -> PathBuf {
        self.root.join("etc")
    }

    /// The kubeconfig of an administrator.
    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.etc().join("admin.kubeconfig")
    }

    /// One log per server; kept after `down`.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Process ids and sockets.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// etcd's and containerd's data.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The node's simulated hardware.
    pub(crate) fn hardware(&self) -> PathBuf {
        self.root.join("hw")
    }

    /// Hardware that is there for the tests of MIG alone.
    pub(crate) fn mig_hardware(&self) -> PathBuf {
        self.root.join("hw-mig")
    }

    /// Hardware that is there for the tests of CDI alone.
    pub(crate) fn cdi_hardware(&self) -> PathBuf {
        self.root.join("hw-cdi")
    }

    /// Where containerd reads CDI specs: what is /etc/cdi and /run/cdi of a real machine lies
    /// below the root of the simulated one.
    pub(crate) fn cdi_spec_directories(&self) -> [PathBuf; 2] {
        ["etc/cdi", "run/cdi"].map(|directory| self.cdi_hardware().join("host").join(directory))
    }

    /// What stands in for NVIDIA's container runtime, under its name.
    pub(crate) fn nvidia_runtime(&self) -> PathBuf {
        self.etc().join("nvidia-container-runtime")
    }

    /// Image archives on their way into containerd.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// containerd's socket; its config and its socket lie where they do on every host, below the
    /// root of the machine of the tests of CDI, whose agent looks for them there.
    pub(crate) fn containerd_socket(&self) -> PathBuf {
        let host = self.cdi_hardware().join("host");
        host.join("run/containerd/containerd.sock")
    }

    /// containerd's config.
    pub(crate) fn containerd_config(&self) -> PathBuf {
        let host = self.cdi_hardware().join("host");
        host.join("etc/containerd/config.toml")
    }

    /// A file whose presence says that [`KUBELET`] and [`AGENT_STATE`] are this suite's.
    pub(crate) fn owner_mark(&self) -> PathBuf {
        self.root.join("owns-kubelet-directory")
    }

    /// Takes the cluster for this process, until the lock is dropped.
    ///
    /// # Errors
    /// When another run of the suite holds it.
    pub(crate) fn lock(&self) -> Result<File> {
        if !rustix::process::geteuid().is_root() {
            bail!("the cluster needs root: it runs a kubelet and containers");
        }
        fs::create_dir_all(&self.root)?;
        let file = File::create(self.root.join("lock"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("another run of the suite uses {}", self.root.display()))?;
        Ok(file)
    }
}

/// The user's cache directory of Mizzen.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the module that reads the environment"
)]
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("mizzen/e2e"))
}

/// The repository that this program was built from.
pub(crate) fn repository() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the crate lies in the repository")
}
