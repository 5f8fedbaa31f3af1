//! The status of an InferencePool: an entry for each Gateway that a route to the pool names.
//!
//! Istio says nothing of the endpoint picker but whether its Service exists.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    condition::{self, Condition},
    conditions_of, list_of, merge,
};
use crate::{
    api::{ISTIO_GROUP, InferencePool},
    attach::{AttachedRoute, Denial},
    backend,
    snapshot::{Key, Snapshot},
};

pub(super) fn status(
    snapshot: &Snapshot,
    key: &Key,
    pool: &InferencePool,
    routes: &[AttachedRoute<'_>],
) -> Value {
    let current = list_of(pool.status.as_ref(), "parents");
    let is_ours = |entry: &Value| entry["parentRef"]["group"] == ISTIO_GROUP;
    let ours = parents(key, routes)
        .into_iter()
        .map(|(gateway, refused)| {
            let reference =
                json!({"group": ISTIO_GROUP, "kind": "Gateway", "name": gateway.name, "namespace": gateway.namespace});
            let before = current.iter().find(|entry| entry["parentRef"] == reference);
            let wanted = [accepted(gateway, refused), resolved(snapshot, key, pool)];
            let generation = pool.metadata.generation;
            let conditions = condition::list(&wanted, conditions_of(before), generation, snapshot.now);
            (reference.clone(), json!({"parentRef": reference, "conditions": conditions}))
        })
        .collect();
    let parents = merge(current, is_ours, ours);
    if parents.is_empty() {
        json!({})
    } else {
        json!({"parents": parents})
    }
}

type Refused<'a> = (&'a Key, &'a Denial);

/// Each Gateway that a route to this pool names, with one that refuses the route if all do.
fn parents<'a>(
    pool: &Key,
    routes: &'a [AttachedRoute<'_>],
) -> BTreeMap<&'a Key, Option<Refused<'a>>> {
    let mut parents = BTreeMap::new();
    for attached in routes
        .iter()
        .filter(|attached| backend::refers_to(attached.key, attached.route, pool))
    {
        for parent in &attached.parents {
            let refused = parent
                .outcome
                .as_ref()
                .err()
                .map(|denial| (attached.key, denial));
            let known = parents.entry(&parent.gateway).or_insert(refused);
            if refused.is_none() {
                *known = None;
            }
        }
    }
    parents
}

fn accepted(gateway: &Key, refused: Option<Refused<'_>>) -> Condition {
    match refused {
        None => Condition::true_(
            "Accepted",
            "Accepted",
            "Referenced by an HTTPRoute accepted by the parentRef Gateway",
        ),
        Some((route, denial)) => {
            let message = format!(
                "Referenced HTTPRoute {route} not accepted by Gateway {gateway}: {}",
                denial.message
            );
            Condition::false_("Accepted", "HTTPRouteNotAccepted", message)
        }
    }
}

fn resolved(snapshot: &Snapshot, pool_key: &Key, pool: &InferencePool) -> Condition {
    let error = match &pool.spec.endpoint_picker_ref {
        None => Some("ExtensionRef not defined".to_owned()),
        Some(picker) => match picker.kind.as_deref() {
            None | Some("Service") => {
                let service = Key::new(&pool_key.namespace, &picker.name);
                let missing = !snapshot.services.contains_key(&service);
                missing.then(|| format!("Referenced ExtensionRef not found {}", picker.name))
            }
            Some(kind) => Some(format!("Unsupported ExtensionRef kind {kind}")),
        },
    };
    match error {
        None => Condition::true_(
            "ResolvedRefs",
            "ResolvedRefs",
            "Referenced ExtensionRef resolved successfully",
        ),
        Some(message) => Condition::false_("ResolvedRefs", "InvalidExtensionRef", message),
    }
}
