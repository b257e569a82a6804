//! The programs a cluster is made of: Kubernetes, etcd and containerd built from their Go
//! modules and cached by what they are built from, runc and busybox from the distribution,
//! and the `mizzen` binary under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use xtask::image::oci::sha256;

use crate::{layout, report};

/// Debian's names of the packages that are installed, with the file each is wanted for.
const PACKAGES: [(&str, &str); 3] = [
    ("runc", RUNC),
    ("busybox-static", BUSYBOX),
    ("containernetworking-plugins", "/usr/lib/cni/ptp"),
];
/// The container runtime proper.
pub(crate) const RUNC: &str = "/usr/sbin/runc";
/// The statically linked shell of the test images.
pub(crate) const BUSYBOX: &str = "/bin/busybox";
/// The runtime of one test, which is skipped where it cannot be had.
pub(crate) const PODMAN: &str = "/usr/bin/podman";
/// Where the distribution keeps the CNI plugins.
pub(crate) const CNI_PLUGINS: &str = "/usr/lib/cni";

/// How often a long build says that it is still at work.
const PROGRESS: Duration = Duration::from_secs(20);

/// One Go module under `e2e/cluster`, and what is built from it.
struct Module {
    /// Its directory under `e2e/cluster`.
    directory: &'static str,
    /// The module whose version the programs report.
    versioned: &'static str,
    tags: &'static str,
    /// The linker's `-X` settings, with `{version}` for that version.
    stamps: &'static [&'static str],
    /// The packages, in an order that shows progress early.
    packages: &'static [&'static str],
}

const MODULES: [Module; 2] = [
    Module {
        directory: "containerd",
        versioned: "github.com/containerd/containerd/v2",
        tags: "no_btrfs,no_zfs,no_devmapper",
        stamps: &["github.com/containerd/containerd/v2/version.Version={version}"],
        packages: &[
            "github.com/containerd/containerd/v2/cmd/containerd",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/ctr",
        ],
    },
    Module {
        directory: "kubernetes",
        versioned: "k8s.io/kubernetes",
        tags: "",
        stamps: &[
            "k8s.io/component-base/version.gitVersion={version}",
            "k8s.io/component-base/version.gitMajor={major}",
            "k8s.io/component-base/version.gitMinor={minor}",
        ],
        packages: &[
            "mizzen.dev/e2e/kubernetes/etcd",
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kubelet",
        ],
    },
];

/// A directory with the built programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Builds what is not in the cache yet, and installs what the distribution has.
    pub(crate) async fn build() -> Result<Self> {
        install_missing(&PACKAGES).await?;
        let directory = layout::cache()?.join(format!("programs-{}", cache_key()?));
        fs::create_dir_all(&directory)?;
        for module in &MODULES {
            for package in module.packages {
                build_program(module, package, &directory).await?;
            }
        }
        Ok(Self { directory })
    }

    /// Programs that were built into a directory earlier.
    pub(crate) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The path of one program.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The directory of all of them, for a PATH.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Sixteen hexadecimal digits that change with anything the programs are built from.
fn cache_key() -> Result<String> {
    let mut inputs = Vec::new();
    for module in &MODULES {
        let source = module.source()?;
        for file in ["go.mod", "go.sum", "etcd/main.go"] {
            match fs::read(source.join(file)) {
                Ok(bytes) => inputs.extend_from_slice(sha256(&bytes).as_bytes()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context(source.join(file).display().to_string()),
            }
        }
        inputs.extend_from_slice(module.tags.as_bytes());
        inputs.extend_from_slice(module.stamps.concat().as_bytes());
    }
    inputs.extend_from_slice(std::env::consts::ARCH.as_bytes());
    Ok(sha256(&inputs)[..16].to_owned())
}

impl Module {
    fn source(&self) -> Result<PathBuf> {
        Ok(layout::repository()?
            .join("e2e/cluster")
            .join(self.directory))
    }

    /// The linker flags: no symbol table, and the versions that the programs report.
    fn linker_flags(&self) -> Result<String> {
        let go_mod = fs::read_to_string(self.source()?.join("go.mod"))?;
        let version = required_version(&go_mod, self.versioned)
            .with_context(|| format!("{} is not required by its go.mod", self.versioned))?;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or(""), numbers.next().unwrap_or(""));
        let stamps = self.stamps.iter().map(|stamp| {
            let stamp = stamp
                .replace("{version}", version)
                .replace("{major}", major)
                .replace("{minor}", minor);
            format!(" -X {stamp}")
        });
        Ok(std::iter::once("-s -w".to_owned()).chain(stamps).collect())
    }
}

