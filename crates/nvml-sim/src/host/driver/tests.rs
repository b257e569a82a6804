//! An installation, read as distributions' own tools and programs read it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::super::{HostReport, Installation, NodeKind, write, write_installed};
use super::*;
use crate::node::Node;
use crate::scenario::Scenario;

/// A node whose driver has this version.
fn node(version: &str) -> Node {
    let yaml = format!("driver_version: {version}\ngpus: [{{model: h100-80gb}}]\n");
    Scenario::parse(&yaml, "test").unwrap().plan().unwrap()
}

fn installed(layout: DriverLayout, version: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    install_in(root.path(), Installation::Layout(layout), version);
    root
}

fn install_in(root: &Path, installation: Installation, version: &str) -> HostReport {
    write_installed(&node(version), &[None], installation, root).unwrap()
}

/// Every file and link below a directory, by its path, with its size or target.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let status = entry.metadata().unwrap();
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            if status.is_dir() {
                pending.push(entry.path());
            } else if status.is_symlink() {
                let target = fs::read_link(entry.path()).unwrap();
                found.insert(name.to_owned(), format!("-> {}", target.display()));
            } else {
                found.insert(name.to_owned(), status.len().to_string());
            }
        }
    }
    found
}

/// Whether two machines have the same files; if not, which differ.
fn assert_same(a: &Path, b: &Path, what: DriverLayout) {
    let (a, b) = (listing(a), listing(b));
    let only = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
        let differing = a
            .iter()
            .filter(|(path, content)| b.get(*path) != Some(content));
        format!("{:?}", differing.collect::<Vec<_>>())
    };
    assert!(
        a == b,
        "{what:?}: {}\nagainst {}",
        only(&a, &b),
        only(&b, &a)
    );
}

