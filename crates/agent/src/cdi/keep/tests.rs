//! A host and a state, and what becomes of the specs.

use mizzen_core::config::{DeviceListStrategies, DeviceListStrategy};
use mizzen_core::health::Moment;
use mizzen_core::inventory::Inventory;
use mizzen_core::state::Discovery;
use mizzen_core::topology::LinkMatrix;
use mizzen_testkit::{HostTree, gpus};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

const NOW: Moment = Moment {
    monotonic: Duration::ZERO,
    wall: 1_700_000_000,
};
const SPEC: &str = "run/cdi/k8s.device-plugin.nvidia.com-gpu.json";

/// A host, a state, and the task that keeps the specs.
struct Scene {
    tree: HostTree,
    state: NodeState,
    published: watch::Sender<Arc<NodeState>>,
    news: mpsc::Receiver<Event>,
    task: JoinHandle<Result<(), TaskError>>,
    stop: CancellationToken,
}

fn config(tree: &HostTree, strategy: DeviceListStrategy) -> Config {
    Config {
        host_root: tree.path().to_owned(),
        driver_root_ctr_path: tree.path().join("no-driver-root"),
        device_list_strategies: DeviceListStrategies::new([strategy]),
        ..Config::default()
    }
}

fn discovered(gpus: Vec<Gpu>) -> Event {
    Event::Discovered(Box::new(Discovery {
        inventory: Inventory {
            links: LinkMatrix::unknown(gpus.len()),
            gpus,
            ..Inventory::default()
        },
        ..Discovery::default()
    }))
}

impl Scene {
    fn new(strategy: DeviceListStrategy) -> Self {
        let tree = HostTree::new();
        tree.file("dev/nvidiactl", "").file("dev/nvidia0", "");
        tree.file("run/lock", "").file("var/lib/x", "");
        std::os::unix::fs::symlink("/run", tree.path().join("var/run")).unwrap();
        let config = Arc::new(config(&tree, strategy));
        let mut state = NodeState::new(config, Vec::new(), NOW);
        state.apply(Event::CdiResolved(BTreeSet::new()), NOW);
        let (published, receiver) = watch::channel(Arc::new(state.clone()));
        let (sender, news) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let tell = move |event| {
            let sender = sender.clone();
            async move { sender.send(event).await.unwrap() }
        };
        Self {
            task: tokio::task::spawn_local(keep(receiver, tell, stop.clone())),
            tree,
            state,
            published,
            news,
            stop,
        }
    }

    fn apply(&mut self, event: Event) {
        self.state.apply(event, NOW);
        self.published.send_replace(Arc::new(self.state.clone()));
    }

    /// What runtimes find, as the task tells it next.
    async fn found(&mut self) -> Vec<String> {
        let Event::CdiResolved(names) = self.news.recv().await.unwrap() else {
            panic!("another event");
        };
        self.apply(Event::CdiResolved(names.clone()));
        let plain = names
            .iter()
            .filter_map(|name| name.strip_prefix("k8s.device-plugin.nvidia.com/"));
        plain.map(str::to_owned).collect()
    }

    fn healthy(&self) -> usize {
        let pool = self.state.pools().values().next().unwrap();
        let listed = pool.list(|share| self.state.health(share));
        let healthy = mizzen_core::health::DeviceHealth::Healthy;
        listed
            .iter()
            .filter(|listed| listed.health == healthy)
            .count()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(test));
}

#[test]
fn a_gpu_is_offered_once_runtimes_find_it() {
    local(async {
        let mut scene = Scene::new(DeviceListStrategy::CdiCri);
        scene.apply(discovered(gpus(2)));
        assert_eq!(scene.healthy(), 0);
        let uuid = &gpus(1)[0].uuid;
        let expected = [
            "gpu=0".to_owned(),
            format!("gpu={uuid}"),
            "gpu=all".to_owned(),
        ];
        assert_eq!(scene.found().await, expected, "the second has no node");
        assert_eq!(scene.healthy(), 1);

        // Nobody tells of a node that comes late.
        scene.tree.file("dev/nvidia1", "");
        assert_eq!(scene.found().await.len(), 5);
        assert_eq!(scene.healthy(), 2);

        fs::remove_file(scene.tree.path().join("dev/nvidia1")).unwrap();
        let mut nodes = HostNodes::default();
        nodes.control.insert("/dev/nvidiactl");
        scene.apply(Event::HostNodes(nodes));
        assert_eq!(scene.found().await.len(), 3);
        assert_eq!(scene.healthy(), 1);
        scene.end().await;
    });
}

