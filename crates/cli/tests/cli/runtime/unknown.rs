//! A runtime of which not everything is known.

use super::{CONTAINERD, Node, V2};

#[test]
fn an_edit_that_an_old_containerd_would_pass_over_is_made_with_a_remark() {
    let node = Node::new();
    node.write(CONTAINERD, V2);
    let remark =
        "the version of containerd is not known, and one before 1.7 passes over enable_cdi";
    let shown = node.runtime("configure --dry-run").ended_with(0).stdout();
    assert!(shown.contains(remark), "{shown}");
    let done = node.runtime("configure").ended_with(0).stdout();
    let line = format!("note: /etc/containerd/config.toml:6: {remark}");
    assert!(done.contains(&line), "{done}");
    assert!(node.read(CONTAINERD).contains("enable_cdi = true"));
    let again = node.runtime("configure").ended_with(0).stdout();
    assert!(
        again.contains("on already") && again.contains(remark),
        "{again}"
    );
    let known = node.runtime("configure --runtime-version 1.7.24").stdout();
    assert!(!known.contains("not known"), "{known}");
    let undone = node.runtime("configure --undo").ended_with(0).stdout();
    assert!(!undone.contains("note"), "{undone}");
}
