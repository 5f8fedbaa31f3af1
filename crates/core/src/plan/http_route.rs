//! From the Gateway to the pool.

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::gateway;
use serde_json::{Value, json};

use super::{Input, model_names};
use crate::provider;

/// The header into which the body's model name is copied.
/// <https://gateway-api-inference-extension.sigs.k8s.io/guides/serve-multiple-genai-models/>
const MODEL_HEADER: &str = "X-Gateway-Model-Name";

pub(super) fn build(input: &Input<'_>) -> Value {
    let parent_refs: Vec<Value> = input
        .topology
        .gateways
        .iter()
        .map(|gateway| {
            let mut parent = json!({
                "group": gateway::GROUP,
                "kind": "Gateway",
                "namespace": gateway.reference.namespace,
                "name": gateway.reference.name,
            });
            if let Some(listener) = &gateway.reference.listener {
                parent["sectionName"] = listener.as_str().into();
            }
            parent
        })
        .collect();
    let mut object = input.head(ChildKind::HTTPRoute, &input.topology.names.model);
    object["spec"] = json!({"parentRefs": parent_refs, "rules": [rule(input)]});
    if !input.exposure.hostnames.is_empty() {
        object["spec"]["hostnames"] = json!(input.exposure.hostnames);
    }
    object
}

/// The only rule. It has no name: Istio keys its settings by it, so that equal names in two routes would
/// send both to one endpoint picker.
fn rule(input: &Input<'_>) -> Value {
    let path = json!({"type": "PathPrefix", "value": input.exposure.path});
    let matches: Vec<Value> = if input.exposure.match_model {
        let with_header = |name| {
            json!({
                "path": path,
                "headers": [{"type": "Exact", "name": MODEL_HEADER, "value": name}],
            })
        };
        model_names(input.exposure, input.topology)
            .into_iter()
            .map(with_header)
            .collect()
    } else {
        vec![json!({"path": path})]
    };
    let mut rule = json!({
        "matches": matches,
        "backendRefs": [{
            "group": ChildKind::InferencePool.group(),
            "kind": ChildKind::InferencePool.as_str(),
            "name": input.topology.names.model,
            "weight": 1,
        }],
    });
    if input.exposure.path != "/" {
        // Both mean the same, but not to everyone: the one that somebody needs is taken.
        let usual = provider::GENERIC.no_prefix;
        let gateways = input.topology.gateways.iter();
        let replacement = gateways
            .map(|g| g.provider.no_prefix)
            .find(|p| *p != usual)
            .unwrap_or(usual);
        rule["filters"] = json!([{
            "type": "URLRewrite",
            "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": replacement}},
        }]);
    }
    if input.topology.gateways.iter().all(|g| g.provider.timeouts) {
        rule["timeouts"] = json!({"request": input.exposure.request_timeout});
    }
    rule
}
