//! What is seen through the API of the ConfigMap.

use mizzen_core::config::ConfigMapName;
use tokio::sync::watch;

use super::shelf::Shelf;
use crate::cluster::{Cluster, Known, OneObject, Sight, follow, update};

/// Tells what the ConfigMap has, for ever.
pub(super) async fn follow_config_map(
    cluster: Cluster,
    name: ConfigMapName,
    tell: watch::Sender<Known<Shelf>>,
) {
    let words = format!("the ConfigMap {name}");
    let object = OneObject {
        path: format!("/api/v1/namespaces/{}/configmaps", name.namespace),
        rule: format!(
            "give the agent's ServiceAccount a Role in the namespace {} with verbs [list, \
             watch] on resources [configmaps] of apiGroups [\"\"], for resourceNames [{}]",
            name.namespace, name.name
        ),
        name: name.name,
        metadata_only: false,
        words: words.clone(),
    };
    let told = |sight: Sight| {
        let known = match sight {
            Sight::Present(map) => Known::Is(Shelf::Map(map.into_data())),
            Sight::Absent => Known::Is(Shelf::Missing(format!(
                "{words} does not exist: create it with a key for each config"
            ))),
            Sight::Forbidden => Known::Refused,
            Sight::Away => Known::Away,
        };
        update(&tell, known);
    };
    follow(cluster, object, told).await;
}
