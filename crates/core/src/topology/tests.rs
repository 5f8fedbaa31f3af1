use kthena_bridge_api::gateway::{Gateway, GatewayClass, GatewayClassSpec, GatewaySpec, Listener};
use kthena_bridge_api::kthena::{LABEL_MODEL_NAME, LABEL_SERVING};
use serde_json::json;

use super::*;
use crate::config::Config;
use crate::observe::{Objects, Pod};
use crate::provider::{GENERIC, ISTIO};
use crate::target::leader_pods;

fn exposure(pairs: &[(&str, &str)]) -> Exposure {
    exposure_with("", pairs)
}

/// With a configuration file of this text.
fn exposure_with(config: &str, pairs: &[(&str, &str)]) -> Exposure {
    let annotations = [("expose", "true")]
        .iter()
        .chain(pairs)
        .map(|(k, v)| (format!("kthena-bridge.io/{k}"), (*v).to_owned()))
        .collect();
    let config = Config::parse(config).unwrap();
    Exposure::parse("default", "demo", &annotations, &config)
        .unwrap()
        .unwrap()
}

fn model(spec: &serde_json::Value) -> ModelBooster {
    serde_json::from_value(json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "ModelBooster",
        "metadata": {"namespace": "default", "name": "demo", "uid": "u1"},
        "spec": spec,
        "status": {"conditions": [{"type": "Active", "status": "True", "reason": "ModelAvailable",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    }))
    .unwrap()
}

fn listener(name: &str) -> Listener {
    Listener {
        name: name.to_owned(),
        port: 80,
        protocol: "HTTP".to_owned(),
        ..Listener::default()
    }
}

fn gateway(name: &str) -> Arc<Gateway> {
    let mut gateway = Gateway::new(
        name,
        GatewaySpec {
            gateway_class_name: "istio".to_owned(),
            listeners: vec![listener("http")],
        },
    );
    gateway.metadata.namespace = Some("default".to_owned());
    Arc::new(gateway)
}

fn cluster() -> Objects {
    Objects {
        gateways: vec![gateway("inference-gateway")],
        gateway_classes: vec![Arc::new(GatewayClass::new(
            "istio",
            GatewayClassSpec {
                controller_name: "istio.io/gateway-controller".to_owned(),
            },
        ))],
        ..Objects::default()
    }
}

fn a_pod(ready: bool, labels: BTreeMap<String, String>) -> Arc<Pod> {
    let labels = labels.into_iter().map(|(k, v)| (k.into(), v.into()));
    let mut pod = Pod {
        ready,
        labels: labels.collect(),
        ..Pod::default()
    };
    pod.metadata.namespace = "default".into();
    Arc::new(pod)
}

fn pod(serving: &str, ready: bool) -> Arc<Pod> {
    a_pod(ready, leader_pods(serving))
}

#[test]
fn every_form_of_the_spec_is_read() {
    for spec in [
        json!({"backend": {"name": "b", "type": "vLLM", "replicas": 1}}),
        json!({"backend": {"name": "b", "type": "vLLM", "minReplicas": 1, "maxReplicas": 2}}),
        json!({"backends": [{"name": "b", "type": "vLLM", "routeWeight": 100}]}),
    ] {
        let topology = Topology::of_model(&exposure(&[]), &model(&spec), &cluster()).unwrap();
        assert_eq!(topology.selector[LABEL_SERVING], "demo-b");
        assert_eq!(topology.target_port, 8000);
        assert_eq!(topology.gateways[0].provider, &ISTIO);
    }
}

#[test]
fn what_one_pool_cannot_serve_is_refused_unless_the_pods_are_named() {
    for spec in [
        json!({}),
        json!({"backend": {"name": "b", "type": "vLLMDisaggregated"}}),
        json!({"backends": [{"name": "a", "type": "vLLM"}, {"name": "b", "type": "vLLM"}]}),
    ] {
        let model = model(&spec);
        let refused = Topology::of_model(&exposure(&[]), &model, &cluster()).unwrap_err();
        assert_eq!(refused.reason, Reason::UnsupportedTopology);
        let named = exposure(&[("pod-selector", "modelserving.volcano.sh/role=decode")]);
        assert!(Topology::of_model(&named, &model, &cluster()).is_ok());
    }
}

#[test]
fn the_only_gateway_is_taken_and_of_two_one_must_be_named() {
    let model = model(&json!({"backend": {"name": "b", "type": "vLLM"}}));
    let mut cluster = cluster();
    cluster.gateways.push(gateway("second"));
    let refused = Topology::of_model(&exposure(&[]), &model, &cluster).unwrap_err();
    assert_eq!(refused.reason, Reason::GatewayNotSpecified);
    assert!(
        refused.message.contains("inference-gateway, second"),
        "{refused}"
    );
    assert!(Topology::of_model(&exposure(&[("gateway", "second")]), &model, &cluster).is_ok());
    let refused =
        Topology::of_model(&exposure(&[("gateway", "third")]), &model, &cluster).unwrap_err();
    assert_eq!(refused.reason, Reason::GatewayNotFound);
}

#[test]
fn a_gateway_that_the_operator_does_not_allow_is_refused_whether_it_is_named_or_found() {
    let model = model(&json!({"backend": {"name": "b"}}));
    let reason = |allowed: &str, pairs: &[(&str, &str)]| {
        let exposure = exposure_with(&format!("allowedGateways: [{allowed}]"), pairs);
        match Topology::of_model(&exposure, &model, &cluster()) {
            Ok(_) => None,
            Err(refused) => {
                assert!(
                    refused.reason != Reason::GatewayNotAllowed
                        || refused.message.contains(allowed),
                    "{refused}"
                );
                Some(refused.reason)
            }
        }
    };
    let named = [("gateway", "inference-gateway")];
    for pairs in [&named[..], &[]] {
        assert_eq!(reason("default/inference-*", pairs), None);
        assert_eq!(reason("infra/*", pairs), Some(Reason::GatewayNotAllowed));
    }
    let elsewhere = [("gateway", "infra/not-there")];
    assert_eq!(
        reason("other/*", &elsewhere),
        Some(Reason::GatewayNotAllowed)
    );
    assert_eq!(reason("infra/*", &elsewhere), Some(Reason::GatewayNotFound));
}

#[test]
fn an_unknown_gateway_class_is_generic() {
    let model = model(&json!({"backend": {"name": "b", "type": "vLLM"}}));
    let cluster = Objects {
        gateway_classes: Vec::new(),
        ..cluster()
    };
    let topology = Topology::of_model(&exposure(&[]), &model, &cluster).unwrap();
    assert_eq!(topology.gateways[0].provider, &GENERIC);
}

#[test]
fn it_is_activated_by_a_ready_pod_of_an_active_model() {
    let model = model(&json!({"backend": {"name": "b", "type": "vLLM"}}));
    let mut cluster = cluster();
    cluster.pods = vec![pod("demo-b", false)];
    assert!(
        !Topology::of_model(&exposure(&[]), &model, &cluster)
            .unwrap()
            .activated
    );
    cluster.pods.push(pod("demo-b", true));
    assert!(
        Topology::of_model(&exposure(&[]), &model, &cluster)
            .unwrap()
            .activated
    );
}

/// Why a Model in namespace `default` is not let in by a Gateway with these listeners.
fn refused(
    annotations: &[(&str, &str)],
    namespace: &str,
    listeners: &serde_json::Value,
) -> Option<NotAccepted> {
    let mut cluster = cluster();
    let mut gateway = (*gateway("g")).clone();
    gateway.metadata.namespace = Some(namespace.to_owned());
    gateway.spec.listeners = serde_json::from_value(listeners.clone()).unwrap();
    cluster.gateways = vec![Arc::new(gateway)];
    let labels = [("team".to_owned(), "a".to_owned())].into();
    cluster.namespaces.insert("default".to_owned(), labels);
    let name = format!("{namespace}/g");
    let annotations: Vec<_> = [("gateway", name.as_str())]
        .iter()
        .chain(annotations)
        .copied()
        .collect();
    let model = model(&json!({"backend": {"name": "b", "type": "vLLM"}}));
    Topology::of_model(&exposure(&annotations), &model, &cluster).err()
}

#[test]
fn what_a_listener_does_not_take_is_found_before_it_is_attached() {
    let selector = |labels| json!({"namespaces": {"from": "Selector", "selector": labels}});
    let listener = |allowed: serde_json::Value| json!([{"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": allowed}]);
    let reason = |namespace, allowed| refused(&[], namespace, &listener(allowed)).map(|r| r.reason);
    let not_allowed = Some(Reason::NotAllowedByListeners);
    assert_eq!(reason("default", json!({})), None);
    assert_eq!(
        reason("infra", json!({})),
        not_allowed,
        "Same is the default"
    );
    assert_eq!(
        reason("infra", json!({"namespaces": {"from": "All"}})),
        None
    );
    assert_eq!(
        reason("infra", selector(json!({"matchLabels": {"team": "a"}}))),
        None
    );
    assert_eq!(
        reason("infra", selector(json!({"matchLabels": {"team": "b"}}))),
        not_allowed
    );
    let not_in =
        json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["b"]}]});
    assert_eq!(reason("infra", selector(not_in)), None);
    let absent = json!({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]});
    assert_eq!(reason("infra", selector(absent)), not_allowed);
    assert_eq!(
        reason("default", json!({"kinds": [{"kind": "GRPCRoute"}]})),
        not_allowed
    );
    assert_eq!(
        reason(
            "default",
            json!({"kinds": [{"kind": "GRPCRoute"}, {"kind": "HTTPRoute"}]})
        ),
        None
    );
    let tcp = json!([{"name": "tcp", "port": 80, "protocol": "TCP"}]);
    let told = refused(&[], "default", &tcp).unwrap();
    assert_eq!(told.reason, Reason::NotAllowedByListeners);
    assert!(
        told.message.contains("listener tcp") && told.message.contains("TCP"),
        "{}",
        told.message
    );
}

