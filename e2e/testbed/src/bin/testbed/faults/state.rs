//! What there is in a namespace of what the operator writes, without what differs from run to run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use kthena_bridge_api::child::{ChildKind, LABEL_MANAGED_BY, MANAGED_BY};
use kthena_bridge_core::OwnerKind;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use testbed::{Namespace, TestBed, exposed_by};

/// What a Model that is served needs.
const NEEDED: [ChildKind; 7] = [
    ChildKind::HTTPRoute,
    ChildKind::InferencePool,
    ChildKind::ConfigMap,
    ChildKind::Deployment,
    ChildKind::RoleBinding,
    ChildKind::Service,
    ChildKind::ServiceAccount,
];
/// Of them, what gateways say whether they take it.
const TOLD: [ChildKind; 2] = [ChildKind::HTTPRoute, ChildKind::InferencePool];

/// Objects by kind and name, what gateways say of them, and the Models' conditions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State(BTreeMap<String, Value>);

/// Everything that says that it is the operator's, whoever owns it, and the conditions of the Models.
pub(crate) async fn capture(
    bed: &TestBed,
    namespace: &Namespace<'_>,
    models: &[String],
) -> Result<State, String> {
    let client = bed.client().map_err(|e| e.to_string())?;
    let mut state = BTreeMap::new();
    // An owner that is gone keeps its uid, by which it shows.
    let mut owners: Vec<(String, String)> = Vec::new();
    for name in models {
        for kind in OwnerKind::ALL {
            let api: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), namespace.name(), &kind.api_resource());
            let found = api.get_opt(name).await;
            let Some(found) =
                found.map_err(|e| format!("getting {} {name}: {e}", kind.as_str()))?
            else {
                continue;
            };
            if kind == exposed_by() {
                owners.push((found.uid().unwrap_or_default(), format!("UID of {name}")));
            }
            // A Model says what its ModelExposure says, too.
            let whose = if kind == exposed_by() {
                ""
            } else {
                "repeated "
            };
            state.extend(conditions(&found, namespace.name(), whose));
        }
    }
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
            if TOLD.contains(&kind) {
                state.insert(format!("status of {kind} {name}"), told(&object));
            }
            state.insert(
                format!("{kind} {name}"),
                essence(&object, namespace.name(), &owners),
            );
        }
    }
    Ok(State(state))
}

/// Our conditions of an object.
fn conditions(object: &DynamicObject, namespace: &str, whose: &str) -> Vec<(String, Value)> {
    let (name, generation) = (object.name_any(), json!(object.metadata.generation));
    let all = object.data["status"]["conditions"].as_array();
    let ours = all.into_iter().flatten().filter_map(|condition| {
        let type_ = condition["type"].as_str()?;
        if !["Accepted", "Programmed", "Ready", "Reachable"].contains(&type_) {
            return None;
        }
        let message = condition["message"].as_str().unwrap_or_default();
        let value = json!({
            "status": condition["status"], "reason": condition["reason"],
            "message": message.replace(namespace, "NAMESPACE"),
            "current": condition["observedGeneration"] == generation,
        });
        Some((format!("{whose}condition {type_} of {name}"), value))
    });
    ours.collect()
}

/// What gateways say of the version that there is: conditions that are true, by type.
fn told(object: &DynamicObject) -> Value {
    let generation = json!(object.metadata.generation);
    let parents = object.data["status"]["parents"].as_array();
    let told = |parent: &Value| {
        let conditions = parent["conditions"].as_array().into_iter().flatten();
        let current =
            conditions.filter(|c| c["status"] == "True" && c["observedGeneration"] == generation);
        let types: BTreeSet<&str> = current.filter_map(|c| c["type"].as_str()).collect();
        json!(types)
    };
    parents.into_iter().flatten().map(told).collect()
}

