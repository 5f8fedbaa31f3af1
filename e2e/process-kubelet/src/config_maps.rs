//! The ConfigMaps of pods as they change. One watch for all of them: a pod looks whether it has the one that
//! changed in a volume.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::broadcast;

/// How many changes a pod may be behind before it looks at all of its ConfigMaps again.
const BEHIND: usize = 64;

/// Who tells of changes.
pub(crate) type Changes = broadcast::Sender<ConfigMap>;

pub(crate) fn changes() -> Changes {
    broadcast::Sender::new(BEHIND)
}

/// Tells of changes. Never ends.
pub(crate) async fn follow(client: Client, changes: Changes) {
    let api: Api<ConfigMap> = Api::all(client);
    let mut events = watcher(api, watcher::Config::default())
        .default_backoff()
        .boxed();
    while let Some(event) = events.next().await {
        match event {
            // A list tells of all that there are, changed or not.
            Ok(Event::Apply(map) | Event::InitApply(map)) => {
                // Nobody may have a volume.
                let _ = changes.send(map);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "watching ConfigMaps"),
        }
    }
}
