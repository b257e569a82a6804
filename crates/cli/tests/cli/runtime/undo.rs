//! An edit is taken back, whatever became of the files since.

use super::*;

const CONFIGURE: &str = "configure --runtime-version 1.7.24";
const INLINE: &str =
    "version = 2\nplugins = {\"io.containerd.grpc.v1.cri\" = {enable_cdi = false, x = 1}}\n";
const BACKUP: &str = "etc/containerd/config.toml.mizzen-backup";
const DROP_IN: &str = "etc/containerd/conf.d/99-mizzen-cdi.toml";

/// A node whose containerd 2 has our drop-in.
fn with_drop_in() -> Node {
    let node = Node::new();
    node.write(
        CONTAINERD,
        &format!("imports = [\"/etc/containerd/conf.d/*.toml\"]\n{OFF_V3}"),
    );
    node.runtime("configure").ended_with(0);
    assert!(node.path(DROP_IN).exists());
    node
}

#[test]
fn a_drop_in_that_somebody_edited_stays_and_is_said() {
    const OURS: &str = "etc/crio/crio.conf.d/99-mizzen-cdi.toml";
    let node = Node::new();
    node.write(
        "etc/crio/crio.conf",
        "[crio.runtime]\ncdi_spec_dirs = [\"/etc/cdi\"]\n",
    );
    node.runtime("configure").ended_with(0);
    let edited = node.read(OURS).replace("cdi\"]", "cdi\", \"/opt/mine\"]");
    node.write(OURS, &edited);
    let refused = node.runtime("configure --undo").ended_with(1);
    let said = refused.stderr();
    assert!(said.contains("99-mizzen-cdi.toml: it was edited"), "{said}");
    assert_eq!(node.read(OURS), edited);
    node.write(OURS, &edited.replace(", \"/opt/mine\"", ""));
    node.runtime("configure --undo").ended_with(0);
    assert!(!node.path(OURS).exists());
}

#[test]
fn an_edit_in_an_inline_table_is_taken_out_after_other_edits() {
    let node = Node::new();
    node.write(CONTAINERD, INLINE);
    node.runtime(CONFIGURE).ended_with(0);
    let edited = node.read(CONTAINERD) + "# mine\n";
    // Where it cannot be found, the copy stays.
    node.write(CONTAINERD, &format!("{edited}["));
    node.runtime("configure --undo").ended_with(1);
    assert_eq!(node.read(BACKUP), INLINE);
    node.write(CONTAINERD, &edited);
    let said = node.runtime("configure --undo").ended_with(0).stdout();
    assert!(said.contains("took the setting out"), "{said}");
    assert_eq!(node.read(CONTAINERD), format!("{INLINE}# mine\n"));
    assert!(!node.path(BACKUP).exists());
}

#[test]
fn a_copy_of_something_else_is_not_thrown_away() {
    let node = Node::new();
    node.write(CONTAINERD, INLINE);
    node.runtime(CONFIGURE).ended_with(0);
    node.write(CONTAINERD, "version = 2\n");
    let said = node.runtime("configure --undo").ended_with(0).stdout();
    let words = "still in /etc/containerd/config.toml.mizzen-backup\n";
    assert!(said.contains(words) && !said.contains("restart"), "{said}");
    assert_eq!(node.read(BACKUP), INLINE);
    // Nor with a file that was made where it had been.
    fs::remove_file(node.path(CONTAINERD)).unwrap();
    node.runtime(&format!("{CONFIGURE} --runtime containerd"))
        .ended_with(0);
    node.runtime("configure --undo").ended_with(0);
    assert!(!node.path(CONTAINERD).exists());
    assert_eq!(node.read(BACKUP), INLINE);
}

#[test]
fn a_second_edit_keeps_what_the_file_held_before_the_first() {
    let node = Node::new();
    for text in [
        V2,
        INLINE,
        &V2.replace("sandbox", "enable_cdi = false\nsandbox"),
    ] {
        node.write(CONTAINERD, text);
        node.runtime(CONFIGURE).ended_with(0);
        let off = node.read(CONTAINERD).replace("= true", "= false");
        node.write(CONTAINERD, &off);
        node.runtime(CONFIGURE).ended_with(0);
        assert!(node.read(CONTAINERD).contains("enable_cdi = true"));
        node.runtime("configure --undo").ended_with(0);
        assert_eq!(node.read(CONTAINERD), text);
        assert!(!node.path(BACKUP).exists());
    }
}

#[test]
fn a_drop_in_is_found_when_its_config_names_it_no_more() {
    for config in ["imports = [\n", OFF_V3, "# imports = ['/opt/x/*.toml']\n"] {
        let node = with_drop_in();
        if config.contains("/opt/x") {
            fs::create_dir_all(node.path("opt/x")).unwrap();
            fs::rename(node.path(DROP_IN), node.path("opt/x/99-mizzen-cdi.toml")).unwrap();
        }
        node.write(CONTAINERD, config);
        let undone = node.runtime("configure --undo").ended_with(0).stdout();
        assert!(undone.contains("removed "), "{undone}");
        let is_said = undone.contains("note: /etc/containerd/config.toml:");
        assert_eq!(is_said, config.contains("[\n"), "{undone}");
        assert_eq!(all(&node), [(node.path(CONTAINERD), config.to_owned())]);
    }
}

#[test]
fn a_config_that_cannot_be_read_is_not_said_to_hold_nothing() {
    let node = Node::new();
    node.write(CONTAINERD, "imports = [\n");
    let said = node.runtime("configure --undo").ended_with(1).stderr();
    assert!(said.contains("/etc/containerd/config.toml:"), "{said}");
    assert!(said.contains("mend it first"), "{said}");
}

#[test]
fn another_machine_is_spoken_of_in_its_own_paths() {
    let node = Node::new();
    node.write(CONTAINERD, V2);
    let said = node.runtime(CONFIGURE).ended_with(0).stdout();
    assert_eq!(
        said,
        "edited /etc/containerd/config.toml; what it held before is in \
         /etc/containerd/config.toml.mizzen-backup\n\
         to take it over, on that machine: systemctl restart containerd; running containers go on\n"
    );
}
