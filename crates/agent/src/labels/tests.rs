use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use mizzen_core::driver::DriverError;
use mizzen_core::labels::{LabelKey, Vgpu};
use mizzen_testkit::{FakeDriver, gpus};

use super::*;

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A function on the bus, with as much of its configuration space.
fn function(root: &Path, place: &str, vendor: &str, class: &str, config: &[u8]) {
    let directory = format!("sys/bus/pci/devices/{place}");
    for (name, text) in [("vendor", vendor), ("class", class)] {
        write(
            root,
            &format!("{directory}/{name}"),
            format!("{text}\n").as_bytes(),
        );
    }
    write(root, &format!("{directory}/config"), config);
}

#[test]
fn nvidias_display_controllers_are_those_of_the_bus() {
    let root = tempfile::tempdir().unwrap();
    let whole = [0; 256];
    function(root.path(), "0000:3b:00.0", "0x10de", "0x030200", &whole);
    function(root.path(), "0000:3b:00.1", "0x10de", "0x040300", &whole);
    function(
        root.path(),
        "0000:00:02.0",
        "0x8086",
        "0x030000",
        &whole[..64],
    );
    function(root.path(), "0000:01:00.0", "0x10de", "0x030000", &whole);
    let facts = host_facts(&HostRoot::new(root.path()), None);
    let display: Vec<_> = facts
        .display
        .iter()
        .map(|one| (one.place.to_string(), one.class))
        .collect();
    assert_eq!(
        display,
        [
            ("0000:01:00.0".to_owned(), 0x0300),
            ("0000:3b:00.0".to_owned(), 0x0302)
        ]
    );
    // Others may keep what they like to themselves.
    assert_eq!(facts.vgpu, Vgpu::Absent);
}

#[test]
fn what_a_process_may_not_read_of_a_gpu_is_unknown() {
    let root = tempfile::tempdir().unwrap();
    function(root.path(), "0000:3b:00.0", "0x10de", "0x030200", &[0; 64]);
    let facts = host_facts(&HostRoot::new(root.path()), None);
    assert_eq!(facts.vgpu, Vgpu::Unknown);
    let nothing = host_facts(&HostRoot::new("/no/such/place"), None);
    assert_eq!((nothing.display.len(), nothing.vgpu), (0, Vgpu::Absent));
}

#[test]
fn the_machine_is_what_a_file_on_the_host_says() {
    let root = tempfile::tempdir().unwrap();
    let host = HostRoot::new(root.path());
    write(
        root.path(),
        "sys/devices/virtual/dmi/id/product_name",
        b" DGX H100\n",
    );
    write(root.path(), "empty", b"\n");
    fs::create_dir_all(root.path().join("sys/class/dmi")).unwrap();
    std::os::unix::fs::symlink(
        "/sys/devices/virtual/dmi/id",
        root.path().join("sys/class/dmi/id"),
    )
    .unwrap();
    let machine = |file: &str| host_facts(&host, Some(Path::new(file))).machine;
    let told = machine("/sys/class/dmi/id/product_name");
    assert_eq!(told.as_deref(), Some("DGX H100"));
    assert_eq!(machine("/empty"), None);
    assert_eq!(machine("/none"), None);
}

#[test]
fn a_driver_that_cannot_be_asked_is_an_error_or_a_remark() {
    let driver = FakeDriver::new(gpus(1));
    driver.go_absent(DriverError::NoPermission);
    let mut config = Config {
        host_root: "/no/such/place".into(),
        ..Config::default()
    };
    assert_eq!(look(&driver, &config, None), Err(DriverError::NoPermission));
    config.fail_on_init_error = false;
    let seen = look(&driver, &config, None).unwrap();
    assert!(seen.remarks[0].contains("no permission"), "{seen:?}");
    driver.come();
    let seen = look(&driver, &config, None).unwrap();
    let count: LabelKey = "nvidia.com/gpu.count".parse().unwrap();
    assert_eq!(seen.labels[&count].as_str(), "1");
    assert!(seen.remarks.is_empty());
}

#[test]
fn a_file_is_replaced_if_it_says_something_else_and_goes_if_it_shall_not_stay() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("gfd");
    let mut labels = Labels::new();
    labels.insert("a/b".parse().unwrap(), true.into());
    for stays in [true, false] {
        let mut file = LabelsFile::new(&path, stays);
        file.write(&labels).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        assert!(!file.write(&labels).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        labels.insert("a/c".parse().unwrap(), u32::from(stays).into());
        assert!(file.write(&labels).unwrap());
        drop(file);
        assert_eq!(path.exists(), stays);
    }
    // What was never written is somebody else's.
    fs::write(&path, "theirs").unwrap();
    drop(LabelsFile::new(&path, false));
    assert!(path.exists());
}

#[test]
fn a_pipe_or_device_is_written_to_and_stays_what_it_is() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o600.into()).unwrap();
    let from = path.clone();
    let reader = std::thread::spawn(move || fs::read_to_string(from).unwrap());
    let mut labels = Labels::new();
    labels.insert("a/b".parse().unwrap(), true.into());
    let mut file = LabelsFile::new(&path, false);
    assert!(file.write(&labels).unwrap());
    drop(file);
    assert_eq!(reader.join().unwrap(), "a/b=true\n");
    assert!(!fs::metadata(&path).unwrap().is_file());
}

#[test]
fn a_file_that_cannot_be_replaced_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    // A directory is in its place.
    fs::create_dir_all(root.path().join("gfd/below")).unwrap();
    let mut file = LabelsFile::new(root.path().join("gfd"), false);
    assert!(file.write(&Labels::new()).is_err());
    drop(file);
    let names: Vec<_> = fs::read_dir(root.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 1);
    assert!(LabelsFile::new("/", true).write(&Labels::new()).is_err());
}
