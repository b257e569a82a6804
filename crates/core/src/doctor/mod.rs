//! What is wrong with a node: facts that somebody has gathered go in, findings come out.
//!
//! [`examine`] judges the areas in the order in which they depend on each other. What depends on
//! something that is broken is not looked at, and says so: one cause is one finding.

mod agent;
mod cdi;
mod clock;
mod commands;
mod driver;
mod facts;
mod finding;
mod gpus;
mod kubelet;
mod nodes;
mod nvml;
mod permissions;
mod registration;
mod runtime;
mod settings;
#[cfg(test)]
mod tests;

pub use cdi::device_names;
pub use facts::{
    AgentFacts, BusGpu, CdiFacts, ClockFacts, DirectoryFact, DirectoryState, DriverFacts, Facts,
    HookFact, HookState, KubeletFacts, LinkFact, Looked, MissingFile, NodeFact, NodeState,
    NodesFacts, NvmlFacts, PermissionFacts, PluginFact, Reach, RegistrationFacts, Resolved,
    RuntimeFacts, SettingsFacts, SpecFact, Synchronised,
};
pub use finding::{Area, Finding, Report, Severity};
pub use nodes::{ExpectedNode, expected_nodes};

use finding::Notes;

/// What follows from the facts.
pub fn examine(facts: &Facts) -> Report {
    let mut report = Report::default();
    let config = &facts.settings.config;
    let mut area = |area, judge: &dyn Fn(&mut Notes)| {
        let mut notes = Notes::new(area);
        judge(&mut notes);
        report.take(notes);
    };
    let driver = driver::obstacle(&facts.driver);
    let nvml = driver.or_else(|| nvml::obstacle(&facts.nvml));
    area(Area::Settings, &|notes| {
        settings::judge(&facts.settings, notes);
    });
    area(Area::Driver, &|notes| driver::judge(&facts.driver, notes));
    area(Area::Nvml, &|notes| {
        unless(driver, notes, |notes| {
            nvml::judge(&facts.nvml, &facts.driver, config, notes);
        });
    });
    area(Area::Gpus, &|notes| {
        unless(nvml, notes, |notes| gpus::judge(facts, notes));
    });
    area(Area::Nodes, &|notes| {
        unless(driver, notes, |notes| nodes::judge(&facts.nodes, notes));
    });
    area(Area::Cdi, &|notes| {
        unless(driver, notes, |notes| cdi::judge(facts, nvml, notes));
    });
    let no_gpu = driver::has_no_gpu(&facts.driver).then_some(driver::NO_GPU);
    let found = facts.runtime.as_ref();
    area(Area::Runtime, &|notes| {
        unless(no_gpu, notes, |notes| runtime::judge(found, config, notes));
    });
    area(Area::Kubelet, &|notes| kubelet::judge(facts, notes));
    let kubelet = kubelet::obstacle(facts);
    area(Area::Registration, &|notes| {
        unless(kubelet, notes, |notes| {
            registration::judge(facts, nvml, notes);
        });
    });
    area(Area::Agent, &|notes| agent::judge(&facts.agent, notes));
    area(Area::Permissions, &|notes| {
        permissions::judge(&facts.permissions, config, notes);
    });
    area(Area::Clock, &|notes| clock::judge(&facts.clock, notes));
    area(Area::Privacy, &|notes| {
        unless(no_gpu, notes, |notes| runtime::privacy(found, notes));
    });
    for finding in &mut report.findings {
        commands::fit(finding, &facts.settings);
    }
    report
}

/// Judges an area, or says why it is not looked at.
fn unless(obstacle: Option<&'static str>, notes: &mut Notes, judge: impl FnOnce(&mut Notes)) {
    match obstacle {
        Some(why) => notes.skipped(why),
        None => judge(notes),
    }
}

/// Names in a sentence: `a, b and 3 more`.
fn some<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `1 GPU`, `2 GPUs`.
fn counted(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}
