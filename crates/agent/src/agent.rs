//! Putting the parts together, starting and ending them.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mizzen_core::config::{Config, ConfigPlace, LabelsTo};
use mizzen_core::driver::DriverLoader;
use mizzen_core::labels::Vgpu;
use mizzen_core::state::{Effect, Event, NodeState};
use mizzen_nvml::{HostRoot, NvmlLoader, NvmlLoaderBuilder};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::cluster::{ClientFactory, Cluster, connect};
use crate::config_source::{self, Interpreter, Settings, Source};
use crate::driver::{Command, Driver, News};
use crate::features::Features;
use crate::ground::Ground;
use crate::keeper::Keeper;
use crate::log::log;
use crate::machine::{self, Machine};
use crate::plugin::Told;
use crate::runtime::Chooser;
use crate::tally::Tally;
use crate::{labels, mig, plugin, privileges, record};

/// News that may wait for the state task before the driver's threads do.
const NEWS_LIMIT: usize = 64;

/// Makes a loader for the driver that settings ask for.
pub type LoaderFactory = Box<dyn Fn(&Config) -> Arc<dyn DriverLoader> + Send + Sync>;

/// What a running agent can be told.
#[derive(Debug, Clone)]
pub enum Order {
    /// Use these settings, and look at the driver again.
    Reload(Box<Config>),
    /// Read the settings again where they come from, and look at the driver again.
    Reread,
    /// End in order: not ready, streams ended, sockets removed.
    Stop,
}

/// An agent that is ready to run.
pub struct Agent {
    config: Arc<Config>,
    loader: LoaderFactory,
    interpreter: Option<Interpreter>,
    client: Option<ClientFactory>,
    /// What was read before rights were given up.
    vgpu: Vgpu,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent for these settings, with the driver found through NVML.
    pub fn new(config: Config) -> Self {
        Self {
            config: Arc::new(config),
            loader: Box::new(nvml_loader),
            interpreter: None,
            client: None,
            vgpu: Vgpu::Unknown,
        }
    }

    /// The same, reading more settings from where [`Config::source`] says, and again whenever
    /// they change.
    #[must_use]
    pub fn with_interpreter(mut self, interpreter: Interpreter) -> Self {
        self.interpreter = Some(interpreter);
        self
    }

    /// The same with another client of the Kubernetes API than the settings say.
    #[must_use]
    pub fn with_client(mut self, client: ClientFactory) -> Self {
        self.client = Some(client);
        self
    }

    /// The same with another driver.
    #[must_use]
    pub fn with_loader(mut self, loader: LoaderFactory) -> Self {
        self.loader = loader;
        self
    }

    /// Runs until [`Order::Stop`], or until nobody can give orders any more.
    ///
    /// # Errors
    /// The system's, if it does not give the driver a thread.
    pub async fn run(self, mut orders: mpsc::Receiver<Order>) -> io::Result<()> {
        let mut ground = Ground::new(&self.config);
        let cluster = self.cluster();
        let source = self.start_source(&cluster, &mut ground);
        let Some((config, mut source)) = settled(self.config, source, &mut orders, &ground).await
        else {
            ground.end().await;
            return Ok(());
        };
        let mut chooser = Chooser::default();
        let choice = chooser.first(&config).await;
        let beginnings = Beginnings {
            choice,
            chooser,
            vgpu: self.vgpu,
        };
        let mut running = Running::start(config, self.loader, &cluster, beginnings, ground)?;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Reload(config)) => running.reload(*config).await,
                    Some(Order::Reread) => match &source {
                        Some(source) => source.reread.notify_one(),
                        None => running.reload(Config::clone(&running.config)).await,
                    },
                    Some(Order::Stop) | None => break,
                },
                settings = next(&mut source) => running.take(settings).await,
                () = running.ground.stop.cancelled() => break,
            }
        }
        running.end().await;
        Ok(())
    }

    /// The Kubernetes API, of which no client is made before somebody needs one.
    fn cluster(&self) -> Cluster {
        let client = self.client.clone().unwrap_or_else(|| {
            let source = self.config.source.clone();
            Arc::new(move || connect(&source))
        });
        Cluster::new(client)
    }

    /// Starts the source of more settings, if there is one.
    fn start_source(&self, cluster: &Cluster, ground: &mut Ground) -> Option<Source> {
        let interpreter = self.interpreter.clone()?;
        if self.config.source.place == ConfigPlace::Nowhere {
            return None;
        }
        Some(config_source::start(
            &self.config,
            interpreter,
            cluster,
            ground,
        ))
    }
}

