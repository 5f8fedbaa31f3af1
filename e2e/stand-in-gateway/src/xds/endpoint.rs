//! Endpoints: of a pool its ready pods, of a Service what its EndpointSlices say.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    core::v1::{Pod, ServicePort},
    discovery::v1::{EndpointPort, EndpointSlice},
};
use serde_json::{Value, json};

use crate::{
    api::InferencePool,
    snapshot::{Key, Snapshot},
};

/// Sorted, so that the same endpoints are the same file.
pub(super) type Addresses = BTreeSet<(String, u16)>;

pub(super) fn assignment(cluster: &str, addresses: &Addresses) -> Value {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|(address, port)| {
            json!({"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}})
        })
        .collect();
    json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": endpoints}],
    })
}

/// The pods that Istio reaches through the headless Service that it makes for a pool.
pub(super) fn of_pool(snapshot: &Snapshot, key: &Key, pool: &InferencePool) -> Addresses {
    let pods = snapshot
        .pods
        .iter()
        .filter(|(pod, _)| pod.namespace == key.namespace);
    pods.filter(|(_, pod)| pool.spec.selector.selects(pod.metadata.labels.as_ref()))
        .filter_map(|(_, pod)| ready_address(pod))
        .flat_map(|ip| {
            pool.spec
                .target_ports
                .iter()
                .map(move |port| (ip.to_owned(), port.number))
        })
        .collect()
}

fn ready_address(pod: &Pod) -> Option<&str> {
    let status = pod.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let ready =
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let stays = pod.metadata.deletion_timestamp.is_none();
    status
        .pod_ip
        .as_deref()
        .filter(|ip| ready && stays && !ip.is_empty())
}

pub(super) fn of_service(snapshot: &Snapshot, key: &Key, port: &ServicePort) -> Addresses {
    let slices = snapshot
        .endpoint_slices
        .iter()
        .filter(|(slice, _)| slice.namespace == key.namespace);
    slices
        .map(|(_, slice)| slice.as_ref())
        .filter(|slice| is_of(slice, &key.name) && slice.address_type == "IPv4")
        .flat_map(|slice| of_slice(slice, port))
        .collect()
}

fn is_of(slice: &EndpointSlice, service: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get("kubernetes.io/service-name"))
        .is_some_and(|name| name == service)
}

fn of_slice(slice: &EndpointSlice, port: &ServicePort) -> Vec<(String, u16)> {
    // A port without a name is "" in one of the two and absent in the other.
    let name = |port: &EndpointPort| port.name.clone().unwrap_or_default();
    let mut ports = slice.ports.iter().flatten();
    let number = ports
        .find(|p| name(p) == port.name.clone().unwrap_or_default())
        .and_then(|p| p.port);
    let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else {
        return Vec::new();
    };
    let ready = |endpoint: &&k8s_openapi::api::discovery::v1::Endpoint| {
        endpoint
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true)
    };
    let ready = slice.endpoints.iter().filter(ready);
    ready
        .filter_map(|endpoint| Some((endpoint.addresses.first()?.clone(), number)))
        .collect()
}
