//! In place of the kubelet where nothing is sent to pods: each says at once that it is ready.

use std::net::Ipv4Addr;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::error::Error;
use crate::is_ready;

/// How many pods are written at a time.
const WRITES: usize = 8;

/// Makes every pod ready, each with an address of its own from `first` on. Never ends.
pub(crate) async fn run(client: Client, first: Ipv4Addr) -> Result<(), Error> {
    let mut next = u32::from(first);
    let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let writes = pods.filter_map(async |pod| match pod {
        Ok(pod) if !is_ready(&pod) && pod.metadata.deletion_timestamp.is_none() => Some(pod),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "watching pods");
            None
        }
    });
    let writes = writes.map(|pod| {
        next += 1;
        let address = Ipv4Addr::from(next);
        make_ready(client.clone(), pod, address)
    });
    writes
        .buffer_unordered(WRITES)
        .for_each(async |()| ())
        .await;
    Ok(())
}

async fn make_ready(client: Client, pod: Pod, address: Ipv4Addr) {
    let now = Timestamp::now().to_string();
    let condition =
        |type_: &str| json!({"type": type_, "status": "True", "lastTransitionTime": now});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let containers = containers.map(|container| {
        json!({
            "name": container.name, "image": container.image, "imageID": "", "restartCount": 0,
            "ready": true, "started": true, "state": {"running": {"startedAt": now}},
        })
    });
    let status = json!({"status": {
        "phase": "Running",
        "conditions": conditions,
        "containerStatuses": containers.collect::<Vec<_>>(),
        "podIP": address.to_string(),
        "podIPs": [{"ip": address.to_string()}],
        "startTime": now,
    }});
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let written = api
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await;
    match written {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => tracing::warn!(%error, namespace, name, "a pod is not made ready"),
        Ok(_) => {}
    }
}
