//! The pods, and the endpoint picker that chooses among them.

use kthena_bridge_api::child::{ANNOTATION_ACTIVATED, ChildKind};
use serde_json::{Value, json};

use super::Input;

pub(super) fn build(input: &Input<'_>) -> Value {
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
    object
}
