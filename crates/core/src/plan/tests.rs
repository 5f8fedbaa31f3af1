use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::observe::Objects;
use crate::owner::{Owner, OwnerKind};
use crate::provider::{GKE, ISTIO, KTHENA_ROUTER, Provider};
use crate::target::Target;
use kthena_bridge_api::kthena::ModelBooster;

fn plan_of(annotations: &[(&str, &str)], provider: &'static Provider, cluster: &Objects) -> Plan {
    plan_with("", annotations, provider, cluster)
}

/// With a configuration file of this text.
fn plan_with(
    config: &str,
    annotations: &[(&str, &str)],
    provider: &'static Provider,
    cluster: &Objects,
) -> Plan {
    let annotations = [("expose", "true"), ("gateway", "inference-gateway")]
        .iter()
        .chain(annotations)
        .map(|(k, v)| (format!("kthena-bridge.io/{k}"), (*v).to_owned()))
        .collect();
    let config = Config::parse(config).unwrap();
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
    let owner = Owner::of(OwnerKind::ModelBooster, &model.metadata);
    let target = Target::Booster(Arc::new(model));
    let topology = Topology::offline(&exposure, &owner, &target, cluster, provider).unwrap();
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
    let others = [
        ChildKind::NetworkPolicy,
        ChildKind::HealthCheckPolicy,
        ChildKind::GCPBackendPolicy,
        ChildKind::LlmDInferenceObjective,
        ChildKind::LlmDInferenceModelRewrite,
    ];
    let all: Vec<ChildKind> = ChildKind::ALL
        .into_iter()
        .filter(|kind| !others.contains(kind))
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
fn the_protocol_that_newer_pools_have_by_default_is_no_difference_and_another_one_is() {
    let plan = plan_of(&[], &ISTIO, &Objects::default());
    let pool = plan
        .objects
        .iter()
        .find(|o| o.kind == ChildKind::InferencePool);
    let pool = pool.unwrap();
    let mut live = pool.object.clone();
    let fields = json!({"f:metadata": {"f:labels": {}, "f:ownerReferences": {}, "f:annotations": {}},
        "f:spec": {"f:appProtocol": {}, "f:selector": {}, "f:targetPorts": {}, "f:endpointPickerRef": {}}});
    live["metadata"]["managedFields"] = json!([{"manager": kthena_bridge_api::FIELD_MANAGER, "operation": "Update", "fieldsV1": fields}]);
    live["spec"]["appProtocol"] = "http".into();
    assert_eq!(ownership::live(pool.kind, &live), pool.digest);
    live["spec"]["appProtocol"] = "kubernetes.io/h2c".into();
    assert_ne!(ownership::live(pool.kind, &live), pool.digest);
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

fn container(plan: &Plan) -> &Value {
    &object(plan, ChildKind::Deployment)["spec"]["template"]["spec"]["containers"][0]
}

fn arguments(plan: &Plan) -> Vec<&str> {
    let arguments = container(plan)["args"].as_array().unwrap();
    arguments.iter().filter_map(Value::as_str).collect()
}

#[test]
fn the_configuration_shapes_the_picker() {
    let everything = include_str!("../config/everything.yaml");
    let plan = plan_with(everything, &[], &ISTIO, &Objects::default());
    insta::assert_yaml_snapshot!([
        &object(&plan, ChildKind::ConfigMap)["data"],
        &object(&plan, ChildKind::RoleBinding)["roleRef"],
        &object(&plan, ChildKind::NetworkPolicy)["spec"],
        &object(&plan, ChildKind::Deployment)["spec"],
    ]);
}

#[test]
fn another_configuration_of_the_picker_starts_it_anew() {
    let hash = |config: &str| {
        let plan = plan_with(config, &[], &ISTIO, &Objects::default());
        object(&plan, ChildKind::Deployment)["spec"]["template"]["metadata"]["annotations"].clone()
    };
    let before = hash("");
    assert_eq!(hash("{failureMode: FailClose}"), before);
    assert_ne!(
        hash("{endpointPicker: {pluginsConfig: {featureGates: [a]}}}"),
        before
    );
    assert_ne!(hash("{endpointPicker: {flavour: llm-d}}"), before);
}

#[test]
fn llm_ds_picker_gets_objects_of_its_own_group() {
    let llm_d = "{endpointPicker: {flavour: llm-d}}";
    let plan = plan_with(llm_d, &[("priority", "1")], &ISTIO, &Objects::default());
    let (objective, rewrite) = (
        ChildKind::LlmDInferenceObjective,
        ChildKind::LlmDInferenceModelRewrite,
    );
    for kind in [objective, rewrite] {
        assert_eq!(object(&plan, kind)["apiVersion"], "llm-d.ai/v1alpha2");
    }
    for kind in [
        ChildKind::InferenceObjective,
        ChildKind::InferenceModelRewrite,
    ] {
        assert!(!kinds(&plan).contains(&kind), "{kind}");
    }
    assert_eq!(
        container(&plan)["image"],
        "ghcr.io/llm-d/llm-d-router-endpoint-picker:v0.9.0"
    );
    let file = object(&plan, ChildKind::ConfigMap)["data"]["default-plugins.yaml"].as_str();
    assert!(
        file.unwrap().contains("apiVersion: llm-d.ai/v1alpha1"),
        "{file:?}"
    );
    let without = Objects {
        missing: vec![objective, rewrite],
        ..Objects::default()
    };
    let plan = plan_with(llm_d, &[("priority", "1")], &ISTIO, &without);
    assert_eq!(plan.missing, [objective, rewrite]);
}

#[test]
fn an_old_picker_is_given_what_it_knows() {
    let of = |version: &str, cluster: &Objects| {
        let config = format!("{{endpointPicker: {{version: {version}}}}}");
        plan_with(&config, &[], &ISTIO, cluster)
    };
    let has = |plan: &Plan, flag: &str| arguments(plan).iter().any(|a| a.starts_with(flag));
    for (version, metrics_flags, rewrites) in [
        ("v1.0.1", false, false),
        ("v1.1.0", true, false),
        ("v1.2.1", true, false),
        ("v1.3.0", true, true),
        ("v1.5.0", true, true),
    ] {
        let plan = of(version, &Objects::default());
        assert_eq!(has(&plan, "--tracing="), metrics_flags, "{version}");
        assert_eq!(
            has(&plan, "--metrics-endpoint-auth="),
            metrics_flags,
            "{version}"
        );
        let kind = ChildKind::InferenceModelRewrite;
        assert_eq!(kinds(&plan).contains(&kind), rewrites, "{version}");
        assert_eq!(plan.unserved.is_empty(), rewrites, "{version}");
        // Before it could do without it, it ended where this kind was not there.
        let without = Objects {
            missing: vec![ChildKind::InferenceObjective],
            ..Objects::default()
        };
        assert_eq!(
            of(version, &without).missing.is_empty(),
            rewrites,
            "{version}"
        );
    }
}

#[test]
fn of_several_replicas_one_leads() {
    let plan = plan_with(
        "{endpointPicker: {replicas: 3}}",
        &[],
        &ISTIO,
        &Objects::default(),
    );
    let spec = &object(&plan, ChildKind::Deployment)["spec"];
    assert_eq!(spec["replicas"], 3);
    assert!(arguments(&plan).contains(&"--ha-enable-leader-election=true"));
    for probe in ["liveness", "readiness"] {
        let service = &container(&plan)[format!("{probe}Probe")]["grpc"]["service"];
        assert_eq!(service, probe);
    }
}

#[test]
fn a_flag_that_is_given_goes_before_ours() {
    let plan = plan_with(
        "{endpointPicker: {args: [--v=4]}}",
        &[],
        &ISTIO,
        &Objects::default(),
    );
    let verbosity: Vec<_> = arguments(&plan)
        .into_iter()
        .filter(|a| a.starts_with("--v="))
        .collect();
    assert_eq!(verbosity, ["--v=4"]);
}
