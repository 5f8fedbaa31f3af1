//! The pods, and the endpoint picker that chooses among them.

use kthena_bridge_api::child::{ANNOTATION_ACTIVATED, ChildKind};
use serde_json::{Value, json};

use super::Input;
use crate::observe::Cluster;

pub(super) fn build(input: &Input<'_>, cluster: &impl Cluster) -> Value {
    let (service, port) = input.picker_service();
    let mut object = input.head(ChildKind::InferencePool, &input.topology.names.model);
    if input.topology.activated {
        object["metadata"]["annotations"] = json!({ANNOTATION_ACTIVATED: "true"});
    }
    object["spec"] = json!({
        "selector": {"matchLabels": input.topology.selector},
        "targetPorts": [{"number": input.topology.target_port}],
        "endpointPickerRef": {
            "group": "",
            "kind": "Service",
            "name": service,
            "port": {"number": port},
            "failureMode": input.exposure.failure_mode.as_str(),
        },
    });
    if cluster
        .inference_extension_version()
        .is_some_and(|v| has_app_protocol(&v))
    {
        object["spec"]["appProtocol"] = "http".into();
    }
    object
}

/// `appProtocol` came with v1.4.0.
fn has_app_protocol(version: &str) -> bool {
    let mut numbers = version
        .trim_start_matches('v')
        .split('.')
        .map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(1), Some(4))
}
