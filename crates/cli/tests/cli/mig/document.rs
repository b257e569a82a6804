//! What `docs/mig.md` says is what happens.

use super::Machine;
use crate::support::{Ran, repository};

/// Where a kubelet's socket is if there is one, which the machine of this test may have.
const KUBELET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";
/// As long, so that lines break where they do in the document.
const NO_KUBELET: &str = "/var/lib/no-host/pod-resources/kubelet.sock";

/// The commands of a document's console blocks, with what they print, as it has them.
fn console_blocks(document: &str) -> Vec<(String, String)> {
    let blocks = document.split("```console\n$ ").skip(1);
    let parts = blocks.map(|block| {
        let block = block.split("```").next().unwrap();
        let (command, output) = block.split_once('\n').unwrap_or((block, ""));
        (command.to_owned(), output.to_owned())
    });
    parts.collect()
}

#[test]
fn the_commands_in_the_document_print_what_it_says() {
    let document = std::fs::read_to_string(repository("docs/mig.md")).unwrap();
    let (_, rest) = document.split_once("```yaml\n# node.yaml\n").unwrap();
    let machine = Machine::of(rest.split_once("```").unwrap().0);
    let (_, rest) = document.split_once("```yaml\n# config.yaml\n").unwrap();
    machine.write("config.yaml", rest.split_once("```").unwrap().0);
    let mut count = 0;
    for (command, output) in console_blocks(&document) {
        let (words, file) = match command.split_once(" > ") {
            Some((words, file)) => (words, Some(file)),
            None => (command.as_str(), None),
        };
        let words: Vec<&str> = words.split_whitespace().collect();
        assert_eq!(words[0], "mizzen", "{command}");
        let mut run = machine.command();
        run.args(&words[1..]);
        run.env(
            "KUBELET_SOCKET",
            "/var/lib/no-host/device-plugins/kubelet.sock",
        );
        let ran = Ran(run.output().unwrap());
        let printed = (ran.stdout() + &ran.stderr()).replace(NO_KUBELET, KUBELET);
        match file {
            Some(file) => drop(machine.write(file, &printed)),
            None => assert!(
                printed == output,
                "docs/mig.md: {command}\nprints\n{printed}\nnot\n{output}"
            ),
        }
        count += 1;
    }
    assert!(count >= 8, "{count} commands");
}
