//! A cluster at hand for the tests of what commands print: a Model that the operator is done with.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod as WholePod;
use kthena_bridge_api::FIELD_MANAGER;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::observe::{Objects, Pod};
use kthena_bridge_core::{Ask, Config, Source, Topology, plan};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::observe::{Ours, Seen};

fn object<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

/// The ModelBooster `a/demo` with more annotations.
pub(crate) fn model(annotations: &[(&str, &str)]) -> ModelBooster {
    let mut all = json!({"kthena-bridge.io/expose": "true"});
    for (key, value) in annotations {
        all[format!("kthena-bridge.io/{key}")] = (*value).into();
    }
    let condition = |type_: &str, status: &str, reason: &str, message: &str| {
        json!({"type": type_, "status": status, "reason": reason, "message": message, "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let model = object::<ModelBooster>(json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelBooster",
        "metadata": {"namespace": "a", "name": "demo", "uid": "u", "generation": 1, "annotations": all,
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"backend": {"name": "b", "type": "vLLM", "workers": [{"type": "server"}]}},
        "status": {"conditions": [
            condition("Active", "True", "ModelAvailable", "ModelBooster is ready"),
            condition("Accepted", "True", "Accepted", "Gateway a/g, any host, path /"),
            condition("Programmed", "False", "EndpointPickerNotReady", "Deployment a/demo-epp has no ready replica"),
        ]},
    }));
    Arc::unwrap_or_clone(model)
}

/// The Model without more annotations, and all of its objects as the operator writes them.
pub(crate) fn seen() -> Seen {
    let labels = |n: &str| {
        json!({"modelserving.volcano.sh/name": n, "modelserving.volcano.sh/entry": "true",
            "modelserving.volcano.sh/role": "leader", "workload.serving.volcano.sh/model-name": "demo"})
    };
    let pod = |name: &str, ready: &str, port: u16| {
        let pod: Arc<WholePod> = object(json!({
            "metadata": {"namespace": "a", "name": name, "labels": labels("demo-b")},
            "spec": {"containers": [{"name": "engine", "ports": [{"containerPort": port}]}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }));
        Arc::new(Pod::from(Arc::unwrap_or_clone(pod)))
    };
    let gateway = object(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"namespace": "a", "name": "g"},
        "spec": {"gatewayClassName": "istio", "listeners": [{"name": "http", "port": 8080, "protocol": "HTTP"}]},
        "status": {"addresses": [{"value": "192.0.2.1"}], "conditions": [
            {"type": "Programmed", "status": "False", "reason": "Invalid", "message": "no port is free",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    }));
    let class = object(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "istio"}, "spec": {"controllerName": "istio.io/gateway-controller"},
    }));
    let serving = object(json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelServing",
        "metadata": {"namespace": "a", "name": "demo-b"},
        "spec": {"template": {"roles": [{"name": "leader", "entryTemplate": {"spec": {"containers": [
            {"name": "engine", "command": ["vllm", "--served-model-name", "served"]}]}}}]}},
    }));
    let mut seen = Seen {
        objects: Objects {
            boosters: vec![Arc::new(model(&[]))],
            servings: vec![serving],
            pods: vec![
                pod("p1", "True", 8000),
                pod("p2", "False", 8000),
                pod("p3", "True", 9),
            ],
            gateways: vec![gateway],
            gateway_classes: vec![class],
            ..Objects::default()
        },
        ..Seen::default()
    };
    // The pool first: the endpoint picker is told of it.
    let mut planned = objects(&seen);
    let pool = planned
        .iter()
        .position(|(kind, _)| *kind == ChildKind::InferencePool);
    let (_, pool) = planned.remove(pool.unwrap());
    write(&mut seen, ChildKind::InferencePool, pool);
    for (kind, object) in objects(&seen) {
        if kind != ChildKind::InferencePool {
            write(&mut seen, kind, object);
        }
    }
    seen
}

fn objects(seen: &Seen) -> Vec<(ChildKind, Value)> {
    let config = Config::default();
    let source = Source::Model(Arc::clone(&seen.objects.boosters[0]));
    let Ask::Exposure(exposure, target) = Ask::of(&source, &config, &seen.objects) else {
        unreachable!("it is exposed")
    };
    let topology = Topology::of(&exposure, &source.owner(), &target, &seen.objects).unwrap();
    let plan = plan::build(&exposure, &topology, &config, &seen.objects);
    plan.objects
        .into_iter()
        .map(|o| (o.kind, o.object))
        .collect()
}

/// Adds an object as the API server has it once we wrote it.
pub(crate) fn write(seen: &mut Seen, kind: ChildKind, mut object: Value) {
    let fields = object.as_object().unwrap().keys();
    let owned = |field: &&String| {
        !matches!(
            field.as_str(),
            "apiVersion" | "kind" | "metadata" | "status"
        )
    };
    let mut fields: Value = fields
        .filter(owned)
        .map(|f| (format!("f:{f}"), json!({})))
        .collect();
    fields["f:metadata"] = json!({"f:labels": {}, "f:ownerReferences": {}});
    let annotations = object["metadata"]["annotations"].as_object();
    for key in annotations.into_iter().flatten().map(|(key, _)| key) {
        fields["f:metadata"]["f:annotations"][format!("f:{key}")] = json!({});
    }
    object["metadata"]["managedFields"] =
        json!([{"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields}]);
    object["metadata"]["uid"] = format!("uid of {kind}").into();
    seen.add(Ours::reduce(kind, object, true));
}
