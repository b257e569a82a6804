//! The tests, and what runs them one after another.

mod cluster_itself;

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use kube::Client;

use crate::cluster::Cluster;
use crate::pods::Pods;
use crate::programs::TestBinaries;
use crate::report;

/// What a test works with.
pub(crate) struct Context<'a> {
    /// The cluster, whose servers a test may stop and start.
    pub(crate) cluster: &'a Cluster,
    /// An administrator's client.
    pub(crate) client: Client,
    /// The tests' pods.
    pub(crate) pods: Pods,
    /// The binaries under test.
    pub(crate) binaries: &'a TestBinaries,
}

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
    vec![
        test!(
            "a plain pod runs, and its log and a shell in it can be had",
            cluster_itself::a_plain_pod_runs
        ),
        test!(
            "the API server refuses GPU requests that break one of its three rules",
            cluster_itself::gpu_requests_follow_three_rules
        ),
    ]
}

/// Runs the tests whose name contains `filter`. The last line counts them.
pub(crate) async fn run(
    cluster: &Cluster,
    binaries: &TestBinaries,
    filter: Option<&str>,
) -> Result<ExitCode> {
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
        pods: Pods::new(&client),
        client,
        binaries,
    };
    let mut failed = 0;
    for test in &chosen {
        let started = Instant::now();
        let outcome = run_one(&context, test).await;
        let took = report::seconds(started.elapsed());
        match outcome {
            Ok(()) => report::line(&format!("test {} ... ok ({took})", test.name)),
            Err(error) => {
                failed += 1;
                report::line(&format!("test {} ... FAILED ({took})\n  {error:#}", test.name));
            }
        }
    }
    if failed > 0 {
        report::line(&format!("logs: {}", cluster.layout().logs().display()));
    }
    report::line(&format!("{} passed, {failed} failed", chosen.len() - failed));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A test's pods never outlive it, so that the next one starts from a free node.
async fn run_one(context: &Context<'_>, test: &Test) -> Result<()> {
    let outcome = (test.run)(context).await;
    let cleaned = context.pods.remove_all().await;
    outcome.and(cleaned)
}