#[test]
fn a_spec_that_is_taken_away_comes_back_and_a_rival_is_noticed() {
    local(async {
        let mut scene = Scene::new(DeviceListStrategy::CdiAnnotations);
        scene.apply(discovered(gpus(1)));
        assert_eq!(scene.found().await.len(), 3);
        let spec = scene.tree.path().join(SPEC);
        let text = fs::read_to_string(&spec).unwrap();
        let rival = spec.with_file_name("rival.json");
        fs::write(&rival, &text).unwrap();
        assert_eq!(
            scene.found().await,
            [] as [&str; 0],
            "they cancel each other"
        );
        assert_eq!(scene.healthy(), 0);
        fs::remove_file(&rival).unwrap();
        fs::remove_file(&spec).unwrap();
        assert_eq!(scene.found().await.len(), 3);
        assert_eq!(fs::read_to_string(&spec).unwrap(), text);
        scene.end().await;
    });
}

#[test]
fn specs_for_use_by_hand_are_kept_where_they_are_asked_for() {
    local(async {
        let mut scene = Scene::new(DeviceListStrategy::Envvar);
        scene.apply(discovered(gpus(1)));
        let by_hand = Config {
            cdi_kinds: vec!["nvidia.com/gpu".parse().unwrap()],
            ..config(&scene.tree, DeviceListStrategy::Envvar)
        };
        scene.apply(Event::Configured(Arc::new(by_hand)));
        assert_eq!(scene.found().await, [] as [&str; 0], "none of the plugin's");
        let spec = scene.tree.path().join("run/cdi/nvidia.com-gpu.json");
        assert!(spec.exists() && !scene.tree.path().join(SPEC).exists());
        let plain = config(&scene.tree, DeviceListStrategy::Envvar);
        scene.apply(Event::Configured(Arc::new(plain)));
        let gone = async {
            while spec.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone)
            .await
            .unwrap();
        scene.end().await;
    });
}

#[test]
fn a_program_for_hooks_that_is_missing_is_told() {
    let (tree, hooks) = (HostTree::new(), hook::Installer::default());
    let config = Config {
        cdi_hook_path: Some("/usr/bin/nvidia-ctk".into()),
        ..config(&tree, DeviceListStrategy::CdiCri)
    };
    let told = hook_remark(&config, &hooks).unwrap();
    assert!(told.starts_with("/usr/bin/nvidia-ctk, which"), "{told}");
    let without = Config {
        cdi_disable_hooks: vec!["all".to_owned()],
        ..config.clone()
    };
    assert_eq!(hook_remark(&without, &hooks), None);
    tree.file("usr/bin/nvidia-ctk", "");
    assert_eq!(hook_remark(&config, &hooks), None);
    assert!(!tree.path().join("var/lib/mizzen/bin").exists(), "not ours");
}

#[test]
fn our_program_for_hooks_is_installed_where_none_is_named() {
    let (tree, hooks) = (HostTree::new(), hook::Installer::default());
    let config = config(&tree, DeviceListStrategy::CdiCri);
    assert_eq!(hook_remark(&config, &hooks), None);
    let installed = tree.path().join("var/lib/mizzen/bin/mizzen-hook");
    assert!(installed.exists());
    assert_eq!(hook_remark(&config, &hooks), None, "it is there");
    let nowhere = Config {
        hook_dir: "/var/lib/mizzen/bin/mizzen-hook/x".into(),
        ..config
    };
    let told = hook_remark(&nowhere, &hooks).unwrap();
    assert!(told.contains("cannot be installed"), "{told}");
}

/// Everything that a look needs, with one GPU.
fn inputs(tree: &HostTree, strategies: DeviceListStrategies) -> Inputs {
    let config = Config {
        device_list_strategies: strategies,
        ..config(tree, DeviceListStrategy::CdiCri)
    };
    let mut state = NodeState::new(Arc::new(config), Vec::new(), NOW);
    state.apply(discovered(gpus(1)), NOW);
    Inputs::of(&state)
}

