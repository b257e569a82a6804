//! Roots made by somebody who wants out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mizzen_nvml_sim::library;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::fs::{CWD, FileType, Mode, makedev, mkfifoat, mknodat};

use crate::support::{Bundle, in_namespace, program};

/// How long a hook may take on any root.
const LONGEST: Duration = Duration::from_secs(10);

/// Every path of a container that the hooks look at or change.
const PLACES: [&str; 16] = [
    "etc",
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/ld.so.conf.d",
    "etc/ld.so.conf.d/00-mizzen.conf",
    "etc/ld.so.conf.d/00-compat-mizzen.conf",
    "etc/debian_version",
    "usr",
    "usr/lib",
    "usr/lib/libcuda.so.1",
    "usr/lib/libcuda.so.550.54.15",
    "usr/local/cuda/compat",
    "usr/local/cuda/compat/libcuda.so.560.28.03",
    "lib",
    "lib64",
    "opt/driver",
];

/// What may be at such a path.
#[derive(Debug, Clone)]
enum Thing {
    Directory,
    File(Vec<u8>),
    Library,
    /// To a path outside, as the host has it.
    LinkOut(&'static str),
    Link(&'static str),
    Pipe,
    /// A device that can be read without end.
    Zero,
    /// A device that swallows everything.
    Null,
    Socket,
}

fn thing() -> impl Strategy<Value = Thing> {
    let words = [
        "include /etc/ld.so.conf.d/*.conf\n/usr/lib\n",
        "include /etc/ld.so.conf\ninclude *\ninclude /dev/*\n/opt/driver\n",
        "/proc/self/root\n/proc/self/cwd\n/dev\n../../etc\n",
    ];
    let texts = prop::sample::select(words.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    let links = vec![
        ".",
        "..",
        "/",
        "../../../../../../../..",
        "/usr/lib",
        "../opt/driver",
        "libcuda.so.1",
        "/etc/ld.so.cache",
        "/etc",
        "/dev/zero",
        "/proc/self/root",
        "/proc/self/cwd",
        "/proc/1/root",
        "/proc/self/fd/0",
        "/proc/self/fd/3",
        "/sys/fs/cgroup",
        "nowhere",
        "/nowhere/at/all",
    ];
    prop_oneof![
        3 => Just(Thing::Directory),
        2 => texts.prop_map(Thing::File),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Thing::File),
        2 => cache().prop_map(Thing::File),
        2 => elf().prop_map(Thing::File),
        1 => Just(Thing::Library),
        4 => prop::sample::select(vec!["", "etc", "lib", "etc/ld.so.cache", "lib/new"])
            .prop_map(Thing::LinkOut),
        4 => prop::sample::select(links).prop_map(Thing::Link),
        1 => Just(Thing::Pipe),
        1 => Just(Thing::Zero),
        1 => Just(Thing::Null),
        1 => Just(Thing::Socket),
    ]
}

/// A cache, whole or damaged.
fn cache() -> impl Strategy<Value = Vec<u8>> {
    let library = |(name, path): (String, String)| mizzen_ldcache::Library {
        name,
        path,
        machine: mizzen_ldcache::Machine::OURS,
    };
    let name = "lib[a-c]\\.so\\.[0-9]";
    let path = "(/usr/lib|/opt/driver|/../..|/proc/self/root|x)/lib[a-c]\\.so";
    let libraries = prop::collection::vec((name, path).prop_map(library), 0..20);
    let cache = libraries.prop_map(|libraries| mizzen_ldcache::write(&libraries));
    (cache, damage()).prop_map(|(bytes, damage)| damaged(bytes, damage))
}

/// The headers of a library, damaged.
fn elf() -> impl Strategy<Value = Vec<u8>> {
    let head = library::BYTES[..4096].to_vec();
    damage().prop_map(move |damage| damaged(head.clone(), damage))
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12)
}

fn damaged(mut bytes: Vec<u8>, damage: Vec<(prop::sample::Index, u8)>) -> Vec<u8> {
    for (at, byte) in damage {
        // Mostly in the headers, where it matters.
        let length = bytes.len().min(400);
        let at = at.index(length);
        bytes[at] = byte;
    }
    bytes
}

/// Puts a thing into a root, if that can be.
fn put(root: &Path, outside: &Path, place: &str, thing: &Thing) {
    let path = root.join(place);
    // Of an earlier thing that is a link, nothing is made: the test itself must not get out.
    let mut above = path.ancestors().skip(1).take_while(|dir| *dir != root);
    if above.any(|dir| dir.symlink_metadata().is_ok_and(|known| !known.is_dir())) {
        return;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if path.symlink_metadata().is_ok() {
        return;
    }
    let node = |kind, minor| {
        let mode = Mode::from_raw_mode(0o666);
        // Only the administrator may make devices.
        let _ = mknodat(CWD, &path, kind, mode, makedev(1, minor));
    };
    match thing {
        Thing::Directory => fs::create_dir(&path).unwrap(),
        Thing::File(text) => fs::write(&path, text).unwrap(),
        Thing::Library => fs::write(&path, library::BYTES).unwrap(),
        Thing::LinkOut(target) => symlink(outside.join(target), &path).unwrap(),
        Thing::Link(target) => symlink(target, &path).unwrap(),
        Thing::Pipe => mkfifoat(CWD, &path, Mode::from_raw_mode(0o666)).unwrap(),
        Thing::Zero => node(FileType::CharacterDevice, 5),
        Thing::Null => node(FileType::CharacterDevice, 3),
        Thing::Socket => node(FileType::Socket, 0),
    }
}

/// A place that nothing may change.
struct Outside {
    dir: tempfile::TempDir,
}

impl Outside {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/ld.so.conf.d")).unwrap();
        fs::create_dir_all(dir.path().join("lib")).unwrap();
        for file in ["etc/ld.so.cache", "etc/ld.so.conf", "lib/libcuda.so.1"] {
            fs::write(dir.path().join(file), "of the host").unwrap();
        }
        fs::write(dir.path().join("lib/libcuda.so.550.54.15"), library::BYTES).unwrap();
        Self { dir }
    }

    /// Everything there is, with all that a change would show in.
    fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        let mut pending = vec![self.dir.path().to_owned()];
        while let Some(path) = pending.pop() {
            let known = path.symlink_metadata().unwrap();
            let kind = known.file_type();
            let times = (
                known.mtime(),
                known.mtime_nsec(),
                known.ctime(),
                known.ctime_nsec(),
            );
            let shown = format!("{:?} {times:?} {:o} {}", kind, known.mode(), known.len());
            if kind.is_dir() {
                let entries = fs::read_dir(&path).unwrap();
                pending.extend(entries.map(|entry| entry.unwrap().path()));
            }
            all.insert(path, shown);
        }
        all
    }
}

