//! Against what a real Istio wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use kthena_bridge_api::gateway::{Gateway, GatewayClass, GatewayClassSpec};
use serde_json::{Value, json};

use kthena_bridge_api::kthena::ModelBooster;

use super::*;
use crate::config::Config;
use crate::observe::{Child, Objects, Pod};
use crate::owner::OwnerKind;
use crate::plan;

/// The recordings that the stand-in gateway is tested with.
macro_rules! recorded {
    ($name:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!(
            "../../../../e2e/stand-in-gateway/recorded/istio-1.31.0-rc.0/",
            $name,
            ".json"
        )))
        .unwrap()
    };
}

fn model(conditions: &Value) -> ModelBooster {
    serde_json::from_value(json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "ModelBooster",
        "metadata": {"namespace": "default", "name": "demo", "uid": "u1"},
        "spec": {"backend": {"name": "b", "type": "vLLM"}},
        "status": {"conditions": conditions},
    }))
    .unwrap()
}

fn active() -> Value {
    json!([{"type": "Active", "status": "True", "reason": "ModelAvailable", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

fn add(cluster: &mut Objects, kind: ChildKind, name: &str, from: &Value) {
    let mut object = from.clone();
    object["metadata"] = json!({
        "name": name, "namespace": "default", "generation": from["generation"],
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "ownerReferences": [{"apiVersion": "v1", "kind": "ModelBooster", "name": "demo", "uid": "u1"}],
    });
    let child = Child::reduce(kind, &object);
    cluster.children.insert(
        (kind, "default".to_owned(), name.to_owned()),
        Arc::new(child),
    );
}

/// The Model of a recording, with a ready pod and a ready endpoint picker.
fn cluster(recording: &Value, ready: bool) -> Objects {
    let mut cluster = Objects {
        gateway_classes: vec![Arc::new(GatewayClass::new(
            "istio",
            GatewayClassSpec {
                controller_name: "istio.io/gateway-controller".to_owned(),
            },
        ))],
        ..Objects::default()
    };
    if !recording["gateway"].is_null() {
        let mut gateway = recording["gateway"].clone();
        gateway["metadata"] = json!({"namespace": "default", "name": "inference-gateway"});
        cluster.gateways.push(Arc::new(
            serde_json::from_value::<Gateway>(gateway).unwrap(),
        ));
    }
    let mut shared = recorded!("gateway-infra-shared");
    shared["metadata"] = json!({"namespace": "infra", "name": "shared"});
    let shared = serde_json::from_value::<Gateway>(shared).unwrap();
    cluster.gateways.push(Arc::new(shared));
    add(
        &mut cluster,
        ChildKind::HTTPRoute,
        "demo",
        &recording["httproute"],
    );
    if !recording["inferencepool"].is_null() {
        add(
            &mut cluster,
            ChildKind::InferencePool,
            "demo",
            &recording["inferencepool"],
        );
        let labels = &recording["inferencepool"]["spec"]["selector"]["matchLabels"];
        let labels = serde_json::from_value(labels.clone()).unwrap();
        let pod = Pod {
            ready,
            ..pod(labels)
        };
        cluster.pods.push(Arc::new(pod));
    }
    picker(&mut cluster, 1);
    cluster
}

fn pod(labels: BTreeMap<String, String>) -> Pod {
    let labels = labels.into_iter().map(|(k, v)| (k.into(), v.into()));
    let mut pod = Pod {
        labels: labels.collect(),
        ..Pod::default()
    };
    pod.metadata.namespace = "default".into();
    pod
}

fn picker(cluster: &mut Objects, ready: i32) {
    let deployment =
        json!({"generation": 1, "status": {"readyReplicas": ready, "observedGeneration": 1}});
    add(cluster, ChildKind::Deployment, "demo-epp", &deployment);
}

fn owner_and_target(model: &ModelBooster) -> (Owner, Target) {
    let owner = Owner::of(OwnerKind::ModelBooster, &model.metadata);
    (owner, Target::Booster(Arc::new(model.clone())))
}

/// The conditions with annotations that are not understood: only what is live can tell.
fn report(cluster: &Objects, conditions: &Value, now: &str) -> Report {
    let annotations = [("kthena-bridge.io/expose".to_owned(), "yes".to_owned())].into();
    let invalid = Exposure::parse("default", "demo", &annotations, &Config::default()).unwrap_err();
    let (owner, target) = owner_and_target(&model(conditions));
    self::conditions(
        &owner,
        Some(&target),
        Outcome::Invalid(&invalid),
        cluster,
        now.parse().unwrap(),
    )
}

const SOON: &str = "2026-01-01T00:00:01Z";

#[test]
fn what_istio_reports_is_told() {
    for (recording, reason) in [
        (recorded!("ok"), Reason::Programmed),
        (
            recorded!("endpoint-picker-service-missing"),
            Reason::PoolNotResolved,
        ),
        (recorded!("listener-missing"), Reason::RouteNotAccepted),
        (recorded!("namespace-not-allowed"), Reason::RouteNotAccepted),
        (recorded!("gateway-missing"), Reason::GatewayNotProgrammed),
    ] {
        let report = report(&cluster(&recording, true), &active(), SOON);
        assert_eq!(report.accepted.reason, Reason::InvalidAnnotation);
        assert_eq!(
            report.programmed.reason, reason,
            "{}: {report:#?}",
            recording["scenario"]
        );
    }
}

/// A Gateway that says nothing of the route.
fn silent() -> Value {
    let mut recording = recorded!("ok");
    recording["httproute"]["status"] = Value::Null;
    recording
}

#[test]
fn a_silence_becomes_a_reason() {
    let silent = cluster(&silent(), true);
    let pending = report(&silent, &active(), SOON);
    assert_eq!(pending.again_in, Some(Duration::from_secs(29)));
    let silent = report(&silent, &active(), "2026-01-01T00:00:30Z");
    assert_eq!(
        (silent.programmed.reason, silent.again_in),
        (Reason::NotReported, None)
    );
}

/// A Gateway is given the same time again after each change.
#[test]
fn a_silence_begins_with_the_last_write() {
    let mut silent = cluster(&silent(), true);
    let key = (
        ChildKind::HTTPRoute,
        "default".to_owned(),
        "demo".to_owned(),
    );
    let mut route = (*silent.children[&key]).clone();
    route.written_at = Some("2026-01-01T01:00:00Z".parse().unwrap());
    silent.children.insert(key, Arc::new(route));
    let later = report(&silent, &active(), "2026-01-01T01:00:10Z");
    assert_eq!(
        (later.programmed.reason, later.again_in),
        (Reason::Pending, Some(Duration::from_secs(20)))
    );
}

#[test]
fn a_gateway_that_is_not_programmed_serves_nothing() {
    let mut recording = recorded!("ok");
    recording["gateway"]["status"] = recorded!("gateway-infra-shared")["status"].clone();
    let report = report(&cluster(&recording, true), &active(), SOON);
    assert_eq!(
        report.programmed.reason,
        Reason::GatewayNotProgrammed,
        "{report:#?}"
    );
    assert!(
        report.programmed.message.contains("AddressNotUsable"),
        "{report:#?}"
    );
}

#[test]
fn an_old_report_is_no_report() {
    let mut recording = recorded!("ok");
    recording["httproute"]["generation"] = 2.into();
    let report = report(&cluster(&recording, true), &active(), SOON);
    assert_eq!(report.programmed.reason, Reason::Pending);
}

#[test]
fn no_ready_pod_comes_before_everything_behind_it() {
    let cluster = cluster(&recorded!("listener-missing"), false);
    assert_eq!(
        report(&cluster, &active(), SOON).programmed.reason,
        Reason::NoReadyEndpoints
    );
    let failed = json!([{"type": "Failed", "status": "True", "reason": "ModelAbnormal", "message": "no image", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let report = report(&cluster, &failed, SOON);
    assert_eq!(report.programmed.reason, Reason::ModelFailed);
    assert!(report.programmed.message.contains("no image"));
}

#[test]
fn a_picker_outage_is_a_note_only_where_requests_need_no_picker() {
    let mut open = recorded!("ok");
    open["inferencepool"]["spec"]["endpointPickerRef"]["failureMode"] = "FailOpen".into();
    let mut cluster = cluster(&open, true);
    picker(&mut cluster, 0);
    let told = report(&cluster, &active(), SOON);
    assert_eq!(told.programmed.reason, Reason::Programmed);
    assert!(
        told.programmed
            .message
            .contains("demo-epp has no ready replica"),
        "{told:#?}"
    );
    add(
        &mut cluster,
        ChildKind::InferenceModelRewrite,
        "demo",
        &json!({"generation": 1}),
    );
    assert_eq!(
        report(&cluster, &active(), SOON).programmed.reason,
        Reason::EndpointPickerNotReady
    );

    let mut closed = self::cluster(&recorded!("ok"), true);
    picker(&mut closed, 0);
    assert_eq!(
        report(&closed, &active(), SOON).programmed.reason,
        Reason::EndpointPickerNotReady
    );
}

#[test]
fn a_port_that_the_ready_pods_do_not_serve_is_named() {
    let mut cluster = cluster(&recorded!("ok"), true);
    let with_ports = |cluster: &mut Objects, ports: &[u16]| {
        let mut pod = (*cluster.pods[0]).clone();
        pod.ports = ports.to_vec();
        cluster.pods = vec![Arc::new(pod)];
    };
    with_ports(&mut cluster, &[8000]);
    assert_eq!(
        report(&cluster, &active(), SOON).programmed.reason,
        Reason::Programmed
    );
    with_ports(&mut cluster, &[8001, 8002]);
    let told = report(&cluster, &active(), SOON).programmed;
    assert_eq!(told.reason, Reason::PortNotServed);
    assert!(
        told.message.contains("port 8000") && told.message.contains("8001, 8002"),
        "{}",
        told.message
    );
}

#[test]
fn names_that_an_old_picker_does_not_rewrite_are_told() {
    let config = Config::parse("{endpointPicker: {version: v1.2.1}}").unwrap();
    let mut exposed = BTreeMap::from([("kthena-bridge.io/expose".to_owned(), "true".to_owned())]);
    exposed.insert(
        "kthena-bridge.io/gateway".to_owned(),
        "inference-gateway".to_owned(),
    );
    let exposure = Exposure::parse("default", "demo", &exposed, &config)
        .unwrap()
        .unwrap();
    let cluster = cluster(&recorded!("ok"), true);
    let model = model(&active());
    let (owner, target) = owner_and_target(&model);
    let provider = &crate::provider::ISTIO;
    let mut topology = Topology::offline(&exposure, &owner, &target, &cluster, provider).unwrap();
    topology.served_names = vec!["served".to_owned()];
    let plan = plan::build(&exposure, &topology, &config, &cluster);
    let outcome = Outcome::Applied {
        exposure: &exposure,
        topology: &topology,
        plan: &plan,
        failures: &[],
    };
    let now = SOON.parse().unwrap();
    let told = self::conditions(&owner, Some(&target), outcome, &cluster, now).accepted;
    assert_eq!(told.reason, Reason::Accepted);
    assert!(
        told.message
            .contains("rewrites no names before v1.3, so demo is not served"),
        "{}",
        told.message
    );
}

#[test]
fn what_keeps_the_picker_from_running_is_told() {
    let mut cluster = cluster(&recorded!("ok"), true);
    picker(&mut cluster, 0);
    let pod = Pod {
        stuck: Some("the image i:1 cannot be pulled".to_owned()),
        ..pod(plan::picker_labels("demo-epp"))
    };
    cluster.pods.push(Arc::new(pod));
    let told = report(&cluster, &active(), SOON).programmed;
    assert_eq!(told.reason, Reason::EndpointPickerNotReady);
    assert!(
        told.message.contains("the image i:1 cannot be pulled"),
        "{}",
        told.message
    );

    let quota = json!({"generation": 1, "status": {"observedGeneration": 1, "conditions": [{"type": "ReplicaFailure",
        "status": "True", "message": "pods \"demo-epp-6d-x2x\" is forbidden: exceeded quota: pods=0"}]}});
    add(&mut cluster, ChildKind::Deployment, "demo-epp", &quota);
    let told = report(&cluster, &active(), SOON).programmed;
    assert!(
        told.message
            .contains("its pod cannot be made: exceeded quota: pods=0"),
        "{}",
        told.message
    );
}

#[test]
fn a_gateway_that_may_not_be_read_is_not_said_to_be_programmed() {
    let mut cluster = cluster(&recorded!("ok"), true);
    cluster.confined = true;
    cluster.gateways.clear();
    cluster.gateway_classes.clear();
    let told = report(&cluster, &active(), SOON).programmed;
    assert_eq!(
        told.reason,
        Reason::GatewayNotProgrammed,
        "nobody says that it is there"
    );

    let key = ("default".to_owned(), "inference-gateway".to_owned());
    cluster.configured.insert(key, &crate::provider::ISTIO);
    let told = report(&cluster, &active(), SOON).programmed;
    assert_eq!(told.reason, Reason::Programmed);
    assert!(
        told.message
            .ends_with("whether Gateway default/inference-gateway is programmed is not known, since the operator may not read it"),
        "{}",
        told.message
    );
}
