use mizzen_core::driver::{DriverError, DriverLoader as _};
use mizzen_core::health::Moment;
use mizzen_core::inventory::BrokenGpu;
use mizzen_core::mig::{GpuMig, MigMode};
use mizzen_core::state::{Discovery, Event};
use mizzen_testkit::{FakeDriver, gpus};
use tokio::task::JoinSet;

use super::*;

const COUNT: &str = "nvidia.com/gpu.count";
const CLIQUE: &str = "nvidia.com/gpu.clique";

/// A node's picture, and a task that follows it.
struct Stage {
    state: NodeState,
    publish: watch::Sender<Arc<NodeState>>,
    session: watch::Sender<Session>,
    driver: FakeDriver,
    told: watch::Receiver<Option<Labels>>,
    _tasks: JoinSet<()>,
}

impl Stage {
    fn new(config: Config) -> Self {
        Self::on("/no/such/place".into(), config)
    }

    /// The same, on a machine whose files are there.
    fn on(host_root: std::path::PathBuf, config: Config) -> Self {
        let config = Config {
            host_root,
            ..config
        };
        let state = NodeState::new(Arc::new(config), Vec::new(), now());
        let (publish, followed) = watch::channel(Arc::new(state.clone()));
        let (session, sessions) = watch::channel(None);
        let (tell, told) = watch::channel(None);
        let sources = Sources {
            state: followed,
            session: sessions,
            started: 1_700_000_000,
            vgpu: Vgpu::Absent,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(sources, tell));
        Self {
            state,
            publish,
            session,
            driver: FakeDriver::new(gpus(2)),
            told,
            _tasks: tasks,
        }
    }

    /// The driver is there, with two GPUs.
    fn open(&mut self) {
        let session = self.driver.open().unwrap();
        let inventory = session.snapshot().unwrap();
        self.session.send_replace(Some(session));
        self.happens(Event::Discovered(Box::new(Discovery {
            inventory,
            ..Discovery::default()
        })));
    }

    fn happens(&mut self, event: Event) {
        self.state.apply(event, now());
        self.publish.send_replace(Arc::new(self.state.clone()));
    }

    /// What was told since the last time, after all has come to rest.
    async fn told(&mut self) -> Option<Labels> {
        sleep(LONGEST_UNREST).await;
        let is_news = self.told.has_changed().unwrap();
        let told = self.told.borrow_and_update().clone();
        told.filter(|_| is_news)
    }
}

fn now() -> Moment {
    Moment {
        monotonic: Duration::ZERO,
        wall: 1_700_000_000,
    }
}