/// An object without what changes by itself, or by being made anew.
fn essence(object: &DynamicObject, namespace: &str, owners: &[(String, String)]) -> Value {
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
    for (uid, named) in owners {
        text = text.replace(uid.as_str(), named);
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

    /// Fails when a Model says that it is served, and lacks something that it needs, or no gateway takes it.
    pub(crate) fn keeps_its_word(&self) -> Result<(), String> {
        for (key, condition) in &self.0 {
            let model = key.strip_prefix("condition Programmed of ");
            let Some(model) = model.filter(|_| condition["status"] == "True") else {
                continue;
            };
            let broken = |what: String| Err(format!("{model} says that it is served, and {what}"));
            if condition["current"] != true {
                return broken("speaks of an older generation".to_owned());
            }
            for kind in NEEDED {
                let picker = if kind.is_pickers() { "-epp" } else { "" };
                let object = format!("{kind} {model}{picker}");
                if !self.0.contains_key(&object) {
                    return broken(format!("{object} is not there"));
                }
            }
            for kind in TOLD {
                let object = format!("{kind} {model}");
                let told = &self.0.get(&format!("status of {object}"));
                let parents = told.and_then(Value::as_array).into_iter().flatten();
                let taken = |parent: &Value| {
                    let types: Vec<_> = parent.as_array().into_iter().flatten().collect();
                    ["Accepted", "ResolvedRefs"]
                        .iter()
                        .all(|wanted| types.iter().any(|type_| *type_ == wanted))
                };
                let mut parents = parents.peekable();
                if parents.peek().is_none() || !parents.all(taken) {
                    return broken(format!("no gateway takes {object}: {told:?}"));
                }
            }
        }
        Ok(())
    }

    /// Fails when a Model does not say that it is served, as it should, or when something is left of one that
    /// should not be.
    pub(crate) fn is(&self, model: &str, served: bool) -> Result<(), String> {
        let fits = if served {
            self.says(model, "Programmed") == Some("Programmed")
        } else {
            self.is_clean(model)
        };
        if fits { Ok(()) } else { Err(self.outline()) }
    }

    /// Fails when, of Models that ask for the same, more than one has it, or when one that has it is not served,
    /// or when one that has it not does not say why. Maybe none has it: whoever moves keeps its route where it is
    /// until the new place is free, so that two can wait for each other.
    pub(crate) fn is_shared(&self, models: &[&str]) -> Result<(), String> {
        let mut accepted = 0;
        for model in models {
            match self.says(model, "Accepted") {
                Some("Accepted") if self.says(model, "Programmed") == Some("Programmed") => {
                    accepted += 1;
                }
                Some("RouteConflict") => {}
                _ => return Err(self.outline()),
            }
        }
        if accepted > 1 {
            return Err(format!("more than one has the same: {}", self.outline()));
        }
        Ok(())
    }

    /// An object as it is without what changes by itself.
    pub(crate) fn object(&self, kind: ChildKind, name: &str) -> Option<Value> {
        self.0.get(&format!("{kind} {name}")).cloned()
    }

    /// Whether there is any object of a kind.
    pub(crate) fn has(&self, kind: ChildKind) -> bool {
        let start = format!("{kind} ");
        let (spoofed, mut keys) = (format!("{start}{}", super::case::SPOOFED), self.0.keys());
        keys.any(|key| key.starts_with(&start) && *key != spoofed)
    }

    /// Fails while a Model does not say that what it needs is somebody else's.
    pub(crate) fn refuses(&self, model: &str) -> Result<(), String> {
        match self.says(model, "Accepted") {
            Some("NameConflict" | "RouteConflict") => Ok(()),
            _ => Err(self.outline()),
        }
    }

    /// Fails while the Model is there, or any object of it that has an owner, or none.
    pub(crate) fn is_orphaned(&self, model: &str) -> Result<(), String> {
        let mut left = self.of_model(model).peekable();
        let some = left.peek().is_some();
        let free = |object: &Value| object["metadata"].get("ownerReferences").is_none();
        let orphans = left.all(|(key, object)| !key.contains("condition ") && free(object));
        if some && orphans {
            Ok(())
        } else {
            Err(self.outline())
        }
    }

    /// The reason of a condition.
    fn says(&self, model: &str, condition: &str) -> Option<&str> {
        self.0.get(&format!("condition {condition} of {model}"))?["reason"].as_str()
    }

    /// Whether nothing is left, but a ModelExposure that says that its Model is gone.
    fn is_clean(&self, model: &str) -> bool {
        let waits = self.says(model, "Accepted") == Some("TargetNotFound");
        self.of_model(model)
            .all(|(key, _)| waits && key.starts_with("condition "))
    }

    /// The objects of a Model, and its conditions.
    fn of_model(&self, model: &str) -> impl Iterator<Item = (&String, &Value)> {
        let (own, pickers) = (format!(" {model}"), format!(" {model}-epp"));
        let all = self.0.iter();
        all.filter(move |(key, _)| key.ends_with(&own) || key.ends_with(&pickers))
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

    fn condition(type_: &str, model: &str, reason: &str) -> (String, Value) {
        (
            format!("condition {type_} of {model}"),
            json!({"reason": reason}),
        )
    }

    #[test]
    fn nothing_but_what_only_looks_like_ours_may_be_left() {
        let (spoofed, service) = (
            ("ConfigMap spoofed", json!({})),
            ("Service demo-epp", json!({})),
        );
        state(std::slice::from_ref(&spoofed))
            .is("demo", false)
            .unwrap();
        state(&[spoofed.clone(), service])
            .is("demo", false)
            .unwrap_err();
        let (key, waiting) = condition("Programmed", "demo", "Pending");
        let waiting = state(&[spoofed.clone(), (&key, waiting)]);
        waiting.is("demo", false).unwrap_err();
        waiting.is("demo", true).unwrap_err();
        waiting.is("another", false).unwrap();
        let (key, served) = condition("Programmed", "demo", "Programmed");
        state(&[spoofed.clone(), (&key, served)])
            .is("demo", true)
            .unwrap();
        // A ModelExposure may say that its Model is gone, and a Model may not repeat what nobody says.
        let (key, gone) = condition("Accepted", "demo", "TargetNotFound");
        let waits = [spoofed, (&key, gone)];
        state(&waits).is("demo", false).unwrap();
        for left in ["repeated condition Accepted of demo", "HTTPRoute demo"] {
            let left = [&waits[..], &[(left, json!({}))]].concat();
            state(&left).is("demo", false).unwrap_err();
        }
    }

    #[test]
    fn of_those_that_want_the_same_one_has_it_and_the_others_say_why_not() {
        let shared = |conditions: &[(String, Value)]| {
            let conditions: Vec<_> = conditions
                .iter()
                .map(|(key, value)| (key.as_str(), value.clone()))
                .collect();
            state(&conditions).is_shared(&["one", "two"])
        };
        let accepted = |model| condition("Accepted", model, "Accepted");
        let served = |model| condition("Programmed", model, "Programmed");
        let refused = |model| condition("Accepted", model, "RouteConflict");
        shared(&[accepted("one"), served("one"), refused("two")]).unwrap();
        shared(&[refused("one"), served("one"), refused("two")]).unwrap();
        shared(&[accepted("one"), refused("two")]).unwrap_err();
        shared(&[accepted("one"), served("one")]).unwrap_err();
        shared(&[
            accepted("one"),
            served("one"),
            accepted("two"),
            served("two"),
        ])
        .unwrap_err();
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
            essence(
                &serde_json::from_value(object).unwrap(),
                "faults-1",
                &[("now".to_owned(), "UID".to_owned())],
            )
        };
        assert_eq!(of("now")["metadata"]["ownerReferences"][0]["uid"], "UID");
        assert_eq!(of("now")["spec"], json!({"selector": {"a": "NAMESPACE"}}));
        assert_ne!(of("now"), of("before"));
    }

    /// A Model that is served, and everything that belongs to it.
    fn served() -> BTreeMap<String, Value> {
        let objects = NEEDED.map(|kind| {
            let picker = if kind.is_pickers() { "-epp" } else { "" };
            (format!("{kind} demo{picker}"), json!({}))
        });
        let taken = json!([["Accepted", "ResolvedRefs"]]);
        let told = TOLD.map(|kind| (format!("status of {kind} demo"), taken.clone()));
        let condition = json!({"status": "True", "reason": "Programmed", "current": true});
        let condition = ("condition Programmed of demo".to_owned(), condition);
        objects.into_iter().chain(told).chain([condition]).collect()
    }

    #[test]
    fn who_says_that_it_is_served_lacks_nothing() {
        State(served()).keeps_its_word().unwrap();
        for key in served().keys().filter(|key| !key.starts_with("condition ")) {
            let mut without = served();
            without.remove(key);
            let problem = State(without).keeps_its_word().unwrap_err();
            let object = key.trim_start_matches("status of ");
            assert!(problem.contains(object), "{problem}");
        }
        for kind in TOLD {
            for told in [json!([]), json!([["Accepted"]]), json!([["ResolvedRefs"]])] {
                let mut untaken = served();
                untaken.insert(format!("status of {kind} demo"), told);
                State(untaken).keeps_its_word().unwrap_err();
            }
        }
        let mut older = served();
        older.insert(
            "condition Programmed of demo".to_owned(),
            json!({"status": "True", "current": false}),
        );
        State(older).keeps_its_word().unwrap_err();
        let mut honest = BTreeMap::new();
        honest.insert(
            "condition Programmed of demo".to_owned(),
            json!({"status": "False", "current": true}),
        );
        State(honest).keeps_its_word().unwrap();
    }
}
