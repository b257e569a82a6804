//! What `docs/doctor.md` says is what happens.

use super::Node;
use crate::support::{Ran, repository};

/// Where a kubelet's socket is if there is one, which the machine of this test may have.
const KUBELET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";
/// As long, so that lines break where they do in the document.
const NO_KUBELET: &str = "/var/lib/no-host/device-plugins/kubelet.sock";

#[test]
#[cfg(target_arch = "x86_64")]
fn the_commands_in_the_document_print_what_it_says() {
    let document = std::fs::read_to_string(repository("docs/doctor.md")).unwrap();
    let node = Node::new();
    std::fs::create_dir(node.path("laptop")).unwrap();
    let blocks: Vec<&str> = document.split("```console\n$ ").skip(1).collect();
    assert!(blocks.len() >= 2);
    for block in blocks {
        let block = block.split("```").next().unwrap();
        let (command, output) = block.split_once('\n').unwrap();
        let words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(words[0], "mizzen", "{command}");
        let mut run = node.command();
        run.args(&words[1..]).env("KUBELET_SOCKET", NO_KUBELET);
        let ran = Ran(run.output().unwrap());
        let printed = (ran.stdout() + &ran.stderr()).replace(NO_KUBELET, KUBELET);
        assert!(
            printed == output,
            "docs/doctor.md: {command}\nprints\n{printed}\nnot\n{output}"
        );
    }
}

/// Every finding has a line in the document, and every line is about one that there is.
#[test]
fn every_finding_is_in_the_document() {
    let document = std::fs::read_to_string(repository("docs/doctor.md")).unwrap();
    let sources = repository("crates/core/src/doctor");
    let mut ids = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(sources).unwrap().flatten() {
        if file.path().is_dir() || file.file_name() == "tests.rs" {
            continue;
        }
        let text = std::fs::read_to_string(file.path()).unwrap();
        for call in [".error(", ".warning(", ".hint("] {
            for rest in text.split(call).skip(1) {
                let id = rest.trim_start().strip_prefix('"');
                ids.extend(id.and_then(|id| id.split('"').next()).map(str::to_owned));
            }
        }
    }
    assert!(ids.len() > 50, "{ids:?}");
    for id in &ids {
        assert!(
            document.contains(&format!("`{id}`")),
            "{id} is not in docs/doctor.md"
        );
    }
}
