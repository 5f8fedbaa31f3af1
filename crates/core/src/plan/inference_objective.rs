//! The priority of the requests that carry this object's name in `x-gateway-inference-objective`.

use kthena_bridge_api::model_exposure::Objective;
use serde_json::{Value, json};

use super::Input;

pub(super) fn build(input: &Input<'_>, objective: &Objective) -> Value {
    let kind = input.picker.flavour.objective();
    let mut object = input.head(kind, &objective.name);
    object["spec"] = json!({"priority": objective.priority, "poolRef": input.pool_ref()});
    object
}
