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
    host: HostTree,
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
            host,
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

fn lists(count: usize) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Discovered(found) if found.inventory.gpus.len() == count)
}

#[tokio::test]
async fn a_gpu_that_is_added_is_seen_without_waiting_out_the_wait_in_progress() {
    let patience = Patience {
        idle: Duration::from_hours(1),
        brisk: Duration::from_hours(1),
        grace: Duration::from_secs(2),
    };
    let mut running = Running::start(patience);
    running.waiting().await;
    for count in [3, 2] {
        let total = usize::try_from(count).unwrap();
        running.fake.set_gpus(gpus(count));
        running.host.file(&format!("dev/nvidia{}", 9 - count), "");
        running.driver.tell(Command::Look);
        running.until(lists(total)).await;
        running
            .until(
                |event| matches!(event, Event::Watching { watched, .. } if watched.len() == total),
            )
            .await;
    }
}

#[tokio::test]
async fn waits_of_former_sessions_do_not_pile_up() {
    let patience = Patience {
        idle: 300 * MS,
        brisk: 300 * MS,
        grace: 100 * MS,
    };
    let mut running = Running::start(patience);
    running.waiting().await;
    running.fake.hang_waits(true);
    let begun = Instant::now();
    for change in 0..5 {
        running.host.file(&format!("dev/nvidia{}", 10 + change), "");
        running.driver.tell(Command::Look);
        running.until(lists(2)).await;
    }
    // The first two find room; each further one sits a wait out, which is how long they may last.
    assert!(begun.elapsed() >= patience.idle, "{:?}", begun.elapsed());
    running.fake.hang_waits(false);
}

#[tokio::test]
async fn what_a_former_session_saw_last_is_told_and_not_how_its_waiting_went() {
    let patience = Patience {
        idle: Duration::from_hours(1),
        brisk: 10 * MS,
        grace: Duration::from_secs(2),
    };
    let mut running = Running::start(patience);
    running.waiting().await;
    running.host.file("dev/nvidia7", "");
    running.driver.tell(Command::Look);
    running
        .until(|event| matches!(event, Event::Watching { .. }))
        .await;
    // Either of the two may take an event; whoever does tells it.
    for xid in 0..3 {
        let wanted = DriverEventKind::Xid(xid);
        running.fake.event(Some(&uuids()[0]), wanted);
        running
            .until(|event| matches!(event, Event::Driver(told) if told.kind == wanted))
            .await;
    }
    running.host.file("dev/nvidia8", "");
    running.driver.tell(Command::Look);
    running
        .until(|event| matches!(event, Event::Watching { .. }))
        .await;
    let gone = DriverError::NotRunning("Driver Not Loaded".to_owned());
    running.fake.fail_waits(Some(gone));
    running
        .until(|event| matches!(event, Event::WaitFailed(_)))
        .await;
    running.fake.fail_waits(None);
    let told = running
        .until(|event| matches!(event, Event::WaitWorks))
        .await;
    let failures = |event: &&Event| matches!(event, Event::WaitFailed(_));
    assert_eq!(told.iter().filter(failures).count(), 0);
}

#[tokio::test]
async fn a_driver_that_comes_back_is_opened_however_often_others_ask_meanwhile() {
    let mut running = Running::start(Patience::default());
    running.waiting().await;
    let gone = DriverError::NotRunning("unloaded".to_owned());
    running.fake.go_absent(gone);
    running.check(false);
    running
        .until(|event| matches!(event, Event::DriverAbsent(_)))
        .await;
    running.fake.come();
    let opened = running.fake.opened();
    let due = Instant::now() + LIMIT;
    while running.fake.opened() == opened {
        assert!(Instant::now() < due, "nobody opens it");
        running.driver.tell(Command::LookAtPartitions(uuids()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running
        .until(|event| matches!(event, Event::Discovered(_)))
        .await;
}
