//! The settings.

use super::finding::Notes;
use super::{SettingsFacts, counted};

pub(super) fn judge(facts: &SettingsFacts, notes: &mut Notes) {
    for mistake in &facts.mistakes {
        notes
            .error("settings-invalid", mistake)
            .means(
                "the agent does not start with these settings, or goes on with the last good ones; \
                 everything below is judged without them",
            )
            .run("mizzen config check FILE");
    }
    for warning in &facts.config.warnings {
        notes
            .warning("settings-odd", warning.to_string())
            .means("the setting is accepted, and may not do what was meant");
    }
    if notes.is_clean() {
        notes.ok("settings", format!("{} can be used", facts.source));
    } else if facts.mistakes.len() > 1 {
        let count = counted(facts.mistakes.len(), "mistake");
        notes.hint(
            "settings-count",
            format!("{count}, all of them above: one restart mends them"),
        );
    }
}
