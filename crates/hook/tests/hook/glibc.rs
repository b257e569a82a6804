//! A container with a real glibc, whose dynamic linker and `ldconfig` are asked.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use mizzen_nvml_sim::library;

use crate::support::Bundle;

const FOLDER: &str = "/opt/driver";
const LIBRARY: &str = "libnvidia-ml.so.550.54.15";

/// The dynamic linker of this machine, if it is glibc's for a processor of ours.
fn linker() -> Option<&'static str> {
    let known = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let linker = known.into_iter().find(|path| Path::new(path).exists());
    if linker.is_none() {
        eprintln!("skipped: no glibc here");
    }
    linker
}

/// Where the C library of this machine is.
fn libc() -> String {
    let cache = fs::read("/etc/ld.so.cache").unwrap();
    let paths = mizzen_ldcache::paths_of(&cache, "libc.so.6");
    paths.first().unwrap().to_string()
}

/// What the driver's library needs besides, as this machine has it.
fn needed(linker: &str, bundle: &Bundle) -> Vec<String> {
    let file = bundle.path("library");
    fs::write(&file, library::BYTES).unwrap();
    let output = Command::new(linker).arg("--list").arg(file).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let paths = text.lines().filter_map(|line| line.split_once(" => "));
    let paths = paths.filter_map(|(_, path)| path.split_whitespace().next());
    paths
        .filter(|path| path.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

/// A container with `true`, what that needs, and the driver's library in a directory that no
/// dynamic linker knows.
fn container(linker: &str) -> Bundle {
    let bundle = Bundle::new();
    let mut paths = needed(linker, &bundle);
    paths.extend([linker.to_owned(), libc(), "/bin/true".to_owned()]);
    for path in &paths {
        bundle.write(path, fs::read(path).unwrap());
        let mode = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(bundle.at(path), mode).unwrap();
    }
    if Path::new("/etc/debian_version").exists() {
        bundle.write("etc/debian_version", "13\n");
    }
    bundle.write(&format!("{FOLDER}/{LIBRARY}"), library::BYTES);
    bundle
}

/// What the container's dynamic linker makes of a program that wants the library; `None` where
/// the root cannot be changed.
fn resolved(bundle: &Bundle, linker: &str) -> Option<String> {
    let chroot = |arguments: &[&str]| {
        let output = Command::new("chroot")
            .arg(bundle.root())
            .args(arguments)
            .output();
        let output = output.ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    };
    if chroot(&["/bin/true"]).is_none() {
        eprintln!("skipped: the root cannot be changed here");
        return None;
    }
    let preload = "libnvidia-ml.so.1";
    chroot(&[linker, "--preload", preload, "--list", "/bin/true"])
}

/// What `ldconfig` reads in the container's cache, in its order; `None` where there is none.
fn listed(bundle: &Bundle) -> Option<Vec<String>> {
    let known = ["/usr/sbin/ldconfig", "/sbin/ldconfig"];
    let ldconfig = known.iter().find(|path| Path::new(path).exists())?;
    let root = bundle.root();
    let output = Command::new(ldconfig)
        .arg("-r")
        .arg(root)
        .arg("-p")
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    Some(
        text.lines()
            .filter(|line| line.contains(" => "))
            .map(|line| line.trim().to_owned())
            .collect(),
    )
}

/// The cache as this machine's `ldconfig` would write it.
fn rewritten(bundle: &Bundle) -> Option<Vec<String>> {
    let known = ["/usr/sbin/ldconfig", "/sbin/ldconfig"];
    let ldconfig = known.iter().find(|path| Path::new(path).exists())?;
    let output = Command::new(ldconfig).arg("-r").arg(bundle.root()).output();
    assert!(output.unwrap().status.success());
    listed(bundle)
}

#[test]
fn the_dynamic_linker_finds_what_was_made_known() {
    let Some(linker) = linker() else { return };
    let bundle = container(linker);
    let Some(before) = resolved(&bundle, linker) else {
        return;
    };
    assert!(!before.contains(LIBRARY), "{before}");
    bundle.carry_out(&["update-ldcache", "--folder", FOLDER]);
    let after = resolved(&bundle, linker).unwrap();
    let expected = format!("{FOLDER}/libnvidia-ml.so.1");
    assert!(after.contains(&expected), "{after}");
    let link = fs::read_link(bundle.at(&expected)).unwrap();
    assert_eq!(link, Path::new(LIBRARY), "as its SONAME wants it");
}

#[test]
fn the_cache_is_what_ldconfig_would_write() {
    let Some(linker) = linker() else { return };
    let bundle = container(linker);
    symlink(
        "libnvidia-ml.so.1",
        bundle.at(&format!("{FOLDER}/libnvidia-ml.so")),
    )
    .unwrap();
    bundle.write(&format!("{FOLDER}/libnothing.so.1"), "no library");
    bundle.write(&format!("{FOLDER}/README"), "nor this");
    // Once from the directories, once from the cache, and once with nothing to do.
    for round in ["no cache", "a cache", "the same"] {
        bundle.carry_out(&["update-ldcache", "--folder", FOLDER]);
        let Some(ours) = listed(&bundle) else { return };
        let theirs = rewritten(&bundle).unwrap();
        assert_eq!(ours, theirs, "{round}");
        assert!(
            ours.iter().any(|line| line.contains("libnvidia-ml.so (")),
            "{ours:?}"
        );
        if round == "a cache" {
            bundle.write(&format!("{FOLDER}/libnvidia-ml.so.560.1"), library::BYTES);
        }
    }
}

#[test]
fn what_an_image_configures_before_the_driver_stays_before_it() {
    let Some(linker) = linker() else { return };
    let bundle = container(linker);
    let compat = "/usr/local/cuda/compat";
    bundle.write(&format!("{compat}/libnvidia-ml.so.1"), library::BYTES);
    bundle.write(&format!("{compat}/libcuda.so.560.28.03"), "");
    bundle.write("opt/other/libnvidia-ml.so.1", library::BYTES);
    bundle.write("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n");
    bundle.write("etc/ld.so.conf.d/other.conf", "/opt/other\n");
    bundle.carry_out(&["update-ldcache", "--folder", "/opt/other"]);
    let found = |bundle: &Bundle| {
        let cache = fs::read(bundle.at("etc/ld.so.cache")).unwrap();
        let paths = mizzen_ldcache::paths_of(&cache, "libnvidia-ml.so.1");
        paths.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(found(&bundle), ["/opt/other/libnvidia-ml.so.1"]);
    bundle.carry_out(&["enable-cuda-compat", "--host-driver-version=550.54.15"]);
    bundle.carry_out(&["update-ldcache", "--folder", FOLDER]);
    assert_eq!(
        found(&bundle),
        [
            "/usr/local/cuda/compat/libnvidia-ml.so.1",
            "/opt/driver/libnvidia-ml.so.1",
            "/opt/other/libnvidia-ml.so.1",
        ]
    );
}

#[test]
fn libraries_of_the_image_are_preferred_no_more_once_the_driver_is_newer() {
    let Some(linker) = linker() else { return };
    let bundle = container(linker);
    let compat = "/usr/local/cuda/compat";
    bundle.write(&format!("{compat}/libnvidia-ml.so.1"), library::BYTES);
    bundle.write(&format!("{compat}/libcuda.so.560.28.03"), "");
    let ours = "etc/ld.so.conf.d/00-compat-mizzen.conf";
    let start = |driver: &str| {
        bundle.carry_out(&[
            "enable-cuda-compat",
            &format!("--host-driver-version={driver}"),
        ]);
        bundle.carry_out(&["update-ldcache", "--folder", FOLDER]);
        let cache = fs::read(bundle.at("etc/ld.so.cache")).unwrap();
        let paths = mizzen_ldcache::paths_of(&cache, "libnvidia-ml.so.1");
        paths.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let (older, drivers) = (
        "/usr/local/cuda/compat/libnvidia-ml.so.1",
        "/opt/driver/libnvidia-ml.so.1",
    );
    assert_eq!(start("550.54.15"), [older, drivers]);
    assert_eq!(start("580.1"), [drivers]);
    assert!(!bundle.at(ours).exists());
    assert_eq!(start("550.54.15"), [older, drivers], "after a downgrade");
    fs::remove_dir_all(bundle.at(compat)).unwrap();
    assert_eq!(start("550.54.15"), [drivers]);
    assert!(!bundle.at(ours).exists());
    // What the image has there of its own stays.
    bundle.write(ours, "/usr/local/cuda/compat\n");
    assert_eq!(start("580.1"), [drivers]);
    assert_eq!(bundle.read(ours), "/usr/local/cuda/compat\n");
}

#[test]
fn libraries_that_are_gone_are_known_no_more() {
    let Some(linker) = linker() else { return };
    let bundle = container(linker);
    bundle.carry_out(&["update-ldcache", "--folder", FOLDER]);
    fs::remove_file(bundle.at(&format!("{FOLDER}/libnvidia-ml.so.1"))).unwrap();
    fs::rename(
        bundle.at(&format!("{FOLDER}/{LIBRARY}")),
        bundle.at(&format!("{FOLDER}/libother.so.1")),
    )
    .unwrap();
    bundle.carry_out(&["update-ldcache", "--folder", FOLDER]);
    let cache = fs::read(bundle.at("etc/ld.so.cache")).unwrap();
    let table = mizzen_ldcache::Table::read(&cache).unwrap();
    let names: BTreeSet<&str> = table.entries.iter().map(|entry| entry.name).collect();
    // It still wants to be found by the name that it has.
    assert!(names.contains("libnvidia-ml.so.1"), "{names:?}");
    assert_eq!(
        fs::read_link(bundle.at(&format!("{FOLDER}/libnvidia-ml.so.1"))).unwrap(),
        Path::new("libother.so.1")
    );
    fs::remove_file(bundle.at(&format!("{FOLDER}/libnvidia-ml.so.1"))).unwrap();
    fs::remove_file(bundle.at(&format!("{FOLDER}/libother.so.1"))).unwrap();
    bundle.carry_out(&["update-ldcache", "--folder", FOLDER]);
    let cache = fs::read(bundle.at("etc/ld.so.cache")).unwrap();
    assert!(mizzen_ldcache::paths_of(&cache, "libnvidia-ml.so.1").is_empty());
    assert!(!mizzen_ldcache::paths_of(&cache, "libc.so.6").is_empty());
}
