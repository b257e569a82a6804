//! The manager's task: hears of everything, works through the GPUs, and says where they stand.

use std::collections::BTreeMap;
use std::time::Duration;

use mizzen_core::gpu::GpuUuid;
use mizzen_core::mig::MigTarget;
use mizzen_core::state::{Event, Withheld};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::hands::Hands;
use super::holders::Holdings;
use super::inputs::{Facts, Inputs};
use super::journal::Journal;
use super::kubelet::Kubelet;
use super::retry::{Pace, Retry};
use super::wish::Wish;
use super::words::{MigState, Report, Standing};
use crate::cluster::{Cluster, Reporter};
use crate::driver::News;

/// Why work on a GPU ended before it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// It does not work now, and why.
    Failed(String),
    /// Something else is wanted by now.
    Overtaken,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The API, to tell for the first time what is wanted.
    pub(super) first_word: Duration,
    /// The kubelet, to take a withdrawal.
    pub(super) withdrawal: Duration,
    /// Evicted pods, to let go.
    pub(super) eviction: Duration,
    /// The driver, to tell how a GPU is.
    pub(super) look: Duration,
    /// The driver, for one step.
    pub(super) step: Duration,
    /// Between questions to the kubelet, at first and at most.
    pub(super) poll: Duration,
    pub(super) longest_poll: Duration,
    /// Between questions about pods or resets that are waited for.
    pub(super) slow_poll: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_word: Duration::from_secs(5),
            withdrawal: Duration::from_secs(30),
            eviction: Duration::from_mins(5),
            look: Duration::from_secs(20),
            step: Duration::from_mins(2),
            poll: Duration::from_millis(5),
            longest_poll: Duration::from_millis(500),
            slow_poll: Duration::from_secs(3),
        }
    }
}

pub(super) struct Manager {
    pub(super) inputs: Inputs,
    /// Whether pods must make way.
    pub(super) evicts: bool,
    pub(super) cluster: Cluster,
    pub(super) kubelet: Kubelet,
    pub(super) hands: Hands,
    pub(super) journal: Journal,
    /// What the state task was told to withhold.
    pub(super) withheld: BTreeMap<GpuUuid, Withheld>,
    pub(super) news: mpsc::Sender<News>,
    /// Has the driver's thread see how a GPU is now: it tells only what is different from what it
    /// saw last, and what others change back at once would else be the same to it.
    pub(super) show: Box<dyn Fn(&GpuUuid) + Send + Sync>,
    pub(super) reporter: Reporter,
    pub(super) states: mpsc::UnboundedSender<Option<MigState>>,
    pub(super) patience: Patience,
    pub(super) course: Course,
}

/// Where the manager is on its way.
pub(super) struct Course {
    /// When this process began to work.
    pub(super) begun: Instant,
    pub(super) retry: Retry,
    pub(super) wish: Wish,
    pub(super) facts: Facts,
    /// What was last said of where the layout stands.
    pub(super) standing: Option<Standing>,
    /// Whether it was said that GPUs are being changed for this wish.
    pub(super) applying: bool,
    /// What has not worked, and is tried again when it is time for that.
    pub(super) failed: BTreeMap<GpuUuid, Report>,
    /// Who holds what of GPUs on which somebody is waited for.
    pub(super) blocked: BTreeMap<GpuUuid, Holdings>,
    /// What is odd about the layout, said once.
    pub(super) remarks: Vec<String>,
}

impl Course {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            retry: Retry::new(),
            wish: Wish::Unheard,
            facts: Facts::default(),
            standing: None,
            applying: false,
            failed: BTreeMap::new(),
            blocked: BTreeMap::new(),
            remarks: Vec::new(),
        }
    }
}

impl Manager {
    /// Works until everything else has ended.
    pub(super) async fn run(mut self) {
        self.course.wish = self.inputs.wish();
        self.course.facts = self.inputs.facts();
        loop {
            let due = self.course.retry.due();
            let due = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let released = released(
                &mut self.kubelet,
                &self.course.blocked,
                self.patience.slow_poll,
            );
            tokio::select! {
                () = due => self.round().await,
                () = released => self.make_new_way(),
                () = self.inputs.changed() => self.hear(),
            }
        }
    }

    /// Somebody has let go of what others waited for.
    fn make_new_way(&mut self) {
        let blocked = &self.course.blocked;
        self.course
            .failed
            .retain(|gpu, _| !blocked.contains_key(gpu));
        self.course.retry.soon();
    }

    /// Takes in what is new, and decides when to look at the GPUs again.
    fn hear(&mut self) {
        self.is_overtaken();
        let facts = self.inputs.facts();
        if facts.gpus != self.course.facts.gpus {
            self.course.retry.now();
        } else if facts.layouts != self.course.facts.layouts {
            self.course.retry.drifted();
        }
        self.course.facts = facts;
    }

    fn take_wish(&mut self, wish: Wish) {
        self.course.wish = wish;
        self.course.standing = None;
        self.course.applying = false;
        self.course.remarks.clear();
        self.course.failed.clear();
        self.course.retry.begin();
    }

    /// Whether something else is wanted by now.
    pub(super) fn is_overtaken(&mut self) -> bool {
        if !self.inputs.may_wish_more() {
            return false;
        }
        let wish = self.inputs.wish();
        if wish == self.course.wish {
            return false;
        }
        self.take_wish(wish);
        true
    }

    /// Looks at every GPU that something is wanted of, and does what can be done.
    async fn round(&mut self) {
        if self.course.retry.began() {
            self.course.failed.clear();
        }
        let failed = &self.course.failed;
        self.course
            .blocked
            .retain(|gpu, _| failed.contains_key(gpu));
        match self.work().await {
            Ok(pace) => self.course.retry.ended(pace),
            Err(Halt::Overtaken) => {}
            Err(Halt::Failed(why)) => {
                let name = self.course.wish.name();
                self.stand(Standing::failed(format!("{name}: {why}")));
                self.course.retry.ended(Pace::RETRY);
            }
        }
        self.kubelet.hang_up();
    }

    /// Forgets of what was begun all that is not `wanted` any more.
    pub(super) async fn forget(&mut self, wanted: impl FnMut(&GpuUuid, &MigTarget) -> bool) {
        if let Err(error) = self.journal.retain(wanted).await {
            tracing::warn!(
                event = "mig-journal",
                %error,
                "what was done cannot be struck off in --state-dir; it is looked at again after a \
                 restart"
            );
        }
    }

    /// Has what is withheld of these GPUs offered again. Of one whose driver has not come back
    /// from a change nobody knows how it is.
    pub(super) async fn release(&mut self, of: impl Fn(&GpuUuid) -> bool) {
        let before = self.withheld.len();
        let hands = &mut self.hands;
        self.withheld
            .retain(|gpu, _| !of(gpu) || hands.is_stuck(gpu));
        if self.withheld.len() != before {
            self.tell(vec![Event::Withhold(self.withheld.clone())])
                .await;
        }
    }
}

/// Waits until any pod has let go of something on a GPU on which somebody is waited for: without it
/// others may be in the way, or nobody. For ever, where nobody is waited for.
pub(super) async fn released(
    kubelet: &mut Kubelet,
    blocked: &BTreeMap<GpuUuid, Holdings>,
    every: Duration,
) {
    if blocked.is_empty() {
        return std::future::pending().await;
    }
    loop {
        sleep(every).await;
        if let Ok(holdings) = kubelet.holdings().await
            && !blocked.values().all(|before| before.are_in(&holdings))
        {
            return;
        }
        kubelet.hang_up();
    }
}