#[test]
fn what_is_written_into_the_container_alone_is_of_no_use() {
    let (container, host) = (HostTree::new(), HostTree::new());
    for tree in [&container, &host] {
        tree.file("dev/nvidiactl", "").file("dev/nvidia0", "");
        tree.file("var/lib/x", "").file("run/x", "");
        std::os::unix::fs::symlink("/run", tree.path().join("var/run")).unwrap();
    }
    let auto = DeviceListStrategies::chosen(DeviceListStrategy::CdiCri, true);
    let auto = inputs(&container, auto);
    let root = HostRoot::new(host.path());
    let hooks = hook::Installer::default();
    let alone = look_beside(&auto, &hooks, Some(&root));
    assert_eq!((alone.found.len(), alone.remarks.len()), (0, 2));
    assert!(alone.remarks[0].contains("mount /var/run/cdi"), "{alone:?}");
    assert!(
        alone.remarks[1].contains("mount /var/lib/mizzen/bin"),
        "{alone:?}"
    );

    // As settings that leave no choice have it.
    let explicit = DeviceListStrategies::new([DeviceListStrategy::CdiCri]);
    let told = look_beside(&inputs(&container, explicit), &hooks, Some(&root));
    assert_eq!((told.found.len(), told.remarks.len()), (3, 2));

    // As mounts have it: one directory by two ways.
    fs::create_dir_all(host.path().join("var/lib/mizzen")).unwrap();
    let bin = container.path().join("var/lib/mizzen/bin");
    std::os::unix::fs::symlink(&bin, host.path().join("var/lib/mizzen/bin")).unwrap();
    let outside = look_beside(&auto, &hooks, Some(&root));
    assert_eq!(
        outside.remarks.len(),
        2,
        "a link of the host stays on the host"
    );
    let same = HostRoot::new(container.path());
    let shared = look_beside(&auto, &hooks, Some(&same));
    assert_eq!((shared.found.len(), shared.remarks), (3, Vec::new()));
}

#[test]
fn gpus_that_come_while_nothing_can_be_written_are_told_to_be_missed() {
    local(async {
        let mut scene = Scene::new(DeviceListStrategy::CdiCri);
        scene.tree.file("run/cdi", "no directory");
        scene.apply(discovered(Vec::new()));
        assert_eq!(scene.found().await, [] as [&str; 0]);
        scene.apply(discovered(gpus(1)));
        let again = tokio::time::timeout(Duration::from_secs(30), scene.found());
        assert_eq!(again.await.unwrap(), [] as [&str; 0]);
        scene.end().await;
    });
}

#[test]
fn nothing_is_written_where_devices_are_not_named_by_cdi() {
    local(async {
        let mut scene = Scene::new(DeviceListStrategy::Envvar);
        scene.apply(discovered(gpus(1)));
        // The task has seen the state once it follows the next change of it.
        let by_cdi = config(&scene.tree, DeviceListStrategy::CdiCri);
        tokio::task::yield_now().await;
        assert!(!scene.tree.path().join(SPEC).exists());
        scene.apply(Event::Configured(Arc::new(by_cdi)));
        assert_eq!(scene.found().await.len(), 3);
        assert!(scene.tree.path().join(SPEC).exists());
        scene.end().await;
    });
}

#[test]
fn what_is_missing_is_looked_for_soon_and_then_less_often() {
    let look = |complete| Look {
        outcome: Ok(Outcome::default()),
        found: BTreeSet::new(),
        names: BTreeSet::new(),
        remarks: Vec::new(),
        complete,
    };
    let ms = Duration::from_millis;
    let mut keeper = SpecKeeper::new();
    let pauses: Vec<_> = (0..7).map(|_| keeper.pause(&look(false))).collect();
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000].map(ms));
    assert_eq!(
        keeper.rest,
        ms(2000),
        "changes of other things bring no look"
    );
    assert_eq!(keeper.pause(&look(true)), SLOW_LOOK);
    assert_eq!(keeper.rest, IDLE_PAUSE);
    assert_eq!(keeper.pause(&look(false)), ms(50));
}
