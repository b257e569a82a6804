//! Metrics without an agent: served by a process that does nothing else, or one page.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::driver::{DriverError, DriverLoader, GpuDriver};
use mizzen_core::gpu::GpuUuid;
use mizzen_core::sample::Missing;
use mizzen_core::state::{Discovery, Event, NodeState};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::page::Pages;
use super::pods::{Pods, Record};
use super::sampler::Asker;
use super::setup::Setup;
use super::{Latest, Sources, holders_file, keep, logs};
use crate::agent::{LoaderFactory, Order, until_stopped};
use crate::clock::Clock;
use crate::driver::{Command, Driver};
use crate::ground::Ground;
use crate::keeper::Keeper;
use crate::machine::Machine;
use crate::pod_resources::PodResourcesSocket;
use crate::tally::Tally;
use crate::{privileges, record};

/// News that may wait for the state task before the driver's threads do.
const NEWS_LIMIT: usize = 64;
/// Between two samples of which the second tells what was between them: GPM wants 100 ms.
const BETWEEN: Duration = Duration::from_millis(150);

/// Serves metrics as a process that offers nothing to the kubelet: until SIGTERM, SIGINT or
/// SIGQUIT. SIGHUP has it read the file of counters again.
///
/// # Errors
/// The system's, if it gives no runtime, signals or thread.
pub fn serve_alone(config: Config, loader: LoaderFactory) -> io::Result<()> {
    privileges::give_up(false);
    until_stopped(|orders| serve(Arc::new(config), loader, orders))
}

async fn serve(
    config: Arc<Config>,
    loader: LoaderFactory,
    mut orders: mpsc::Receiver<Order>,
) -> io::Result<()> {
    let mut ground = Ground::new(&config);
    let (news, receiver) = mpsc::channel(NEWS_LIMIT);
    let machine = Machine::new(config.clone());
    let driver = Driver::start(loader(&config), machine, BTreeSet::new(), news)?;
    let state = NodeState::new(config.clone(), Vec::new(), ground.clock.now());
    let (published, state_receiver) = watch::channel(Arc::new(state.clone()));
    let (records, _nobody_keeps_them) = watch::channel(None);
    let keeper = Keeper {
        state,
        clock: ground.clock,
        news: receiver,
        driver: driver.clone(),
        published,
        records,
        boot_id: record::boot_id(&config.host_root),
        ready: ground.readiness.latch("driver"),
    };
    let stop = ground.stop.clone();
    ground.supervisor.essential("state", keeper.run(stop));
    let tally = Tally::default();
    tally.configured(&config, ground.clock.now().wall);
    let (configs, receiver) = watch::channel(config.clone());
    let sources = Sources {
        driver: driver.clone(),
        state: state_receiver,
        configs: receiver,
        tally,
        keeps_record: false,
    };
    keep(&config, sources, &mut ground);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Reread | Order::Reload(_)) => {
                    configs.send_replace(config.clone());
                }
                Some(Order::Stop) | None => break,
            },
            () = ground.stop.cancelled() => break,
        }
    }
    ground.end().await;
    driver.tell(Command::Stop);
    Ok(())
}

/// A page, and what somebody should know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnePage {
    /// The page.
    pub text: String,
    /// Remarks on the settings and on what could not be asked.
    pub remarks: Vec<String>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum NoPage {
    /// The driver's reason.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The settings cannot be used, or the system gives no thread.
    #[error("{0}")]
    Settings(String),
}

/// The page of this moment, of GPUs that are asked now.
///
/// # Errors
/// That there is no driver, or what is wrong with the file of counters.
pub fn one_page(loader: &dyn DriverLoader, config: Config) -> Result<OnePage, NoPage> {
    let config = Arc::new(config);
    let setup = Setup::read(&config).map_err(NoPage::Settings)?;
    let driver = loader.open()?;
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| NoPage::Settings(error.to_string()))?;
    let page = executor.block_on(page_of(config, setup, driver));
    executor.shutdown_background();
    page
}

