//! What the rules of the config file make of faults.

use proptest::prelude::*;

use super::*;
use crate::config::file;
use crate::driver::{Questions, RowRemap};

fn rules(health: &str) -> Config {
    let raw = file::parse(&format!("health: {health}"));
    raw.validate()
        .unwrap_or_else(|errors| panic!("{health}: {errors:?}"))
}

/// A node with two GPUs, all well, and these rules.
fn node_with(health: &str) -> NodeState {
    let mut state = state_with(rules(health));
    state.apply(discovered(inventory(0..2)), at(0));
    state
}

fn configure(state: &mut NodeState, health: &str, seconds: u64) -> Vec<Effect> {
    state.apply(Event::Configured(Arc::new(rules(health))), at(seconds))
}

fn reported(gpu: Option<GpuUuid>, kind: DriverEventKind) -> Event {
    Event::Driver(DriverEvent {
        gpu,
        kind,
        gpu_instance: None,
        compute_instance: None,
    })
}

const WELL: GpuCondition = GpuCondition {
    recovery_action: Some(RecoveryAction::None),
    double_bit_ecc: Some(0),
    single_bit_ecc: Some(0),
    row_remap: Some(RowRemap {
        pending: false,
        failure: false,
    }),
};

/// What GPU 0 answers.
fn answer(condition: GpuCondition) -> Event {
    Event::Checked(uuid(0), Ok(condition))
}

fn rows(pending: bool, failure: bool) -> GpuCondition {
    GpuCondition {
        row_remap: Some(RowRemap { pending, failure }),
        ..WELL
    }
}

fn asks_for(action: RecoveryAction) -> GpuCondition {
    GpuCondition {
        recovery_action: Some(action),
        ..WELL
    }
}

fn message(effects: &[Effect]) -> &str {
    match &lines(effects)[..] {
        [line] => &line.message,
        lines => panic!("{lines:?}"),
    }
}

