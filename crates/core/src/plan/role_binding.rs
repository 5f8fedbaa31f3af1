//! What the endpoint picker may read: one ClusterRole for all of them, bound in the Model's namespace.

use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};

use super::Input;

pub(super) fn build(input: &Input<'_>) -> Value {
    let picker = &input.topology.names.picker;
    let mut object = input.head(ChildKind::RoleBinding, picker);
    object["roleRef"] = json!({
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": input.config.endpoint_picker.cluster_role,
    });
    object["subjects"] = json!([{
        "kind": "ServiceAccount",
        "name": picker,
        "namespace": input.topology.owner.namespace,
    }]);
    object
}