#[test]
fn listeners_are_found_by_name_and_by_host() {
    let listeners = json!([
        {"name": "one", "port": 80, "protocol": "HTTP", "hostname": "*.example.com"},
        {"name": "two", "port": 443, "protocol": "HTTPS", "hostname": "a.example.org"},
    ]);
    let reason = |annotations: &[(&str, &str)]| {
        refused(annotations, "default", &listeners).map(|r| r.reason)
    };
    assert_eq!(reason(&[]), None);
    assert_eq!(reason(&[("hostnames", "m.example.com")]), None);
    assert_eq!(
        reason(&[("hostnames", "a.example.org,elsewhere.net")]),
        None
    );
    assert_eq!(
        reason(&[("hostnames", "elsewhere.net")]),
        Some(Reason::HostnameNotAllowed)
    );
    assert_eq!(
        reason(&[("gateway", "default/g:two"), ("hostnames", "m.example.com")]),
        Some(Reason::HostnameNotAllowed)
    );
    let told = refused(&[("gateway", "default/g:three")], "default", &listeners).unwrap();
    assert_eq!(told.reason, Reason::ListenerNotFound);
    assert!(
        told.message.contains("three") && told.message.contains("one, two"),
        "{}",
        told.message
    );
}

#[test]
fn headers_are_not_asked_of_a_gateway_that_skips_them() {
    let mut cluster = cluster();
    let router = GatewayClassSpec {
        controller_name: "volcano.sh/kthena-router".to_owned(),
    };
    cluster.gateway_classes = vec![Arc::new(GatewayClass::new("istio", router))];
    let config = Config {
        model_header: crate::config::ModelHeader::Provided,
        ..Config::default()
    };
    let annotations = [("expose", "true"), ("match-model", "true")]
        .map(|(k, v)| (format!("kthena-bridge.io/{k}"), v.to_owned()))
        .into();
    let exposure = Exposure::parse("default", "demo", &annotations, &config)
        .unwrap()
        .unwrap();
    let refused = Topology::of_model(
        &exposure,
        &model(&json!({"backend": {"name": "b"}})),
        &cluster,
    )
    .unwrap_err();
    assert_eq!(refused.reason, Reason::InvalidAnnotation);
    assert!(
        refused.message.contains("kthena-bridge.io/match-model"),
        "{}",
        refused.message
    );
}

