//! What there is in a namespace of what the operator writes, without what differs from run to run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kthena_bridge_api::child::{ChildKind, LABEL_MANAGED_BY, MANAGED_BY};
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use serde_json::{Value, json};
use testbed::{Namespace, TestBed};

/// Objects by kind and name, and the Model's conditions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State(BTreeMap<String, Value>);

/// Everything that says that it is the operator's, whoever owns it, and the conditions of the Model `model`.
pub(crate) async fn capture(
    bed: &TestBed,
    namespace: &Namespace<'_>,
    model: &str,
) -> Result<State, String> {
    let client = bed.client().map_err(|e| e.to_string())?;
    let found = namespace
        .model_named(model)
        .map_err(|e| e.to_string())?
        .get_opt()
        .await?;
    let uid = found
        .as_ref()
        .and_then(|m| m.metadata.uid.clone())
        .unwrap_or_default();
    let mut state = BTreeMap::new();
    for kind in ChildKind::ALL {
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), namespace.name(), &kind.api_resource());
        let ours = ListParams::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));
        let found = match api.list(&ours).await {
            Ok(found) => found.items,
            // The kind is not installed.
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(format!("listing {kind}: {error}")),
        };
        for object in found {
            let name = object.metadata.name.clone().unwrap_or_default();
            state.insert(
                format!("{kind} {name}"),
                essence(&object, namespace.name(), &uid),
            );
        }
    }
    let generation = found.as_ref().and_then(|m| m.metadata.generation);
    for condition in found.and_then(|m| m.status).unwrap_or_default().conditions {
        if matches!(
            condition.type_.as_str(),
            "Accepted" | "Programmed" | "Reachable"
        ) {
            let message = condition.message.replace(namespace.name(), "NAMESPACE");
            let value = json!({
                "status": condition.status, "reason": condition.reason, "message": message,
                "current": condition.observed_generation == generation,
            });
            state.insert(format!("condition {}", condition.type_), value);
        }
    }
    Ok(State(state))
}

/// An object without what changes by itself, or by being made anew.
fn essence(object: &DynamicObject, namespace: &str, owner: &str) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    let remove = |value: &mut Value, pointer: &str, keys: &[&str]| {
        if let Some(map) = value.pointer_mut(pointer).and_then(Value::as_object_mut) {
            map.retain(|key, _| !keys.contains(&key.as_str()));
        }
    };
    remove(&mut value, "", &["status"]);
    let by_itself = [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
    ];
    remove(&mut value, "/metadata", &by_itself);
    remove(
        &mut value,
        "/metadata/annotations",
        &["deployment.kubernetes.io/revision"],
    );
    remove(
        &mut value,
        "/spec/template/metadata/annotations",
        &["kthena-bridge.io/pool-uid"],
    );
    remove(&mut value, "/spec", &["clusterIP", "clusterIPs"]);
    if value
        .pointer("/metadata/annotations")
        .is_some_and(|a| *a == json!({}))
    {
        remove(&mut value, "/metadata", &["annotations"]);
    }
    let mut text = value.to_string().replace(namespace, "NAMESPACE");
    if !owner.is_empty() {
        text = text.replace(owner, "UID");
    }
    serde_json::from_str(&text).unwrap_or_default()
}

impl State {
    /// What is not as in the other, in words; empty when they are the same.
    pub(crate) fn differences(&self, wanted: &Self) -> String {
        let mut text = String::new();
        for (key, is) in &self.0 {
            match wanted.0.get(key) {
                None => drop(writeln!(text, "{key} is there")),
                Some(want) if want != is => drop(writeln!(text, "{key} is {is}\n  and not {want}")),
                Some(_) => {}
            }
        }
        for key in wanted.0.keys().filter(|key| !self.0.contains_key(*key)) {
            let _ = writeln!(text, "{key} is not there");
        }
        text
    }

    /// Fails when the Model does not say that it is served, as it should, or when something is left of one that
    /// should not be.
    pub(crate) fn is(&self, served: bool) -> Result<(), String> {
        let programmed = || {
            self.0
                .get("condition Programmed")
                .is_some_and(|c| c["status"] == "True")
        };
        let clean = || self.0.keys().all(|key| key.ends_with(super::case::SPOOFED));
        let fits = if served { programmed() } else { clean() };
        if fits { Ok(()) } else { Err(self.outline()) }
    }

    /// Kinds, names and conditions.
    pub(crate) fn outline(&self) -> String {
        let conditions = self
            .0
            .iter()
            .map(|(key, value)| match value["reason"].as_str() {
                Some(reason) => format!("{key}={reason}"),
                None => key.clone(),
            });
        conditions.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(objects: &[(&str, Value)]) -> State {
        State(
            objects
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
        )
    }

    #[test]
    fn what_differs_is_named() {
        let wanted = state(&[("HTTPRoute demo", json!(1)), ("Service demo-epp", json!(1))]);
        assert_eq!(wanted.differences(&wanted), "");
        let is = state(&[
            ("HTTPRoute demo", json!(2)),
            ("ConfigMap demo-epp", json!(1)),
        ]);
        assert_eq!(
            is.differences(&wanted),
            "ConfigMap demo-epp is there\nHTTPRoute demo is 2\n  and not 1\nService demo-epp is not there\n"
        );
    }

    #[test]
    fn nothing_but_what_only_looks_like_ours_may_be_left() {
        let spoofed = ("ConfigMap spoofed", json!({}));
        state(&[spoofed.clone()]).is(false).unwrap();
        state(&[spoofed.clone(), ("Service demo-epp", json!({}))])
            .is(false)
            .unwrap_err();
        let condition = |status: &str| {
            (
                "condition Programmed",
                json!({"status": status, "reason": "R"}),
            )
        };
        state(&[spoofed.clone(), condition("False")])
            .is(false)
            .unwrap_err();
        state(&[spoofed.clone(), condition("False")])
            .is(true)
            .unwrap_err();
        state(&[spoofed, condition("True")]).is(true).unwrap();
    }

    #[test]
    fn an_object_of_an_owner_that_is_gone_is_not_the_same() {
        let of = |uid: &str| {
            let object = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {
                    "name": "demo-epp", "namespace": "faults-1", "uid": "1", "resourceVersion": "2",
                    "ownerReferences": [{"uid": uid}],
                },
                "spec": {"clusterIP": "10.0.0.1", "selector": {"a": "faults-1"}},
            });
            essence(&serde_json::from_value(object).unwrap(), "faults-1", "now")
        };
        assert_eq!(of("now")["metadata"]["ownerReferences"][0]["uid"], "UID");
        assert_eq!(of("now")["spec"], json!({"selector": {"a": "NAMESPACE"}}));
        assert_ne!(of("now"), of("before"));
    }
}
