//! Model names that the engine does not serve, to the one that it serves.

use serde_json::{Value, json};

use super::Input;

pub(super) fn build(input: &Input<'_>, names: &[String]) -> Value {
    let matches: Vec<Value> = names
        .iter()
        .map(|name| json!({"model": {"type": "Exact", "value": name}}))
        .collect();
    let kind = input.picker.flavour.model_rewrite();
    let mut object = input.head(kind, &input.topology.names.model);
    object["spec"] = json!({
        "poolRef": input.pool_ref(),
        "rules": [{
            "matches": matches,
            "targets": [{"weight": 100, "modelRewrite": input.topology.served_names.first()}],
        }],
    });
    object
}