#[test]
fn a_renamed_backend_is_followed_when_its_first_pod_is_ready() {
    let model = model(&json!({"backend": {"name": "new", "type": "vLLM"}}));
    let pool = |serving: &str| {
        let pool = json!({
            "metadata": {"namespace": "default", "name": "demo",
                "ownerReferences": [{"apiVersion": "v1", "kind": "ModelBooster", "name": "demo", "uid": "u1"}]},
            "spec": {"selector": {"matchLabels": leader_pods(serving)}},
        });
        Arc::new(Child::reduce(ChildKind::InferencePool, &pool))
    };
    let pod = |serving: &str, model: &str| {
        let mut labels = leader_pods(serving);
        labels.insert(LABEL_MODEL_NAME.to_owned(), model.to_owned());
        a_pod(true, labels)
    };
    let selected = |current: &str, pods: Vec<Arc<Pod>>| {
        let mut cluster = cluster();
        let key = (
            ChildKind::InferencePool,
            "default".to_owned(),
            "demo".to_owned(),
        );
        cluster.children.insert(key, pool(current));
        cluster.pods = pods;
        Topology::of_model(&exposure(&[]), &model, &cluster)
            .unwrap()
            .selector[LABEL_SERVING]
            .clone()
    };
    assert_eq!(
        selected("demo-old", vec![pod("demo-old", "demo")]),
        "demo-old"
    );
    let both = vec![pod("demo-old", "demo"), pod("demo-new", "demo")];
    assert_eq!(selected("demo-old", both), "demo-new");
    assert_eq!(selected("demo-old", Vec::new()), "demo-new");
    assert_eq!(
        selected("other-b", vec![pod("other-b", "other")]),
        "demo-new",
        "an edit is no rename"
    );
}

