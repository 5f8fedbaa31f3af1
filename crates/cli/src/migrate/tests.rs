//! What is found, copied and asked for, over the objects of the test bed's hand-made exposure.

use std::collections::BTreeMap;

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_core::Config;
use kube::core::{ApiResource, GroupVersionKind};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::asked::Asked;
use super::by_hand::{ByHand, Lists};
use super::object::{Keeper, Object};
use super::{Migration, aside, asked};

const BY_HAND: &str = include_str!("../../../../e2e/testbed/tests/bed/by-hand.yaml");

fn object(mut value: Value) -> Object {
    let text = |key: &str| value[key].as_str().unwrap().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let gvk = GroupVersionKind::gvk(group, version, &kind);
    let known = ChildKind::ALL
        .into_iter()
        .find(|k| k.as_str() == kind && k.group() == group);
    let resource = known.map_or_else(|| ApiResource::from_gvk(&gvk), ChildKind::api_resource);
    value["metadata"]["namespace"] = "default".into();
    Object::new(&resource, value)
}

/// The objects of the bed's hand-made exposure, after a change to each.
fn lists(change: impl Fn(&mut Value)) -> Lists {
    let yaml = BY_HAND.replace("NAMESPACE.svc", "default.svc");
    let documents = serde_yaml::Deserializer::from_str(&yaml);
    let mut objects = Vec::new();
    for document in documents {
        let mut value = Value::deserialize(document).unwrap();
        change(&mut value);
        objects.push(object(value));
    }
    let labels = [
        ("modelserving.volcano.sh/name", "demo-backend1"),
        ("modelserving.volcano.sh/entry", "true"),
        ("modelserving.volcano.sh/role", "leader"),
    ];
    let pod = labels.map(|(k, v)| (k.to_owned(), v.to_owned()));
    Lists {
        objects,
        cluster_role_bindings: Vec::new(),
        pods: vec![BTreeMap::from(pod)],
    }
}

fn found(change: impl Fn(&mut Value)) -> ByHand {
    ByHand::find(&lists(change), "demo", "uid", None)
        .unwrap()
        .unwrap()
}

fn names(by_hand: &ByHand) -> Vec<String> {
    by_hand.all().map(ToString::to_string).collect()
}

fn of_kind(kind: &'static str, change: impl Fn(&mut Value)) -> impl Fn(&mut Value) {
    move |value| {
        if value["kind"] == kind {
            change(value);
        }
    }
}

#[test]
fn the_whole_chain_is_found_by_what_refers_to_what() {
    let by_hand = found(|_| {});
    assert_eq!(
        names(&by_hand),
        [
            "HTTPRoute demo",
            "InferencePool demo",
            "Service demo-epp",
            "DestinationRule demo-epp",
            "Deployment demo-epp",
            "ConfigMap demo-epp",
            "ServiceAccount demo-epp",
            "RoleBinding demo-epp",
            "Role demo-epp",
            "InferenceModelRewrite demo",
        ]
    );
    assert_eq!(by_hand.left, []);
}

#[test]
fn what_is_owned_by_the_model_or_selects_other_pods_is_not_by_hand() {
    let owned = lists(of_kind("InferencePool", |pool| {
        pool["metadata"]["ownerReferences"] = json!([{"uid": "uid"}]);
    }));
    assert_eq!(ByHand::find(&owned, "demo", "uid", None).unwrap(), None);
    let other = lists(of_kind("InferencePool", |pool| {
        pool["spec"]["selector"]["matchLabels"] = json!({"app": "other"});
    }));
    assert_eq!(ByHand::find(&other, "demo", "uid", None).unwrap(), None);
    let of_guide = lists(of_kind("InferencePool", |pool| {
        pool["spec"]["selector"]["matchLabels"] =
            json!({"app.kubernetes.io/instance": "demo", "app.kubernetes.io/managed-by": "kthena"});
    }));
    assert!(
        ByHand::find(&of_guide, "demo", "uid", None)
            .unwrap()
            .is_some()
    );
}

