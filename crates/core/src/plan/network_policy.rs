//! Who may connect to the endpoint picker, and to whom it may.
//!
//! The Model's own pods are not chosen: whatever is not named could no longer connect to them, and the
//! engines of a Model talk among each other, Kthena's controllers and router to them, and metrics are
//! read from them, all on ports that only they know. The kubelet's probes pass anyway.
//! <https://kubernetes.io/docs/concepts/services-networking/network-policies/>

use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};

use super::{HEALTH_PORT, Input, METRICS_PORT, picker_labels};
use crate::config::NetworkPolicyPeer;
use crate::exposure::ENDPOINT_PICKER_PORT;

pub(super) fn build(input: &Input<'_>) -> Value {
    let policy = &input.picker.network_policy;
    let picker = &input.topology.names.picker;
    let tcp = |port: u16| json!({"port": port, "protocol": "TCP"});
    let ingress = [
        from(&policy.gateways, &tcp(ENDPOINT_PICKER_PORT)),
        // Load balancers outside of the cluster ask whether it is well, too.
        from(&policy.gateways, &tcp(HEALTH_PORT)),
        from(&policy.metrics, &tcp(METRICS_PORT)),
    ];
    let api_server: Vec<Value> = policy
        .api_server_ports
        .iter()
        .map(|port| tcp(port.get()))
        .collect();
    let mut egress = vec![
        // The API server has no pod that could be chosen.
        json!({"ports": api_server}),
        json!({"ports": [{"port": 53, "protocol": "UDP"}, tcp(53)]}),
        json!({
            "to": [{"podSelector": {"matchLabels": input.topology.selector}}],
            "ports": [tcp(input.topology.target_port)],
        }),
    ];
    if !policy.more_egress.is_empty() {
        egress.push(json!({"to": policy.more_egress}));
    }
    let mut object = input.head(ChildKind::NetworkPolicy, picker);
    object["spec"] = json!({
        "podSelector": {"matchLabels": picker_labels(picker)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": egress,
    });
    object
}

/// A rule for connections to a port; without peers, those of everybody.
fn from(peers: &[NetworkPolicyPeer], port: &Value) -> Value {
    let mut rule = json!({"ports": [port]});
    if !peers.is_empty() {
        rule["from"] = json!(peers);
    }
    rule
}
