//! The tests, and what runs them one after another.

mod cdi;
mod cluster_itself;
mod config_by_node;
mod faults;
mod gpu_pods;
mod labels;
mod manifests;
mod mig;
mod node_health;
mod restarts;
mod runtime;
mod same_story;
mod sharing;

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use kube::Client;

use crate::agent::Agent;
use crate::cluster::Cluster;
use crate::hardware::Hardware;
use crate::pods::Pods;
use crate::programs::TestBinaries;
use crate::report;

/// How much of the agent's log is shown with a failure.
const AGENT_LINES: usize = 12;

/// Which agent the tests have installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// None, or one of a test's own.
    Nothing,
    /// The manifest's, on the simulated hardware.
    Usual,
    /// The one that names devices by CDI, on its own hardware.
    Cdi,
}

/// What a test works with.
pub(crate) struct Context<'a> {
    /// The cluster, whose servers a test may stop and start.
    pub(crate) cluster: &'a Cluster,
    /// An administrator's client.
    pub(crate) client: Client,
    /// The tests' pods.
    pub(crate) pods: Pods,
    /// The node's simulated GPUs.
    pub(crate) hardware: Hardware,
    /// The binaries under test.
    pub(crate) binaries: &'a TestBinaries,
    agent: Agent,
    installed: Cell<Standing>,
}

impl Context<'_> {
    /// The agent on the simulated hardware, installed by whichever test asks first.
    pub(crate) async fn agent(&self) -> Result<&Agent> {
        if self.installed.get() != Standing::Usual {
            self.agent.install_on(&self.hardware).await?;
            self.installed.set(Standing::Usual);
        }
        Ok(&self.agent)
    }

    /// The agent, as whichever manifest installs it.
    pub(crate) fn any_agent(&self) -> &Agent {
        &self.agent
    }

    /// Removes whatever agent there is.
    pub(crate) async fn without_agent(&self) -> Result<()> {
        self.installed.set(Standing::Nothing);
        self.agent.remove().await
    }
}

/// Why a test cannot be run on this machine: it has neither passed nor failed.
#[derive(Debug)]
pub(crate) struct Skipped(String);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

/// A test's work, running.
type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// One test: a sentence that is true when it passes, and how that is found out.
struct Test {
    name: &'static str,
    run: for<'a> fn(&'a Context<'a>) -> Running<'a>,
}

/// Makes a [`Test`] of an async function of the context.
macro_rules! test {
    ($name:literal, $function:path) => {
        Test {
            name: $name,
            run: |context| Box::pin($function(context)),
        }
    };
}

/// Every test, in the order in which they run.
fn tests() -> Vec<Test> {
    let mut all = manifests_and_configs();
    all.extend(partitions());
    all.extend(node_labels());
    all.extend(container_devices());
    all.extend(pods_and_restarts());
    all
}

fn manifests_and_configs() -> Vec<Test> {
    vec![
        test!(
            "a plain pod runs, and its log and a shell in it can be had",
            cluster_itself::a_plain_pod_runs
        ),
        test!(
            "the API server refuses GPU requests that break one of its three rules",
            cluster_itself::gpu_requests_follow_three_rules
        ),
        test!(
            "containerd's files are read as containerd reads them",
            runtime::files_are_read_as_containerd_reads_them
        ),
        test!(
            "a containerd without CDI has it after mizzen runtime configure and a restart",
            runtime::cdi_is_turned_on
        ),
        test!(
            "the API server accepts every field of the manifests",
            manifests::the_api_server_accepts_all
        ),
        test!(
            "deploy/mizzen.yaml on a node without a driver stays up and says what it searched",
            manifests::without_a_driver_it_stays_up
        ),
        test!(
            "deploy/mizzen-simulated.yaml gives a node eight GPUs, which mizzen sim breaks",
            manifests::simulated_gpus_for_any_cluster
        ),
        test!(
            "deploy/mizzen-runtimeclass.yaml, unprivileged, gives pods what NVIDIA's runtime adds",
            manifests::unprivileged_with_a_runtime_class
        ),
        test!(
            "deploy/mizzen-config.yaml gives a node the config that its label names, live",
            config_by_node::the_label_chooses_the_config
        ),
        test!(
            "ten pods share two GPUs by time-slicing, five on each, and an eleventh waits",
            sharing::ten_pods_on_two_gpus
        ),
        test!(
            "an Xid takes all replicas of its GPU back, and healed all are offered again",
            sharing::a_sick_gpu_takes_its_replicas_along
        ),
        test!(
            "a misspelt config rolled out to a node changes nothing and is an Event of the node",
            sharing::a_misspelt_config_is_harmless
        ),
        test!(
            "a config switched by label leaves another resource's pod, socket and stream alone",
            sharing::another_resource_is_left_alone
        ),
    ]
}

