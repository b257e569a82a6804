use std::collections::BTreeSet;

use mizzen_core::config::Config;
use mizzen_core::driver::DriverEventKind;
use mizzen_testkit::{FakeDriver, HostTree, gpus};

use super::*;

/// How long anything may take before the test gives up.
const LIMIT: Duration = Duration::from_secs(20);

/// The driver's threads for two GPUs, and what they tell.
struct Running {
    fake: FakeDriver,
    driver: Driver,
    news: mpsc::Receiver<News>,
    _host: HostTree,
}

impl Running {
    fn start(patience: Patience) -> Self {
        let fake = FakeDriver::new(gpus(2));
        fake.wait_in_full();
        let host = HostTree::new();
        host.file("dev/nvidia0", "").file("dev/nvidia1", "");
        let machine = Machine::new(Arc::new(Config {
            host_root: host.path().to_owned(),
            ..Config::default()
        }));
        let (sender, news) = mpsc::channel(64);
        let loader = Arc::new(fake.clone());
        let driver =
            Driver::start_with(loader, machine, BTreeSet::new(), sender, patience).unwrap();
        Self {
            fake,
            driver,
            news,
            _host: host,
        }
    }

    fn check(&self, some_sick: bool) {
        let gpus = uuids();
        self.driver.tell(Command::Check { gpus, some_sick });
    }

    /// Waits for an event that is wanted, with what was told before it.
    async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut before = Vec::new();
        let wait = async {
            loop {
                let (News::Events(events) | News::Round(events)) = self.news.recv().await.unwrap();
                for event in events {
                    if wanted(&event) {
                        return;
                    }
                    before.push(event);
                }
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("in time");
        before
    }

    /// Waits until somebody waits for events.
    async fn waiting(&mut self) {
        self.until(|event| matches!(event, Event::Watching { .. }))
            .await;
        let due = Instant::now() + LIMIT;
        while self.fake.waits() == 0 {
            assert!(Instant::now() < due, "nobody waits");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn uuids() -> Vec<GpuUuid> {
    gpus(2).into_iter().map(|gpu| gpu.uuid).collect()
}

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_wait_that_hangs_is_told_once_and_so_is_its_end() {
    let patience = Patience {
        idle: 10 * MS,
        brisk: 10 * MS,
        grace: 10 * MS,
    };
    let mut running = Running::start(patience);
    running.fake.hang_waits(true);
    running.waiting().await;
    // What a round finds depends on whether the wait is overdue yet.
    let due = Instant::now() + LIMIT;
    let hung = DriverError::Hung { after: 20 * MS };
    let mut failed = 0;
    let mut rounds = 0;
    while failed == 0 || rounds < 3 {
        assert!(Instant::now() < due, "it was never noticed");
        running.check(false);
        tokio::time::sleep(5 * MS).await;
        while let Ok(News::Events(events) | News::Round(events)) = running.news.try_recv() {
            let is_failure =
                |event: &&Event| matches!(event, Event::WaitFailed(error) if *error == hung);
            failed += events.iter().filter(is_failure).count();
            assert!(!events.iter().any(|event| matches!(event, Event::WaitWorks)));
        }
        rounds += usize::from(failed > 0);
    }
    assert_eq!(failed, 1);
    running.fake.hang_waits(false);
    running
        .until(|event| matches!(event, Event::WaitWorks))
        .await;
}

#[tokio::test]
async fn a_wait_in_its_time_is_no_failure() {
    let mut running = Running::start(Patience::default());
    running.waiting().await;
    for _ in 0..3 {
        running.check(false);
    }
    let uuid = &uuids()[0];
    running.fake.event(Some(uuid), DriverEventKind::Xid(79));
    let before = running
        .until(|event| matches!(event, Event::Driver(_)))
        .await;
    assert!(
        !before
            .iter()
            .any(|event| matches!(event, Event::WaitFailed(_)))
    );
}

#[tokio::test]
async fn while_a_gpu_is_sick_its_watch_is_renewed_without_waiting_out_a_long_wait() {
    let patience = Patience {
        idle: Duration::from_hours(1),
        brisk: 10 * MS,
        grace: Duration::from_secs(2),
    };
    let mut running = Running::start(patience);
    running.waiting().await;
    // The event that makes it sick ends the long wait; the ones after it are short.
    running.check(true);
    running
        .until(|event| matches!(event, Event::Checked(..)))
        .await;
    let uuid = uuids()[0].clone();
    running.fake.event(Some(&uuid), DriverEventKind::Xid(79));
    running
        .until(|event| matches!(event, Event::Driver(_)))
        .await;
    running.driver.tell(Command::Watch);
    running
        .until(|event| matches!(event, Event::Watching { .. }))
        .await;
}
