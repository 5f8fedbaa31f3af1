//! Every recording of a real Istio, put into one cluster as it was when they were made.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use super::{cluster, namespace, route, service, status_of, statuses, to_pool};
use crate::{
    Snapshot,
    api::{GATEWAY_GROUP, Kind},
    snapshot::Key,
};

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recorded/istio-1.31.0-rc.0");

fn recording(name: &str) -> Value {
    let path = Path::new(RECORDED).join(name);
    serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap()
}

/// The objects of the recordings by kind, namespace and name, each with the status that Istio wrote.
fn recorded() -> BTreeMap<(Kind, Key), Value> {
    let mut objects = BTreeMap::new();
    let mut add = |kind, kind_name: &str, key: Key, recorded: &Value| {
        let mut object = recorded.clone();
        let generation = recorded.get("generation").cloned().unwrap_or(json!(1));
        object["kind"] = json!(kind_name);
        object["metadata"] =
            json!({"namespace": key.namespace, "name": key.name, "generation": generation});
        if let Some(before) = objects.insert((kind, key), object.clone()) {
            assert_eq!(before, object, "two recordings of one object");
        }
    };
    let mut names: Vec<_> = fs::read_dir(RECORDED)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names.len(), 8, "{names:?}");
    for name in names {
        let recorded = recording(name.to_str().unwrap());
        if name == "gateway-infra-shared.json" {
            add(
                Kind::Gateway,
                "Gateway",
                Key::new("infra", "shared"),
                &recorded,
            );
            continue;
        }
        let http_route = &recorded["httproute"];
        let text = |pointer: &str| http_route.pointer(pointer).and_then(Value::as_str).unwrap();
        // The recordings have no names; the paths are made of them.
        let route = match text("/spec/rules/0/matches/0/path/value").trim_start_matches('/') {
            "" => "demo",
            name => name,
        };
        let pool = text("/spec/rules/0/backendRefs/0/name");
        add(
            Kind::HttpRoute,
            "HTTPRoute",
            Key::new("default", route),
            http_route,
        );
        if !recorded["inferencepool"].is_null() {
            add(
                Kind::InferencePool,
                "InferencePool",
                Key::new("default", pool),
                &recorded["inferencepool"],
            );
        }
        if !recorded["gateway"].is_null() {
            add(
                Kind::Gateway,
                "Gateway",
                Key::new("default", "inference-gateway"),
                &recorded["gateway"],
            );
        }
    }
    objects
}

fn surroundings() -> Vec<Value> {
    vec![
        namespace("default", json!({})),
        namespace("infra", json!({})),
        service("default", "inference-gateway-istio", json!({"port": 80})),
        service("default", "demo-epp", json!({"port": 9002})),
        // Four routes were attached to the Gateway, and three are recorded.
        route(
            "default",
            "not-recorded",
            json!({
                "parentRefs": [{"group": GATEWAY_GROUP, "kind": "Gateway", "name": "inference-gateway"}],
                "rules": [{"backendRefs": to_pool("demo")}],
            }),
        ),
    ]
}

fn cluster_of(objects: impl Iterator<Item = Value>) -> Snapshot {
    let mut snapshot = cluster(surroundings().into_iter().chain(objects));
    snapshot.now = "2026-11-23T09:00:00Z".parse().unwrap();
    snapshot
}

/// Without what differs from one run to the next.
fn timeless(mut status: Value) -> Value {
    fn remove(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("lastTransitionTime");
                fields.values_mut().for_each(remove);
            }
            Value::Array(items) => items.iter_mut().for_each(remove),
            _ => {}
        }
    }
    remove(&mut status);
    status
}

#[test]
fn new_objects_get_the_statuses_that_istio_gave_them() {
    let recorded = recorded();
    let unreported = recorded.values().cloned().map(|mut object| {
        object.as_object_mut().unwrap().remove("status");
        object
    });
    let snapshot = cluster_of(unreported);
    for ((kind, key), object) in &recorded {
        let written = status_of(&snapshot, *kind, &key.namespace, &key.name).unwrap_or(json!({}));
        let (written, expected) = (timeless(written), timeless(object["status"].clone()));
        assert_eq!(
            written, expected,
            "{kind:?} {key}: wrote\n{written:#}\ninstead of\n{expected:#}"
        );
    }
    assert_eq!(recorded.len(), 2 + 7 + 6);
}

#[test]
fn statuses_that_are_there_already_are_not_written_again() {
    let recorded = recorded();
    let snapshot = cluster_of(recorded.values().cloned());
    let written: Vec<_> = statuses(&snapshot)
        .into_iter()
        .filter(|write| recorded.contains_key(&(write.kind, write.key.clone())))
        .collect();
    assert_eq!(
        written,
        [],
        "although nothing has changed since Istio wrote them"
    );
}

#[test]
fn a_condition_that_changes_gets_a_new_time_and_the_others_keep_theirs() {
    let mut objects = recorded();
    objects.retain(|(kind, key), _| *kind != Kind::InferencePool || key.name != "demo");
    let snapshot = cluster_of(objects.into_values());
    let status = status_of(&snapshot, Kind::HttpRoute, "default", "demo").unwrap();
    let [accepted, resolved] = [0, 1].map(|at| &status["parents"][0]["conditions"][at]);
    assert_eq!(accepted["lastTransitionTime"], "2026-11-23T07:50:20Z");
    assert_eq!(resolved["status"], "False");
    assert_eq!(resolved["message"], "backend(demo) not found");
    assert_eq!(resolved["lastTransitionTime"], "2026-11-23T09:00:00Z");
}

#[test]
fn a_pool_without_a_route_loses_its_parent() {
    let mut objects = recorded();
    objects.retain(|(kind, key), _| *kind != Kind::HttpRoute || key.name != "r-noepp");
    let (_, pool) = objects
        .iter_mut()
        .find(|((_, key), _)| key.name == "p-noepp")
        .unwrap();
    let other = json!({"parentRef": {"group": GATEWAY_GROUP, "kind": "Gateway", "name": "x"}, "conditions": []});
    pool["status"]["parents"]
        .as_array_mut()
        .unwrap()
        .insert(0, other.clone());
    let snapshot = cluster_of(objects.clone().into_values());
    let left = status_of(&snapshot, Kind::InferencePool, "default", "p-noepp");
    assert_eq!(
        left,
        Some(json!({"parents": [other]})),
        "the parent of another controller stays"
    );

    let (_, pool) = objects
        .iter_mut()
        .find(|((_, key), _)| key.name == "p-noepp")
        .unwrap();
    pool["status"]["parents"].as_array_mut().unwrap().remove(0);
    let left = status_of(
        &cluster_of(objects.into_values()),
        Kind::InferencePool,
        "default",
        "p-noepp",
    );
    assert_eq!(left, Some(json!({})));
}
