//! Writing over what is there.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use super::super::{manifest, plan, tree};
use super::*;

/// Drops the right to make devices for the calling thread alone.
fn without_devices<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let work = || {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::MKNOD);
        set_capabilities(None, sets).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn where_no_devices_can_be_made_there_are_empty_files_until_somebody_may() {
    let node = node("1xt4");
    let root = tempfile::tempdir().unwrap();
    let write_without = || without_devices(|| write(&node, root.path()).unwrap());

    let report = write_without();
    assert!(
        report
            .device_nodes
            .iter()
            .all(|node| node.kind == NodeKind::EmptyFile)
    );
    assert!(report.no_devices_because.is_some());
    assert_eq!(fs::read(root.path().join("dev/nvidia0")).unwrap(), b"");

    let again = write_without();
    assert_eq!((again.written, again.removed), (0, 0));
    assert_eq!(again.device_nodes, report.device_nodes);
    assert_eq!(again.no_devices_because, report.no_devices_because);

    let able = write(&node, root.path()).unwrap();
    assert_eq!(snapshot(root.path()), fresh(&node));
    let devices = able
        .device_nodes
        .iter()
        .filter(|node| node.kind == NodeKind::CharacterDevice);
    assert_eq!(able.written, devices.count());
}

#[test]
fn devices_stay_when_somebody_who_cannot_make_them_writes_again() {
    let node = node("1xt4");
    let root = written(&node);
    let before = snapshot(root.path());
    let report = without_devices(|| write(&node, root.path()).unwrap());
    assert_eq!(report.written, 0);
    assert_eq!(snapshot(root.path()), before);
}

#[test]
fn writing_again_changes_nothing() {
    let node = node("8xh100-80gb");
    let root = written(&node);
    let inode = |path: &str| fs::symlink_metadata(root.path().join(path)).unwrap().ino();
    let inodes = || ["dev/nvidia0", "proc/devices", ".mizzen-sim-host"].map(inode);
    let before = inodes();
    let report = write(&node, root.path()).unwrap();
    assert_eq!((report.written, report.removed), (0, 0));
    assert_eq!(inodes(), before);
}

#[test]
fn a_gpu_that_goes_takes_only_its_own_entries_along() {
    let mut node = node("4xl4");
    let root = written(&node);
    let before = snapshot(root.path());
    let gone = node.gpus.remove(0);
    write(&node, root.path()).unwrap();
    let after = snapshot(root.path());
    assert_eq!(after, fresh(&node));
    assert!(!after.contains_key(Path::new("dev/nvidia0")));
    let changes: Vec<&PathBuf> = before
        .keys()
        .filter(|path| before.get(*path) != after.get(*path))
        .collect();
    let pci = gone.pci.to_string();
    let shared = ["proc/modules", ".mizzen-sim-host"];
    for path in changes {
        let text = path.to_str().unwrap();
        let target = &before[path];
        let own = text.contains(&pci)
            || target.contains(&pci)
            || ["nvidia0", "card0", "renderD128", "226:0", "226:128"]
                .iter()
                .any(|name| text.ends_with(name));
        // The port that it hung on goes with it.
        let bridge = text.contains("sys/") && !after.contains_key(path);
        assert!(own || bridge || shared.contains(&text), "{text} changed");
    }
}

#[test]
fn other_files_are_left_alone() {
    let mut node = node("2xl4");
    let root = tempfile::tempdir().unwrap();
    let foreign = [
        "dev/null-of-mine",
        "usr/lib/libnvidia-ml.so.1",
        "proc/driver/nvidia/gpus/0000:ff:00.0/information",
    ];
    for path in foreign {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "mine").unwrap();
    }
    write(&node, root.path()).unwrap();
    node.gpus.clear();
    write(&node, root.path()).unwrap();
    for path in foreign {
        assert_eq!(read(root.path(), path), "mine");
    }
}

