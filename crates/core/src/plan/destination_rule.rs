//! Tells Istio to speak TLS to the endpoint picker, which does with a certificate of its own making.
//! Without it Istio speaks plaintext, and every request fails.

use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};

use super::Input;

pub(super) fn build(input: &Input<'_>) -> Value {
    let picker = &input.topology.names.picker;
    let mut object = input.head(ChildKind::DestinationRule, picker);
    object["spec"] = json!({
        "host": format!("{picker}.{}.svc.{}", input.topology.owner.namespace, input.config.cluster_domain),
        "trafficPolicy": {"tls": {"mode": "SIMPLE", "insecureSkipVerify": true}},
    });
    object
}