/// The settings to begin with: `base`, or what the source has, which is waited for where configs
/// have names. `None` if the agent is stopped before.
async fn settled(
    base: Arc<Config>,
    source: Option<Source>,
    orders: &mut mpsc::Receiver<Order>,
    ground: &Ground,
) -> Option<(Arc<Config>, Option<Source>)> {
    let Some(mut source) = source else {
        return Some((base, None));
    };
    if source.first.is_none() && !base.source.place.has_names() {
        // Whoever made the settings has read the file.
        return Some((base, Some(source)));
    }
    let waiting = ground.readiness.latch("the config of this node");
    let first = match source.first.take() {
        Some(settings) => settings,
        None => loop {
            tokio::select! {
                settings = source.settings.recv() => break settings?,
                order = orders.recv() => match order {
                    Some(Order::Reload(_) | Order::Reread) => source.reread.notify_one(),
                    Some(Order::Stop) | None => return None,
                },
                () = ground.stop.cancelled() => return None,
            }
        },
    };
    drop(waiting);
    if *first.config != *base {
        for warning in &first.config.warnings {
            tracing::warn!(event = "config", "{warning}");
        }
    }
    tracing::info!(event = "config", "beginning with {}", first.words);
    Some((Arc::new(*first.config), Some(source)))
}

/// The next settings of a source; never, where there is none.
async fn next(source: &mut Option<Source>) -> Settings {
    if let Some(source) = source
        && let Some(settings) = source.settings.recv().await
    {
        return settings;
    }
    std::future::pending().await
}

/// The parts of a running agent that orders concern.
struct Running {
    config: Arc<Config>,
    loader: LoaderFactory,
    driver: Driver,
    news: mpsc::Sender<News>,
    /// The settings, for what chooses by them.
    configs: watch::Sender<Arc<Config>>,
    tally: Tally,
    ground: Ground,
}

/// What is known before the first look at the driver.
struct Beginnings {
    /// How containers get their GPUs at first, and who chooses later.
    choice: Option<Event>,
    chooser: Chooser,
    vgpu: Vgpu,
}

impl Running {
    fn start(
        config: Arc<Config>,
        loader: LoaderFactory,
        cluster: &Cluster,
        Beginnings {
            choice,
            chooser,
            vgpu,
        }: Beginnings,
        mut ground: Ground,
    ) -> io::Result<Self> {
        let (clock, stop) = (ground.clock, ground.stop.clone());
        let (news, news_receiver) = mpsc::channel(NEWS_LIMIT);
        let boot_id = record::boot_id(&config.host_root);
        let remembered = record::load(&config.state_dir, &boot_id);
        // The driver takes longest: it begins as soon as can be.
        let machine = Machine::new(config.clone());
        let places = remembered.iter().map(|record| record.gpu.pci).collect();
        let driver = Driver::start(loader(&config), machine, places, news.clone())?;

        let beginning = mig::begin(&config);
        let known = NodeState::new(config.clone(), remembered, clock.now());
        let state = begun(known, beginning.as_ref(), choice, clock);
        let (published, followed) = watch::channel(Arc::new(state.clone()));
        let (records, record_receiver) = watch::channel(None);
        let keeper = Keeper {
            state,
            clock,
            news: news_receiver,
            driver: driver.clone(),
            published,
            records,
            boot_id,
            ready: ground.readiness.latch("driver"),
        };
        let supervisor = &mut ground.supervisor;
        supervisor.essential("state", keeper.run(stop.clone()));
        let told = Told {
            given: beginning.as_ref().map(mig::Beginning::given),
            tally: Tally::default(),
        };
        told.tally.configured(&config, clock.now().wall);
        let readiness = ground.readiness.clone();
        let offering = plugin::offer(followed.clone(), told.clone(), readiness, stop);
        supervisor.essential("device plugins", offering);
        let state_dir = config.state_dir.clone();
        supervisor.keep("record", move || {
            record::keep(state_dir.clone(), record_receiver.clone())
        });
        let (configs, settings) = watch::channel(config.clone());
        let features = Features {
            driver: driver.clone(),
            news: news.clone(),
            state: followed,
            settings,
            tally: told.tally.clone(),
            chooser,
            vgpu,
        };
        features.start(&config, cluster, beginning, &mut ground);
        Ok(Self {
            config,
            loader,
            driver,
            news,
            configs,
            tally: told.tally,
            ground,
        })
    }

    /// Takes over what the source of settings has, if it is new or was asked for.
    async fn take(&mut self, settings: Settings) {
        if settings.asked || *settings.config != *self.config {
            self.reload(*settings.config).await;
            tracing::info!(event = "config", "in force: {}", settings.words);
        }
    }

