//! Tests of the whole translation, and of what Envoy makes of it.

#![allow(
    clippy::needless_pass_by_value,
    reason = "json!(…) as an argument reads better without a reference"
)]

mod attach;
mod live;
mod replay;
mod route;

use std::{path::PathBuf, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    Options, Snapshot, StatusWrite, Xds,
    api::{Gateway, GatewayClass, Kind},
    snapshot::{CONTROLLER, Key},
    translate,
};

fn read<K: DeserializeOwned>(object: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(object).unwrap())
}

pub(crate) fn gateway_class() -> GatewayClass {
    serde_json::from_value(json!({
        "kind": "GatewayClass",
        "metadata": {"name": "istio", "generation": 1},
        "spec": {"controllerName": CONTROLLER},
    }))
    .unwrap()
}

pub(crate) fn gateway(namespace: &str, name: &str) -> Gateway {
    serde_json::from_value(gateway_with(namespace, name, json!([http(json!({}))]))).unwrap()
}

fn gateway_with(namespace: &str, name: &str, listeners: Value) -> Value {
    json!({
        "kind": "Gateway",
        "metadata": {"namespace": namespace, "name": name, "generation": 1},
        "spec": {"gatewayClassName": "istio", "listeners": listeners},
    })
}

/// A listener with some fields of its own.
fn http(fields: Value) -> Value {
    let mut listener = json!({"name": "http", "port": 80, "protocol": "HTTP"});
    listener
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    listener
}

fn route(namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "kind": "HTTPRoute",
        "metadata": {"namespace": namespace, "name": name, "generation": 1},
        "spec": spec,
    })
}

fn pool(namespace: &str, name: &str, port: u16, failure_mode: &str) -> Value {
    json!({
        "kind": "InferencePool",
        "metadata": {"namespace": namespace, "name": name, "generation": 1},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "targetPorts": [{"number": port}],
            "endpointPickerRef": {"name": format!("{name}-epp"), "port": {"number": 9002}, "failureMode": failure_mode},
        },
    })
}

fn pod(namespace: &str, app: &str, ip: &str) -> Value {
    json!({
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": format!("{app}-{ip}"), "labels": {"app": app}},
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn service(namespace: &str, name: &str, port: Value) -> Value {
    json!({"kind": "Service", "metadata": {"namespace": namespace, "name": name}, "spec": {"ports": [port]}})
}

fn to_pool(name: &str) -> Value {
    json!([{"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": name}])
}

/// A cluster of these objects and the class, where every Gateway has an address.
fn cluster(objects: impl IntoIterator<Item = Value>) -> Snapshot {
    let mut all = Snapshot::default();
    all.gateway_classes
        .insert(Key::new("", "istio"), Arc::new(gateway_class()));
    for object in objects {
        let text = |pointer| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let key = Key::new(&text("/metadata/namespace"), &text("/metadata/name"));
        match text("/kind").as_str() {
            "Gateway" => drop(all.gateways.insert(key, read(object))),
            "HTTPRoute" => drop(all.http_routes.insert(key, read(object))),
            "InferencePool" => drop(all.inference_pools.insert(key, read(object))),
            "DestinationRule" => drop(all.destination_rules.insert(key, read(object))),
            "Namespace" => drop(all.namespaces.insert(key, read(object))),
            "Service" => drop(all.services.insert(key, read(object))),
            "EndpointSlice" => drop(all.endpoint_slices.insert(key, read(object))),
            "Pod" => drop(all.pods.insert(key, read(object))),
            kind => panic!("the stand-in does not read {kind}"),
        }
    }
    all.addresses = all
        .gateways
        .keys()
        .map(|key| (key.clone(), [10, 77, 3, 1].into()))
        .collect();
    all
}

fn options(dir: impl Into<PathBuf>) -> Options {
    Options {
        dir: dir.into(),
        system_ca: "/etc/ssl/certs/ca-certificates.crt".into(),
    }
}

fn xds(snapshot: &Snapshot) -> Xds {
    translate(snapshot, &options("/xds")).0
}

fn statuses(snapshot: &Snapshot) -> Vec<StatusWrite> {
    translate(snapshot, &options("/xds")).1
}

fn status_of(snapshot: &Snapshot, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
    let key = Key::new(namespace, name);
    statuses(snapshot)
        .into_iter()
        .find(|write| write.kind == kind && write.key == key)
        .map(|write| write.status)
}
