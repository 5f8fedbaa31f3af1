//! The statuses that Istio writes, as the recordings show them.

mod condition;
mod gateway;
mod pool;
mod route;

use serde_json::{Value, json};

use crate::{
    api::Kind,
    attach::AttachedRoute,
    snapshot::{CONTROLLER, Key, Snapshot},
};
pub(crate) use gateway::requested_address;

/// A status that differs from the one that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusWrite {
    /// What the object is.
    pub kind: Kind,
    /// Where it is.
    pub key: Key,
    /// The version of the object that the status was made from: a later one makes another status.
    pub resource_version: String,
    /// The whole status.
    pub status: Value,
}

pub(crate) fn writes(snapshot: &Snapshot, routes: &[AttachedRoute<'_>]) -> Vec<StatusWrite> {
    let mut writes = Vec::new();
    for (key, class) in &snapshot.gateway_classes {
        if class.spec.controller_name == CONTROLLER {
            let meta = &class.metadata;
            let current = class.status.as_ref();
            let accepted = [condition::Condition::true_(
                "Accepted",
                "Accepted",
                "Handled by Istio controller",
            )];
            let conditions = condition::list(
                &accepted,
                conditions_of(current),
                meta.generation,
                snapshot.now,
            );
            write(
                &mut writes,
                Kind::GatewayClass,
                key,
                meta,
                current,
                json!({"conditions": conditions}),
            );
        }
    }
    for (key, object) in snapshot.served_gateways() {
        let status = gateway::status(snapshot, key, object, routes);
        write(
            &mut writes,
            Kind::Gateway,
            key,
            &object.metadata,
            object.status.as_ref(),
            status,
        );
    }
    for attached in routes {
        let object = attached.route;
        if let Some(status) = route::status(snapshot, attached) {
            write(
                &mut writes,
                Kind::HttpRoute,
                attached.key,
                &object.metadata,
                object.status.as_ref(),
                status,
            );
        }
    }
    for (key, object) in &snapshot.inference_pools {
        let status = pool::status(snapshot, key, object, routes);
        write(
            &mut writes,
            Kind::InferencePool,
            key,
            &object.metadata,
            object.status.as_ref(),
            status,
        );
    }
    writes
}

fn write(
    writes: &mut Vec<StatusWrite>,
    kind: Kind,
    key: &Key,
    meta: &kube::core::ObjectMeta,
    current: Option<&Value>,
    status: Value,
) {
    // To say nothing of an object without a status is to leave it so.
    if *current.unwrap_or(&json!({})) != status {
        let resource_version = meta.resource_version.clone().unwrap_or_default();
        writes.push(StatusWrite {
            kind,
            key: key.clone(),
            resource_version,
            status,
        });
    }
}

fn conditions_of(status: Option<&Value>) -> &[Value] {
    list_of(status, "conditions")
}

fn list_of<'a>(object: Option<&'a Value>, field: &str) -> &'a [Value] {
    object
        .and_then(|object| object.get(field))
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Puts our entries into a list that others write to as well: each of theirs stays where it is, each of
/// ours where it was, and those that are new come last. A changed order would be a write for nothing.
fn merge(
    current: &[Value],
    is_ours: impl Fn(&Value) -> bool,
    ours: Vec<(Value, Value)>,
) -> Vec<Value> {
    let mut ours = ours;
    let mut merged = Vec::new();
    for entry in current {
        if !is_ours(entry) {
            merged.push(entry.clone());
        } else if let Some(at) = ours
            .iter()
            .position(|(parent, _)| entry.get("parentRef") == Some(parent))
        {
            merged.push(ours.remove(at).1);
        }
    }
    merged.extend(ours.into_iter().map(|(_, entry)| entry));
    merged
}
