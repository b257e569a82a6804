//! The settings.

use super::SettingsFacts;
use super::finding::Notes;

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
    if facts.config.source.place.has_names() {
        notes
            .hint(
                "settings-by-node",
                "the config of this node is chosen by its label",
            )
            .means("that config is not read here: below is judged what flags and environment say")
            .advise("the agent's log and the Events of the Node tell which config is in force")
            .run("kubectl describe node NODE | grep -A20 Events:");
    }
    if notes.is_clean() {
        notes.ok("settings", format!("{} can be used", facts.source));
    }
}
