//! When a run is over, case by case.

use super::*;
use crate::simulate::picture::sample;
use crate::simulate::picture::sample::cut;
use crate::simulate::script::Script;

fn at(millis: u64, change: impl FnOnce(&mut Picture)) -> Picture {
    let mut picture = sample();
    picture.elapsed = Duration::from_millis(millis);
    change(&mut picture);
    picture
}

fn action(text: &str) -> Action {
    let Script(mut steps) = text.parse().unwrap();
    steps.remove(0).action
}

fn end_of_pods(picture: &mut Picture) {
    for pod in &mut picture.pods {
        pod.phase = Phase::Succeeded;
    }
}

#[test]
fn a_run_lasts_until_every_pod_has_come_to_an_end_or_waits_in_vain() {
    let patience = Patience::new(None);
    assert_eq!(
        patience.is_over(&at(1000, |_| {}), false),
        Ok(false),
        "a pod runs"
    );
    assert_eq!(patience.is_over(&at(1000, end_of_pods), false), Ok(true));
    let waiting = at(1000, |picture| {
        end_of_pods(picture);
        picture.pods[0].phase = Phase::Pending;
        picture.pods[0].reason = "Unschedulable".into();
    });
    assert_eq!(patience.is_over(&waiting, false), Ok(true));
}

#[test]
fn a_pod_without_an_end_is_not_waited_for() {
    let serving = at(1000, |picture| {
        end_of_pods(picture);
        picture.pods[0].phase = Phase::Running;
        picture.pods[0].long_running = true;
    });
    assert_eq!(Patience::new(None).is_over(&serving, false), Ok(true));
}

#[test]
fn right_after_an_event_the_next_one_is_awaited() {
    let mut patience = Patience::new(None);
    patience.something_happened(Duration::from_millis(990));
    assert_eq!(patience.is_over(&at(1000, end_of_pods), false), Ok(false));
    assert_eq!(patience.is_over(&at(1050, end_of_pods), false), Ok(true));
}

#[test]
fn a_pod_that_gets_nowhere_is_given_up_after_a_long_silence() {
    let patience = Patience::new(None);
    let stuck = |millis| {
        at(millis, |picture| {
            end_of_pods(picture);
            picture.pods[0].phase = Phase::Pending;
        })
    };
    assert_eq!(patience.is_over(&stuck(19_000), false), Ok(false));
    assert_eq!(patience.is_over(&stuck(21_000), false), Ok(true));
}

#[test]
fn the_script_is_played_to_its_end_and_its_effect_watched() {
    let mut patience = Patience::new(None);
    assert_eq!(patience.is_over(&at(9000, end_of_pods), true), Ok(false));
    patience.step_was_done(Duration::from_secs(9), &action("lost gpu 2"));
    assert_eq!(patience.is_over(&at(9900, end_of_pods), false), Ok(false));
    assert_eq!(patience.is_over(&at(10_000, end_of_pods), false), Ok(true));
}

#[test]
fn a_healed_gpu_is_waited_for_until_the_kubelet_knows_it_as_healthy() {
    let mut patience = Patience::new(None);
    patience.step_was_done(Duration::from_secs(1), &action("heal gpu 2"));
    let sick = |millis| {
        at(millis, |picture| {
            end_of_pods(picture);
            picture.gpus[0].health = Health::Unhealthy;
            picture.gpus[0].faults.clear();
        })
    };
    assert_eq!(patience.is_over(&sick(30_000), false), Ok(false));
    assert_eq!(
        patience.is_over(&sick(62_000), false),
        Ok(true),
        "not for ever"
    );
    assert_eq!(patience.is_over(&at(30_000, end_of_pods), false), Ok(true));
}

#[test]
fn a_gpu_that_the_config_leaves_out_is_not_waited_for() {
    let mut patience = Patience::new(None);
    patience.step_was_done(Duration::from_secs(1), &action("heal gpu 2"));
    let left_out = |millis| {
        at(millis, |picture| {
            end_of_pods(picture);
            picture.gpus[0].health = Health::Unknown;
        })
    };
    assert_eq!(patience.is_over(&left_out(3000), false), Ok(false));
    assert_eq!(patience.is_over(&left_out(4001), false), Ok(true));
}

#[test]
fn an_agent_that_reports_nothing_ends_the_run_unless_there_are_no_gpus() {
    let patience = Patience::new(None);
    let silent = |millis, gpus: bool| {
        at(millis, |picture| {
            picture.agent.ready = None;
            if !gpus {
                picture.gpus.clear();
            }
        })
    };
    assert_eq!(patience.is_over(&silent(9000, true), false), Ok(false));
    assert_eq!(
        patience.is_over(&silent(11_000, true), false),
        Err(AgentSilent)
    );
    assert_eq!(patience.is_over(&silent(11_000, false), false), Ok(true));
}

#[test]
fn a_wanted_time_is_kept_and_ever_is_for_ever() {
    let minute = Patience::new(Some(AtLeast::Time(Duration::from_mins(1))));
    assert_eq!(minute.is_over(&at(59_000, end_of_pods), false), Ok(false));
    assert_eq!(minute.is_over(&at(60_000, end_of_pods), false), Ok(true));
    let ever = Patience::new(Some(AtLeast::Ever));
    assert_eq!(ever.is_over(&at(999_000, end_of_pods), false), Ok(false));
}

#[test]
fn a_node_whose_gpus_have_mig_on_and_no_mig_devices_makes_no_agent_silent() {
    let patience = Patience::new(None);
    let silent = |profiles: &'static [&'static str]| {
        at(11_000, |picture| {
            picture.agent.ready = None;
            for gpu in &mut picture.gpus {
                cut(gpu, profiles);
            }
        })
    };
    assert_eq!(
        patience.is_over(&silent(&["1g.10gb"]), false),
        Err(AgentSilent)
    );
    assert_eq!(patience.is_over(&silent(&[]), false), Ok(true));
}

#[test]
fn a_gpu_is_well_when_all_its_mig_devices_are() {
    let mut patience = Patience::new(None);
    patience.step_was_done(Duration::from_secs(1), &action("heal all"));
    let healed = |sick: bool| {
        at(3000, |picture| {
            end_of_pods(picture);
            for gpu in &mut picture.gpus {
                gpu.health = Health::Healthy;
                gpu.faults.clear();
            }
            cut(&mut picture.gpus[1], &["1g.10gb", "1g.10gb"]);
            if let (true, Some(mig)) = (sick, &mut picture.gpus[1].mig) {
                mig.devices[0].health = Health::Unhealthy;
            }
        })
    };
    assert_eq!(patience.is_over(&healed(true), false), Ok(false));
    assert_eq!(patience.is_over(&healed(false), false), Ok(true));
}