    /// Takes new settings over by what is different in them: what is the same goes on untouched.
    async fn reload(&mut self, config: Config) {
        for warning in &config.warnings {
            tracing::warn!(event = "config", "{warning}");
        }
        let fixed = |config: &Config| {
            (
                config.state_dir.clone(),
                config.host_root.clone(),
                config.health_address,
                config.mig_manager.clone(),
                config.labels.of_agent(),
                config.node_health.clone(),
                config.metrics.address,
                config.metrics.web_config_file.clone(),
            )
        };
        if fixed(&config) != fixed(&self.config) {
            tracing::warn!(
                event = "reload",
                "--state-dir, --host-root, --health-address, --metrics-address, --web-config-file, \
                 --labels-to, --node-condition, --taint-lost-gpus and the settings of the MIG \
                 manager take effect in a restart only"
            );
        }
        let config = Arc::new(config);
        let driver = |config: &Config| {
            (
                config.nvml_library.clone(),
                config.driver_root.clone(),
                config.driver_root_ctr_path.clone(),
                config.health.nvml_call_timeout,
            )
        };
        let changed = driver(&config) != driver(&self.config);
        let loader = changed.then(|| (self.loader)(&config));
        self.driver
            .tell(Command::Configure(Machine::new(config.clone()), loader));
        self.config = config.clone();
        let event = News::Events(vec![Event::Configured(config.clone())]);
        // Fails only if the state task has ended, and the process with it.
        let _ = self.news.send(event).await;
        self.tally.configured(&config, self.ground.clock.now().wall);
        self.configs.send_replace(config);
        tracing::info!(event = "reload", "settings were read again");
    }

    async fn end(self) {
        self.ground.end().await;
        self.driver.tell(Command::Stop);
    }
}

/// The picture to begin with, of which nobody has been told: before the first GPU is known, nobody
/// need be.
fn begun(
    mut state: NodeState,
    partitioning: Option<&mig::Beginning>,
    choice: Option<Event>,
    clock: Clock,
) -> NodeState {
    if let Some(partitioning) = partitioning {
        state.apply(partitioning.event(), clock.now());
    }
    // Until the specs have been looked at.
    state.apply(Event::CdiAwaited, clock.now());
    for effect in choice.map_or_else(Vec::new, |choice| state.apply(choice, clock.now())) {
        if let Effect::Log(line) = effect {
            log(&line);
        }
    }
    state
}

/// The loader for the real driver, which it finds where these settings say.
pub fn nvml_loader(config: &Config) -> Arc<dyn DriverLoader> {
    Arc::new(nvml_builder(config).build())
}

/// The same, before it is built.
pub(crate) fn nvml_builder(config: &Config) -> NvmlLoaderBuilder {
    let mut builder = NvmlLoader::builder()
        .host_root(HostRoot::new(&config.host_root))
        .deadline(config.health.nvml_call_timeout);
    if let Some(library) = &config.nvml_library {
        builder = builder.library(library);
    }
    for root in machine::driver_roots(config) {
        builder = builder.driver_root(root);
    }
    builder
}

/// Runs an agent as a process: until SIGTERM, SIGINT or SIGQUIT, and reading its settings again
/// on SIGHUP.
///
/// # Errors
/// The system's, if it gives no runtime, signals or thread.
pub fn run_process(mut agent: Agent) -> io::Result<()> {
    mizzen_nvml::keep_one_heap();
    if agent.config.labels.of_agent() != LabelsTo::Off {
        agent.vgpu = labels::host_facts(&HostRoot::new(&agent.config.host_root), None).vgpu;
    }
    privileges::give_up(agent.config.mig_manager.enabled);
    until_stopped(|orders| agent.run(orders))
}

/// Runs what takes orders as a process: until SIGTERM, SIGINT or SIGQUIT, which order to stop;
/// SIGHUP orders to read settings again.
pub(crate) fn until_stopped<F>(run: impl FnOnce(mpsc::Receiver<Order>) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>>,
{
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // The disk's thread ends when it has written.
        .thread_keep_alive(Duration::from_secs(1))
        .build()?;
    executor.block_on(async {
        let (orders, receiver) = mpsc::channel(1);
        let signals = Signals::new()?;
        let run = trimmed(run(receiver));
        let (ended, ()) = tokio::join!(run, signals.obey(orders));
        ended
    })?;
    // A driver that hangs must not keep the process from ending.
    executor.shutdown_background();
    Ok(())
}

/// Gives back the code that only the start needed once the start is over.
async fn trimmed<T>(run: impl Future<Output = T>) -> T {
    let mut run = pin!(run);
    if let Ok(ended) = tokio::time::timeout(START_IS_OVER, &mut run).await {
        return ended;
    }
    mizzen_nvml::release_start_code();
    run.await
}

/// How long after the start of the process all that is done only once has been done.
const START_IS_OVER: Duration = Duration::from_secs(3);

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Turns signals into orders until one of them means the end.
    async fn obey(mut self, orders: mpsc::Sender<Order>) {
        loop {
            let order = tokio::select! {
                _ = self.terminate.recv() => Order::Stop,
                _ = self.interrupt.recv() => Order::Stop,
                _ = self.quit.recv() => Order::Stop,
                _ = self.hang_up.recv() => Order::Reread,
                () = orders.closed() => return,
            };
            let last = matches!(order, Order::Stop);
            if orders.send(order).await.is_err() || last {
                return;
            }
        }
    }
}