fn value<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    let value = labels.get(&key.parse().unwrap());
    value.map(mizzen_core::labels::LabelValue::as_str)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_the_driver_was_looked_for() {
    let mut stage = Stage::new(Config::default());
    assert_eq!(stage.told().await, None);
    stage.open();
    let labels = stage.told().await.unwrap();
    assert_eq!(value(&labels, COUNT), Some("2"));
    let time = value(&labels, "nvidia.com/gfd.timestamp");
    assert_eq!(time, Some("1700000000"));
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_away_leaves_labels_or_takes_them_as_the_settings_say() {
    for (fails, expected) in [(true, None), (false, Some(None))] {
        let mut stage = Stage::new(Config {
            fail_on_init_error: fails,
            ..Config::default()
        });
        stage.open();
        assert!(stage.told().await.is_some());
        stage.happens(Event::DriverAbsent(DriverError::NoPermission));
        let told = stage.told().await;
        let count = told.as_ref().map(|labels| value(labels, COUNT));
        assert_eq!(count, expected);
        sleep(Duration::from_hours(1)).await;
        stage.open();
        assert_eq!(value(&stage.told().await.unwrap(), COUNT), Some("2"));
    }
}

#[tokio::test(start_paused = true)]
async fn steps_of_one_change_are_told_once() {
    let mut stage = Stage::new(Config::default());
    stage.open();
    stage.told().await;
    let counted = stage.told.clone();
    for _ in 0..3 {
        for gpu in gpus(2) {
            let mode = MigMode {
                current: true,
                pending: true,
            };
            let mig = GpuMig {
                mode,
                ..GpuMig::default()
            };
            stage.happens(Event::Partitioned(gpu.uuid, Some(mig)));
            sleep(QUIET / 2).await;
        }
    }
    assert!(!counted.has_changed().unwrap(), "not in the middle of it");
    let labels = stage.told().await.unwrap();
    assert_eq!(value(&labels, "nvidia.com/gpu.replicas"), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_never_comes_to_rest_has_labels_all_the_same() {
    let mut stage = Stage::new(Config::default());
    stage.open();
    let begun = Instant::now();
    while !stage.told.has_changed().unwrap() {
        stage.happens(Event::WaitWorks);
        sleep(QUIET / 4).await;
    }
    assert!(begun.elapsed() <= LONGEST_UNREST + QUIET);
}

#[tokio::test(start_paused = true)]
async fn a_gpu_that_cannot_be_described_counts_in_no_label_and_a_sick_one_does() {
    let mut stage = Stage::new(Config::default());
    stage.open();
    stage.told().await;
    let gpu = gpus(1).remove(0);
    stage.happens(Event::Checked(gpu.uuid.clone(), Err(DriverError::GpuLost)));
    assert_eq!(value(&stage.told().await.unwrap(), COUNT), Some("1"));

    // One that never had a name has no label.
    let mut inventory = stage.driver.open().unwrap().snapshot().unwrap();
    inventory.broken.push(BrokenGpu {
        index: 7,
        uuid: None,
        pci: None,
        error: DriverError::GpuLost,
    });
    let mut other = Stage::new(Config::default());
    other.happens(Event::Discovered(Box::new(Discovery {
        inventory,
        ..Discovery::default()
    })));
    let labels = other.told().await.unwrap();
    assert_eq!(value(&labels, COUNT), Some("2"));
    assert!(!labels.keys().any(|key| key.as_str().contains("unknown")));

    let double_bit = mizzen_core::driver::DriverEvent {
        gpu: Some(gpu.uuid),
        kind: mizzen_core::driver::DriverEventKind::DoubleBitEcc,
        gpu_instance: None,
        compute_instance: None,
    };
    other.happens(Event::Driver(double_bit));
    assert!(!other.state.gpus()[0].health.is_healthy());
    assert_eq!(value(&other.told().await.unwrap(), COUNT), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn the_fabric_is_asked_of_the_session_at_first_and_as_often_as_the_settings_say() {
    let mut stage = Stage::new(Config::default());
    stage.open();
    let labels = stage.told().await.unwrap();
    assert_eq!(value(&labels, CLIQUE), None);
    assert_eq!(stage.driver.fabric_asked(), 1);
    for _ in 0..5 {
        stage.happens(Event::WaitWorks);
        stage.told().await;
    }
    assert_eq!(
        stage.driver.fabric_asked(),
        1,
        "changes elsewhere are no reason"
    );

    stage.driver.set_fabric(FabricClique {
        cluster: [1; 16],
        clique: 3,
    });
    sleep(Duration::from_mins(1)).await;
    let labels = stage.told().await.unwrap();
    assert!(value(&labels, CLIQUE).unwrap().ends_with(".3"));
    assert_eq!(stage.driver.fabric_asked(), 2);
    // A new session, whatever for, is asked at once.
    stage.open();
    stage.told().await;
    assert_eq!(stage.driver.fabric_asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_an_interval_nothing_is_looked_at_again() {
    let mut config = Config::default();
    config.labels.sleep_interval = None;
    let mut stage = Stage::new(config);
    stage.open();
    assert!(stage.told().await.is_some());
    sleep(Duration::from_hours(24)).await;
    assert_eq!(stage.told().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_the_bus_no_longer_shows_is_told_as_it_was_read_with_more_rights() {
    let host = mizzen_testkit::HostTree::new();
    let place = "sys/bus/pci/devices/0000:01:00.0";
    host.file(&format!("{place}/vendor"), "0x10de\n")
        .file(&format!("{place}/class"), "0x030200\n")
        .file(&format!("{place}/config"), &"\0".repeat(64));
    let mut stage = Stage::on(host.path().to_owned(), Config::default());
    stage.open();
    let labels = stage.told().await.unwrap();
    assert_eq!(value(&labels, "nvidia.com/vgpu.present"), Some("false"));
}