/// The tool of this machine, or none on a machine without it.
fn tool(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a cache knows, in its order: name and path.
fn known(ldconfig: &Path, cache: &Path) -> Vec<(String, String)> {
    let text = output(Command::new(ldconfig).arg("-p").arg("-C").arg(cache));
    let entries = text.lines().filter_map(|line| line.split_once(" => "));
    let entries = entries.map(|(name, path)| {
        let name = name.split_whitespace().next().unwrap();
        (name.to_owned(), path.to_owned())
    });
    entries.collect()
}

#[test]
fn the_machines_ldconfig_makes_the_same_links_and_the_same_cache() {
    let Some(ldconfig) = tool("ldconfig") else {
        return; // a machine without glibc
    };
    for layout in [
        DriverLayout::Debian,
        DriverLayout::Rhel,
        DriverLayout::DriverContainer,
    ] {
        let host = installed(layout, "580.95.05");
        let root = host.path().join(layout.driver_root());
        let cache = root.join("etc/ld.so.cache");
        let (links, ours) = (listing(&root), known(&ldconfig, &cache));
        let nvml = ours.iter().find(|(name, _)| name == "libnvidia-ml.so.1");
        let (_, path) = nvml.unwrap();
        assert!(root.join(path.trim_start_matches('/')).exists(), "{path}");

        fs::remove_file(&cache).unwrap();
        // Debian's looks in `/lib64` by itself only where that is a directory of its own.
        output(Command::new(&ldconfig).arg("-r").arg(&root).arg("/lib64"));
        assert_eq!(ours, known(&ldconfig, &cache), "{layout:?}");
        fs::remove_file(&cache).unwrap();
        let mut after = listing(&root);
        after.retain(|name, _| !name.starts_with("var/cache"));
        let mut before = links;
        before.remove("etc/ld.so.cache");
        assert_eq!(before, after, "{layout:?}");
    }
}

#[test]
fn stand_ins_are_libraries_with_their_soname_that_can_be_loaded() {
    let host = installed(DriverLayout::Debian, "580.95.05");
    let libraries = host.path().join(DriverLayout::Debian.library_directory());
    if let Some(readelf) = tool("readelf") {
        for (file, soname) in [
            ("libcuda.so.580.95.05", "libcuda.so.1"),
            (
                "libnvidia-glcore.so.580.95.05",
                "libnvidia-glcore.so.580.95.05",
            ),
            ("libnvidia-nvvm70.so.4", "libnvidia-nvvm70.so.4"),
            ("libnvidia-egl-gbm.so.1.1.2", "libnvidia-egl-gbm.so.1"),
            ("libnvidia-ml.so.580.95.05", "libnvidia-ml.so.1"),
        ] {
            let text = output(Command::new(&readelf).arg("-dW").arg(libraries.join(file)));
            let line = text.lines().find(|line| line.contains("(SONAME)")).unwrap();
            assert!(line.ends_with(&format!("[{soname}]")), "{file}: {line}");
            if !file.contains("-ml") {
                // Of sections and segments too, it finds nothing to complain of.
                let all = output(Command::new(&readelf).arg("-aW").arg(libraries.join(file)));
                assert!(all.contains("DYN (Shared object file)"), "{all}");
            }
        }
    }
    let loader = |name: &str| libloading_open(&libraries.join(name));
    for name in [
        "libcuda.so.1",
        "libnvidia-ptxjitcompiler.so.1",
        "libGLX_nvidia.so.0",
    ] {
        loader(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Loads a library and lets it go.
#[allow(unsafe_code, reason = "the test loads libraries")]
fn libloading_open(path: &Path) -> Result<(), libloading::Error> {
    // SAFETY: the stand-ins have no initialisers.
    unsafe { libloading::Library::new(path) }.map(drop)
}

#[test]
fn names_are_those_of_the_branch() {
    let debian = DriverLayout::Debian;
    for (version, present, absent) in [
        (
            "550.54.15",
            &[
                "libnvidia-egl-wayland.so.1.1.13",
                "libnvidia-gpucomp.so.550.54.15",
            ][..],
            &[
                "libnvidia-sandboxutils.so.1",
                "libnvidia-nvvm70.so.4",
                "libnvidia-egl-xcb.so.1",
            ][..],
        ),
        (
            "570.133.20",
            &[
                "libnvidia-sandboxutils.so.570.133.20",
                "libnvidia-egl-xlib.so.1.0.1",
            ],
            &["libnvidia-nvvm70.so.4"],
        ),
        (
            "580.95.05",
            &[
                "libnvidia-nvvm70.so.4",
                "libnvidia-egl-gbm.so.1.1.2",
                "vdpau/libvdpau_nvidia.so.1",
            ],
            &[
                "libnvidia-pkcs11.so.580.95.05",
                "libnvidia-tileiras.so.580.95.05",
            ],
        ),
    ] {
        let host = installed(debian, version);
        let libraries = host.path().join(debian.library_directory());
        for name in present {
            assert!(libraries.join(name).exists(), "{version}: {name}");
        }
        for name in absent {
            assert!(!libraries.join(name).exists(), "{version}: {name}");
        }
        for gsp in ["gsp_ga10x.bin", "gsp_tu10x.bin"] {
            let firmware = host.path().join("lib/firmware/nvidia").join(version);
            assert!(firmware.join(gsp).exists(), "{version}: {gsp}");
        }
    }
}

#[test]
fn links_lead_from_name_to_soname_to_version() {
    let host = installed(DriverLayout::Rhel, "580.95.05");
    let link = |name: &str| {
        let target = fs::read_link(host.path().join("usr/lib64").join(name)).unwrap();
        target.into_os_string().into_string().unwrap()
    };
    for (name, target) in [
        ("libcuda.so", "libcuda.so.1"),
        ("libcuda.so.1", "libcuda.so.580.95.05"),
        ("libnvidia-nvvm.so.4", "libnvidia-nvvm.so.580.95.05"),
        ("libGLX_nvidia.so.0", "libGLX_nvidia.so.580.95.05"),
        ("libnvidia-ml.so.1", "libnvidia-ml.so.580.95.05"),
        ("gbm/nvidia-drm_gbm.so", "../libnvidia-allocator.so.1"),
    ] {
        assert_eq!(link(name), target);
    }
    assert_eq!(
        fs::read_link(host.path().join("lib64")).unwrap(),
        Path::new("usr/lib64")
    );
    let nvml = fs::read(host.path().join("usr/lib64/libnvidia-ml.so.1")).unwrap();
    assert!(nvml == library::BYTES);
}

#[test]
fn an_upgrade_takes_every_old_file_away() {
    for layout in DriverLayout::ALL {
        let host = installed(layout, "550.54.15");
        install_in(host.path(), Installation::Kept, "580.95.05");
        let fresh = installed(layout, "580.95.05");
        assert_same(host.path(), fresh.path(), layout);
        let after = listing(host.path());
        assert!(after.keys().all(|path| !path.contains("550.54.15")));

        let again = install_in(host.path(), Installation::Kept, "580.95.05");
        assert_eq!((again.written, again.removed), (0, 0), "{layout:?}");
        install_in(host.path(), Installation::Nothing, "580.95.05");
        let bare = tempfile::tempdir().unwrap();
        write(&node("580.95.05"), bare.path()).unwrap();
        assert_same(host.path(), bare.path(), layout);
    }
}

#[test]
fn one_layout_becomes_another() {
    let host = installed(DriverLayout::NixOs, "580.95.05");
    for layout in DriverLayout::ALL {
        install_in(host.path(), Installation::Layout(layout), "580.95.05");
        let fresh = installed(layout, "580.95.05");
        assert_same(host.path(), fresh.path(), layout);
    }
}

#[test]
fn a_file_of_somebody_elses_is_not_touched() {
    let host = tempfile::tempdir().unwrap();
    fs::create_dir_all(host.path().join("usr/bin")).unwrap();
    fs::write(host.path().join("usr/bin/nvidia-smi"), "theirs").unwrap();
    let error = write_installed(
        &node("580.95.05"),
        &[None],
        Installation::Layout(DriverLayout::Debian),
        host.path(),
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("usr/bin/nvidia-smi") && error.contains("in the way"),
        "{error}"
    );
    assert_eq!(listing(host.path()).len(), 1);
}

#[test]
fn a_driver_container_has_device_nodes_of_its_own() {
    let host = tempfile::tempdir().unwrap();
    let layout = Installation::Layout(DriverLayout::DriverContainer);
    let report = install_in(host.path(), layout, "580.95.05");
    let kind = |path: &str| {
        let mut nodes = report.device_nodes.iter();
        nodes.find(|node| node.path == path).unwrap().kind
    };
    let inside = kind("/run/nvidia/driver/dev/nvidia0");
    assert_eq!(inside, kind("/dev/nvidia0"));
    let status = fs::symlink_metadata(host.path().join("run/nvidia/driver/dev/nvidiactl")).unwrap();
    assert_eq!(status.is_file(), inside == NodeKind::EmptyFile);
}

#[test]
fn nixos_finds_everything_through_links_into_the_store() {
    let host = installed(DriverLayout::NixOs, "580.95.05");
    // As the host resolves it: a link from the root begins there.
    let resolve = |path: &str| {
        let mut path = host.path().join(path);
        for _ in 0..8 {
            let whole = path.clone();
            let mut above = whole.ancestors().take_while(|at| *at != host.path());
            let Some(link) = above.find(|at| fs::read_link(at).is_ok()) else {
                break;
            };
            let target = fs::read_link(link).unwrap();
            let rest = whole.strip_prefix(link).unwrap();
            let base = if target.is_absolute() {
                host.path().join(target.strip_prefix("/").unwrap())
            } else {
                link.parent().unwrap().join(target)
            };
            path = if rest.as_os_str().is_empty() {
                base
            } else {
                base.join(rest)
            };
        }
        path
    };
    let nvml = resolve("run/opengl-driver/lib/libnvidia-ml.so.1");
    assert!(fs::read(&nvml).unwrap() == library::BYTES, "{nvml:?}");
    let package = nvml.strip_prefix(host.path()).unwrap().to_str().unwrap();
    let (hash, rest) = package
        .strip_prefix("nix/store/")
        .unwrap()
        .split_once('-')
        .unwrap();
    assert_eq!(hash.len(), 32);
    assert_eq!(rest, "nvidia-x11-580.95.05/lib/libnvidia-ml.so.580.95.05");
    let smi = resolve("run/current-system/sw/bin/nvidia-smi");
    assert!(fs::read(smi).unwrap() == library::NVIDIA_SMI);
    assert!(!host.path().join("etc/ld.so.cache").exists());
    let gsp = resolve("run/current-system/firmware/nvidia/580.95.05/gsp_ga10x.bin");
    assert!(gsp.is_file());
}
