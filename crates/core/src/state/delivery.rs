//! How containers get their GPUs where the settings leave that to the agent.

use std::sync::Arc;

use super::{Effect, Line, NodeState, Severity, log};
use crate::config::{Config, DeviceListStrategy};
use crate::pool::DevicePool;
use crate::runtime::AutoChoice;

/// What nobody can see from here, for no kubelet tells its version to a device plugin.
const OLD_KUBELETS: &str = "; a kubelet older than 1.29 drops such names, and needs \
    deviceListStrategy: cdi-annotations";

impl NodeState {
    /// Takes in what was chosen by what the runtime can do.
    pub(super) fn chosen(&mut self, choice: AutoChoice) -> Vec<Effect> {
        if self.choice.as_ref() == Some(&choice) {
            return Vec::new();
        }
        self.choice = Some(choice);
        let mut effects = self.decide_delivery();
        // A new reason is said even if it leads to the same.
        effects.extend(self.delivery_line().map(log));
        effects
    }

    /// Takes in new settings.
    pub(super) fn reconfigured(&mut self, config: Arc<Config>) -> Vec<Effect> {
        self.given = config;
        self.configured(self.effective())
    }

    /// Brings the settings in force in line with what runtimes find.
    pub(super) fn decide_delivery(&mut self) -> Vec<Effect> {
        let effective = self.effective();
        self.configured(effective)
    }

    /// Says how containers get their GPUs, where runtimes have begun or ceased to find them.
    pub(super) fn renew_delivery(&mut self) -> Vec<Effect> {
        let mut effects = self.decide_delivery();
        if !effects.is_empty() {
            effects.extend(self.delivery_line().map(log));
        }
        effects
    }

    /// The given settings, with what was chosen where they leave the choice.
    fn effective(&self) -> Arc<Config> {
        let choice = self.choice.as_ref();
        let Some(choice) = choice.filter(|_| self.given.device_list_strategies.is_auto()) else {
            return self.given.clone();
        };
        Arc::new(Config {
            device_list_strategies: choice.strategies(self.finds_any()),
            pass_device_specs: choice.pass_device_specs,
            ..Config::clone(&self.given)
        })
    }

    /// Whether runtimes find any GPU by its CDI name, as long as it is not known that they do not.
    fn finds_any(&self) -> bool {
        let Some(found) = self.cdi.as_ref().filter(|_| self.cdi_was_looked_at) else {
            return true;
        };
        let mut shares = self
            .pools()
            .values()
            .flat_map(DevicePool::shares)
            .peekable();
        shares.peek().is_none()
            || shares.any(|share| {
                let Some(known) = self.gpus().get(share.gpu) else {
                    return false;
                };
                let device = share.mig.and_then(|at| known.mig_devices().get(at));
                found.contains(&self.cdi_name(known, device))
            })
    }

    fn delivery_line(&self) -> Option<Line> {
        let strategies = &self.config.device_list_strategies;
        let choice = self.choice.as_ref().filter(|_| strategies.is_auto())?;
        let AutoChoice { why, otherwise, .. } = choice;
        let (severity, text) = if strategies.any_cdi() {
            let words = strategies.words();
            let by_field = strategies.includes(DeviceListStrategy::CdiCri);
            let unless = if by_field { OLD_KUBELETS } else { "" };
            (
                Severity::Info,
                format!("containers get their GPUs by {words}: {why}{unless}"),
            )
        } else if choice.cdi.is_some() {
            (
                Severity::Warning,
                format!(
                    "{why}, but no GPU can be had by its CDI name yet; until one can, containers \
                     get {otherwise}"
                ),
            )
        } else {
            (
                Severity::Info,
                format!("containers get their GPUs by {otherwise}: {why}"),
            )
        };
        Some(Line::new(severity, "device-list", text))
    }
}
