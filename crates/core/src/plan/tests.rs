use serde_json::json;

use super::*;
use crate::observe::Objects;
use crate::provider::{GKE, ISTIO, KTHENA_ROUTER, Provider};
use kthena_bridge_api::kthena::ModelBooster;

fn plan_of(annotations: &[(&str, &str)], provider: &'static Provider, cluster: &Objects) -> Plan {
    let annotations = [("expose", "true"), ("gateway", "inference-gateway")]
        .iter()
        .chain(annotations)
        .map(|(k, v)| (format!("kthena-bridge.io/{k}"), (*v).to_owned()))
        .collect();
    let config = Config::default();
    let exposure = Exposure::parse("default", "demo", &annotations, &config)
        .unwrap()
        .unwrap();
    let model: ModelBooster = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "demo", "uid": "0a1b"},
        "spec": {"backend": {"name": "backend1", "type": "vLLM", "workers": [
            {"type": "server", "config": {"served-model-name": "Qwen2.5-0.5B-Instruct"}}
        ]}},
    }))
    .unwrap();
    let topology = Topology::offline(&exposure, &model, cluster, provider).unwrap();
    build(&exposure, &topology, &config, cluster)
}

fn kinds(plan: &Plan) -> Vec<ChildKind> {
    plan.objects.iter().map(|o| o.kind).collect()
}

fn object(plan: &Plan, kind: ChildKind) -> &Value {
    &plan.objects.iter().find(|o| o.kind == kind).unwrap().object
}

#[test]
fn istio_gets_everything() {
    let plan = plan_of(&[("priority", "-1")], &ISTIO, &Objects::default());
    let gkes = [ChildKind::HealthCheckPolicy, ChildKind::GCPBackendPolicy];
    let all: Vec<ChildKind> = ChildKind::ALL
        .into_iter()
        .filter(|kind| !gkes.contains(kind))
        .collect();
    assert_eq!(kinds(&plan), all);
    let objects: Vec<&Value> = plan.objects.iter().map(|o| &o.object).collect();
    insta::assert_yaml_snapshot!(objects);
}

#[test]
fn kthenas_router_gets_no_endpoint_picker() {
    let plan = plan_of(&[("priority", "1")], &KTHENA_ROUTER, &Objects::default());
    assert_eq!(
        kinds(&plan),
        [ChildKind::InferencePool, ChildKind::HTTPRoute]
    );
}

#[test]
fn a_picker_of_somebody_elses_is_referred_to() {
    let plan = plan_of(
        &[("endpoint-picker", "mine:9999")],
        &ISTIO,
        &Objects::default(),
    );
    assert_eq!(
        kinds(&plan),
        [
            ChildKind::InferencePool,
            ChildKind::InferenceModelRewrite,
            ChildKind::HTTPRoute
        ]
    );
    let reference = &object(&plan, ChildKind::InferencePool)["spec"]["endpointPickerRef"];
    assert_eq!(reference["name"], "mine");
    assert_eq!(reference["port"]["number"], 9999);
}

#[test]
fn annotations_shape_the_route() {
    let plan = plan_of(
        &[
            ("path", "/m/demo"),
            ("hostnames", "a.example.com"),
            ("request-timeout", "5s"),
        ],
        &ISTIO,
        &Objects::default(),
    );
    let spec = &object(&plan, ChildKind::HTTPRoute)["spec"];
    assert_eq!(spec["hostnames"], json!(["a.example.com"]));
    assert_eq!(spec["rules"][0]["matches"][0]["path"]["value"], "/m/demo");
    assert_eq!(
        spec["rules"][0]["filters"][0]["urlRewrite"]["path"]["replacePrefixMatch"],
        "/"
    );
    assert_eq!(spec["rules"][0]["timeouts"]["request"], "5s");
}

#[test]
fn a_kind_that_is_not_served_is_named_and_the_picker_rolls_when_it_comes() {
    let without = Objects {
        missing: vec![ChildKind::InferenceModelRewrite],
        ..Objects::default()
    };
    let before = plan_of(&[], &ISTIO, &without);
    let after = plan_of(&[], &ISTIO, &Objects::default());
    assert_eq!(before.missing, [ChildKind::InferenceModelRewrite]);
    assert_eq!(after.missing, []);
    let hash = |plan: &Plan| {
        object(plan, ChildKind::Deployment)["spec"]["template"]["metadata"]["annotations"].clone()
    };
    assert_ne!(hash(&before), hash(&after));
}

#[test]
fn the_app_protocol_is_written_where_the_pool_has_it() {
    for (version, has) in [
        (None, false),
        (Some("v1.3.1"), false),
        (Some("v1.4.0"), true),
        (Some("v1.10.2"), true),
    ] {
        let cluster = Objects {
            inference_extension: version.map(str::to_owned),
            ..Objects::default()
        };
        let plan = plan_of(&[], &ISTIO, &cluster);
        let pool = object(&plan, ChildKind::InferencePool);
        assert_eq!(
            pool["spec"].get("appProtocol").is_some(),
            has,
            "{version:?}"
        );
    }
}

#[test]
fn gke_gets_its_policies_and_no_timeouts() {
    let plan = plan_of(&[("request-timeout", "1m")], &GKE, &Objects::default());
    let extra = kinds(&plan)
        .into_iter()
        .filter(|kind| kind.group() == "networking.gke.io");
    assert_eq!(
        extra.collect::<Vec<_>>(),
        [ChildKind::HealthCheckPolicy, ChildKind::GCPBackendPolicy]
    );
    let route = object(&plan, ChildKind::HTTPRoute);
    assert_eq!(route["spec"]["rules"][0].get("timeouts"), None);
    insta::assert_yaml_snapshot!([
        &object(&plan, ChildKind::HealthCheckPolicy)["spec"],
        &object(&plan, ChildKind::GCPBackendPolicy)["spec"],
    ]);
}

/// A row of the providers' table, as it shows in what is written.
#[test]
fn each_provider_gets_what_it_needs() {
    let rows: Vec<String> = crate::provider::ALL
        .into_iter()
        .map(|provider| {
            let plan = plan_of(&[("path", "/m"), ("priority", "1")], provider, &Objects::default());
            let rule = &object(&plan, ChildKind::HTTPRoute)["spec"]["rules"][0];
            let has = |kind| kinds(&plan).contains(&kind);
            let special = [ChildKind::DestinationRule, ChildKind::HealthCheckPolicy, ChildKind::GCPBackendPolicy];
            let special: Vec<&str> = special.into_iter().filter(|kind| has(*kind)).map(ChildKind::as_str).collect();
            format!(
                "{}: picker {}, objective {}, rewrite {}, timeouts {}, prefix becomes {}, also {special:?}",
                provider.name,
                has(ChildKind::Deployment),
                has(ChildKind::InferenceObjective),
                has(ChildKind::InferenceModelRewrite),
                rule.get("timeouts").is_some(),
                rule["filters"][0]["urlRewrite"]["path"]["replacePrefixMatch"],
            )
        })
        .collect();
    insta::assert_snapshot!(rows.join("\n"));
}
