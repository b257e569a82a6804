//! What the agent says of itself.

use super::finding::Notes;
use super::{AgentFacts, Reach};

const LOG: &str = "kubectl -n mizzen-system logs daemonset/mizzen-agent";

pub(super) fn judge(facts: &AgentFacts, notes: &mut Notes) {
    let Some(address) = facts.address else {
        return notes
            .skipped("no --health-address (MIZZEN_HEALTH_ADDRESS) says where it can be asked");
    };
    match &facts.answer {
        Ok((true, _)) => notes.ok("agent", format!("the agent at {address} is ready")),
        Ok((false, words)) => drop(
            notes
                .error(
                    "agent-not-ready",
                    format!("the agent at {address} is not ready: {words}"),
                )
                .means("it runs, and waits for what it names")
                .run(LOG),
        ),
        Err(Reach::Refused) => drop(
            notes
                .error("agent-absent", format!("no agent listens on {address}"))
                .means("the agent does not run, or serves its health at another address")
                .run("kubectl -n mizzen-system get pods -o wide")
                .run(LOG),
        ),
        Err(Reach::Late(after)) => drop(
            notes
                .error(
                    "agent-silent",
                    format!(
                        "the agent at {address} did not answer within {} s",
                        after.as_secs()
                    ),
                )
                .means("its one thread is busy or stuck; the kubelet's probes will restart it")
                .run(LOG),
        ),
        Err(other) => {
            let words = match other {
                Reach::Failed(why) => why.as_str(),
                _ => "it cannot be reached",
            };
            notes
                .warning("agent-unreachable", format!("{address}: {words}"))
                .means("how the agent is cannot be told")
                .run(LOG);
        }
    }
}
