//! Whose a spec file is.

use super::*;

#[test]
fn a_spec_that_another_plugin_left_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let store = SpecStore::new(directory.path());
    fs::write(directory.path().join(OURS), "{}").unwrap();
    let outcome = store.keep(&specs_of_one_gpu()).unwrap();
    assert_eq!(names(&outcome.written), [OURS]);
    assert_eq!(names(&outcome.taken), [OURS], "and that is told");
    let mut specs = specs_of_one_gpu();
    specs[0].devices.pop();
    let outcome = store.keep(&specs).unwrap();
    assert_eq!(names(&outcome.written), [OURS]);
    assert_eq!(outcome.taken, [""; 0].map(PathBuf::from), "once");
}

#[test]
fn the_files_that_are_ours_are_those_that_we_wrote_and_would_take_over() {
    let directory = tempfile::tempdir().unwrap();
    let store = SpecStore::new(directory.path());
    let of_plugin = specs_of_one_gpu().remove(0);
    let by_hand = CdiSpec {
        kind: "nvidia.com/gpu".to_owned(),
        ..of_plugin.clone()
    };
    let own = directory.path().join(OURS);
    let other = directory.path().join("nvidia.com-gpu.json");
    assert!(store.keeps(&own, &of_plugin));
    assert!(!store.keeps(&directory.path().join("copy.json"), &of_plugin));
    assert!(!store.keeps(&Path::new("/etc/cdi").join(OURS), &of_plugin));
    assert!(!store.keeps(&other, &by_hand));
    store.keep(std::slice::from_ref(&by_hand)).unwrap();
    assert!(store.keeps(&other, &by_hand));
}