#[test]
fn what_is_in_the_way_is_named_and_nothing_is_written() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("proc/driver/nvidia")).unwrap();
    fs::write(
        root.path().join("proc/driver/nvidia/version"),
        "of a real driver",
    )
    .unwrap();
    let before = snapshot(root.path());
    let error = write(&node("1xt4"), root.path()).unwrap_err();
    let HostError::Occupied { path, .. } = &error else {
        panic!("{error}")
    };
    assert!(path.ends_with("proc/driver/nvidia/version"), "{error}");
    assert_eq!(snapshot(root.path()), before);
}

#[test]
fn links_are_not_followed_out_of_the_directory() {
    let outside = tempfile::tempdir().unwrap();
    for link in ["sys", "dev", "proc"] {
        let root = tempfile::tempdir().unwrap();
        symlink(outside.path(), root.path().join(link)).unwrap();
        let error = write(&node("1xt4"), root.path()).unwrap_err();
        let HostError::Occupied { path, .. } = &error else {
            panic!("{error}")
        };
        assert!(path.ends_with(link), "{error}");
    }
    assert!(snapshot(outside.path()).is_empty());
}

#[test]
fn the_real_machine_is_refused_under_every_name() {
    let root = tempfile::tempdir().unwrap();
    symlink("/", root.path().join("alias")).unwrap();
    for path in [
        Path::new("/"),
        Path::new("/usr/.."),
        &root.path().join("alias"),
    ] {
        let error = write(&node("1xt4"), path).unwrap_err();
        assert!(matches!(error, HostError::Root { .. }), "{error}");
    }
}

#[test]
fn a_list_that_leads_elsewhere_is_refused() {
    let root = written(&node("1xt4"));
    let list = root.path().join(".mizzen-sim-host");
    let good = fs::read_to_string(&list).unwrap();
    for bad in [
        "f ../outside",
        "f dev/../../outside",
        "f etc/passwd",
        "f run/nvidia/driver/etc/passwd",
        "l usr/lib/libc.so.6",
        "f /etc/passwd",
        "x dev/a",
        "f",
    ] {
        fs::remove_file(&list).unwrap();
        fs::write(&list, format!("{good}{bad}\n")).unwrap();
        let error = write(&node("1xt4"), root.path()).unwrap_err();
        let HostError::Manifest { line, .. } = error else {
            panic!("{bad}: {error}")
        };
        assert_eq!(line, good.lines().count() + 1);
    }
}

#[test]
fn a_write_that_was_killed_is_completed() {
    let node = node("2xl4");
    let root = written(&node);
    let list = root.path().join(".mizzen-sim-host");
    let text = fs::read_to_string(&list)
        .unwrap()
        .replacen("complete", "interrupted", 1);
    fs::remove_file(&list).unwrap();
    fs::write(&list, text).unwrap();
    fs::remove_file(root.path().join("dev/nvidia1")).unwrap();
    fs::write(root.path().join("dev/.nvidia0.mizzen-new"), "").unwrap();
    fs::write(root.path().join("proc/.devices.mizzen-new"), "half").unwrap();
    write(&node, root.path()).unwrap();
    assert_eq!(snapshot(root.path()), fresh(&node));
}

#[test]
fn device_nodes_come_last_and_go_first() {
    let node = node("2xh100-80gb");
    let plan = plan(&node, &[], None).unwrap();
    let paths: Vec<&str> = plan
        .entries()
        .iter()
        .map(|entry| entry.path.as_str())
        .collect();
    let area = |path: &&str| {
        ["sys", "proc", "dev"]
            .iter()
            .position(|top| path.starts_with(top))
    };
    assert!(paths.iter().map(area).is_sorted());
    assert_eq!(paths[paths.len() - 2..], ["dev/nvidia0", "dev/nvidia1"]);

    let root = written(&node);
    let tree = tree::Tree::open(root.path()).unwrap();
    let manifest = manifest::Manifest::read(&tree).unwrap();
    let empty = manifest::Manifest::default();
    let removal: Vec<&str> = manifest.gone_in(&empty).map(|(path, _)| path).collect();
    assert!(removal.iter().rev().eq(paths.iter()));
}