/// What a spec's hooks are called with, but for the one that mounts.
fn calls() -> [Vec<&'static str>; 3] {
    [
        vec![
            "create-symlinks",
            "--link",
            "libcuda.so.550.54.15::/usr/lib/libcuda.so.1",
            "--link",
            "libcuda.so.1::/opt/driver/new/libcuda.so",
            "--link",
            "../card0::../../dev/dri/by-path/card",
        ],
        vec!["enable-cuda-compat", "--host-driver-version=550.54.15"],
        vec![
            "update-ldcache",
            "--folder",
            "/usr/lib",
            "--folder",
            "/opt/driver",
            "--folder=/../../..",
            "--folder=/dev",
        ],
    ]
}

fn carry_out(state: &str, arguments: &[&str]) -> (u8, String) {
    let words: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let code = mizzen_hook::run(&words, &mut state.as_bytes(), &mut out, &mut notes);
    (code, String::from_utf8(notes).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_root_lets_a_hook_out_or_keeps_it_from_ending(
        things in prop::collection::vec((prop::sample::select(PLACES.to_vec()), thing()), 0..14),
    ) {
        let (bundle, outside) = (Bundle::new(), Outside::new());
        for (place, thing) in &things {
            put(&bundle.root(), outside.dir.path(), place, thing);
        }
        let before = outside.snapshot();
        let start = Instant::now();
        for arguments in calls() {
            let (code, told) = carry_out(&bundle.state(), &arguments);
            prop_assert_eq!(code, 0, "{}", told);
        }
        prop_assert!(start.elapsed() < LONGEST);
        prop_assert_eq!(outside.snapshot(), before);
    }

    #[test]
    fn no_state_makes_a_hook_fail(state in "\\PC{0,60}", bundle in "\\PC{0,20}") {
        for state in [state, format!("{{\"bundle\": {bundle:?}, \"root\": \"x\"}}")] {
            let (code, _) = carry_out(&state, &["create-symlinks", "--link", "a::/b"]);
            prop_assert_eq!(code, 0);
        }
    }
}

/// What is mounted before and after the hook that mounts has run, by the directories.
const MOUNTS: &str = "mounts() { cut -d ' ' -f 5 /proc/self/mountinfo; echo; }
    mounts; \"$1\" disable-device-node-modification --params \"$2\" < \"$3\"; mounts";

/// Where the hook has mounted something in a container with these things at the path of the
/// parameters and so many directories above it; `None` where that cannot be tried.
fn mounted(bundle: &Bundle, outside: &Outside, things: &[(usize, Thing)]) -> Option<Vec<PathBuf>> {
    let params = outside.dir.path().join("etc/params");
    fs::write(&params, "ModifyDeviceFiles: 1\n").unwrap();
    let place = |above| {
        let path = params.ancestors().nth(above).unwrap();
        path.strip_prefix("/").unwrap().to_str().unwrap()
    };
    for (above, thing) in things {
        put(&bundle.root(), outside.dir.path(), place(*above), thing);
    }
    let plain = Thing::File(b"ModifyDeviceFiles: 1\n".to_vec());
    // Where links may lead, too.
    for place in [place(0), "params", "usr/lib/params"] {
        put(&bundle.root(), outside.dir.path(), place, &plain);
    }
    let state = bundle.path("state.json");
    let before = outside.snapshot();
    let output = in_namespace(MOUNTS, &[program(), &params, &state])?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(outside.snapshot(), before, "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (before, after) = text.split_once("\n\n").unwrap();
    let mut new: Vec<&str> = after.lines().filter(|line| !line.is_empty()).collect();
    for line in before.lines() {
        let at = new.iter().position(|known| *known == line).unwrap();
        new.remove(at);
    }
    Some(new.into_iter().map(PathBuf::from).collect())
}

#[test]
fn no_root_has_parameters_mounted_elsewhere_than_below_it() {
    let cases = ProptestConfig {
        cases: 100,
        max_shrink_iters: 50,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let things = prop::collection::vec((0..4_usize, thing()), 0..4);
    let reached = std::cell::Cell::new(Some(0));
    let tried = TestRunner::new(cases).run(&things, |things| {
        let (bundle, outside) = (Bundle::new(), Outside::new());
        let Some(mounted) = mounted(&bundle, &outside, &things) else {
            reached.set(None);
            return Ok(());
        };
        let root = bundle.root();
        let is_below = |path: &PathBuf| path.starts_with(&root) && *path != root;
        prop_assert!(mounted.iter().all(is_below), "{:?}", mounted);
        prop_assert!(mounted.len() <= 1, "{:?}", mounted);
        reached.set(reached.get().map(|count| count + mounted.len()));
        Ok(())
    });
    tried.unwrap();
    assert_ne!(reached.get(), Some(0), "no case got as far as to mount");
}

#[test]
fn nothing_stays_mounted_over_a_directory_that_the_path_of_the_parameters_comes_back_to() {
    // The root itself, and the directory that the link is in.
    for target in ["/", "."] {
        let (bundle, outside) = (Bundle::new(), Outside::new());
        let above = outside.dir.path().strip_prefix("/").unwrap();
        let params = above.join("params");
        bundle.write(params.to_str().unwrap(), "ModifyDeviceFiles: 1\n");
        let Some(mounted) = mounted(&bundle, &outside, &[(1, Thing::Link(target))]) else {
            return;
        };
        let expected = (target == ".").then(|| bundle.root().join(params));
        assert_eq!(mounted, Vec::from_iter(expected), "{target}");
    }
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let bundle = Bundle::new();
    let script = "mount -t tmpfs -o size=256k tmpfs \"$1\"
        mkdir -p \"$1/etc\" \"$1/opt/driver\"; echo old > \"$1/etc/ld.so.cache\"
        echo /opt/driver > \"$1/etc/ld.so.conf\"
        printf 'x' > \"$1/opt/driver/libcuda.so.1\"
        cat /dev/zero > \"$1/fill\" 2> /dev/null || true
        \"$2\" update-ldcache --folder /opt/driver < \"$3\"
        \"$2\" create-symlinks --link a::/opt/driver/b < \"$3\"
        cat \"$1/etc/ld.so.cache\"; ls -A \"$1/etc\"";
    let state = bundle.path("state.json");
    let Some(output) = in_namespace(script, &[&bundle.root(), program(), &state]) else {
        return;
    };
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("No space left on device"), "{told}");
    let left = String::from_utf8(output.stdout).unwrap();
    assert_eq!(left, "old\nld.so.cache\nld.so.conf\n", "no half of a file");
}

#[test]
fn a_root_with_everything_too_large_ends_soon() {
    let bundle = Bundle::new();
    bundle.write("etc/ld.so.conf", "include /etc/ld.so.conf\n".repeat(2000));
    bundle.write("etc/ld.so.conf.d/a.conf", vec![b'a'; 1 << 20]);
    bundle.write("etc/ld.so.cache", vec![0; 3 << 20]);
    fs::create_dir_all(bundle.at("opt/driver")).unwrap();
    for number in 0..9_000 {
        let path = bundle.at(&format!("opt/driver/lib{number}.so.1"));
        fs::write(path, &library::BYTES[..4096]).unwrap();
    }
    let start = Instant::now();
    let output = bundle.run(&["update-ldcache", "--folder", "/opt/driver"]);
    assert!(output.status.success());
    assert!(start.elapsed() < LONGEST);
    assert!(bundle.at("etc/ld.so.cache").metadata().unwrap().len() < 2 << 20);
}

#[test]
fn a_configuration_that_includes_itself_by_thousands_of_patterns_ends_soon() {
    let bundle = Bundle::new();
    let nothing = "include /etc/ld.so.conf.d/*y\n".repeat(1_000);
    let patterns = format!("{nothing}include /etc/ld.so.conf.d/*x\n{nothing}");
    bundle.write("etc/ld.so.conf", &patterns);
    bundle.write("opt/driver/libnvidia-ml.so.550.1", library::BYTES);
    for number in 0..20_000 {
        bundle.write(&format!("etc/ld.so.conf.d/{number}"), "");
    }
    for number in 0..100 {
        bundle.write(&format!("etc/ld.so.conf.d/{number}.x"), &patterns);
    }
    let start = Instant::now();
    let output = bundle.run(&["update-ldcache", "--folder", "/opt/driver"]);
    let taken = start.elapsed();
    assert!(output.status.success());
    assert!(taken < Duration::from_secs(1), "{taken:?}");
    let cache = fs::read(bundle.at("etc/ld.so.cache")).unwrap();
    let table = mizzen_ldcache::Table::read(&cache).unwrap();
    let mut paths = table.entries.iter().map(|entry| entry.path);
    assert!(paths.any(|path| path == "/opt/driver/libnvidia-ml.so.1"));
}

/// A library that leaves a file `loaded` in the directory in which a program runs that loads it, to
/// whatever end; `None` where there is no C compiler.
fn telltale(dir: &Path) -> Option<PathBuf> {
    let source = dir.join("telltale.c");
    let text = "#include <fcntl.h>
        __attribute__((constructor)) static void tell(void) { open(\"loaded\", O_CREAT, 0600); }
        unsigned la_version(unsigned version) { return version; }";
    fs::write(&source, text).unwrap();
    let library = dir.join("telltale.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]);
    let built = compiler.arg(&library).arg(&source).output();
    if built.is_ok_and(|output| output.status.success()) {
        return Some(library);
    }
    eprintln!("skipped in part: no C compiler here");
    None
}

#[test]
fn the_environment_of_a_container_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = telltale(dir.path()) else {
        return;
    };
    let bundle = Bundle::new();
    let loaded = dir.path().join("loaded");
    let spec = format!("--container-spec={}", bundle.path("state.json").display());
    for (name, link) in [("LD_PRELOAD", "a::/one"), ("LD_AUDIT", "a::/two")] {
        let run = |program: &Path, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(&dir);
            command.env_clear().env(name, &library).output().unwrap()
        };
        run(Path::new("/bin/true"), &[]);
        assert!(loaded.exists(), "{name} has no effect on any program");
        fs::remove_file(&loaded).unwrap();
        let output = run(program(), &["create-symlinks", "--link", link, &spec]);
        assert!(output.stderr.is_empty(), "{output:?}");
        assert!(!loaded.exists(), "{name}");
    }
    assert!(bundle.at("one").is_symlink() && bundle.at("two").is_symlink());
}

#[test]
fn the_program_is_run_by_no_dynamic_linker() {
    /// `PT_INTERP` of `elf.h`: the name of the linker that the kernel starts first.
    const INTERPRETER: u32 = 3;
    let kinds = |elf: &[u8]| -> Vec<u32> {
        let word = |at: usize| u16::from_le_bytes([elf[at], elf[at + 1]]);
        let start = u64::from_le_bytes(elf[32..40].try_into().unwrap());
        let start = usize::try_from(start).unwrap();
        let headers = (0..word(56)).map(|number| start + usize::from(number * word(54)));
        headers
            .map(|at| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap()))
            .collect()
    };
    let ours = kinds(&fs::read(program()).unwrap());
    assert!(!ours.is_empty() && !ours.contains(&INTERPRETER), "{ours:?}");
    let test = kinds(&fs::read("/proc/self/exe").unwrap());
    assert!(test.contains(&INTERPRETER), "as in one that has a linker");
}
