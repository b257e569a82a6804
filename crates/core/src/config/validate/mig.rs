//! The MIG manager: what it needs, and what does nothing without it.

use super::Reader;
use crate::config::mig::MigManagerConfig;
use crate::config::setting::Setting;

impl Reader<'_> {
    /// Reads the settings of the MIG manager.
    pub(super) fn mig_manager(&mut self) -> MigManagerConfig {
        let manager = MigManagerConfig {
            enabled: self.boolean(Setting::MigManager, false),
            config_file: self.path(Setting::MigConfigFile),
            evict: self.boolean(Setting::MigEvict, false),
            pod_resources_socket: self.path(Setting::PodResourcesSocket),
        };
        if manager.enabled {
            let node = self.text(Setting::NodeName);
            if node.is_none_or(|(_, name)| name.is_empty()) {
                self.refuse(
                    Setting::MigManager,
                    "the layout is named by a label of the Node, and which Node this is was not \
                     said: give --node-name, or NODE_NAME from the pod's spec.nodeName",
                );
            }
            return manager;
        }
        let idle = "it is for the MIG manager, and does nothing without --mig-manager";
        if manager.config_file.is_some() {
            self.warn(Setting::MigConfigFile, idle);
        }
        if manager.evict {
            self.warn(Setting::MigEvict, idle);
        }
        manager
    }
}
