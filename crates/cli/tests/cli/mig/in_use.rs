//! What a process uses is not changed by the driver.

use super::Machine;

#[test]
fn a_gpu_that_a_process_uses_keeps_its_mode_until_the_process_ends() {
    let machine = Machine::new();
    for (now, target) in [("off", "empty"), ("empty", "off")] {
        machine.mig(&["apply", now, "--gpu", "0"]).ended_with(0);
        machine
            .sim(&["load", "--gpu", "0", "--process", "4711:2048"])
            .ended_with(0);
        let ran = machine.mig(&["apply", target, "--gpu", "0"]).ended_with(1);
        let told = ran.stdout();
        assert!(told.contains("in use"), "{told}");
        machine.sim(&["load", "--gpu", "0", "--idle"]).ended_with(0);
        machine.mig(&["apply", target, "--gpu", "0"]).ended_with(0);
        machine.mig(&["assert", target, "--gpu", "0"]).ended_with(0);
    }
}

#[test]
fn mig_devices_of_a_gpu_that_a_process_uses_stay() {
    let machine = Machine::new();
    let cut = ["apply", "3g.40gb", "--gpu", "0"];
    machine.mig(&cut).ended_with(0);
    machine
        .sim(&["load", "--gpu", "0", "--process", "4711:2048"])
        .ended_with(0);
    for target in ["off", "empty", "7g.80gb"] {
        let ran = machine.mig(&["apply", target, "--gpu", "0"]).ended_with(1);
        let told = ran.stdout();
        assert!(told.contains("in use"), "{told}");
        assert_eq!(machine.instances(0), ["3g.40gb"], "{target}");
    }
    // The simulator's own control asks nobody.
    machine.sim(&["mig", "destroy", "--gpu", "0"]).ended_with(0);
    machine.sim(&["mig", "disable", "--gpu", "0"]).ended_with(0);
}
