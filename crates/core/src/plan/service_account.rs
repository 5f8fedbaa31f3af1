//! Who the endpoint picker is.

use kthena_bridge_api::child::ChildKind;
use serde_json::Value;

use super::Input;

pub(super) fn build(input: &Input<'_>) -> Value {
    input.head(ChildKind::ServiceAccount, &input.topology.names.picker)
}