#[test]
fn what_others_use_is_left() {
    let mut lists = lists(|_| {});
    let mut other = lists
        .objects
        .iter()
        .find(|o| o.is("Deployment"))
        .unwrap()
        .clone();
    other.value["metadata"]["name"] = "other".into();
    other.value["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
    lists.objects.push(other);
    let by_hand = ByHand::find(&lists, "demo", "uid", None).unwrap().unwrap();
    assert!(
        !names(&by_hand)
            .iter()
            .any(|n| n.starts_with("ConfigMap") || n.starts_with("ServiceAccount"))
    );
    let left: Vec<&str> = by_hand.left.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(left, ["ConfigMap demo-epp", "ServiceAccount demo-epp"]);
}

#[test]
fn without_one_route_there_is_nothing_to_hand_over() {
    let none = lists(of_kind("HTTPRoute", |route| {
        route["spec"]["rules"] = json!([]);
    }));
    let error = ByHand::find(&none, "demo", "uid", None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no HTTPRoute leads to InferencePool demo"),
        "{error}"
    );
    let mut two = lists(|_| {});
    let mut second = two
        .objects
        .iter()
        .find(|o| o.is("HTTPRoute"))
        .unwrap()
        .clone();
    second.value["metadata"]["name"] = "second".into();
    two.objects.push(second);
    let error = ByHand::find(&two, "demo", "uid", None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("HTTPRoutes demo, second all lead to"),
        "{error}"
    );
}

#[test]
fn copies_refer_to_one_another_and_never_to_originals() {
    let copies = aside::copies(&found(|_| {}), "demo").unwrap();
    let yaml: Vec<String> = copies
        .all()
        .map(|o| serde_yaml::to_string(&o.value).unwrap())
        .collect();
    insta::assert_snapshot!(yaml.join("---\n"));
    // What an earlier run had set aside is found, and the originals are not taken for it.
    let mut both = lists(|_| {});
    both.objects.extend(copies.all().cloned());
    let again = ByHand::find(&both, "demo", "uid", None).unwrap().unwrap();
    assert_eq!(names(&again)[0], "HTTPRoute demo");
    both.objects.retain(|o| o.name().ends_with("-by-hand"));
    let again = ByHand::find(&both, "demo", "uid", None).unwrap().unwrap();
    assert_eq!(names(&again).len(), names(&copies).len());
}

#[test]
fn an_endpoint_picker_that_is_told_its_pool_in_any_way_can_be_copied() {
    let args = |args: Value| {
        let by_hand = found(of_kind("Deployment", |deployment| {
            deployment["spec"]["template"]["spec"]["containers"][0]["args"] = args.clone();
        }));
        let copies = aside::copies(&by_hand, "demo")?;
        let deployment = copies.of("Deployment").next().unwrap();
        let pointer = "/spec/template/spec/containers/0/args";
        Ok::<_, String>(deployment.value.pointer(pointer).unwrap().clone())
    };
    for (before, after) in [
        (
            json!(["--pool-name", "demo", "demo"]),
            json!(["--pool-name", "demo-by-hand", "demo"]),
        ),
        (json!(["-poolName=demo"]), json!(["-poolName=demo-by-hand"])),
    ] {
        assert_eq!(args(before), Ok(after));
    }
    let error = args(json!(["--pool-name=other"])).unwrap_err();
    assert!(
        error.contains("Deployment demo-epp names its pool in no --pool-name"),
        "{error}"
    );
}

fn asked(by_hand: &ByHand) -> Result<Asked, Vec<String>> {
    let served = ["Qwen2.5-0.5B-Instruct".to_owned()];
    asked::read(by_hand, "demo", &served, 8000, &Config::default())
}

#[test]
fn annotations_say_what_is_not_so_by_default() {
    let asked = asked(&found(|_| {})).unwrap();
    insta::assert_yaml_snapshot!(asked.annotations, @r#"
    kthena-bridge.io/expose: "true"
    kthena-bridge.io/failure-mode: FailClose
    kthena-bridge.io/gateway: inference-gateway
    kthena-bridge.io/path: /
    "#);
    assert_eq!(asked.notes, Vec::<String>::new());
}

#[test]
fn everything_that_annotations_can_say_is_said() {
    let mut by_hand = found(|value| match value["kind"].as_str().unwrap() {
        "HTTPRoute" => {
            value["spec"] = json!({
                "parentRefs": [{"name": "g", "namespace": "infra", "sectionName": "web"}, {"name": "h"}],
                "hostnames": ["a.example.com", "b.example.com"],
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": "/m/"},
                        "headers": [{"name": "x-gateway-model-name", "value": "other"}]}],
                    "filters": [{"type": "URLRewrite",
                        "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}],
                    "backendRefs": [{"kind": "InferencePool", "name": "demo"}]}]});
        }
        "InferencePool" => value["spec"]["targetPorts"] = json!([{"number": 9000}]),
        _ => {}
    });
    by_hand.others.push(object(json!({
        "apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceObjective",
        "metadata": {"name": "low"}, "spec": {"priority": -3, "poolRef": {"name": "demo"}}})));
    let asked = asked(&by_hand).unwrap();
    insta::assert_yaml_snapshot!(asked.annotations, @r#"
    kthena-bridge.io/expose: "true"
    kthena-bridge.io/failure-mode: FailClose
    kthena-bridge.io/gateway: "infra/g:web,h"
    kthena-bridge.io/hostnames: "a.example.com,b.example.com"
    kthena-bridge.io/match-model: "true"
    kthena-bridge.io/model-names: "Qwen2.5-0.5B-Instruct,demo,other"
    kthena-bridge.io/path: /m
    kthena-bridge.io/priority: "-3"
    kthena-bridge.io/target-port: "9000"
    "#);
    assert_eq!(asked.notes.len(), 2, "{:?}", asked.notes);
}

#[test]
fn what_annotations_cannot_say_is_refused_by_name() {
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 8] = [
        (
            |spec| spec["rules"] = json!([spec["rules"][0], spec["rules"][0]]),
            "several rules",
        ),
        (
            |spec| spec["rules"][0]["matches"][0]["method"] = "POST".into(),
            "methods",
        ),
        (
            |spec| spec["rules"][0]["matches"][0]["path"]["type"] = "Exact".into(),
            "PathPrefix",
        ),
        (
            |spec| spec["rules"][0]["matches"][0]["headers"] = json!([{"name": "a", "value": "b"}]),
            "other headers",
        ),
        (
            |spec| {
                spec["rules"][0]["matches"] =
                    json!([{"path": {"value": "/a"}}, {"path": {"value": "/b"}}]);
            },
            "several paths",
        ),
        (
            |spec| spec["rules"][0]["filters"] = json!([{"type": "RequestMirror"}]),
            "a filter RequestMirror",
        ),
        (
            |spec| {
                spec["rules"][0]["backendRefs"] =
                    json!([spec["rules"][0]["backendRefs"][0], {"name": "x"}]);
            },
            "several backends",
        ),
        (
            |spec| spec["parentRefs"][0]["port"] = 80.into(),
            "a parentRef with a port",
        ),
    ];
    for (change, said) in changes {
        let by_hand = found(of_kind("HTTPRoute", |route| change(&mut route["spec"])));
        let problems = asked(&by_hand).unwrap_err().join("; ");
        assert!(
            problems.contains("HTTPRoute demo ") && problems.contains(said),
            "{said}: {problems}"
        );
    }
}

