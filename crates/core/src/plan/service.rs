//! Where the Gateway finds the endpoint picker.

use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};

use super::{Input, METRICS_PORT, picker_labels};
use crate::exposure::ENDPOINT_PICKER_PORT;

pub(super) fn build(input: &Input<'_>) -> Value {
    let mut object = input.head(ChildKind::Service, &input.topology.names.picker);
    object["spec"] = json!({
        "type": "ClusterIP",
        "selector": picker_labels(&input.topology.names.picker),
        "ports": [
            {
                "name": "grpc-ext-proc",
                "port": ENDPOINT_PICKER_PORT,
                "targetPort": ENDPOINT_PICKER_PORT,
                "protocol": "TCP",
                // Without it, or a name that says grpc, Istio speaks HTTP/1 to it.
                "appProtocol": "kubernetes.io/h2c",
            },
            {"name": "http-metrics", "port": METRICS_PORT, "targetPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
    });
    object
}
