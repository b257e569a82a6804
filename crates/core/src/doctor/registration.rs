//! Whether the kubelet knows the resources of this node, and from whom.

use std::collections::BTreeMap;

use super::finding::Notes;
use super::{Facts, Looked, PluginFact, Reach, some};
use crate::pool::offer;

/// How this program is called in a list of processes.
const OURS: &str = "mizzen";

pub(super) fn judge(facts: &Facts, nvml: Option<&'static str>, notes: &mut Notes) {
    let seen = &facts.registration;
    for plugin in &seen.plugins {
        judge_plugin(plugin, notes);
    }
    match &seen.allocatable {
        Ok(known) => compare(facts, known, nvml, notes),
        Err(reach) => untold(reach, &seen.pod_resources, notes),
    }
    if !seen
        .plugins
        .iter()
        .any(|plugin| matches!(plugin.reach, Reach::Answered | Reach::Late(_)))
    {
        notes
            .error("no-plugin", "no device plugin for NVIDIA's resources listens in the kubelet's directory")
            .means("nobody offers the GPUs: pods that ask for one stay Pending (Insufficient nvidia.com/gpu)")
            .advise("is the agent running on this node? Its log says what it waits for")
            .run("kubectl -n mizzen-system get pods -o wide")
            .run("kubectl -n mizzen-system logs daemonset/mizzen-agent")
            .run("kubectl apply -f deploy/mizzen.yaml");
    }
}

fn judge_plugin(plugin: &PluginFact, notes: &mut Notes) {
    let socket = &plugin.socket;
    match (&plugin.reach, &plugin.program) {
        (Reach::Answered, Some(program)) if program != OURS => {
            notes
                .warning(
                    "plugin-stranger",
                    format!("{socket} is {program}'s, not Mizzen's"),
                )
                .means(
                    "two plugins offer the same GPUs: the kubelet believes whoever registered \
                     last, and may give one GPU to two pods",
                )
                .advise("keep one of the two; with the GPU Operator: devicePlugin.enabled=false")
                .run("kubectl get daemonsets -A | grep -i -E 'nvidia|mizzen'");
        }
        (Reach::Answered, _) => notes.ok("plugin", format!("a plugin answers on {socket}")),
        (Reach::Refused | Reach::NoSocket, _) => {
            notes
                .hint("plugin-socket-stale", format!("nobody listens on {socket}"))
                .means("it was left behind by a plugin that was killed; the next one replaces it");
        }
        (Reach::Late(after), _) => {
            notes
                .error(
                    "plugin-silent",
                    format!(
                        "the plugin on {socket} did not answer within {} s",
                        after.as_secs()
                    ),
                )
                .means("the kubelet waits for it in vain, and so do pods that ask for its resource")
                .run("kubectl -n mizzen-system logs daemonset/mizzen-agent")
                .run("kubectl -n mizzen-system rollout restart daemonset/mizzen-agent");
        }
        (other, _) => {
            notes
                .warning("plugin-failed", format!("{socket}: {}", in_words(other)))
                .means("whether somebody answers there cannot be told");
        }
    }
}

fn in_words(reach: &Reach) -> String {
    match reach {
        Reach::Answered => "somebody answered".to_owned(),
        Reach::Missing => "it does not exist".to_owned(),
        Reach::NoSocket => "it is no socket".to_owned(),
        Reach::Refused => "nobody listens".to_owned(),
        Reach::Denied => "this process may not connect".to_owned(),
        Reach::Late(after) => format!("no answer within {} s", after.as_secs()),
        Reach::Failed(why) => why.clone(),
    }
}

/// What the kubelet can give out, against what the settings make of the GPUs.
fn compare(
    facts: &Facts,
    known: &BTreeMap<String, usize>,
    nvml: Option<&'static str>,
    notes: &mut Notes,
) {
    let Looked::Seen(Ok(answered)) = &facts.nvml else {
        let why = nvml.unwrap_or("NVML was not asked");
        return notes.skipped(&format!("{why}: what should be registered is not known"));
    };
    let inventory = &answered.inventory;
    let offer = offer(&inventory.gpus, &inventory.links, &facts.settings.config);
    let mut listed = Vec::new();
    for (name, pool) in &offer.pools {
        let (name, wanted) = (name.to_string(), pool.device_count());
        match known.get(&name).copied() {
            None => {
                notes
                    .error(
                        "not-registered",
                        format!("the kubelet does not know {name}"),
                    )
                    .means("pods that ask for it stay Pending")
                    .run("kubectl -n mizzen-system logs daemonset/mizzen-agent | grep -i regist")
                    .run("kubectl -n mizzen-system rollout restart daemonset/mizzen-agent");
            }
            Some(count) if count != wanted => {
                notes
                    .warning("registered-differently", format!("the kubelet has {count} devices of {name}, these settings make {wanted}"))
                    .means(
                        "the agent runs with other settings than this command, has not seen a \
                         change yet, or another plugin has registered the name",
                    )
                    .run("kubectl -n mizzen-system logs daemonset/mizzen-agent");
            }
            Some(count) => listed.push(format!("{name}: {count}")),
        }
    }
    if !listed.is_empty() {
        notes.ok("registered", format!("registered: {}", some(&listed)));
    }
}

fn untold(reach: &Reach, socket: &str, notes: &mut Notes) {
    notes
        .hint(
            "registration-unknown",
            format!(
                "what the kubelet has registered cannot be asked: {socket}: {}",
                in_words(reach)
            ),
        )
        .means("the node's own numbers tell it")
        .run("kubectl get node NODE -o jsonpath='{.status.allocatable}'");
}