#[test]
fn tools_that_keep_objects_are_known_by_what_they_write() {
    let with = |metadata: Value| {
        object(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata})).keeper()
    };
    assert_eq!(
        with(json!({"annotations": {"meta.helm.sh/release-name": "demo"}})),
        Some(Keeper::Helm("demo".to_owned()))
    );
    let argo = with(
        json!({"annotations": {"argocd.argoproj.io/tracking-id": "models:/Service:default/x"}}),
    );
    assert_eq!(
        argo,
        Some(Keeper::Git("Argo CD's application models".to_owned()))
    );
    let flux = with(json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}));
    assert_eq!(
        flux,
        Some(Keeper::Git("Flux's Kustomization apps".to_owned()))
    );
    assert_eq!(with(json!({"name": "x"})), None);
}

#[test]
fn the_plan_says_what_is_there_and_what_is_done() {
    let by_hand = found(of_kind("Service", |service| {
        service["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": "demo"});
    }));
    let copies = aside::copies(&by_hand, "demo").unwrap();
    let mut migration = Migration {
        model: "demo".to_owned(),
        annotations: asked(&by_hand).unwrap().annotations,
        by_hand,
        notes: vec!["something".to_owned()],
        collides: [("Service".to_owned(), "demo-epp".to_owned())].into(),
        reports: true,
    };
    let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
    insta::assert_snapshot!(
        "kept",
        plain(migration.told("ModelBooster default/demo", Some(&copies)))
    );
    // What is kept under a name that nobody needs may stay.
    migration.collides = [("HTTPRoute".to_owned(), "demo".to_owned())].into();
    let steps = migration.told("", Some(&copies));
    assert!(steps.contains("3. delete the originals"), "{steps}");
    migration.collides.clear();
    insta::assert_snapshot!(
        "free",
        plain(migration.told("ModelBooster default/demo", None))
    );
}
