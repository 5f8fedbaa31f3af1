//! The priority of the requests that carry this object's name in `x-gateway-inference-objective`.

use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};

use super::Input;

pub(super) fn build(input: &Input<'_>) -> Value {
    let mut object = input.head(ChildKind::InferenceObjective, &input.topology.names.model);
    object["spec"] = json!({"priority": input.exposure.priority, "poolRef": input.pool_ref()});
    object
}