/// A Gateway of this namespace, as an operator sees it that may read nothing of the whole cluster.
fn confined(namespace: &str, from: &serde_json::Value) -> Objects {
    let mut gateway = (*gateway("inference-gateway")).clone();
    gateway.metadata.namespace = Some(namespace.to_owned());
    gateway.spec.listeners[0].allowed_routes =
        serde_json::from_value(json!({"namespaces": from})).unwrap();
    Objects {
        confined: true,
        gateways: vec![Arc::new(gateway)],
        ..Objects::default()
    }
}

#[test]
fn confined_to_namespaces_a_gateway_is_what_the_configuration_says() {
    let model = model(&json!({"backend": {"name": "b"}}));
    let named = exposure(&[("gateway", "infra/inference-gateway")]);
    let mut cluster = confined("infra", &json!({"from": "All"}));
    let refused = Topology::of_model(&named, &model, &cluster).unwrap_err();
    assert_eq!(refused.reason, Reason::Forbidden, "its class is not known");
    assert!(
        refused
            .message
            .contains("gateways in the operator's configuration"),
        "{}",
        refused.message
    );

    let key = ("infra".to_owned(), "inference-gateway".to_owned());
    cluster.configured.insert(key, &ISTIO);
    let served = Topology::of_model(&named, &model, &cluster).unwrap();
    assert_eq!(served.gateways[0].provider, &ISTIO);
    assert_eq!(served.gateways[0].unknown, None);

    cluster.gateways.clear();
    let served = Topology::of_model(&named, &model, &cluster).unwrap();
    assert_eq!(
        served.gateways[0].provider, &ISTIO,
        "it may not even be read"
    );

    cluster.configured.clear();
    let refused = Topology::of_model(&named, &model, &cluster).unwrap_err();
    assert_eq!(refused.reason, Reason::GatewayNotFound);
    assert!(
        refused
            .message
            .contains("gateways in the operator's configuration"),
        "{}",
        refused.message
    );
}

#[test]
fn confined_to_namespaces_their_labels_are_not_guessed() {
    let model = model(&json!({"backend": {"name": "b"}}));
    let named = exposure(&[("gateway", "infra/inference-gateway")]);
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}});
    let mut cluster = confined("infra", &selector);
    let key = ("infra".to_owned(), "inference-gateway".to_owned());
    cluster.configured.insert(key, &ISTIO);
    let unknown = |cluster: &Objects, exposure: &Exposure| {
        let mut topology = Topology::of_model(exposure, &model, cluster).unwrap();
        topology.gateways.remove(0).unknown
    };
    let told = unknown(&cluster, &named).unwrap();
    assert!(
        told.contains("listener http of Gateway infra/inference-gateway")
            && told.contains("may not get namespaces"),
        "{told}"
    );

    let mut gateway = (*cluster.gateways[0]).clone();
    let mut open = gateway.spec.listeners[0].clone();
    open.name = "open".to_owned();
    open.allowed_routes.namespaces.from = Some("All".to_owned());
    gateway.spec.listeners.push(open);
    cluster.gateways = vec![Arc::new(gateway)];
    assert_eq!(unknown(&cluster, &named), None, "another listener takes it");
    let to_http = exposure(&[("gateway", "infra/inference-gateway:http")]);
    assert!(unknown(&cluster, &to_http).is_some());
}