async fn page_of(
    config: Arc<Config>,
    setup: Setup,
    driver: Arc<dyn GpuDriver>,
) -> Result<OnePage, NoPage> {
    let clock = Clock::new();
    let state = looked_at(&config, &*driver, clock)?;
    let gpus: Vec<GpuUuid> = uuids(&state);
    let latest = Arc::new(Latest::default());
    let asker = Asker::start(&config).map_err(|error| NoPage::Settings(error.to_string()))?;
    let round = || asker.round(driver.clone(), gpus.clone(), setup.wanted, &latest, clock);
    round().await;
    if has_first_samples(&latest, &gpus) {
        sleep(BETWEEN).await;
        round().await;
    }
    let mut remarks = setup.remarks.clone();
    let tally = Tally::default();
    tally.configured(&config, clock.now().wall);
    let (_tell, setup) = watch::channel(Arc::new(setup));
    if config.metrics.pods {
        remarks.extend(ask_kubelet(&config, &setup, &latest, clock).await);
    }
    let (_publish, state) = watch::channel(Arc::new(state));
    let pages = Pages {
        setup,
        state,
        latest,
        tally,
        clock,
    };
    Ok(OnePage {
        text: pages.page(),
        remarks,
    })
}

/// The picture of a node of which nothing is known but what the driver tells now.
fn looked_at(
    config: &Arc<Config>,
    driver: &dyn GpuDriver,
    clock: Clock,
) -> Result<NodeState, NoPage> {
    let discovery = Discovery {
        inventory: driver.snapshot()?,
        ..Discovery::default()
    };
    let mut state = NodeState::new(config.clone(), Vec::new(), clock.now());
    state.apply(Event::Discovered(Box::new(discovery)), clock.now());
    let gpus = uuids(&state);
    let questions = Machine::new(config.clone()).questions();
    let answers = driver.check_all(&gpus, questions);
    for (gpu, answer) in gpus.into_iter().zip(answers) {
        state.apply(Event::Checked(gpu, answer), clock.now());
    }
    Ok(state)
}

fn uuids(state: &NodeState) -> Vec<GpuUuid> {
    let each = state.gpus().iter().map(|known| known.gpu.uuid.clone());
    each.collect()
}

/// Whether something is told of what was between two samples, and there was one only.
fn has_first_samples(latest: &Latest, gpus: &[GpuUuid]) -> bool {
    let samples = latest.samples();
    let lasts = gpus
        .iter()
        .filter_map(|gpu| samples.history.of(gpu)?.last());
    let mut readings = lasts.flat_map(|(sample, _)| {
        let devices = sample.mig.iter().map(|device| &device.readings);
        devices.chain([&sample.readings])
    });
    readings.any(|readings| {
        let mut answers = readings.iter();
        answers.any(|(_, answer)| matches!(answer, Err(Missing::FirstSample)))
    })
}

/// Asks who holds what; what is in the way is told.
async fn ask_kubelet(
    config: &Config,
    setup: &watch::Receiver<Arc<Setup>>,
    latest: &Arc<Latest>,
    clock: Clock,
) -> Option<String> {
    let boot_id = record::boot_id(&config.host_root);
    let known = holders_file::load(&config.state_dir, &boot_id);
    latest.held().clone_from(&known);
    let mut pods = Pods {
        kubelet: PodResourcesSocket::new(config.pod_resources_socket()),
        setup: setup.clone(),
        latest: latest.clone(),
        tally: Tally::default(),
        clock,
        record: Record {
            dir: None,
            boot_id,
            written: known,
            fails: false,
        },
        roots: logs::roots(config),
        complaint: None,
    };
    pods.ask().await;
    let complaint = pods.complaint?;
    latest.held().clear();
    Some(format!("which pods hold what is not known: {complaint}"))
}
