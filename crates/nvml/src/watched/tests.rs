//! Calls that hang, played with channels: a step blocks until the test lets it go.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;

use super::*;

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(500);

fn gpus(count: u32) -> Vec<Subject> {
    (0..count).map(Subject::Gpu).collect()
}

fn watched() -> Watched {
    Watched::new(Arc::default())
}

/// A gate that steps wait at.
fn gate() -> (mpsc::Sender<()>, Arc<Mutex<mpsc::Receiver<()>>>) {
    let (open, closed) = mpsc::channel();
    (open, Arc::new(Mutex::new(closed)))
}

fn wait_at(gate: &Mutex<mpsc::Receiver<()>>) {
    let _ = lock(gate).recv();
}

/// Waits until no call is stuck any more.
fn until_nothing_is_stuck(claims: &Claims) {
    let mut held = lock(&claims.held);
    let due = Instant::now() + LONG;
    while !held.is_empty() {
        assert!(Instant::now() < due, "still held: {held:?}");
        held = wait(&claims.released, held, LONG);
    }
}

#[test]
fn walks_and_calls_share_one_thread_when_nothing_hangs() {
    let watched = watched();
    let mut threads = HashSet::<ThreadId>::new();
    for _ in 0..20 {
        let ids = watched.walk(&gpus(8), LONG, |_| thread::current().id());
        threads.extend(ids.into_iter().map(Result::unwrap));
        let call = || thread::current().id();
        threads.insert(watched.call(Subject::Driver, LONG, call).unwrap());
    }
    assert_eq!(threads.len(), 1);
    assert!(!threads.contains(&thread::current().id()));
}

#[test]
fn answers_come_in_the_order_of_the_subjects() {
    let answers = watched().walk(&gpus(16), LONG, |position| position);
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, (0..16).collect::<Vec<_>>());
}

#[test]
fn one_hanging_gpu_does_not_keep_the_others_from_answering() {
    let watched = watched();
    let (open, gate) = gate();
    let answers = watched.walk(&gpus(4), SHORT, move |position| {
        if position == 1 {
            wait_at(&gate);
        }
        position
    });
    assert_eq!(answers[1], Err(DriverError::Hung { after: SHORT }));
    for position in [0, 2, 3] {
        assert_eq!(answers[position], Ok(position));
    }
    assert_eq!(watched.claims.stuck(), 1);

    // While it is stuck, it is not asked again and answers at once; the others answer.
    let again = Instant::now();
    let asked = watched.call(Subject::Gpu(1), LONG, || ());
    assert_eq!(asked, Err(DriverError::Hung { after: LONG }));
    assert!(again.elapsed() < LONG / 2);
    assert_eq!(watched.call(Subject::Gpu(2), LONG, || 2), Ok(2));

    // When the call returns at last, the GPU can be asked again.
    open.send(()).unwrap();
    until_nothing_is_stuck(&watched.claims);
    assert_eq!(watched.call(Subject::Gpu(1), LONG, || 1), Ok(1));
}

#[test]
fn many_hanging_gpus_cost_one_deadline_together() {
    let deadline = Duration::from_millis(500);
    let watched = watched();
    let (open, gate) = gate();
    let before = Instant::now();
    let answers = watched.walk(&gpus(8), deadline, move |position| {
        if position % 2 == 0 {
            wait_at(&gate);
        }
        position
    });
    assert!(before.elapsed() < deadline * 3, "{:?}", before.elapsed());
    for (position, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.is_ok(), position % 2 == 1, "GPU {position}");
    }
    assert_eq!(watched.claims.stuck(), 4);
    drop(open);
    until_nothing_is_stuck(&watched.claims);
}

