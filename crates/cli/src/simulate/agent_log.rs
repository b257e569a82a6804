//! The agent's log: JSON lines, of which those that matter to people go into the timeline.

use serde::Deserialize;

use super::timeline::Tone;

/// One line of the log, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct LogLine {
    level: String,
    fields: Fields,
}

#[derive(Debug, Deserialize)]
struct Fields {
    #[serde(default)]
    message: String,
    gpu: Option<u32>,
    todo: Option<String>,
}

/// What a line says to a person: its tone and its words. Nothing for what is for experts alone,
/// or for what follows from an event that is shown anyway.
pub(crate) fn for_people(line: &str) -> Option<(Tone, String)> {
    let Ok(line) = serde_json::from_str::<LogLine>(line) else {
        // Not written by the logger: a panic, or a mistake in the agent's flags.
        let words = line.trim();
        return (!words.is_empty()).then(|| (Tone::Warning, words.to_owned()));
    };
    let tone = match line.level.as_str() {
        "ERROR" => Tone::Bad,
        "WARN" => Tone::Warning,
        _ => return None,
    };
    let gpu = line
        .fields
        .gpu
        .map(|index| format!("GPU {index}: "))
        .unwrap_or_default();
    let todo = line.fields.todo.filter(|todo| !todo.is_empty());
    let todo = todo.map(|todo| format!(" → {todo}")).unwrap_or_default();
    Some((tone, format!("{gpu}{}{todo}", line.fields.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_and_errors_are_for_people_with_what_to_do() {
        let line = r#"{"timestamp":"x","level":"ERROR","fields":{"message":"Xid 79: fallen off the bus","event":"unhealthy","gpu":2,"todo":"reboot the node"},"target":"t"}"#;
        assert_eq!(
            for_people(line),
            Some((
                Tone::Bad,
                "GPU 2: Xid 79: fallen off the bus → reboot the node".into()
            ))
        );
        assert_eq!(
            for_people(r#"{"level":"INFO","fields":{"message":"started"}}"#),
            None
        );
    }

    #[test]
    fn what_the_logger_did_not_write_is_shown_as_it_is() {
        let expected = Some((
            Tone::Warning,
            "error: unexpected argument '--x' found".into(),
        ));
        assert_eq!(
            for_people("error: unexpected argument '--x' found"),
            expected
        );
        assert_eq!(for_people(""), None);
    }
}
