//! Every annotation works, is gone again when it is taken off, and does no harm when it is wrong.

use k8s_openapi::api::core::v1::Service;
use kthena_bridge_api::annotation;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_core::OwnerKind;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use testbed::{Model, TestBed, exposed_by};

use crate::{
    LIMIT, bed, essences, kthenas_conditions, versions, wait_until_as_before, wait_until_gone,
};

/// An annotation, and where its value is found in which object.
const OPTIONAL: &[(&str, &str, ChildKind, &str, &str)] = &[
    (
        "hostnames",
        "a.example.com,b.example.com",
        ChildKind::HTTPRoute,
        "/spec/hostnames/1",
        "b.example.com",
    ),
    (
        "path",
        "/models/demo",
        ChildKind::HTTPRoute,
        "/spec/rules/0/matches/0/path/value",
        "/models/demo",
    ),
    (
        "path",
        "/models/demo/",
        ChildKind::HTTPRoute,
        "/spec/rules/0/filters/0/urlRewrite/path/replacePrefixMatch",
        "/",
    ),
    (
        "model-names",
        "x",
        ChildKind::InferenceModelRewrite,
        "/spec/rules/0/matches/0/model/value",
        "x",
    ),
    (
        "priority",
        "-7",
        ChildKind::InferenceObjective,
        "/spec/priority",
        "-7",
    ),
    (
        "request-timeout",
        "17s",
        ChildKind::HTTPRoute,
        "/spec/rules/0/timeouts/request",
        "17s",
    ),
    (
        "failure-mode",
        "FailClose",
        ChildKind::InferencePool,
        "/spec/endpointPickerRef/failureMode",
        "FailClose",
    ),
    (
        "target-port",
        "8001",
        ChildKind::InferencePool,
        "/spec/targetPorts/0/number",
        "8001",
    ),
    (
        "pod-selector",
        "a=b,c=d",
        ChildKind::InferencePool,
        "/spec/selector/matchLabels/c",
        "d",
    ),
    (
        "endpoint-picker",
        "mine:1234",
        ChildKind::InferencePool,
        "/spec/endpointPickerRef/name",
        "mine",
    ),
    (
        "gateway",
        "inference-gateway:http",
        ChildKind::HTTPRoute,
        "/spec/parentRefs/0/sectionName",
        "http",
    ),
];

async fn field(
    model: &Model<'_>,
    kind: ChildKind,
    pointer: &str,
) -> Result<Option<String>, String> {
    let object = model.child(kind, model.name()).await?;
    let value = object.and_then(|object| object.data.pointer(pointer).cloned());
    Ok(value.map(|value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    }))
}

