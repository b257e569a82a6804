//! What the cluster is told of the GPUs' health.

use super::Reader;
use crate::config::node_health::{LostTaint, NodeHealthConfig};
use crate::config::setting::Setting;

impl Reader<'_> {
    /// Reads the settings of it.
    pub(super) fn node_health(&mut self) -> NodeHealthConfig {
        let health = NodeHealthConfig {
            tell: self.boolean(Setting::NodeCondition, false),
            taint: self.choice(Setting::TaintLostGpus).unwrap_or_default(),
        };
        let needed_by = [
            (health.tell, Setting::NodeCondition),
            (health.taint != LostTaint::Off, Setting::TaintLostGpus),
        ];
        for (is_needed, setting) in needed_by {
            if is_needed && self.given(Setting::NodeName).is_none() {
                self.refuse(
                    setting,
                    "which Node it concerns was not said: give --node-name, or NODE_NAME from the \
                     pod's spec.nodeName",
                );
            }
        }
        health
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigError, RawConfig};

    fn read(flags: &[(Setting, &str)]) -> Result<NodeHealthConfig, Vec<ConfigError>> {
        let mut raw = RawConfig::default();
        for (setting, text) in flags {
            raw.set_flag(*setting, [(*text).to_owned()]);
        }
        Ok(raw.validate()?.node_health)
    }

    #[test]
    fn nothing_is_told_unless_it_is_asked_for_and_then_the_node_must_have_a_name() {
        assert!(!read(&[]).unwrap().needs_api());
        let node = (Setting::NodeName, "n");
        let taint = (Setting::TaintLostGpus, "NoExecute");
        let health = read(&[node, taint]).unwrap();
        assert_eq!(health.taint.effect(), Some("NoExecute"));
        assert!(health.needs_api() && !health.tell);
        for flag in [taint, (Setting::NodeCondition, "true")] {
            let error = read(&[flag]).unwrap_err()[0].to_string();
            assert!(error.contains("NODE_NAME"), "{error}");
        }
    }

    #[test]
    fn an_effect_is_one_of_the_apis() {
        let flags = |word| read(&[(Setting::NodeName, "n"), (Setting::TaintLostGpus, word)]);
        assert_eq!(flags("off").unwrap().taint, LostTaint::Off);
        let error = flags("noschedule").unwrap_err()[0].to_string();
        assert!(error.contains("NoSchedule"), "{error}");
    }
}