fn partitions() -> Vec<Test> {
    vec![
        test!(
            "deploy/mizzen-mig.yaml partitions eight GPUs within a second of the label",
            mig::relabel::eight_gpus_within_a_second
        ),
        test!(
            "deploy/mizzen-mig.yaml lets the agent set its own Node's labels, and nothing else",
            mig::policy::its_own_labels_alone
        ),
        test!(
            "a MIG layout switched by label leaves pods on GPUs and instances that stay alone",
            mig::relabel::what_stays_is_left_alone
        ),
        test!(
            "with the MIG strategy single a pod's nvidia.com/gpu is one instance",
            mig::relabel::parts_as_gpus
        ),
        test!(
            "a MIG layout that cannot be touches no GPU and is told, and a good one heals it",
            mig::relabel::a_mistake_touches_nothing
        ),
        test!(
            "a pod in the way of a MIG layout is waited for, or evicted within its budget",
            mig::evict::a_holder_is_waited_for_or_evicted
        ),
        test!(
            "an agent killed with -9 on its way to a MIG layout goes on where it was",
            mig::kills::killed_on_the_way
        ),
        test!(
            "50 MIG layouts in a row leave nothing behind",
            mig::many::fifty_layouts
        ),
    ]
}

fn node_labels() -> Vec<Test> {
    vec![
        test!(
            "deploy/mizzen-labels.yaml labels the Node, as its GPUs are cut, and no restart changes it",
            labels::the_node_is_labelled
        ),
        test!(
            "deploy/mizzen-labels.yaml lets the agent tell of its own Node, and nothing else",
            labels::its_own_labels_alone
        ),
        test!(
            "labels that others have set under the agent's names are taken over, and said so once",
            labels::labels_of_others_are_taken_over
        ),
        test!(
            "an Xid and its end are a condition and Events of the Node, with GPU, cause and cure",
            node_health::a_lost_gpu_and_its_recovery_are_told
        ),
        test!(
            "a Node whose GPUs are all lost has a taint until one is well, and others keep theirs",
            node_health::a_node_whose_gpus_are_lost_is_tainted
        ),
    ]
}

fn container_devices() -> Vec<Test> {
    vec![
        test!(
            "with CDI pods of any image see exactly their GPU, by nvidia-smi and a linked program",
            cdi::pods::each_sees_its_gpu
        ),
        test!(
            "with CDI a pod with a MIG device sees its instance alone",
            cdi::pods::its_instance_alone
        ),
        test!(
            "with CDI a container's linker cache and links lead to the driver's libraries",
            cdi::files::the_linker_finds_the_driver
        ),
        test!(
            "with CDI a container starts where a hook cannot do its work",
            cdi::files::a_nicety_that_fails
        ),
        test!(
            "with CDI pods start while mizzen-hook is replaced over and over",
            cdi::hooks::replaced_while_containers_start
        ),
        test!(
            "with CDI a hook that is killed costs its container one attempt, and is mended",
            cdi::hooks::killed_under_a_container
        ),
        test!(
            "with CDI a pod that asks for no GPU has nothing of the driver's",
            cdi::privacy::nothing_without_a_request
        ),
        test!(
            "with CDI a GPU whose name runtimes do not find is not offered until they do",
            cdi::names::a_rival_takes_the_names
        ),
        test!(
            "the crate container-device-interface injects what the agent's CDI specs say",
            cdi::oracle::another_reader_agrees
        ),
        test!(
            "with CDI an upgraded driver reaches the next pod, and a running one goes on",
            cdi::upgrade::the_next_pod_has_the_new_driver
        ),
        test!(
            "a pod that did not ask sees no GPU, CDI or not, whatever it writes into its manifest",
            cdi::privacy::with_each_strategy
        ),
        test!(
            "under NVIDIA's runtime a pod takes GPUs unless it is set up as recommended",
            cdi::legacy::nvidias_runtime_by_default
        ),
        test!(
            "an agent left to choose follows a containerd that gets CDI by mizzen runtime configure",
            cdi::auto::follows_the_runtime
        ),
        test!(
            "mizzen doctor in the agent's pod finds nothing wrong, and names what is broken",
            cdi::doctor::what_is_broken_is_named
        ),
        test!(
            "deploy/mizzen-privacy.yaml refuses pods that name GPUs themselves, by CDI or variable",
            cdi::policy::who_names_gpus_is_refused
        ),
        test!(
            "with CDI podman run --device nvidia.com/gpu=0 sees that GPU",
            cdi::podman::a_gpu_by_hand
        ),
    ]
}

