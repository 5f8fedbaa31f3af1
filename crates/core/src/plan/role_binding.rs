//! What the endpoint picker may read: one role for all of them, bound in the Model's namespace. An operator
//! that is confined to namespaces has a Role in each of them.

use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};

use super::Input;

pub(super) fn build(input: &Input<'_>) -> Value {
    let picker = &input.topology.names.picker;
    let mut object = input.head(ChildKind::RoleBinding, picker);
    object["roleRef"] = json!({
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": if input.config.namespaces.is_empty() { "ClusterRole" } else { "Role" },
        "name": input.picker.cluster_role,
    });
    object["subjects"] = json!([{
        "kind": "ServiceAccount",
        "name": picker,
        "namespace": input.topology.owner.namespace,
    }]);
    object
}
