//! The kubelet's registration socket.

use super::commands::on_host;
use super::finding::Notes;
use super::{Facts, Reach, driver};

const MOUNT: &str = "mount the host's directory into the agent's container, as deploy/mizzen.yaml \
                     does, or say where it is with --kubelet-socket";

/// Why nothing can be said of what is registered.
pub(super) fn obstacle(facts: &Facts) -> Option<&'static str> {
    match (&facts.kubelet.socket, &facts.kubelet.reach) {
        (None, _) => Some("the agent is told not to register"),
        (_, Reach::Answered) if driver::has_no_gpu(&facts.driver) => {
            Some("this machine has no NVIDIA GPU")
        }
        (_, Reach::Answered) => None,
        _ => Some("no kubelet was reached"),
    }
}

pub(super) fn judge(facts: &Facts, notes: &mut Notes) {
    let kubelet = &facts.kubelet;
    let Some(socket) = &kubelet.socket else {
        notes
            .hint(
                "kubelet-not-asked",
                "--kubelet-socket is empty: the agent does not register",
            )
            .means("no pod gets a GPU through this agent")
            .advise("give it the kubelet's socket, or leave the setting (KUBELET_SOCKET) out");
        return;
    };
    let others = &kubelet.elsewhere;
    match &kubelet.reach {
        Reach::Answered => notes.ok("kubelet", format!("somebody listens on {socket}")),
        Reach::Missing if driver::has_no_gpu(&facts.driver) && others.is_empty() => {
            notes.skipped("this machine has neither a GPU nor a kubelet");
            return;
        }
        Reach::Missing => missing(socket, others, notes),
        Reach::NoSocket => drop(
            notes
                .error("kubelet-no-socket", format!("{socket} is no socket"))
                .means("something else made a file where the kubelet's socket belongs")
                .run(format!("ls -l {socket}")),
        ),
        Reach::Refused => drop(
            notes
                .error("kubelet-refused", format!("nobody listens on {socket}"))
                .means("the kubelet has ended and left its socket behind; it makes a new one at its start")
                .run("systemctl status kubelet")
                .run("sudo systemctl restart kubelet"),
        ),
        Reach::Denied => drop(
            notes
                .error("kubelet-denied", format!("this process may not connect to {socket}"))
                .means("the socket is root's alone; an agent that is not root cannot register either")
                .run("sudo mizzen doctor"),
        ),
        Reach::Late(after) => drop(
            notes
                .error("kubelet-silent", format!("{socket} took no connection within {} s", after.as_secs()))
                .means("the kubelet hangs, or is overloaded")
                .run("journalctl -u kubelet -n 50"),
        ),
        Reach::Failed(why) => drop(
            notes
                .error("kubelet-failed", format!("{socket}: {why}"))
                .means("the agent cannot register")
                .run(format!("ls -l {socket}")),
        ),
    }
    if kubelet.reach == Reach::Answered {
        also_elsewhere(others, notes);
    }
}

fn also_elsewhere(others: &[String], notes: &mut Notes) {
    if !others.is_empty() {
        notes
            .hint(
                "kubelet-also-elsewhere",
                format!("another kubelet's socket: {}", others.join(", ")),
            )
            .means("the agent registers with the first one; is that the one whose pods want GPUs?");
    }
}

fn missing(socket: &str, others: &[String], notes: &mut Notes) {
    if let Some(other) = others.first() {
        notes
            .error(
                "kubelet-elsewhere",
                format!("{socket} does not exist; a kubelet's socket is at {other}"),
            )
            .means("the kubelet uses another directory than the agent (--root-dir; k0s, MicroK8s)")
            .advise(MOUNT)
            .run(format!("mizzen doctor --kubelet-socket {}", on_host(other)));
        return;
    }
    notes
        .error("kubelet-missing", format!("{socket} does not exist"))
        .means("no kubelet runs here, it uses another directory, or this container does not see it")
        .advise(MOUNT)
        .run("systemctl status kubelet k3s rke2-agent")
        .run("ps -ef | grep -o 'root-dir[= ][^ ]*'");
}
