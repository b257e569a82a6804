//! What `mizzen doctor` looks at: [`look`] gathers facts, `core::doctor` judges them.
//!
//! Whatever may hang on a sick GPU or a stuck process has a deadline; a look never takes longer
//! than all of them together.

mod cdi;
mod driver;
mod here;
mod kubelet;
mod nodes;
mod nvml;
mod runtime;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::doctor::{Facts, Looked, RuntimeFacts, SettingsFacts};
use mizzen_core::runtime::{AutoInputs, choose};
use mizzen_nvml::HostRoot;

use crate::cdi::Places;

/// Looks at everything, with these settings.
pub fn look(mut settings: SettingsFacts) -> Facts {
    let host = Host::of(&settings.config);
    let asked = kubelet::ask(&settings.config, &host);
    settle(&mut settings.config, asked.runtime.as_ref());
    let config = &settings.config;
    let places = Places::of_config(config);
    let driver = driver::facts(&host, &places);
    let nvml = nvml::facts(config);
    let known = nvml.seen().and_then(|answer| answer.as_ref().ok());
    let inventory = known.map(|known| &known.inventory);
    let nodes = nodes::facts(&host, &places, inventory);
    let cdi = cdi::facts(&host, config, inventory);
    Facts {
        driver,
        nodes,
        cdi,
        runtime: asked.runtime,
        kubelet: asked.kubelet,
        registration: asked.registration,
        agent: asked.agent,
        permissions: here::permissions(config, &host),
        clock: here::clock(&host),
        nvml,
        settings,
    }
}

/// Makes of the strategy `auto` what an agent makes of it with this runtime, if specs can be had.
fn settle(config: &mut Config, runtime: Option<&RuntimeFacts>) {
    if !config.device_list_strategies.is_auto() {
        return;
    }
    let choice = choose(AutoInputs {
        report: runtime.map(|runtime| &runtime.report),
        pass_device_specs: config.pass_device_specs,
    });
    config.device_list_strategies = choice.strategies(true);
    config.pass_device_specs = choice.pass_device_specs;
}

/// The machine, as this process sees it.
#[derive(Debug)]
struct Host {
    /// `/proc` and `/sys`, which a container has, too.
    kernel: HostRoot,
    /// Everything else: in the agent's container, below the driver root, if that is the host's.
    files: HostRoot,
}

impl Host {
    fn of(config: &Config) -> Self {
        let is_mounted = config.driver_root == Path::new("/")
            && config.host_root == Path::new("/")
            && config.driver_root_ctr_path.is_dir();
        let files = if is_mounted {
            &config.driver_root_ctr_path
        } else {
            &config.host_root
        };
        Self {
            kernel: HostRoot::new(&config.host_root),
            files: HostRoot::new(files),
        }
    }

    /// A path of this process as it is on the host, if it is below the host's files.
    fn shown(&self, here: &Path) -> String {
        let inside = here.strip_prefix(self.files.as_path());
        let path = inside.map_or_else(|_| here.to_owned(), |inside| Path::new("/").join(inside));
        path.display().to_string()
    }
}

/// The text of a file without the spaces around it.
fn text(path: impl AsRef<Path>) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// Looks for as long as `limit`. A look that takes longer goes on by itself, on a thread that
/// ends with the process.
fn within<T: Send + 'static>(
    limit: Duration,
    look: impl FnOnce() -> T + Send + 'static,
) -> Looked<T> {
    let (sender, receiver) = sync_channel(1);
    let work = move || {
        // Nobody waits for what comes too late.
        let _ = sender.send(look());
    };
    // Without a thread nothing is ever sent, and the wait ends at once.
    let thread = thread::Builder::new().name("doctor".to_owned()).spawn(work);
    let seen = thread.ok().and_then(|_| receiver.recv_timeout(limit).ok());
    seen.map_or(Looked::Late(limit), Looked::Seen)
}
