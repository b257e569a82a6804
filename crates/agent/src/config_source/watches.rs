//! What is seen through the API of the Node's label and of the ConfigMap.

use mizzen_core::config::ConfigMapName;
use tokio::sync::watch;

use super::Known;
use super::shelf::Shelf;
use crate::cluster::{Cluster, OneObject, Sight, follow};

/// Tells the value of the label `key` of the Node `node`, for ever.
pub(super) async fn follow_label(
    cluster: Cluster,
    node: String,
    key: String,
    tell: watch::Sender<Known<Option<String>>>,
) {
    let object = OneObject {
        path: "/api/v1/nodes".to_owned(),
        words: format!("the Node {node}"),
        name: node,
        metadata_only: true,
        rule: "give the agent's ServiceAccount a ClusterRole with verbs [list, watch] on \
               resources [nodes] of apiGroups [\"\"]"
            .to_owned(),
    };
    let words = object.words.clone();
    let told = |sight: Sight| {
        if sight == Sight::Absent {
            tracing::warn!(
                event = "no-such-node",
                todo = "set --node-name to the pod's spec.nodeName",
                "{words} does not exist"
            );
        }
        update(&tell, seen_label(sight, &key));
    };
    follow(cluster, object, told).await;
}

fn seen_label(sight: Sight, key: &str) -> Known<Option<String>> {
    match sight {
        Sight::Present(node) => Known::Is(node.label(key)),
        Sight::Absent | Sight::Forbidden => Known::Refused,
        Sight::Away => Known::Away,
    }
}

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

/// Tells `news`, unless more is known already: an API that is away takes nothing back.
fn update<T: PartialEq>(tell: &watch::Sender<Known<T>>, news: Known<T>) {
    tell.send_if_modified(|known| {
        let less = matches!(news, Known::Away | Known::Refused) && matches!(known, Known::Is(_));
        if less || *known == news {
            return false;
        }
        *known = news;
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_not_forgotten_when_the_api_is_away() {
        let (tell, mut known) = watch::channel(Known::NotYet);
        let label = |text: &str| Known::Is(Some(text.to_owned()));
        for (news, then) in [
            (Known::Away, Known::Away),
            (Known::Refused, Known::Refused),
            (label("a"), label("a")),
            (Known::Away, label("a")),
            (Known::Refused, label("a")),
            (Known::Is(None), Known::Is(None)),
        ] {
            update(&tell, news);
            assert_eq!(*known.borrow_and_update(), then);
        }
        update(&tell, Known::Is(None));
        assert!(!known.has_changed().unwrap());
    }
}
