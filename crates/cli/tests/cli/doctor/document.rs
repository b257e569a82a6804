//! What `docs/doctor.md` says is what happens.

use super::Node;
use crate::support::{Ran, repository};

/// Where a kubelet's socket is if there is one, which the machine of this test may have.
const KUBELET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";
/// As long, so that lines break where they do in the document.
const NO_KUBELET: &str = "/var/lib/no-host/device-plugins/kubelet.sock";

/// The files that the document shows: path and text.
fn shown_files(document: &str) -> Vec<(&str, &str)> {
    let blocks = document.split("```").skip(1).step_by(2);
    let files = blocks.filter_map(|block| {
        let (_, block) = block.split_once("\n# ")?;
        block.split_once('\n')
    });
    files.collect()
}

/// Runs a command of the document as a shell would, and returns what it prints.
fn printed(node: &Node, words: &str) -> String {
    let mut command = node.command();
    command
        .env_remove("MIZZEN_SIM")
        .env("KUBELET_SOCKET", NO_KUBELET);
    let mut words = words.split(' ').peekable();
    while let Some(assignment) = words.next_if(|word| word.contains('=')) {
        let (name, value) = assignment.split_once('=').unwrap();
        command.env(name, value);
    }
    assert_eq!(words.next(), Some("mizzen"));
    let ran = Ran(command.args(words).output().unwrap());
    let directory = node.path("").canonicalize().unwrap();
    let said = ran.stdout() + &ran.stderr();
    said.replace(NO_KUBELET, KUBELET)
        .replace(&*directory.to_string_lossy(), "/home/you")
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_commands_in_the_document_print_what_it_says() {
    let document = std::fs::read_to_string(repository("docs/doctor.md")).unwrap();
    let node = Node::bare();
    std::fs::create_dir(node.path("laptop")).unwrap();
    let files = shown_files(&document);
    assert_eq!(files.len(), 2, "{files:?}");
    for (path, text) in files {
        node.write(path, text);
    }
    let blocks: Vec<&str> = document.split("```console\n$ ").skip(1).collect();
    assert!(blocks.len() >= 3);
    for block in blocks {
        let block = block.split("```").next().unwrap();
        let (command, output) = block.split_once('\n').unwrap();
        let printed = printed(&node, command);
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
