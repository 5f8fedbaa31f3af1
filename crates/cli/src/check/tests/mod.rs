//! The judgement, over facts without a cluster.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::{Config, Source};
use kube::{CustomResourceExt as _, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::facts::{Installed, Rights, Unknown, Workload};
use super::report::Outcome;
use super::*;

mod confined;

const PICKERS_ROLE: &str = "kthena-bridge-endpoint-picker";

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn workload(name: &str, image: &str) -> Workload {
    Workload {
        namespace: format!("{name}-system"),
        name: name.to_owned(),
        images: vec![image.to_owned()],
        wanted: 1,
        ready: 1,
        ..Workload::default()
    }
}

fn gateway(name: &str, class: &str, programmed: &str) -> kthena_bridge_api::gateway::Gateway {
    object(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": "infra"},
        "spec": {"gatewayClassName": class, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
        "status": {"conditions": [{"type": "Programmed", "status": programmed, "reason": "Because",
            "message": "of that", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    }))
}

fn class(name: &str, controller: &str) -> kthena_bridge_api::gateway::GatewayClass {
    object(
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": name}, "spec": {"controllerName": controller}}),
    )
}

fn model(name: &str, accepted: (&str, &str), programmed: (&str, &str)) -> ModelBooster {
    object(
        json!({"apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelBooster",
        "metadata": {"name": name, "namespace": "default", "annotations": {"kthena-bridge.io/expose": "true"}},
        "spec": {}, "status": {"conditions": conditions(accepted, programmed)}}),
    )
}

/// A Model that is exposed, and served.
fn serving(name: &str) -> ModelBooster {
    model(name, ("True", "Accepted"), ("True", "Programmed"))
}

/// The same, through a Gateway.
fn serving_through(name: &str, gateway: &str) -> Source {
    let mut model = serving(name);
    let gateway = ("kthena-bridge.io/gateway".to_owned(), gateway.to_owned());
    model.annotations_mut().extend([gateway]);
    model.into()
}

fn conditions(accepted: (&str, &str), programmed: (&str, &str)) -> Value {
    let condition = |type_: &str, (status, reason): (&str, &str)| {
        json!({"type": type_, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    json!([
        condition("Accepted", accepted),
        condition("Programmed", programmed)
    ])
}

fn exposure(name: &str, gateway: &str, programmed: (&str, &str)) -> ModelExposure {
    object(
        json!({"apiVersion": "kthena-bridge.io/v1alpha1", "kind": "ModelExposure",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"targetRef": {"kind": "ModelServer", "name": name},
            "gateways": [{"namespace": "infra", "name": gateway}]},
        "status": {"conditions": conditions(("True", "Accepted"), programmed)}}),
    )
}

/// A cluster in which all is as it has to be.
fn good() -> Facts {
    let served = [
        (
            "gateway.networking.k8s.io",
            "v1",
            vec!["gatewayclasses", "gateways", "httproutes"],
        ),
        ("inference.networking.k8s.io", "v1", vec!["inferencepools"]),
        (
            "inference.networking.x-k8s.io",
            "v1alpha2",
            vec!["inferenceobjectives", "inferencemodelrewrites"],
        ),
        (
            "workload.serving.volcano.sh",
            "v1alpha1",
            vec!["modelboosters", "modelservings"],
        ),
        (
            "networking.serving.volcano.sh",
            "v1alpha1",
            vec!["modelservers"],
        ),
        ("networking.istio.io", "v1", vec!["destinationrules"]),
    ];
    let definitions = [
        (
            "httproutes.gateway.networking.k8s.io",
            "gateway.networking.k8s.io/bundle-version",
            "v1.4.1",
        ),
        (
            "httproutes.gateway.networking.k8s.io",
            "gateway.networking.k8s.io/channel",
            "standard",
        ),
        (
            "inferencepools.inference.networking.k8s.io",
            "inference.networking.k8s.io/bundle-version",
            "v1.5.0",
        ),
    ];
    let mut annotations = facts::Definitions::new();
    for (crd, key, value) in definitions {
        let crd = annotations.entry(crd.to_owned()).or_default();
        crd.annotations
            .get_or_insert_default()
            .insert(key.to_owned(), value.to_owned());
    }
    let mut istiod = workload("istiod", "docker.io/istio/pilot:1.31.0-rc.0");
    istiod.environment.insert(
        "ENABLE_GATEWAY_API_INFERENCE_EXTENSION".to_owned(),
        "true".to_owned(),
    );
    let own = format!(
        "ghcr.io/kthena-bridge/kthena-bridge:v{}",
        env!("CARGO_PKG_VERSION")
    );
    Facts {
        kubernetes: "v1.36.3".to_owned(),
        config: Ok(Config::default()),
        served: Ok(served
            .into_iter()
            .map(|(group, version, resources)| {
                let resources = resources.into_iter().map(str::to_owned).collect();
                ((group.to_owned(), version.to_owned()), resources)
            })
            .collect()),
        definitions: Ok(annotations),
        classes: Ok(vec![class("istio", "istio.io/gateway-controller")]),
        gateways: Ok(vec![gateway("inference-gateway", "istio", "True")]),
        elsewhere: BTreeMap::new(),
        kthena: Ok(vec![workload(
            "kthena-controller-manager",
            "ghcr.io/volcano-sh/kthena-controller-manager:v1.0.0",
        )]),
        istiod: Ok(vec![istiod]),
        may_not_create: Ok(Vec::new()),
        installed: Some(Installed {
            operators: Ok(vec![workload("kthena-bridge", &own)]),
            definition: Ok(Some(ModelExposure::crd())),
            rights: of_cluster(Ok(Rights::Role {
                rules: rights::of_operator(PICKERS_ROLE),
                bound: true,
            })),
            picker_role: of_cluster(Ok(Some(rights::of_pickers()))),
            pickers: Ok(vec![workload(
                "demo-epp",
                Config::default().endpoint_picker.image(),
            )]),
            sources: Ok(vec![serving("demo").into()]),
        }),
    }
}

/// What is known of all namespaces together.
fn of_cluster<T>(known: facts::Known<T>) -> facts::PerNamespace<T> {
    [(String::new(), known)].into()
}

/// What the operator may do in a namespace.
fn rights_in<'a>(facts: &'a mut Facts, namespace: &str) -> &'a mut facts::Known<Rights> {
    installed(facts).rights.get_mut(namespace).unwrap()
}

/// What nobody without the right is told.
fn forbidden() -> Unknown {
    Unknown::Forbidden("x is forbidden: User \"nobody\" cannot list".to_owned())
}

/// What a file gets.
fn plain(report: &Report) -> String {
    anstream::adapter::strip_str(&report.text()).to_string()
}

/// What is not as it has to be, one line each.
fn ills(facts: &Facts) -> Vec<String> {
    let report = judge(facts);
    let checks = report.0.iter().flat_map(|category| &category.checks);
    let ills = checks.filter(|check| check.outcome != Outcome::Ok);
    ills.map(|check| {
        format!(
            "{} {}: {}",
            check.outcome.mark(),
            check.subject.as_str(),
            check.said
        )
    })
    .collect()
}

/// What is not as it has to be after a change to a good cluster.
fn ills_after(change: impl FnOnce(&mut Facts)) -> Vec<String> {
    let mut facts = good();
    change(&mut facts);
    ills(&facts)
}

fn installed(facts: &mut Facts) -> &mut Installed {
    facts.installed.as_mut().unwrap()
}

#[test]
fn a_good_cluster_has_no_ills() {
    insta::assert_snapshot!(plain(&judge(&good())));
    assert!(judge(&good()).success());
}

#[test]
fn before_the_installation_only_what_has_to_be_there_is_checked() {
    let mut facts = good();
    facts.installed = None;
    let report = judge(&facts);
    let names: Vec<&str> = report.0.iter().map(|c| c.name).collect();
    assert_eq!(
        names,
        [
            "kubernetes",
            "gateway-api",
            "inference-extension",
            "kthena",
            "gateways"
        ]
    );
    assert_eq!(ills(&facts), Vec::<String>::new());
    facts.may_not_create = Ok(vec!["clusterroles".to_owned()]);
    assert_eq!(
        ills(&facts),
        ["× install-rights: you may not create clusterroles"]
    );
}

#[test]
fn kinds_that_are_not_served_are_named() {
    let without = |resource: &'static str| {
        ills_after(|facts| {
            for resources in facts.served.as_mut().unwrap().values_mut() {
                resources.remove(resource);
            }
        })
    };
    assert_eq!(
        without("httproutes"),
        ["× gateway-api: Gateway API: not served: httproutes.gateway.networking.k8s.io"]
    );
    assert_eq!(
        without("inferencepools"),
        ["× inference-pool: InferencePool: not served: inferencepools.inference.networking.k8s.io"]
    );
    assert_eq!(
        without("inferencemodelrewrites"),
        [
            "‼ inference-model-rewrite: InferenceModelRewrite: not served: \
          inferencemodelrewrites.inference.networking.x-k8s.io"
        ]
    );
    assert_eq!(
        without("modelboosters"),
        ["× kthena: Kthena's kinds: not served: modelboosters.workload.serving.volcano.sh"]
    );
    assert_eq!(
        without("destinationrules"),
        [
            "× gateway-kinds: istio needs DestinationRule, which is not served: \
          destinationrules.networking.istio.io in v1"
        ]
    );
}

#[test]
fn another_served_version_is_told() {
    let ills = ills_after(|facts| {
        let served = facts.served.as_mut().unwrap();
        let pools = served.remove(&("inference.networking.k8s.io".to_owned(), "v1".to_owned()));
        served.insert(
            ("inference.networking.k8s.io".to_owned(), "v2".to_owned()),
            pools.unwrap(),
        );
    });
    assert_eq!(
        ills,
        [
            "× inference-pool: InferencePool: not served: inferencepools.inference.networking.k8s.io in v1 \
          (there is v2)"
        ]
    );
}

#[test]
fn versions_outside_of_what_was_tried_are_told() {
    let with = |crd: &'static str, version: &'static str| {
        ills_after(|facts| {
            let crds = facts.definitions.as_mut().unwrap();
            let crd = crds
                .iter_mut()
                .find(|(name, _)| name.starts_with(crd))
                .unwrap()
                .1;
            let crd = crd.annotations.as_mut().unwrap();
            let key = crd
                .keys()
                .find(|k| k.ends_with("bundle-version"))
                .unwrap()
                .clone();
            crd.insert(key, version.to_owned());
        })
    };
    assert_eq!(
        with("inferencepools", "v1.6.0"),
        ["‼ inference-extension-version: the inference extension is v1.6.0"]
    );
    assert_eq!(with("inferencepools", "v1.0.2"), Vec::<String>::new());
    assert_eq!(
        with("httproutes", "v1.1.0"),
        ["× gateway-api-version: Gateway API is v1.1.0 (standard channel)"]
    );
    assert!(with("httproutes", "main-dev")[0].starts_with('‼'));
    assert_eq!(
        ills_after(|facts| facts.kubernetes = "v1.32.9".to_owned()),
        ["× kubernetes-version: Kubernetes is v1.32.9"]
    );
    assert_eq!(
        ills_after(|facts| facts.kthena.as_mut().unwrap()[0].images = vec!["x:v1.1.0".to_owned()]),
        ["‼ kthena-version: Kthena is v1.1.0"]
    );
}

#[test]
fn gateways_are_told_apart_by_what_serves_them() {
    let ills = ills_after(|facts| {
        facts.classes = Ok(vec![
            class("istio", "istio.io/gateway-controller"),
            class("kgateway", "kgateway.dev/kgateway"),
            class("router", "volcano.sh/kthena-router"),
            class("kthena-router", "volcano.sh/kthena-router"),
        ]);
        facts.gateways = Ok(vec![
            gateway("fine", "istio", "True"),
            gateway("no-address", "istio", "False"),
            gateway("old", "kgateway", "True"),
            gateway("lost", "nowhere", "True"),
            gateway("misnamed", "router", "Unknown"),
            gateway("silent", "kthena-router", "Unknown"),
            gateway("used", "istio", "False"),
        ]);
        installed(facts).sources = Ok(vec![serving_through("demo", "infra/used:http")]);
    });
    insta::assert_snapshot!(ills.join("\n"));
    assert_eq!(
        ills_after(|f| f.gateways = Ok(Vec::new())),
        ["‼ gateways: there is no Gateway"]
    );
}

#[test]
fn istio_has_to_be_told_and_new_enough() {
    assert_eq!(
        ills_after(|facts| facts.istiod.as_mut().unwrap()[0].environment.clear()),
        [
            "× istio-inference: istiod istiod-system/istiod does not route to InferencePools: \
          ENABLE_GATEWAY_API_INFERENCE_EXTENSION is not true"
        ]
    );
    for (image, mark) in [
        ("pilot:1.27.9", '×'),
        ("pilot:1.28.4", '‼'),
        ("pilot@sha256:0", '‼'),
    ] {
        let ills =
            ills_after(|facts| facts.istiod.as_mut().unwrap()[0].images = vec![image.to_owned()]);
        assert_eq!(ills.len(), 1, "{ills:?}");
        assert!(ills[0].starts_with(mark), "{image}: {ills:?}");
    }
    // Without a Gateway of Istio's, nobody cares.
    let ills = ills_after(|facts| {
        facts.istiod.as_mut().unwrap()[0].environment.clear();
        facts.classes = Ok(vec![class(
            "istio",
            "gateway.envoyproxy.io/gatewayclass-controller",
        )]);
    });
    assert_eq!(ills, Vec::<String>::new());
}

#[test]
fn the_operator_has_to_run_once_and_have_its_rights() {
    assert_eq!(
        ills_after(|facts| installed(facts).operators = Ok(Vec::new())),
        ["× operator: the operator is not installed"]
    );
    assert_eq!(
        ills_after(|facts| {
            let operators = installed(facts).operators.as_mut().unwrap();
            operators.push(workload("kthena-bridge", "x"));
        }),
        [
            "× operator: there are several operators: kthena-bridge-system/kthena-bridge, \
          kthena-bridge-system/kthena-bridge"
        ]
    );
    assert_eq!(
        ills_after(|facts| installed(facts).operators.as_mut().unwrap()[0].ready = 0),
        ["× operator-ready: the operator has no ready pod"]
    );
    assert_eq!(
        ills_after(|facts| {
            let Ok(Rights::Role { rules, .. }) = rights_in(facts, "") else {
                unreachable!()
            };
            rules.retain(|rule| {
                !rule
                    .resources
                    .as_ref()
                    .unwrap()
                    .contains(&"httproutes".to_owned())
            });
        }),
        [
            "× operator-rights: the operator may not list httproutes.gateway.networking.k8s.io, \
          watch httproutes.gateway.networking.k8s.io, create httproutes.gateway.networking.k8s.io, \
          patch httproutes.gateway.networking.k8s.io, delete httproutes.gateway.networking.k8s.io"
        ]
    );
    let wrong = || Unknown::Wrong("field failureMode".to_owned());
    assert_eq!(
        ills_after(|facts| facts.config = Err(wrong())),
        ["× operator-configuration: its configuration: cannot be understood"]
    );
    assert_eq!(
        ills_after(|facts| *rights_in(facts, "") = Ok(Rights::NoRole)),
        ["× operator-rights: there is no ClusterRole kthena-bridge"]
    );
    assert_eq!(
        ills_after(|facts| installed(facts).picker_role = of_cluster(Ok(None))),
        ["× endpoint-picker-rights: there is no ClusterRole kthena-bridge-endpoint-picker"]
    );
    let old = "ghcr.io/kthena-bridge/kthena-bridge:v9.0.0".to_owned();
    assert_eq!(
        ills_after(|facts| installed(facts).operators.as_mut().unwrap()[0].images = vec![old])[0],
        format!(
            "‼ operator-version: the operator is v9.0.0, and this command v{}",
            env!("CARGO_PKG_VERSION")
        )
    );
}

#[test]
fn endpoint_pickers_and_models_that_do_not_serve_are_named() {
    assert_eq!(
        ills_after(|facts| {
            let pickers = installed(facts).pickers.as_mut().unwrap();
            pickers[0].images = vec!["registry/epp:v1.6.0".to_owned()];
            pickers[0].ready = 0;
        }),
        [
            "× endpoint-picker-versions: 1 endpoint pickers run registry/epp:v1.6.0",
            "‼ endpoint-pickers-ready: 1 of 1 endpoint pickers have no ready pod: demo-epp-system/demo-epp"
        ]
    );
    assert_eq!(
        ills_after(|facts| {
            let (conflict, waits) = (("False", "RouteConflict"), ("False", "WaitingForModel"));
            let not_ready = ("False", "NoReadyEndpoints");
            installed(facts).sources = Ok(vec![
                model("a", conflict, waits).into(),
                model("b", ("True", "Accepted"), not_ready).into(),
                serving("c").into(),
                exposure("d", "http", not_ready).into(),
                exposure("e", "http", ("True", "Programmed")).into(),
            ]);
        }),
        [
            "‼ models: 3 of 5 exposed Models are not served: ModelBooster default/a (RouteConflict), \
             ModelBooster default/b (NoReadyEndpoints), ModelExposure default/d (NoReadyEndpoints)"
        ]
    );
}

#[test]
fn what_is_exposed_is_counted_whatever_asks_for_it() {
    let says_of = |sources: Vec<Source>| {
        let mut facts = good();
        installed(&mut facts).sources = Ok(sources);
        let text = plain(&judge(&facts));
        let lines = text.lines().map(str::to_owned);
        lines.skip_while(|line| line != "models").nth(2).unwrap()
    };
    let mut plain_model = serving("plain");
    plain_model.annotations_mut().clear();
    let by_object: Source = exposure("demo", "http", ("True", "Programmed")).into();
    assert_eq!(
        says_of(vec![plain_model.clone().into()]),
        "√ none of 1 Models is exposed"
    );
    assert_eq!(
        says_of(vec![plain_model.into(), by_object.clone()]),
        "√ all that is exposed is served: 0 of 1 Models by annotations, and 1 ModelExposures"
    );
    assert_eq!(
        says_of(vec![serving("demo").into(), by_object]),
        "√ all that is exposed is served: 1 of 1 Models by annotations, and 1 ModelExposures"
    );
}

#[test]
fn a_definition_that_drops_fields_is_told() {
    let with = |change: &dyn Fn(&mut CustomResourceDefinition)| {
        let mut crd = ModelExposure::crd();
        change(&mut crd);
        ills_after(|facts| installed(facts).definition = Ok(Some(crd)))
    };
    // What whoever installs it may add.
    assert_eq!(
        with(&|crd| crd.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into())),
        Vec::<String>::new()
    );
    let without_paused = with(&|crd| {
        let schema = crd.spec.versions[0].schema.as_mut().unwrap();
        let root = schema.open_api_v3_schema.as_mut().unwrap();
        let spec = root.properties.as_mut().unwrap().get_mut("spec").unwrap();
        spec.properties.as_mut().unwrap().remove("paused").unwrap();
    });
    assert_eq!(
        without_paused,
        [
            "‼ model-exposure-definition: ModelExposure is installed, in another version than this command's"
        ]
    );
    assert_eq!(
        ills_after(|facts| installed(facts).definition = Ok(None)),
        ["‼ model-exposure-definition: ModelExposure is not installed"]
    );
}

#[test]
fn what_may_not_be_read_is_a_warning_and_no_failure() {
    fn forbid<T>(known: &mut Result<T, Unknown>) {
        *known = Err(forbidden());
    }
    let mut facts = good();
    forbid(&mut facts.served);
    forbid(&mut facts.definitions);
    forbid(&mut facts.classes);
    forbid(&mut facts.gateways);
    forbid(&mut facts.kthena);
    forbid(&mut facts.istiod);
    forbid(&mut facts.config);
    let of = installed(&mut facts);
    forbid(&mut of.operators);
    forbid(&mut of.definition);
    of.rights.values_mut().for_each(forbid);
    of.picker_role.values_mut().for_each(forbid);
    forbid(&mut of.pickers);
    forbid(&mut of.sources);
    let report = judge(&facts);
    assert!(report.success(), "{}", report.text());
    insta::assert_snapshot!(plain(&report));
}
