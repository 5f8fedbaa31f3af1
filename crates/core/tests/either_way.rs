//! What is asked for by annotations, and by a ModelExposure that says the same, plans the same bytes.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposureSpec;
use kthena_bridge_core::observe::Objects;
use kthena_bridge_core::provider::{self, Provider};
use kthena_bridge_core::{Config, Exposure, Owner, OwnerKind, Target, Topology, plan};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Annotations that are understood, without the prefix.
fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let gateways = "[a-c]|[a-c]/[x-z]|[a-c]/[x-z]:http|d,e|d:http,e/f";
    let hosts = "[a-c]\\.example\\.com|\\*\\.example\\.com|a\\.b,\\*\\.c\\.d";
    let values = (
        (
            prop::option::of(gateways),
            prop::option::of(hosts),
            prop::option::of("/|(/[a-z0-9._~-]{1,8}[a-z]){1,3}/?"),
            prop::option::of(any::<bool>()),
            prop::option::of("[a-z]{1,5}|[A-Z][a-z]{1,3}/[a-z.]{1,5}|a,b,c"),
            prop::option::of(any::<i32>()),
        ),
        (
            prop::option::of("[0-9]{1,3}(s|m|h)|1m30s|500ms|0s"),
            prop::option::of("FailOpen|FailClose"),
            prop::option::of("managed|[a-z]{1,8}|[a-z]{1,8}:[1-9][0-9]{0,3}"),
            prop::option::of(1_u16..),
            prop::option::of("[a-z]{1,5}=[a-z]{0,3}|a/b=c,d=|modelserving\\.volcano\\.sh/name=x"),
            prop::option::of(any::<bool>()),
        ),
    );
    values.prop_map(|((gateway, hosts, path, header, names, priority), rest)| {
        let (timeout, failure, picker, port, selector, paused) = rest;
        let all = [
            ("gateway", gateway),
            ("hostnames", hosts),
            ("path", path),
            ("match-model", header.map(|on| on.to_string())),
            ("model-names", names),
            ("priority", priority.map(|priority| priority.to_string())),
            ("request-timeout", timeout),
            ("failure-mode", failure),
            ("endpoint-picker", picker),
            ("target-port", port.map(|port| port.to_string())),
            ("pod-selector", selector),
            ("paused", paused.map(|paused| paused.to_string())),
        ];
        let said = all
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        let said = said.chain([("expose", "true".to_owned())]);
        said.map(|(key, value)| (format!("kthena-bridge.io/{key}"), value))
            .collect()
    })
}

/// A configuration that leaves nothing as it is by default.
const CONFIG: &str = r"{defaultGateway: infra/usual, hostnameTemplate: '{name}.{namespace}.example.com',
    pathTemplate: '/{namespace}/{name}', modelHeader: provided, failureMode: FailClose,
    endpointPicker: {replicas: 2, resources: {requests: {cpu: 1}}}}";

fn objects(exposure: &Exposure, config: &Config, provider: &'static Provider) -> Vec<Value> {
    let model: ModelBooster = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "demo", "uid": "0a1b"},
        "spec": {"backend": {"name": "b", "type": "vLLM", "workers": [
            {"type": "server", "config": {"served-model-name": "served"}}]}},
    }))
    .unwrap();
    let owner = Owner::of(OwnerKind::ModelBooster, &model.metadata);
    let target = Target::Booster(Arc::new(model));
    let cluster = Objects::default();
    let topology = Topology::offline(exposure, &owner, &target, &cluster, provider).unwrap();
    let plan = plan::build(exposure, &topology, config, &cluster);
    plan.objects.into_iter().map(|o| o.object).collect()
}

/// As the API server gives it back.
fn stored(spec: &ModelExposureSpec) -> ModelExposureSpec {
    serde_json::from_str(&serde_json::to_string(spec).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn annotations_and_an_object_that_says_the_same_plan_the_same_bytes(
        annotations in annotations(),
        defaults in any::<bool>(),
        provider in prop::sample::select(provider::ALL.to_vec()),
    ) {
        let config = Config::parse(if defaults { "modelHeader: provided" } else { CONFIG }).unwrap();
        let exposure = Exposure::parse("default", "demo", &annotations, &config).unwrap().unwrap();
        let object = Exposure::as_object("default", "demo", &annotations, &config).unwrap().unwrap();
        let of_object = Exposure::of_object("default", "demo", &stored(&object), &config).unwrap();
        prop_assert_eq!(&exposure, &of_object);
        let planned = objects(&exposure, &config, provider);
        prop_assert!(!planned.is_empty());
        let bytes = |objects: &[Value]| serde_json::to_string(objects).unwrap();
        prop_assert_eq!(bytes(&planned), bytes(&objects(&of_object, &config, provider)));
    }
}
