//! Tells GKE's load balancer how to find out whether a pod is well. Without it, it asks for `/`, which
//! engines do not answer, and sends them nothing.
//! <https://cloud.google.com/kubernetes-engine/docs/how-to/configure-gateway-resources#configure_health_check>

use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};

use super::Input;

pub(super) fn build(input: &Input<'_>) -> Value {
    let mut object = input.head(ChildKind::HealthCheckPolicy, &input.topology.names.model);
    object["spec"] = json!({
        "targetRef": input.pool_ref(),
        "default": {
            "timeoutSec": 2,
            "checkIntervalSec": 2,
            "config": {
                "type": "HTTP",
                "httpHealthCheck": {"requestPath": "/health", "port": input.topology.target_port},
            },
        },
    });
    object
}