#[test]
fn a_call_that_returns_late_has_its_answer_dropped_and_takes_up_nothing_more() {
    let watched = watched();
    let (open, gate) = gate();
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = steps.clone();
    let answers = watched.walk(&gpus(3), SHORT, move |position| {
        counted.fetch_add(1, Ordering::SeqCst);
        if position == 0 {
            wait_at(&gate);
        }
    });
    assert!(answers[0].is_err());
    assert!(answers[1..].iter().all(Result::is_ok));
    open.send(()).unwrap();
    until_nothing_is_stuck(&watched.claims);
    assert_eq!(steps.load(Ordering::SeqCst), 3);
}

#[test]
fn two_callers_never_ask_one_gpu_at_the_same_time() {
    let watched = Arc::new(watched());
    let inside = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (watched, inside) = (watched.clone(), inside.clone());
            thread::spawn(move || {
                for _ in 0..50 {
                    let inside = inside.clone();
                    let call = move || {
                        let others = inside.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        others
                    };
                    assert_eq!(watched.call(Subject::Gpu(0), LONG, call), Ok(0));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
}

#[test]
fn the_worker_ends_with_the_session() {
    struct Farewell(mpsc::Sender<()>);
    impl Drop for Farewell {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    thread_local! {
        static FAREWELL: std::cell::RefCell<Option<Farewell>> = const { std::cell::RefCell::new(None) };
    }
    let (ended, end) = mpsc::channel();
    let watched = watched();
    let leave_word = move || FAREWELL.set(Some(Farewell(ended)));
    watched.call(Subject::Driver, LONG, leave_word).unwrap();
    assert_eq!(end.try_recv(), Err(mpsc::TryRecvError::Empty));
    drop(watched);
    assert_eq!(end.recv_timeout(LONG), Ok(()));
}

#[test]
fn a_panicking_call_gives_its_subject_back() {
    let watched = watched();
    let call = || -> u32 { panic!("a fault in the call, not in the test") };
    let answer = watched.call(Subject::Gpu(0), LONG, call);
    assert!(matches!(answer, Err(DriverError::Nvml { .. })));
    for gpu in gpus(2) {
        assert_eq!(watched.call(gpu, LONG, || 1), Ok(1));
    }
}

#[test]
fn who_glances_at_what_is_being_changed_is_told_so_and_who_calls_waits() {
    let watched = watched();
    let (open, gate) = gate();
    let (begun, waiting) = mpsc::channel();
    thread::scope(|scope| {
        let change = move || {
            begun.send(()).unwrap();
            wait_at(&gate);
        };
        let changing = scope.spawn(|| watched.change(Subject::Gpu(1), LONG, change));
        waiting.recv().unwrap();
        let answers = watched.glance(&gpus(3), LONG, |position| position);
        assert_eq!(answers, [Ok(0), Err(DriverError::InUse), Ok(2)]);
        assert_eq!(
            watched.call(Subject::Gpu(1), SHORT, || ()),
            Err(DriverError::InUse)
        );
        let patient = scope.spawn(|| watched.walk(&gpus(3), LONG, |position| position));
        // While it waits, the others are free for anybody.
        assert_eq!(watched.call(Subject::Gpu(0), LONG, || 7), Ok(7));
        open.send(()).unwrap();
        assert_eq!(changing.join().unwrap(), Ok(()));
        assert_eq!(patient.join().unwrap(), [Ok(0), Ok(1), Ok(2)]);
    });
}

#[test]
fn a_change_that_does_not_return_is_stuck_as_any_call() {
    let watched = watched();
    let (open, gate) = gate();
    let hung = DriverError::Hung { after: SHORT };
    let change = move || wait_at(&gate);
    assert_eq!(watched.change(Subject::Gpu(0), SHORT, change), Err(hung));
    assert_eq!(watched.claims.stuck(), 1);
    let late = DriverError::Hung { after: LONG };
    let answers = watched.glance(&gpus(2), LONG, |position| position);
    assert_eq!(answers, [Err(late), Ok(1)]);
    open.send(()).unwrap();
    until_nothing_is_stuck(&watched.claims);
}