/// Waits until a field of an object of the Model's name has a value.
async fn wait_for_field(
    bed: &TestBed,
    model: &Model<'_>,
    kind: ChildKind,
    pointer: &str,
    value: &str,
) {
    let looked = bed.wait_for(
        format!("{pointer} of the {kind} is {value}"),
        LIMIT,
        async || {
            let found = field(model, kind, pointer).await?;
            if found.as_deref() == Some(value) {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        },
    );
    looked.await.unwrap();
}

#[tokio::test]
async fn what_an_annotation_sets_is_gone_when_the_annotation_is() {
    let bed = bed().await;
    let namespace = bed.namespace("optional").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    let before = essences(&model).await.unwrap();
    for (key, value, kind, pointer, expected) in OPTIONAL {
        model.annotate(&[(key, Some(value))]).await.unwrap();
        wait_for_field(&bed, &model, *kind, pointer, expected).await;
        let off = if *key == "gateway" {
            Some("inference-gateway")
        } else {
            None
        };
        model.annotate(&[(key, off)]).await.unwrap();
        let what = format!("everything is as before {key}={value}");
        wait_until_as_before(&bed, &model, &before, &what).await;
    }
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
}

#[tokio::test]
async fn the_only_gateway_of_the_namespace_is_used_and_a_second_one_moves_nothing() {
    let bed = bed().await;
    let namespace = bed.namespace("default").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.annotate(&[("expose", Some("true"))]).await.unwrap();
    let accepted = model
        .wait_for_reason("Accepted", "GatewayNotSpecified")
        .await
        .unwrap();
    let setting = exposed_by().setting(annotation::GATEWAY);
    assert!(accepted.message.contains(&setting), "{}", accepted.message);
    let address = namespace.gateway("first").await.unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    namespace.gateway("another").await.unwrap();
    // Anything that makes the operator look again.
    model
        .annotate(&[("request-timeout", Some("7s"))])
        .await
        .unwrap();
    wait_for_field(
        &bed,
        &model,
        ChildKind::HTTPRoute,
        "/spec/rules/0/timeouts/request",
        "7s",
    )
    .await;
    let parent = field(&model, ChildKind::HTTPRoute, "/spec/parentRefs/0/name")
        .await
        .unwrap();
    assert_eq!(parent.as_deref(), Some("first"));
    assert_eq!(
        model
            .wait_for_condition("Accepted", "True")
            .await
            .unwrap()
            .reason,
        "Accepted"
    );
}

#[tokio::test]
async fn un_annotating_removes_what_is_ours_and_touches_nothing_else() {
    let bed = bed().await;
    let namespace = bed.namespace("withdraw").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    let other = namespace.model("other").await.unwrap();
    // Made by hand, in the guise of ours.
    let foreign = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "foreign",
        "labels": {"app.kubernetes.io/managed-by": "kthena-bridge", "kthena-bridge.io/model": "demo"}},
        "spec": {"ports": [{"port": 1}]}});
    namespace.apply(&foreign.to_string()).await.unwrap();
    model
        .expose(
            "inference-gateway",
            &[("path", Some("/demo")), ("priority", Some("1"))],
        )
        .await
        .unwrap();
    other
        .expose("inference-gateway", &[("path", Some("/other"))])
        .await
        .unwrap();
    let kthenas = kthenas_conditions(&model).await;
    let services: Api<Service> = Api::namespaced(bed.client().unwrap(), namespace.name());
    let untouched = async || {
        let service = services
            .get("foreign")
            .await
            .unwrap()
            .metadata
            .resource_version;
        let pods: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(bed.client().unwrap(), namespace.name());
        let engines = ListParams::default().labels("modelserving.volcano.sh/name");
        let engines = pods.list(&engines).await.unwrap().items;
        let engines: Vec<_> = engines
            .into_iter()
            .map(|pod| pod.metadata.resource_version)
            .collect();
        (service, engines, versions(&other).await)
    };
    let before = untouched().await;

    model.annotate(&[("expose", Some("false"))]).await.unwrap();
    model.wait_until_withdrawn().await.unwrap();
    assert_eq!(kthenas_conditions(&model).await, kthenas);
    bed.wait_for_answer(address, "/demo", "demo", 404)
        .await
        .unwrap();
    assert_eq!(untouched().await, before);

    model.annotate(&[("expose", Some("true"))]).await.unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    bed.wait_for_answer(address, "/demo", "demo", 200)
        .await
        .unwrap();
    model.delete().await.unwrap();
    wait_until_gone(&bed, &model).await;
    assert_eq!(
        services
            .get("foreign")
            .await
            .unwrap()
            .metadata
            .resource_version,
        before.0
    );
    assert_eq!(versions(&other).await, before.2);
    bed.wait_for_answer(address, "/other", "other", 200)
        .await
        .unwrap();
}

/// Values that are wrong, and a word that the message must hold beside key and value.
fn wrong() -> Vec<(&'static str, String, &'static str)> {
    if exposed_by() == OwnerKind::ModelExposure {
        // The others are refused by the API server, or cannot be said.
        return vec![("match-model", "true".to_owned(), "modelHeader")];
    }
    let long = "x".repeat(300);
    vec![
        ("expose", "yes".to_owned(), "true"),
        ("exposed", "true".to_owned(), "expose"),
        ("no-such-key", "1".to_owned(), "kthena-bridge.io/"),
        ("target-port", "0".to_owned(), "65535"),
        ("target-port", "http".to_owned(), "65535"),
        ("path", "models/demo".to_owned(), "/"),
        ("path", "/a\u{1}b".to_owned(), "path"),
        ("request-timeout", "soon".to_owned(), "duration"),
        ("priority", "high".to_owned(), "whole number"),
        ("failure-mode", "open".to_owned(), "FailOpen"),
        ("hostnames", "exa mple.com".to_owned(), "host"),
        ("hostnames", long.clone(), "host"),
        ("gateway", "a/b/c".to_owned(), "name"),
        ("gateway", "\"quoted\"".to_owned(), "name"),
        ("model-names", "\u{7}".to_owned(), "name"),
        ("pod-selector", format!("a={long}"), "label"),
        (
            "endpoint-picker",
            "Not A Service".to_owned(),
            "my-picker:9002",
        ),
        ("match-model", "true".to_owned(), "modelHeader"),
        ("paused", "maybe".to_owned(), "true"),
    ]
}

/// Checks that a message names what is wrong, with the start of its value, and how to mend it, on one line.
fn names_what_is_wrong(message: &str, key: &str, value: &str, fix: &str) {
    let setting = exposed_by().setting(&format!("kthena-bridge.io/{key}"));
    assert!(message.contains(&setting), "{setting} is not in {message}");
    assert!(message.contains(fix), "{fix:?} is not in {message}");
    assert!(!message.contains(char::is_control), "{message:?}");
    // The value of a field that is true or false is not repeated.
    if exposed_by() == OwnerKind::ModelBooster {
        let start = value
            .chars()
            .take_while(|c| !c.is_control() && *c != '"')
            .take(20);
        let start: String = start.collect();
        assert!(message.contains(&start), "{start:?} is not in {message}");
    }
}

