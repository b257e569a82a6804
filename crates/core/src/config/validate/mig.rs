//! The MIG manager: what it needs, and what does nothing without it.

use super::Reader;
use crate::config::mig::{MigManagerConfig, OwnPod};
use crate::config::setting::Setting;
use crate::dns::{is_dns_label, is_dns_subdomain};

impl Reader<'_> {
    /// Reads the settings of the MIG manager.
    pub(super) fn mig_manager(&mut self) -> MigManagerConfig {
        let enabled = self.boolean(Setting::MigManager, false);
        let manager = MigManagerConfig {
            enabled,
            config_file: self.path(Setting::MigConfigFile),
            evict: self.boolean(Setting::MigEvict, false),
            pod_resources_socket: self.path(Setting::PodResourcesSocket),
            // Many who need no manager have these variables.
            own_pod: if enabled { self.own_pod() } else { None },
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
            self.warn_of_half_a_pod();
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

    fn own_pod(&mut self) -> Option<OwnPod> {
        let name = self.name(
            Setting::PodName,
            is_dns_subdomain,
            "the name of a pod, from metadata.name by the downward API",
        );
        let namespace = self.name(
            Setting::PodNamespace,
            is_dns_label,
            "the name of a namespace, from metadata.namespace by the downward API",
        );
        let (name, namespace) = (name?, namespace?);
        Some(OwnPod { namespace, name })
    }

    fn warn_of_half_a_pod(&mut self) {
        let given = |setting| self.given(setting).is_some();
        match (given(Setting::PodName), given(Setting::PodNamespace)) {
            (true, false) => self.warn(
                Setting::PodName,
                "it does nothing without --pod-namespace, or POD_NAMESPACE",
            ),
            (false, true) => self.warn(
                Setting::PodNamespace,
                "it does nothing without --pod-name, or POD_NAME",
            ),
            _ => {}
        }
    }
}
