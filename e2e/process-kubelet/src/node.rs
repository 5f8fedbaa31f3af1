//! The Node object of this kubelet.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::Error;

/// Creates the Node, or takes over the one that is there, and reports it as ready.
///
/// There is no lease to renew: the node controllers, which alone would miss it, are not run.
pub(crate) async fn register(client: Client, name: &str, address: Ipv4Addr) -> Result<(), Error> {
    let failed = |source| Error::Kube {
        what: "registering the node",
        source: Box::new(source),
    };
    let api: Api<Node> = Api::all(client);
    let mut node = Node::default();
    node.metadata.name = Some(name.to_owned());
    node.metadata.labels = Some([("kubernetes.io/hostname".to_owned(), name.to_owned())].into());
    match api.create(&PostParams::default(), &node).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        other => drop(other.map_err(failed)?),
    }
    // Admission taints a new node as not ready; taking that back is the job of a controller that is not run.
    let spec = json!({"spec": {"taints": null}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(spec))
        .await
        .map_err(failed)?;
    let resources =
        json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "1000"});
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let status = json!({"status": {
        "capacity": resources,
        "allocatable": resources,
        "addresses": [
            {"type": "InternalIP", "address": address.to_string()},
            {"type": "Hostname", "address": name},
        ],
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the process kubelet is running",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }],
    }});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .map_err(failed)?;
    Ok(())
}