#[tokio::test]
async fn bad_input_is_named_and_what_served_goes_on_serving() {
    let bed = bed().await;
    let namespace = bed.namespace("bad").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    let other = namespace.model("other").await.unwrap();
    model
        .expose("inference-gateway", &[("path", Some("/demo"))])
        .await
        .unwrap();
    other
        .expose("inference-gateway", &[("path", Some("/other"))])
        .await
        .unwrap();
    bed.wait_for_answer(address, "/demo", "demo", 200)
        .await
        .unwrap();
    bed.wait_for_answer(address, "/other", "other", 200)
        .await
        .unwrap();
    let before = versions(&other).await;
    for (key, value, fix) in wrong() {
        model.annotate(&[(key, Some(&value))]).await.unwrap();
        let invalid = model
            .wait_for_reason("Accepted", exposed_by().invalid().as_str())
            .await
            .unwrap();
        names_what_is_wrong(&invalid.message, key, &value, fix);
        let answer = bed.ask(address, "/demo", "demo").await.unwrap();
        assert_eq!(
            answer.status, 200,
            "{key}={value}: what served still serves: {answer:?}"
        );
        let conditions = model.conditions().await.unwrap();
        assert!(
            conditions
                .iter()
                .any(|c| c.type_ == "Programmed" && c.status == "True"),
            "{conditions:#?}"
        );
        let right = match key {
            "expose" => Some("true"),
            "gateway" => Some("inference-gateway"),
            "path" => Some("/demo"),
            _ => None,
        };
        model.annotate(&[(key, right)]).await.unwrap();
        model.wait_for_condition("Accepted", "True").await.unwrap();
    }
    model
        .annotate(&[("gateway", Some("nowhere"))])
        .await
        .unwrap();
    let missing = model
        .wait_for_reason("Accepted", "GatewayNotFound")
        .await
        .unwrap();
    assert!(
        missing
            .message
            .contains(&format!("{}/nowhere", namespace.name())),
        "{}",
        missing.message
    );
    assert_eq!(bed.ask(address, "/demo", "demo").await.unwrap().status, 200);
    // It is there a moment later, and taken up by itself.
    namespace.gateway("nowhere").await.unwrap();
    model.wait_for_condition("Accepted", "True").await.unwrap();
    model
        .annotate(&[("gateway", Some("inference-gateway"))])
        .await
        .unwrap();
    wait_for_field(
        &bed,
        &model,
        ChildKind::HTTPRoute,
        "/spec/parentRefs/0/name",
        "inference-gateway",
    )
    .await;
    assert_eq!(
        versions(&other).await,
        before,
        "another Model is not touched"
    );
}

#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone_and_named() {
    let bed = bed().await;
    let namespace = bed.namespace("conflict").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let foreign = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "demo-epp"},
        "data": {"mine": "true"}});
    namespace.apply(&foreign.to_string()).await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model
        .annotate_exposed("inference-gateway", &[])
        .await
        .unwrap();
    let conflict = model
        .wait_for_reason("Accepted", "NameConflict")
        .await
        .unwrap();
    assert!(
        conflict
            .message
            .contains(&format!("ConfigMap {}/demo-epp", namespace.name())),
        "{}",
        conflict.message
    );
    let maps = model.children_api(ChildKind::ConfigMap).unwrap();
    assert_eq!(
        maps.get("demo-epp").await.unwrap().data["data"],
        json!({"mine": "true"})
    );
    maps.delete("demo-epp", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    let ours: Value = maps.get("demo-epp").await.unwrap().data["data"].clone();
    assert!(ours.get("mine").is_none(), "{ours}");
}

#[tokio::test]
async fn a_paused_model_keeps_its_objects_and_tells_the_truth() {
    let bed = bed().await;
    let namespace = bed.namespace("paused").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    let before = versions(&model).await;
    model
        .annotate(&[("paused", Some("true")), ("path", Some("/elsewhere"))])
        .await
        .unwrap();
    let looked = bed.wait_for("Accepted says that it is paused", LIMIT, async || {
        let accepted = model
            .wait_for_condition("Accepted", "True")
            .await
            .map_err(|e| e.to_string())?;
        if accepted.message.contains("paused") {
            Ok(())
        } else {
            Err(accepted.message)
        }
    });
    looked.await.unwrap();
    assert_eq!(versions(&model).await, before);
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    model
        .patch(&json!({"spec": {"backend": {"replicas": 0}}}))
        .await
        .unwrap();
    model
        .wait_for_condition("Programmed", "False")
        .await
        .unwrap();
    model.annotate(&[("paused", None)]).await.unwrap();
    wait_for_field(
        &bed,
        &model,
        ChildKind::HTTPRoute,
        "/spec/rules/0/matches/0/path/value",
        "/elsewhere",
    )
    .await;
}