#[test]
fn a_reported_xid_is_one_warning_with_what_to_do_and_changes_nothing() {
    let mut state = node_with("{xids: [{xids: [48], action: report}]}");
    let effects = state.apply(xid(Some(uuid(0)), 48), at(1));
    let [Effect::Publish, Effect::Log(line)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(
        (line.severity, line.event),
        (Severity::Warning, "gpu-fault-reported")
    );
    assert!(line.message.starts_with("Xid 48: "), "{line}");
    let says_so = "reported only: health.xids[0] of the config file says so";
    assert!(line.message.ends_with(says_so), "{line}");
    assert!(line.gpu.is_some() && line.meaning.is_some() && line.advice.is_some());
    assert_eq!(health(&state), [true; 2]);
    // Like one that is ignored: once a minute, for each GPU.
    let mut lines = |gpu, second| events(&state.apply(xid(Some(uuid(gpu)), 48), at(second))).len();
    assert_eq!(lines(0, 60), 0);
    assert_eq!(lines(1, 60), 1);
    assert_eq!(lines(0, 61), 1);
}

#[test]
fn a_fault_that_goes_on_is_mentioned_every_minute() {
    let mut state = node_with("{}");
    let faults = (0..=180).filter(|second| {
        let effects = state.apply(xid(Some(uuid(0)), 31), at(*second));
        !events(&effects).is_empty()
    });
    assert_eq!(faults.collect::<Vec<_>>(), [0, 60, 120, 180]);
}

#[test]
fn a_reported_xid_of_nobody_suspects_nobody() {
    let mut state = node_with("{xids: [{xids: 119, action: report}]}");
    let effects = state.apply(xid(None, 119), at(1));
    assert_eq!(events(&effects), ["fault-of-unknown-gpu"]);
    assert_eq!(effects.len(), 2, "it is counted, and nobody is asked");
    assert_eq!(state.apply(xid(None, 119), at(2)), [Effect::Publish]);
}

#[test]
fn enough_faults_in_the_window_mark_their_gpu_and_each_before_is_reported() {
    let mut state =
        node_with("{xids: [{xids: [94, 95], action: unhealthy, count: 3, within: 10m}]}");
    let first = state.apply(xid(Some(uuid(0)), 94), at(0));
    let so_far = "reported, not counted as unhealthy yet: 1 of 3 within 10m";
    assert!(message(&first).ends_with(so_far), "{first:?}");
    // Another Xid of the same rule counts too; another GPU does not.
    let second = state.apply(xid(Some(uuid(0)), 95), at(100));
    assert!(message(&second).ends_with("2 of 3 within 10m"));
    state.apply(xid(Some(uuid(1)), 94), at(100));
    // The first is too long ago by now.
    state.apply(xid(Some(uuid(0)), 94), at(601));
    assert_eq!(health(&state), [true; 2]);
    let third = state.apply(xid(Some(uuid(0)), 94), at(700));
    assert_eq!(health(&state), [false, true]);
    assert_eq!(events(&third), ["gpu-unhealthy"]);
    assert!(
        message(&third).ends_with("(3 of 3 within 10m)"),
        "{third:?}"
    );
    assert_eq!(third[0], Effect::Publish);
    assert_eq!(third.last(), Some(&Effect::Check(vec![uuid(0)])));
}

#[test]
fn recovery_and_a_reset_begin_the_count_anew() {
    let text = "{xids: [{xids: 94, action: unhealthy, count: 2}]}";
    let mut state = node_with(text);
    state.apply(xid(Some(uuid(0)), 94), at(0));
    state.apply(xid(Some(uuid(0)), 94), at(1));
    assert_eq!(health(&state), [false, true]);
    state.apply(answer(WELL), at(31));
    assert_eq!(health(&state), [true; 2]);
    state.apply(xid(Some(uuid(0)), 94), at(32));
    assert_eq!(health(&state), [true; 2], "the first of two");

    let mut state = node_with(text);
    let errors = |count| GpuCondition {
        double_bit_ecc: Some(count),
        ..WELL
    };
    state.apply(answer(errors(1)), at(0));
    state.apply(xid(Some(uuid(0)), 94), at(1));
    state.apply(answer(errors(0)), at(2));
    state.apply(xid(Some(uuid(0)), 94), at(3));
    assert_eq!(health(&state), [true; 2], "the counter says: it was reset");
}

#[test]
fn corrected_errors_are_counted_once_by_event_and_counter() {
    let mut state = node_with("{ecc: {singleBit: {action: unhealthy, count: 10, within: 1h}}}");
    let errors = |count| {
        answer(GpuCondition {
            single_bit_ecc: Some(count),
            ..WELL
        })
    };
    let event = || reported(Some(uuid(0)), DriverEventKind::SingleBitEcc);
    state.apply(errors(1000), at(0));
    assert_eq!(health(&state), [true; 2], "where we begin");
    assert_eq!(
        state.apply(event(), at(1)),
        [Effect::Check(vec![uuid(0)])],
        "the counter knows how many"
    );
    assert!(state.apply(event(), at(1)).is_empty(), "it is being asked");
    let effects = state.apply(errors(1005), at(2));
    assert!(
        message(&effects).ends_with("5 of 10 within 1h"),
        "{effects:?}"
    );
    state.apply(event(), at(3));
    state.apply(errors(1009), at(4));
    assert_eq!(health(&state), [true; 2], "nine");
    state.apply(errors(1010), at(5));
    assert_eq!(health(&state), [false, true]);
    state.apply(errors(1010), at(35));
    assert_eq!(health(&state), [true; 2]);
}

#[test]
fn memory_that_fails_all_the_time_does_not_keep_its_gpu_busy_with_questions() {
    let mut state = node_with("{ecc: {singleBit: {action: unhealthy, count: 100}}}");
    let mut asked = 0;
    for millis in 0..2500 {
        let now = Moment {
            monotonic: Duration::from_millis(millis),
            wall: 0,
        };
        let event = reported(Some(uuid(0)), DriverEventKind::SingleBitEcc);
        if !state.apply(event, now).is_empty() {
            asked += 1;
        }
        state.apply(answer(WELL), now);
    }
    assert_eq!(asked, 3);
}

#[test]
fn uncorrectable_errors_can_be_counted_too() {
    let mut state = node_with("{ecc: {doubleBit: {action: unhealthy, count: 2, within: 1h}}}");
    let errors = |count| {
        answer(GpuCondition {
            double_bit_ecc: Some(count),
            ..WELL
        })
    };
    state.apply(errors(0), at(0));
    // Of nobody: the counters tell whose it is.
    let effects = state.apply(reported(None, DriverEventKind::DoubleBitEcc), at(1));
    assert_eq!(effects, [Effect::Check(vec![uuid(0), uuid(1)])]);
    state.apply(errors(1), at(1));
    assert_eq!(
        health(&state),
        [true; 2],
        "the event and the counter are one"
    );
    state.apply(errors(2), at(2));
    assert_eq!(health(&state), [false, true]);
}

#[test]
fn ignored_memory_errors_change_nothing() {
    let mut state = node_with("{ecc: {doubleBit: ignore}}");
    let event = reported(Some(uuid(0)), DriverEventKind::DoubleBitEcc);
    let effects = state.apply(event, at(1));
    assert_eq!(events(&effects), ["fault-ignored"]);
    assert_eq!(effects.len(), 1);
    assert_eq!(health(&state), [true; 2]);
}

#[test]
fn of_faulty_rows_no_notice_is_taken_by_default() {
    let mut state = node_with("{}");
    assert!(state.apply(answer(rows(true, true)), at(1)).is_empty());
    assert_eq!(
        state.config().health_rules.questions(),
        Questions::default()
    );
    assert_eq!(health(&state), [true; 2]);
}

#[test]
fn a_failed_remapping_marks_its_gpu_for_as_long_as_it_lasts() {
    let mut state = node_with("{rowRemap: {failure: unhealthy, pending: report}}");
    let effects = state.apply(answer(rows(true, false)), at(0));
    assert_eq!(events(&effects), ["gpu-fault-reported"]);
    // Once, not once a minute: it lasts.
    assert!(state.apply(answer(rows(true, false)), at(100)).is_empty());
    let effects = state.apply(answer(rows(true, true)), at(101));
    assert_eq!(events(&effects), ["gpu-unhealthy"]);
    assert!(state.apply(answer(rows(false, true)), at(500)).is_empty());
    assert_eq!(health(&state), [false, true]);
    state.apply(answer(WELL), at(529));
    assert_eq!(health(&state), [false, true], "the hold-down");
    let effects = state.apply(answer(WELL), at(530));
    assert_eq!(events(&effects), ["gpu-healthy"]);
}

#[test]
fn without_a_hold_down_a_gpu_stays_sick_while_the_state_lasts() {
    let mut state = node_with("{rowRemap: {failure: {action: unhealthy, holdDown: 0s}}}");
    for second in 0..3 {
        state.apply(answer(rows(false, true)), at(second));
        assert_eq!(health(&state), [false, true]);
    }
    state.apply(answer(WELL), at(3));
    assert_eq!(health(&state), [true; 2]);
}

#[test]
fn a_recovery_action_that_is_ignored_or_reported_is_like_none() {
    for (word, told) in [("ignore", 0), ("report", 1)] {
        let mut state = node_with(&format!("{{recoveryActions: {{drain-p2p: {word}}}}}"));
        let drain = || answer(asks_for(RecoveryAction::DrainP2p));
        assert_eq!(lines(&state.apply(drain(), at(0))).len(), told);
        assert!(state.apply(drain(), at(100)).is_empty());
        assert_eq!(health(&state), [true; 2]);
        // It recovers from another fault, and one of nobody is none of its own.
        state.apply(xid(Some(uuid(0)), 79), at(200));
        state.apply(drain(), at(229));
        assert_eq!(health(&state), [false, true]);
        state.apply(drain(), at(230));
        assert_eq!(health(&state), [true; 2]);
        state.apply(xid(None, 119), at(231));
        state.apply(drain(), at(231));
        assert_eq!(health(&state), [true; 2]);
        // Another action counts.
        state.apply(answer(asks_for(RecoveryAction::GpuReset)), at(232));
        assert_eq!(health(&state), [false, true]);
    }
}

#[test]
fn a_rules_own_hold_down_outranks_the_common_one() {
    let text = "{holdDown: 30s, xids: [{xids: 94, action: unhealthy, holdDown: 5m}, \
                {xids: 95, action: unhealthy, holdDown: 1s}]}";
    for (number, recovers_after) in [(94, 300), (95, 1), (48, 30)] {
        let mut state = node_with(text);
        state.apply(xid(Some(uuid(0)), number), at(0));
        state.apply(answer(WELL), at(recovers_after - 1));
        assert_eq!(health(&state), [false, true], "Xid {number}");
        state.apply(answer(WELL), at(recovers_after));
        assert_eq!(health(&state), [true; 2], "Xid {number}");
    }
    // The longest of several.
    let mut state = node_with(text);
    for number in [94, 95] {
        state.apply(xid(Some(uuid(0)), number), at(0));
    }
    state.apply(answer(WELL), at(299));
    assert_eq!(health(&state), [false, true]);
}

#[test]
fn a_reason_that_new_rules_do_not_count_is_over_at_the_next_answer() {
    let mut state = node_with("{}");
    state.apply(xid(Some(uuid(0)), 48), at(0));
    let effects = configure(&mut state, "{xids: [{xids: 48, action: report}]}", 1);
    assert_eq!(
        effects,
        [Effect::Publish, Effect::Check(vec![uuid(0), uuid(1)])]
    );
    assert_eq!(health(&state), [false, true], "it has not answered yet");
    let effects = state.apply(answer(WELL), at(2));
    assert_eq!(
        health(&state),
        [true; 2],
        "there is nothing to hold down for"
    );
    assert_eq!(events(&effects), ["gpu-excused"]);
    assert!(message(&effects).contains("Xid 48"), "{effects:?}");
    assert!(effects.contains(&Effect::Publish) && effects.contains(&Effect::Persist));
}

#[test]
fn new_rules_end_no_other_reason() {
    let mut state = node_with("{}");
    state.apply(xid(Some(uuid(0)), 48), at(0));
    state.apply(lost(0), at(1));
    configure(&mut state, "{xids: [{xids: 48, action: ignore}]}", 2);
    let effects = state.apply(answer(WELL), at(3));
    assert_eq!(events(&effects), ["gpu-excused"]);
    assert_eq!(health(&state), [false, true], "lost");
    state.apply(answer(WELL), at(31));
    assert_eq!(health(&state), [true; 2]);
}

#[test]
fn what_new_rules_call_sick_is_marked_at_the_next_answer() {
    let mut state = node_with("{recoveryActions: {gpu-reset: ignore}}");
    let faulty = || {
        answer(GpuCondition {
            recovery_action: Some(RecoveryAction::GpuReset),
            ..rows(true, false)
        })
    };
    assert!(state.apply(faulty(), at(0)).is_empty());
    let effects = configure(&mut state, "{rowRemap: {pending: unhealthy}}", 1);
    assert!(matches!(&effects[..], [_, Effect::Check(gpus)] if gpus.len() == 2));
    let effects = state.apply(faulty(), at(2));
    assert_eq!(events(&effects), ["gpu-unhealthy"; 2], "both reasons");
    assert_eq!(health(&state), [false, true]);
    // And what was reported is reported again under other rules.
    configure(
        &mut state,
        "{rowRemap: {pending: report}, recoveryActions: {gpu-reset: report}}",
        3,
    );
    let told = events(&state.apply(faulty(), at(4))).join(" ");
    assert_eq!(told, "gpu-excused gpu-fault-reported gpu-fault-reported");
    assert_eq!(health(&state), [true; 2]);
}

#[test]
fn settings_that_leave_the_rules_as_they_are_leave_the_counts() {
    let text = "xids: [{xids: 94, action: unhealthy, count: 2}]";
    let mut state = node_with(&format!("{{{text}}}"));
    state.apply(xid(Some(uuid(0)), 94), at(0));
    let effects = configure(&mut state, &format!("{{holdDown: 1m, {text}}}"), 1);
    assert_eq!(effects, [Effect::Publish]);
    state.apply(xid(Some(uuid(0)), 94), at(2));
    assert_eq!(health(&state), [false, true]);
    assert_eq!(
        state.next_check(at(2).monotonic),
        Some(state.config().health.check_interval)
    );
}

#[test]
fn a_restart_with_other_rules_excuses_what_was_written_down() {
    let mut state = node();
    state.apply(xid(Some(uuid(3)), 79), at(5));
    let remembered = state.record("boot").of_boot("boot").unwrap();
    let rules = rules("{xids: [{xids: all, action: ignore}]}");
    let mut next = NodeState::new(Arc::new(rules), remembered, at(1000));
    next.apply(discovered(inventory(0..4)), at(1000));
    assert_eq!(health(&next), [true, true, true, false]);
    next.apply(well(3), at(1000));
    assert_eq!(health(&next), [true; 4]);
}

proptest! {
    /// For any sequence of faults a GPU is marked exactly when, and never before, a window held
    /// as many as it takes; the other one is not concerned.
    #[test]
    fn a_gpu_is_marked_exactly_when_a_window_holds_enough(
        faults in prop::collection::vec((0_u64..40, 0_u32..2, prop::sample::select(vec![31_u64, 94, 95])), 1..40),
        count in 1_u32..6,
        within in 1_u64..120,
    ) {
        let limits = match count {
            1 => String::new(),
            _ => format!(", count: {count}, within: {within}s"),
        };
        let mut state = node_with(&format!(
            "{{xids: [{{xids: [94-95], action: unhealthy{limits}}}]}}"
        ));
        let mut seen: [Vec<u64>; 2] = Default::default();
        let mut marked = [false; 2];
        let mut clock = 0;
        for (pause, index, number) in faults {
            clock += pause;
            state.apply(xid(Some(uuid(index)), number), at(clock));
            let gpu = index as usize;
            // 31 is the application's own.
            if number != 31 {
                seen[gpu].push(clock);
                let held = seen[gpu].iter().filter(|then| clock - **then <= within).count();
                marked[gpu] |= held >= count as usize;
            }
            prop_assert_eq!(health(&state), marked.map(|marked| !marked));
        }
    }
}
