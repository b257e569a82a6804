//! What `docs/config.md` and the examples say is what happens.

use std::path::PathBuf;

use crate::support::{mizzen, repository, run};

fn text(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

/// The commands in a console block with what they print, as the document has them.
fn console_blocks(document: &str) -> Vec<(String, String)> {
    let blocks = document.split("```console\n$ ").skip(1);
    blocks
        .map(|block| {
            let block = block.split("```").next().unwrap();
            let joined = block.replace("\\\n", " ");
            let (command, output) = joined.split_once('\n').unwrap_or((&joined, ""));
            (command.to_owned(), output.to_owned())
        })
        .collect()
}

/// The words of a command, apostrophes taken away.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in command.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    assert_eq!(words.remove(0), "mizzen", "{command}");
    words
}

/// What a command prints, run where the repository is.
fn printed(command: &str) -> (i32, String) {
    let mut program = mizzen();
    program.args(words(command)).current_dir(repository(""));
    let output = program.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

#[test]
fn the_answers_in_the_document_are_those_that_are_given() {
    let blocks = console_blocks(&text("docs/config.md"));
    let config = blocks
        .iter()
        .filter(|(command, _)| command.starts_with("mizzen config"));
    let mut count = 0;
    for (command, output) in config {
        assert_eq!(printed(command).1, *output, "docs/config.md: {command}");
        count += 1;
    }
    assert!(count >= 7, "{count} commands");
}

#[test]
fn the_table_of_keys_in_the_document_is_the_one_that_is_printed() {
    let document = text("docs/config.md");
    let (_, rest) = document.split_once("<!-- all keys: begin -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- all keys: end -->").unwrap();
    let printed = run(["config", "schema", "--output", "markdown"]).ended_with(0);
    assert!(
        table == printed.stdout(),
        "the table of all keys in docs/config.md is not what the program prints; renew it with\n  \
         cargo run -- config schema --output markdown"
    );
}

#[test]
fn every_key_that_the_schema_names_is_in_the_document() {
    let document = text("docs/config.md");
    let schema = run(["config", "schema"]).stdout();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let mut keys = Vec::new();
    collect(&schema, &mut keys);
    assert!(keys.len() > 50, "{keys:?}");
    for key in keys {
        let ends = [format!(".{key}`"), format!("`{key}`")];
        assert!(ends.iter().any(|end| document.contains(end)), "{key}");
    }
}

fn collect(schema: &serde_json::Value, keys: &mut Vec<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (key, below) in properties {
            keys.push(key.clone());
            collect(below, keys);
        }
    }
    collect_each(&schema["anyOf"], keys);
    if schema["items"].is_object() {
        collect(&schema["items"], keys);
    }
}

fn collect_each(schemas: &serde_json::Value, keys: &mut Vec<String>) {
    for schema in schemas.as_array().into_iter().flatten() {
        collect(schema, keys);
    }
}

/// The commands in the comments of an example.
fn commands_of(path: &PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let comments = text.lines().filter_map(|line| line.strip_prefix('#'));
    let joined = comments.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let commands = joined.lines().filter_map(|line| line.strip_prefix("   "));
    commands.map(str::to_owned).collect()
}

#[test]
fn the_commands_in_the_examples_work() {
    let mut count = 0;
    for entry in std::fs::read_dir(repository("examples/configs")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        for command in commands_of(&path) {
            let command = if command.starts_with("mizzen simulate") {
                format!("{command} --pod-time 100ms")
            } else {
                command
            };
            let (code, output) = printed(&command);
            assert_eq!(code, 0, "{}: {command}\n{output}", path.display());
            // That more is honoured than by the reference is no fault of an example.
            let odd = |line: &&str| line.contains("warning: ") && !line.contains("the reference");
            assert_eq!(output.lines().find(odd), None, "{command}\n{output}");
            count += 1;
        }
    }
    assert!(count >= 12, "{count} commands");
}
