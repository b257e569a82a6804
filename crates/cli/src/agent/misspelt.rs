//! Variables that were meant for the agent, and that it does not know.

use std::collections::BTreeSet;

use mizzen_core::config::{SETTINGS, nearest};
use mizzen_nvml_sim::environment::{DEV_ROOT, SCENARIO, STATE};

use super::logging;

/// What the names of our own variables begin with.
const PREFIX: &str = "MIZZEN_";
/// What a kubelet adds to a service's name for each service of a pod's namespace.
const SERVICE_HOST: &str = "_SERVICE_HOST";

/// What to say of the variables among `names` that look like ours and that nothing reads. A
/// kubelet gives pods variables that are named for services: those are nobody's mistake.
pub(super) fn warnings(names: impl Iterator<Item = String>) -> Vec<String> {
    let ours: BTreeSet<String> = names.filter(|name| name.starts_with(PREFIX)).collect();
    let services: Vec<&str> = ours
        .iter()
        .filter_map(|name| name.strip_suffix(SERVICE_HOST))
        .collect();
    let known = known();
    let is_mistake = |name: &&String| {
        let mut services = services.iter();
        !known.contains(&name.as_str()) && !services.any(|service| is_of_service(name, service))
    };
    ours.iter()
        .filter(is_mistake)
        .map(|name| warning(name, &known))
        .collect()
}

fn is_of_service(name: &str, service: &str) -> bool {
    let Some(rest) = name.strip_prefix(service) else {
        return false;
    };
    let is = |word: &str| rest == word || rest.strip_prefix(word).is_some_and(begins_a_word);
    rest == SERVICE_HOST || is("_SERVICE_PORT") || is("_PORT")
}

fn begins_a_word(rest: &str) -> bool {
    rest.starts_with('_')
}

/// The names that something reads: this agent, its log, or the simulated driver in it.
fn known() -> Vec<&'static str> {
    let settings = SETTINGS.iter().flat_map(|row| row.env).copied();
    settings
        .filter(|name| name.starts_with(PREFIX))
        .chain(logging::VARIABLES)
        .chain([SCENARIO, STATE, DEV_ROOT])
        .collect()
}

fn warning(name: &str, known: &[&str]) -> String {
    // The words are compared as those of flags are; what all have in common says nothing.
    let as_flag = |name: &str| name.replace(PREFIX, "").to_lowercase().replace('_', "-");
    let words: Vec<String> = known.iter().map(|name| as_flag(name)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let meant = nearest(&as_flag(name), &words)
        .and_then(|word| known.iter().find(|name| as_flag(name) == word));
    let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    format!("environment variable {name} is not known and has no effect{meant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: &[&str]) -> Vec<String> {
        warnings(names.iter().map(ToString::to_string))
    }

    #[test]
    fn a_misspelt_variable_is_told_with_the_name_that_was_meant() {
        for (typed, meant) in [
            ("MIZZEN_HEALTH_HOLDDOWN", "MIZZEN_HEALTH_HOLD_DOWN"),
            ("MIZZEN_HEALTH_ADRESS", "MIZZEN_HEALTH_ADDRESS"),
            ("MIZZEN_LOGLEVEL", "MIZZEN_LOG_LEVEL"),
            ("MIZZEN_SIM_STATES", "MIZZEN_SIM_STATE"),
        ] {
            let expected = format!(
                "environment variable {typed} is not known and has no effect; did you mean {meant}?"
            );
            assert_eq!(told(&[typed]), [expected]);
        }
    }

    #[test]
    fn one_that_is_near_to_nothing_is_told_without_advice() {
        assert_eq!(
            told(&["MIZZEN_FAVOURITE_COLOUR"]),
            ["environment variable MIZZEN_FAVOURITE_COLOUR is not known and has no effect"]
        );
    }

    #[test]
    fn every_variable_that_is_read_is_known() {
        let names = known();
        for name in [
            "MIZZEN_HOST_ROOT",
            "MIZZEN_LOG_FORMAT",
            "MIZZEN_SIM",
            "MIZZEN_SIM_DEV_ROOT",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        assert!(told(&names).is_empty());
        assert!(
            told(&["PATH", "MIG_STRATEGI"]).is_empty(),
            "not ours to judge"
        );
    }

    #[test]
    fn the_variables_of_services_are_nobodys_mistake() {
        let links = [
            "MIZZEN_AGENT_SERVICE_HOST",
            "MIZZEN_AGENT_SERVICE_PORT",
            "MIZZEN_AGENT_SERVICE_PORT_HEALTH",
            "MIZZEN_AGENT_PORT",
            "MIZZEN_AGENT_PORT_8080_TCP",
            "MIZZEN_AGENT_PORT_8080_TCP_ADDR",
            "MIZZEN_SERVICE_HOST",
            "MIZZEN_SERVICE_PORT",
        ];
        assert!(told(&links).is_empty(), "{:?}", told(&links));
        assert_eq!(told(&["MIZZEN_AGENT_PORT"]).len(), 1, "of no service");
        let beside = ["MIZZEN_AGENT_SERVICE_HOST", "MIZZEN_AGENT_PORTAL"];
        assert_eq!(told(&beside).len(), 1);
    }
}