fn pods_and_restarts() -> Vec<Test> {
    vec![
        test!(
            "deploy/mizzen.yaml makes the GPUs the node's capacity",
            gpu_pods::the_node_has_its_gpus
        ),
        test!(
            "the privileged agent has one namespace of the host, no API token, and two places to write",
            gpu_pods::the_agent_has_no_more_than_it_needs
        ),
        test!(
            "a pod with one GPU has its environment, its device nodes, and sees it alone",
            gpu_pods::one_gpu_is_one_gpu
        ),
        test!(
            "the README's first pod runs and prints its GPU",
            gpu_pods::the_first_pod_of_the_readme
        ),
        test!(
            "a pod that asks for no GPU sees none",
            gpu_pods::no_request_no_gpu
        ),
        test!(
            "no two pods share a GPU, and one pod too many waits until one is free",
            gpu_pods::each_gpu_goes_to_one_pod
        ),
        test!(
            "PodResources and the pod's status name the devices of its containers",
            gpu_pods::the_kubelet_names_the_devices
        ),
        test!(
            "the embedded kubelet and the cluster tell the same story of the same pods",
            same_story::both_tell_the_same
        ),
        test!(
            "a GPU with Xid 79 is taken back and named sick, and healed it is offered again",
            faults::a_sick_gpu_is_shown_and_comes_back
        ),
        test!(
            "a kubelet restart costs nobody a GPU",
            restarts::a_kubelet_restart
        ),
        test!(
            "an agent killed with -9 costs nobody a GPU",
            restarts::an_agent_that_is_killed
        ),
        test!(
            "an agent upgrade costs nobody a GPU",
            restarts::an_agent_upgrade
        ),
        test!(
            "50 kubelet restarts at random intervals cost nobody a GPU",
            restarts::fifty_kubelet_restarts
        ),
    ]
}

/// How many tests passed, failed, and could not be run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}

impl Tally {
    /// Shows the counts, as the last line of a run, and says how the process ends.
    pub(crate) fn conclude(self) -> ExitCode {
        report::line(&self.to_string());
        if self.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Runs the tests whose name contains `filter`.
pub(crate) async fn run(
    cluster: &Cluster,
    binaries: &TestBinaries,
    filter: Option<&str>,
) -> Result<Tally> {
    let chosen: Vec<Test> = tests()
        .into_iter()
        .filter(|test| filter.is_none_or(|text| test.name.contains(text)))
        .collect();
    if chosen.is_empty() {
        bail!("no test's name contains {:?}", filter.unwrap_or_default());
    }
    let client = cluster.client().await?;
    let context = Context {
        cluster,
        pods: Pods::new(&client, "default"),
        agent: Agent::new(&client),
        installed: Cell::new(Standing::Nothing),
        binaries,
        hardware: Hardware::install(cluster.layout(), binaries).await?,
        client,
    };
    let mut tally = Tally::default();
    let mut unseen = Vec::new();
    for test in &chosen {
        let started = Instant::now();
        let outcome = run_one(&context, test).await;
        let took = report::seconds(started.elapsed());
        match outcome {
            Ok(()) => {
                tally.passed += 1;
                report::line(&format!("test {} ... ok ({took})", test.name));
            }
            Err(error) if error.is::<Skipped>() => {
                tally.skipped += 1;
                report::line(&format!("test {} ... SKIPPED ({took})", test.name));
                report::line(&format!("  {error:#}"));
                unseen.push(format!("skipped: {}: {error:#}", test.name));
            }
            Err(error) => {
                tally.failed += 1;
                report::line(&format!("test {} ... FAILED ({took})", test.name));
                report::line(&format!("  {error:#}"));
                show_agent_log(&context).await;
            }
        }
    }
    if tally.failed > 0 {
        report::line(&format!("logs: {}", cluster.layout().logs().display()));
    }
    // Once more beside the counts, where they are not overlooked.
    for line in &unseen {
        report::line(line);
    }
    Ok(tally)
}

/// The end of the agent's log, which mostly says what went wrong.
async fn show_agent_log(context: &Context<'_>) {
    if let Ok(log) = context.agent.log().await {
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(AGENT_LINES)..] {
            report::line(&format!("  agent: {line}"));
        }
    }
}

/// A test's pods never outlive it, so that the next one starts from a free node.
async fn run_one(context: &Context<'_>, test: &Test) -> Result<()> {
    let outcome = (test.run)(context).await;
    let cleaned = context.pods.remove_all().await;
    outcome.and(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_tell_of_tests_that_were_skipped() {
        let mut tally = Tally {
            passed: 12,
            ..Tally::default()
        };
        assert_eq!(tally.to_string(), "12 passed, 0 failed");
        tally.skipped = 1;
        assert_eq!(tally.to_string(), "12 passed, 0 failed, 1 skipped");
    }
}
