//! The priority of the requests that carry this object's name in `x-gateway-inference-objective`.

use serde_json::{Value, json};

use super::Input;

pub(super) fn build(input: &Input<'_>) -> Value {
    let kind = input.config.endpoint_picker.flavour.objective();
    let mut object = input.head(kind, &input.topology.names.model);
    object["spec"] = json!({"priority": input.exposure.priority, "poolRef": input.pool_ref()});
    object
}