/// The version of `module` in the require lines of a go.mod.
fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.split_whitespace().filter(|word| *word != "require");
        (words.next()? == module)
            .then(|| words.next())
            .flatten()
            .filter(|word| word.starts_with('v'))
    })
}

async fn build_program(module: &Module, package: &str, directory: &Path) -> Result<()> {
    let name = package.rsplit('/').next().unwrap_or(package);
    let output = directory.join(name);
    if output.is_file() {
        return Ok(());
    }
    let unfinished = directory.join(format!("{name}.unfinished"));
    let mut go = Command::new("go");
    go.current_dir(module.source()?)
        .args(["build", "-trimpath", "-buildvcs=false", "-mod=readonly"])
        .args(["-tags", module.tags, "-ldflags", &module.linker_flags()?])
        .arg("-o")
        .arg(&unfinished)
        .arg(package)
        .env("CGO_ENABLED", "0");
    let build = run_quietly(
        name,
        go,
        "Go 1.26 or newer builds the cluster: https://go.dev/dl",
    );
    report::step(&format!("build {name}"), build).await?;
    fs::rename(unfinished, output)?;
    Ok(())
}

/// Runs a long command, saying now and then that it still runs; its output is shown only when
/// it fails.
async fn run_quietly(name: &str, mut command: Command, if_missing: &str) -> Result<()> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    let started = Instant::now();
    let child = command.spawn().context(if_missing.to_owned())?;
    let finished = child.wait_with_output();
    tokio::pin!(finished);
    let output = loop {
        match tokio::time::timeout(PROGRESS, &mut finished).await {
            Ok(output) => break output?,
            Err(_) => report::line(&format!(
                "  {name}: still at it after {}",
                report::seconds(started.elapsed())
            )),
        }
    };
    if !output.status.success() {
        bail!(
            "{name}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Installs Podman, if it is not there.
///
/// # Errors
/// Where the distribution does not have it, or cannot be reached.
pub(crate) async fn install_podman() -> Result<()> {
    install_missing(&[("podman", PODMAN)]).await
}

/// Installs those packages whose file is not there.
async fn install_missing(packages: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    if !rustix::process::geteuid().is_root() {
        bail!("missing packages; as root: apt-get install {wanted}");
    }
    let install = async {
        let mut update = Command::new("apt-get");
        update.args(["update", "--quiet"]);
        run_quietly("apt-get update", update, &format!("install {wanted}")).await?;
        let mut install = Command::new("apt-get");
        install
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive");
        run_quietly("apt-get install", install, &format!("install {wanted}")).await
    };
    report::step(&format!("install {wanted}"), install).await
}

/// The binaries that go into the images.
#[derive(Debug, Clone)]
pub(crate) struct TestBinaries {
    mizzen: PathBuf,
    nvml_list: PathBuf,
    nvidia_runtime: PathBuf,
    nvml_linked: PathBuf,
    target: PathBuf,
}

impl TestBinaries {
    /// Builds the suite's own programs and, unless one is given, the `mizzen` binary
    /// that users get.
    pub(crate) async fn build(mizzen: Option<PathBuf>) -> Result<Self> {
        let target = target_directory().await?;
        let mizzen = Self::only_mizzen(mizzen).await?;
        cargo_build(
            "the suite's programs",
            &["--package", "mizzen-e2e", "--bins"],
        )
        .await?;
        let nvml_linked = build_linked(&mizzen, &target).await?;
        let resolve =
            |path: PathBuf| fs::canonicalize(&path).with_context(|| path.display().to_string());
        Ok(Self {
            mizzen,
            nvml_list: resolve(target.join("debug/nvml-list"))?,
            nvidia_runtime: resolve(target.join("debug/nvidia-runtime"))?,
            nvml_linked: resolve(nvml_linked)?,
            target,
        })
    }

    /// The `mizzen` binary that users get, or the one that is given, without the others.
    pub(crate) async fn only_mizzen(given: Option<PathBuf>) -> Result<PathBuf> {
        let mizzen = if let Some(path) = given {
            path
        } else {
            cargo_build("mizzen", &["--release", "--package", "mizzen"]).await?;
            target_directory().await?.join("release/mizzen")
        };
        fs::canonicalize(&mizzen).with_context(|| mizzen.display().to_string())
    }

    /// The `mizzen` binary under test.
    pub(crate) fn mizzen(&self) -> &Path {
        &self.mizzen
    }

    /// What stands in for NVIDIA's container runtime.
    pub(crate) fn nvidia_runtime(&self) -> &Path {
        &self.nvidia_runtime
    }

    /// The same as [`TestBinaries::nvml_list`], linked with the driver's library.
    pub(crate) fn nvml_linked(&self) -> &Path {
        &self.nvml_linked
    }

    /// Another implementation of CDI, built when a test asks for it: what it is made of is none of
    /// Mizzen's.
    pub(crate) async fn cdi_oracle(&self) -> Result<PathBuf> {
        let target = self.target.join("cdi-oracle");
        let program = target.join("debug/mizzen-cdi-oracle");
        let manifest = layout::repository()?.join("e2e/oracle/Cargo.toml");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--locked", "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(target);
        run_quietly("mizzen-cdi-oracle", cargo, "cargo builds what is tested").await?;
        Ok(program)
    }

    /// A program that prints the UUIDs that NVML shows it.
    pub(crate) fn nvml_list(&self) -> &Path {
        &self.nvml_list
    }
}

/// Builds the C program, which the dynamic linker gives the driver's library before it starts.
async fn build_linked(mizzen: &Path, target: &Path) -> Result<PathBuf> {
    let program = target.join("debug/nvml-linked");
    let library = tempfile::tempdir()?;
    let mut place = Command::new(mizzen);
    place.args(["sim", "library"]).arg(library.path());
    run_quietly("mizzen sim library", place, "the mizzen binary").await?;
    // What Rust's linker is, too.
    let mut compiler = Command::new("cc");
    compiler
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-o"])
        .arg(&program)
        .arg(layout::repository()?.join("e2e/programs/nvml-linked.c"))
        .arg("-L")
        .arg(library.path())
        .arg("-l:libnvidia-ml.so.1");
    run_quietly("nvml-linked", compiler, "install a C compiler").await?;
    Ok(program)
}

async fn cargo_build(name: &str, arguments: &[&str]) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(layout::repository()?)
        .arg("build")
        .args(arguments);
    let build = run_quietly(name, cargo, "cargo builds what is tested");
    report::step(&format!("build {name}"), build).await
}

async fn target_directory() -> Result<PathBuf> {
    let metadata = Command::new(env!("CARGO"))
        .current_dir(layout::repository()?)
        .args(["metadata", "--format-version=1", "--no-deps"])
        .output()
        .await?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout)
        .with_context(|| String::from_utf8_lossy(&metadata.stderr).into_owned())?;
    let target = metadata["target_directory"].as_str();
    Ok(target
        .context("cargo metadata names the target directory")?
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_a_block_and_on_a_line_of_its_own() {
        let go_mod = "module a\n\nrequire k8s.io/api v0.36.2\n\nrequire (\n\tk8s.io/kubernetes v1.36.2 // indirect\n)\n\nreplace (\n\tk8s.io/kubelet => k8s.io/kubelet v0.36.2\n)\n";
        assert_eq!(
            required_version(go_mod, "k8s.io/kubernetes"),
            Some("v1.36.2")
        );
        assert_eq!(required_version(go_mod, "k8s.io/api"), Some("v0.36.2"));
        assert_eq!(required_version(go_mod, "k8s.io/kubelet"), None);
    }

    #[test]
    fn the_pinned_modules_name_the_versions_that_are_stamped() {
        for module in &MODULES {
            let flags = module.linker_flags().unwrap();
            assert!(flags.contains("ersion=v"), "{}: {flags}", module.directory);
            assert!(!flags.contains('{'), "{}: {flags}", module.directory);
        }
    }
}
