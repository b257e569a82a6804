use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use proptest::prelude::*;
use rustix::fs::mkfifoat;

use super::*;

struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    /// A root, and a directory beside it that nobody may touch.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root")).unwrap();
        fs::create_dir_all(dir.path().join("outside/lib")).unwrap();
        Self { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// The root as the kernel and as we resolve paths in it.
    fn both(&self) -> [Root; 2] {
        let root = || Root::open(&self.path("root")).unwrap();
        [root(), root().without_kernel()]
    }
}

#[test]
fn links_lead_where_they_lead_in_the_container() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("root/usr/lib")).unwrap();
    fs::write(scene.path("root/usr/lib/a"), "inside").unwrap();
    fs::write(scene.path("outside/lib/a"), "outside").unwrap();
    symlink("/usr/lib", scene.path("root/lib")).unwrap();
    symlink("../../../../../usr", scene.path("root/up")).unwrap();
    symlink(scene.path("outside"), scene.path("root/out")).unwrap();
    symlink("loop", scene.path("root/loop")).unwrap();
    symlink("/proc/self/root", scene.path("root/proc")).unwrap();
    for root in scene.both() {
        let read = |path| {
            root.read(path, 100)
                .map(|text| String::from_utf8(text).unwrap())
        };
        assert_eq!(read("/lib/a").unwrap(), "inside");
        assert_eq!(read("up/lib/../lib/a").unwrap(), "inside");
        assert_eq!(read("../../usr/./lib//a").unwrap(), "inside");
        for path in [
            "out/lib/a",
            "loop",
            "loop/a",
            "proc/etc/passwd",
            "/usr/lib/a/b",
            "lib",
        ] {
            assert!(read(path).is_err(), "{path}");
        }
    }
}

#[test]
fn nothing_but_plain_files_is_opened_and_no_more_than_a_limit_is_read() {
    let scene = Scene::new();
    let pipe = scene.path("root/pipe");
    mkfifoat(CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
    fs::write(scene.path("root/long"), "123").unwrap();
    for root in scene.both() {
        // It would wait for a writer for ever.
        assert!(root.file("pipe").is_err());
        assert!(root.read("long", 2).is_err());
        assert_eq!(root.read("long", 3).unwrap(), b"123");
    }
}

#[test]
fn a_file_is_replaced_whole_and_readable_for_all() {
    let scene = Scene::new();
    symlink("/etc/elsewhere", scene.path("root/link")).unwrap();
    for root in scene.both() {
        root.replace("/etc/deep/file", b"text").unwrap();
        root.replace("link", b"text").unwrap();
        assert!(root.replace("etc", b"text").is_err(), "a directory");
        assert!(root.replace("/etc/..", b"text").is_err());
    }
    for file in ["root/etc/deep/file", "root/link"] {
        let file = scene.path(file);
        assert_eq!(fs::read_to_string(&file).unwrap(), "text");
        let known = fs::symlink_metadata(&file).unwrap();
        assert!(known.is_file());
        assert_eq!(known.permissions().mode() & 0o7777, 0o644);
    }
    let left = fs::read_dir(scene.path("root/etc/deep")).unwrap().count();
    assert_eq!(left, 1, "no temporary file");
}

#[test]
fn a_link_makes_room_for_itself_but_not_of_a_directory() {
    let scene = Scene::new();
    let held = |path: &str| fs::read_link(scene.path(path)).unwrap();
    fs::create_dir_all(scene.path("root/lib/directory")).unwrap();
    mkfifoat(CWD, scene.path("root/lib/pipe"), Mode::from_raw_mode(0o600)).unwrap();
    for root in scene.both() {
        root.link("/lib/new/libcuda.so", "libcuda.so.1").unwrap();
        let before = fs::symlink_metadata(scene.path("root/lib/new/libcuda.so")).unwrap();
        root.link("/lib/new/libcuda.so", "libcuda.so.1").unwrap();
        let after = fs::symlink_metadata(scene.path("root/lib/new/libcuda.so")).unwrap();
        assert_eq!(
            before.modified().unwrap(),
            after.modified().unwrap(),
            "left alone"
        );
        root.link("/lib/new/libcuda.so", "libcuda.so.2").unwrap();
        assert_eq!(
            held("root/lib/new/libcuda.so"),
            PathBuf::from("libcuda.so.2")
        );
        let _ = fs::remove_file(scene.path("root/lib/file"));
        fs::write(scene.path("root/lib/file"), "of the image").unwrap();
        root.link("lib/file", "/x").unwrap();
        assert_eq!(held("root/lib/file"), PathBuf::from("/x"));
        assert!(root.link("lib/directory", "/x").is_err());
        assert!(root.link("lib/pipe", "/x").is_err());
        fs::remove_dir_all(scene.path("root/lib/new")).unwrap();
    }
}

#[test]
fn a_missing_directory_behind_a_link_that_leads_nowhere_is_not_made() {
    let scene = Scene::new();
    symlink(scene.path("outside/made"), scene.path("root/away")).unwrap();
    for root in scene.both() {
        assert!(root.make_directory("/away/lib").is_err());
        assert!(root.make_directory("/a/../../outside/made").is_err());
    }
    assert!(!scene.path("outside/made").exists());
}

#[test]
fn the_file_systems_of_the_kernel_are_no_place_for_files() {
    for path in ["/proc", "/sys"] {
        let dir = openat(CWD, path, FOUND, Mode::empty()).unwrap();
        assert!(check_place(&dir).is_err(), "{path}");
    }
    let dir = openat(CWD, "/tmp", FOUND, Mode::empty()).unwrap();
    assert!(check_place(&dir).is_ok());
}

#[test]
fn the_root_of_the_host_is_refused() {
    assert!(Root::open(Path::new("/")).is_err());
    assert!(Root::open(Path::new("/proc/self/root")).is_err());
    assert!(Root::open(Path::new("/etc/passwd")).is_err());
}

/// A path of few names, so that links meet each other.
fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "..", ".", ""]);
    let names = prop::collection::vec(name, 1..6);
    (names, any::<bool>()).prop_map(|(names, is_absolute)| {
        let path = names.join("/");
        if is_absolute {
            format!("/{path}")
        } else {
            path
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the links are, both ways find the same, or both find nothing.
    #[test]
    fn paths_are_resolved_as_the_kernel_resolves_them(
        links in prop::collection::vec((prop::sample::select(vec!["a", "b", "a/c", "b/c", "c"]), path()), 0..5),
        asked in path(),
    ) {
        let scene = Scene::new();
        fs::create_dir_all(scene.path("root/b/a")).unwrap();
        fs::write(scene.path("root/b/b"), "").unwrap();
        for (name, target) in links {
            let _ = symlink(if target.is_empty() { "." } else { &target }, scene.path("root").join(name));
        }
        let [kernel, ours] = scene.both();
        let identity = |root: &Root| {
            let known = fstat(root.find(&asked).ok()?).unwrap();
            Some((known.st_dev, known.st_ino))
        };
        let found = identity(&kernel);
        if kernel.by_kernel.get() {
            prop_assert_eq!(found, identity(&ours), "{}", asked);
        }
    }
}
