//! The status of an HTTPRoute: an entry for each parentRef that names a Gateway that is served.

use serde_json::{Value, json};

use super::{
    condition::{self, Condition},
    conditions_of, list_of, merge,
};
use crate::{
    attach::{AttachedRoute, Parent},
    backend,
    snapshot::{CONTROLLER, Snapshot},
};

/// None for a route that is of no concern: all its parents are served by others.
pub(super) fn status(snapshot: &Snapshot, attached: &AttachedRoute<'_>) -> Option<Value> {
    let current = list_of(attached.route.status.as_ref(), "parents");
    let is_ours = |entry: &Value| entry["controllerName"] == CONTROLLER;
    if attached.parents.is_empty() && !attached.parent_missing && !current.iter().any(is_ours) {
        return None;
    }
    let unresolved = backend::first_unresolved(snapshot, attached.key, attached.route);
    let resolved = || match &unresolved {
        None => Condition::true_("ResolvedRefs", "ResolvedRefs", "All references resolved"),
        Some(error) => Condition::false_("ResolvedRefs", error.reason, error.message.clone()),
    };
    let ours = attached
        .parents
        .iter()
        .map(|parent| {
            let reference = json!(parent.reference);
            let before = current.iter().find(|entry| is_ours(entry) && entry["parentRef"] == reference);
            let wanted = [accepted(parent), resolved()];
            let generation = attached.route.metadata.generation;
            let entry = json!({
                "parentRef": reference,
                "controllerName": CONTROLLER,
                "conditions": condition::list(&wanted, conditions_of(before), generation, snapshot.now),
            });
            (reference, entry)
        })
        .collect();
    // Istio writes an empty list, too, for a route whose Gateway is missing.
    Some(json!({"parents": merge(current, is_ours, ours)}))
}

fn accepted(parent: &Parent<'_>) -> Condition {
    match &parent.outcome {
        Ok(attachments) if attachments.len() > 1 => {
            let message = format!("Route was valid, bound to {} parents", attachments.len());
            Condition::true_("Accepted", "Accepted", message)
        }
        Ok(_) => Condition::true_("Accepted", "Accepted", "Route was valid"),
        Err(denial) => {
            Condition::false_("Accepted", denial.reason.as_str(), denial.message.clone())
        }
    }
}
