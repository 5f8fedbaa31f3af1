//! Every field that is read exists in the upstream schemas: a field that was renamed there would be
//! silently empty here. Needs no bed, only the definitions.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    Condition, LabelSelector, LabelSelectorRequirement, Time,
};
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::gateway::{
    AllowedRoutes, GatewayAddress, GatewayClassSpec, GatewaySpec, GatewayStatus, Listener,
    ListenerStatus, ParentReference, ParentStatus, RouteGroupKind, RouteNamespaces,
};
use kthena_bridge_api::kthena::{
    Container, ModelBackend, ModelBooster, ModelBoosterSpec, ModelBoosterStatus, ModelRouteRule,
    ModelRouteSpec, ModelServerSpec, ModelServingSpec, ModelWorker, PdGroup, PodTemplate,
    PodTemplateSpec, RateLimit, Role, ServingGroup, TargetModel, WorkloadPort, WorkloadSelector,
};
use kthena_bridge_core::observe::Objects;
use kthena_bridge_core::{Config, Exposure, Owner, OwnerKind, Target, Topology, plan, provider};
use serde::Serialize;
use serde_json::{Value, json};

fn parts() -> PathBuf {
    // What e2e/parts/fetch prints.
    std::env::var("KTHENA_BRIDGE_PARTS").unwrap().into()
}

/// The schema of a kind in the version that is read.
fn schema(name: &str, version: &str) -> Value {
    for folder in std::fs::read_dir(parts().join("crds")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            if !text.contains(&format!("name: {name}")) {
                continue;
            }
            if let Some(schema) = schema_in(&text, &path, name, version) {
                return schema;
            }
        }
    }
    panic!("no definition {name} has a version {version}");
}

fn schema_in(text: &str, path: &Path, name: &str, version: &str) -> Option<Value> {
    for document in serde_yaml::Deserializer::from_str(text) {
        let crd = <Value as serde::Deserialize>::deserialize(document);
        let crd = crd.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if crd["metadata"]["name"] == name {
            let versions = crd["spec"]["versions"].as_array().unwrap();
            let found = versions.iter().find(|v| v["name"] == version)?;
            return Some(found["schema"]["openAPIV3Schema"].clone());
        }
    }
    None
}

/// The paths of `value` that the schema does not have.
fn unknown(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return Vec::new();
    }
    match value {
        Value::Object(fields) if schema["additionalProperties"].is_object() => fields
            .iter()
            .flat_map(|(k, v)| unknown(&schema["additionalProperties"], v, &format!("{path}.{k}")))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| {
                let path = format!("{path}.{key}");
                match schema["properties"].get(key) {
                    Some(schema) => unknown(schema, value, &path),
                    None => vec![path],
                }
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .flat_map(|v| unknown(&schema["items"], v, &format!("{path}[]")))
            .collect(),
        scalar => {
            let type_ = schema["type"].as_str().unwrap_or("any");
            let fits = match scalar {
                Value::String(_) => matches!(type_, "string" | "any"),
                Value::Number(_) => matches!(type_, "integer" | "number" | "any"),
                Value::Bool(_) => matches!(type_, "boolean" | "any"),
                _ => false,
            };
            if fits {
                Vec::new()
            } else {
                vec![format!("{path} is a {type_}")]
            }
        }
    }
}

fn check(name: &str, version: &str, part: &str, value: &impl Serialize) -> Vec<String> {
    let schema = schema(name, version);
    let value = json!({part: serde_json::to_value(value).unwrap()});
    unknown(&schema, &value, "")
}

fn condition() -> Condition {
    Condition {
        last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        message: "m".to_owned(),
        observed_generation: Some(1),
        reason: "R".to_owned(),
        status: "True".to_owned(),
        type_: "T".to_owned(),
    }
}

fn parent_reference() -> ParentReference {
    ParentReference {
        group: Some("g".to_owned()),
        kind: Some("k".to_owned()),
        namespace: Some("n".to_owned()),
        name: "n".to_owned(),
        section_name: Some("s".to_owned()),
    }
}

/// No `..Default::default()` here: a field that is added to a type has to be added to this test.
fn backend() -> ModelBackend {
    ModelBackend {
        name: "b".to_owned(),
        r#type: "vLLM".to_owned(),
        model_uri: "hf://a/b".to_owned(),
        cache_uri: "hostpath://c".to_owned(),
        replicas: Some(1),
        min_replicas: Some(1),
        workers: vec![ModelWorker {
            r#type: "server".to_owned(),
            config: Some(json!({"served-model-name": "x"})),
        }],
    }
}

#[test]
fn what_is_read_of_kthena_is_in_its_schemas() {
    let spec = ModelBoosterSpec {
        backend: Some(backend()),
        backends: vec![backend()],
    };
    let boosters = "modelboosters.workload.serving.volcano.sh";
    let unknown = check(boosters, "v1alpha1", "spec", &spec);
    // The forms of versions before v1.0.0.
    assert_eq!(unknown, [".spec.backend.minReplicas", ".spec.backends"]);
    let status = ModelBoosterStatus {
        conditions: vec![condition()],
    };
    assert_eq!(
        check(boosters, "v1alpha1", "status", &status),
        Vec::<String>::new()
    );

    let serving = ModelServingSpec {
        template: ServingGroup {
            roles: vec![Role {
                name: "leader".to_owned(),
                entry_template: PodTemplate {
                    spec: PodTemplateSpec {
                        containers: vec![Container {
                            name: "engine".to_owned(),
                            command: vec!["python3".to_owned()],
                            args: vec!["-m".to_owned()],
                        }],
                    },
                },
            }],
        },
    };
    let servings = "modelservings.workload.serving.volcano.sh";
    assert_eq!(
        check(servings, "v1alpha1", "spec", &serving),
        Vec::<String>::new()
    );

    let server = ModelServerSpec {
        model: Some("m".to_owned()),
        inference_engine: "SGLang".to_owned(),
        workload_port: WorkloadPort {
            port: 8000,
            protocol: Some("https".to_owned()),
        },
        workload_selector: WorkloadSelector {
            match_labels: [("a".to_owned(), "b".to_owned())].into(),
            pd_group: Some(PdGroup {
                group_key: "g".to_owned(),
            }),
        },
    };
    let servers = "modelservers.networking.serving.volcano.sh";
    assert_eq!(
        check(servers, "v1alpha1", "spec", &server),
        Vec::<String>::new()
    );
    let route = ModelRouteSpec {
        model_name: "m".to_owned(),
        lora_adapters: vec!["l".to_owned()],
        rules: vec![ModelRouteRule {
            target_models: vec![TargetModel {
                model_server_name: "s".to_owned(),
            }],
        }],
        rate_limit: Some(RateLimit {
            unit: "minute".to_owned(),
        }),
    };
    let routes = "modelroutes.networking.serving.volcano.sh";
    assert_eq!(
        check(routes, "v1alpha1", "spec", &route),
        Vec::<String>::new()
    );
}

#[test]
fn what_is_read_of_gateway_api_is_in_its_schemas() {
    let none = Vec::<String>::new();
    let class = GatewayClassSpec {
        controller_name: "c".to_owned(),
    };
    assert_eq!(
        check(
            "gatewayclasses.gateway.networking.k8s.io",
            "v1",
            "spec",
            &class
        ),
        none
    );
    let gateways = "gateways.gateway.networking.k8s.io";
    let spec = GatewaySpec {
        gateway_class_name: "c".to_owned(),
        listeners: vec![Listener {
            name: "l".to_owned(),
            port: 80,
            protocol: "HTTP".to_owned(),
            hostname: Some("h".to_owned()),
            allowed_routes: AllowedRoutes {
                namespaces: RouteNamespaces {
                    from: Some("Selector".to_owned()),
                    selector: Some(LabelSelector {
                        match_labels: Some([("a".to_owned(), "b".to_owned())].into()),
                        match_expressions: Some(vec![LabelSelectorRequirement {
                            key: "k".to_owned(),
                            operator: "In".to_owned(),
                            values: Some(vec!["v".to_owned()]),
                        }]),
                    }),
                },
                kinds: vec![RouteGroupKind {
                    group: Some("g".to_owned()),
                    kind: "k".to_owned(),
                }],
            },
        }],
    };
    assert_eq!(check(gateways, "v1", "spec", &spec), none);
    let status = GatewayStatus {
        addresses: vec![GatewayAddress {
            value: "10.0.0.1".to_owned(),
        }],
        conditions: vec![condition()],
        listeners: vec![ListenerStatus {
            name: "l".to_owned(),
            conditions: vec![condition()],
        }],
    };
    assert_eq!(check(gateways, "v1", "status", &status), none);

    let parents = json!({"parents": [ParentStatus {
        parent_ref: parent_reference(),
        conditions: vec![condition()],
    }]});
    let routes = "httproutes.gateway.networking.k8s.io";
    assert_eq!(check(routes, "v1", "status", &parents), none);
    assert_eq!(
        check(
            routes,
            "v1",
            "spec",
            &json!({"parentRefs": [parent_reference()]})
        ),
        none
    );
    let competing = json!({
        "hostnames": ["h"],
        "rules": [{"matches": [{
            "path": {"type": "PathPrefix", "value": "/"},
            "headers": [{"type": "Exact", "name": "n", "value": "v"}],
            "queryParams": [{"name": "n"}],
            "method": "GET",
        }]}],
    });
    assert_eq!(check(routes, "v1", "spec", &competing), none);
    let pools = "inferencepools.inference.networking.k8s.io";
    let unknown = check(pools, "v1", "status", &parents);
    // A pool's parents are Gateways as a whole.
    assert_eq!(unknown, [".status.parents[].parentRef.sectionName"]);
    let pool = json!({
        "selector": {"matchLabels": {"a": "b"}},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"failureMode": "FailOpen"},
    });
    assert_eq!(check(pools, "v1", "spec", &pool), none);
}

#[test]
fn a_field_that_is_not_there_is_found() {
    let spec = json!({"gatewayClassName": 1, "listeners": [{"nom": "x"}]});
    let unknown = check("gateways.gateway.networking.k8s.io", "v1", "spec", &spec);
    assert_eq!(
        unknown,
        [
            ".spec.gatewayClassName is a string",
            ".spec.listeners[].nom"
        ]
    );
}

/// The paths of the fields in a chart's template, which is YAML but for what Helm fills in.
fn template_paths(template: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    for line in template.lines() {
        let text = line.trim_start();
        let Some((key, _)) = text.split_once(':') else {
            continue;
        };
        if text.starts_with(['#', '{', '-']) || key.contains(' ') {
            continue;
        }
        let indent = line.len() - text.len();
        above.retain(|(outer, _)| *outer < indent);
        above.push((indent, key.to_owned()));
        let keys: Vec<&str> = above.iter().map(|(_, key)| key.as_str()).collect();
        paths.insert(keys.join("."));
    }
    paths
}

fn value_paths(value: &Value, path: &str, paths: &mut Vec<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        if value.is_object() {
            value_paths(value, &path, paths);
        } else {
            paths.push(path);
        }
    }
}

/// GKE's kinds have no definition among the packages: what is known of them is what the inference
/// extension's chart writes.
#[test]
fn what_is_written_for_gke_is_what_the_chart_writes() {
    let template = parts().join("charts/inferencepool/templates/gke.yaml");
    let template = std::fs::read_to_string(template).unwrap();
    let exposure = [
        ("expose", "true"),
        ("gateway", "g"),
        ("request-timeout", "5m"),
    ]
    .map(|(key, value)| (format!("kthena-bridge.io/{key}"), value.to_owned()));
    let config = Config::default();
    let exposure = Exposure::parse("default", "demo", &exposure.into(), &config)
        .unwrap()
        .unwrap();
    let model: ModelBooster = serde_json::from_value(json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelBooster",
        "metadata": {"name": "demo", "namespace": "default"}, "spec": {"backend": {"name": "b"}},
    }))
    .unwrap();
    let cluster = Objects::default();
    let owner = Owner::of(OwnerKind::ModelBooster, &model.metadata);
    let target = Target::Booster(Arc::new(model));
    let gke = &provider::GKE;
    let topology = Topology::offline(&exposure, &owner, &target, &cluster, gke).unwrap();
    let plan = plan::build(&exposure, &topology, &config, &cluster);
    for kind in [ChildKind::HealthCheckPolicy, ChildKind::GCPBackendPolicy] {
        let documents: Vec<&str> = template
            .split("\n---")
            .filter(|d| d.contains(&format!("kind: {kind}")))
            .collect();
        let [document] = documents[..] else {
            panic!("{kind} is {} times in the chart", documents.len())
        };
        assert!(
            document.contains(&format!("apiVersion: {}", kind.api_version())),
            "{document}"
        );
        let known = template_paths(document);
        let object = &plan.objects.iter().find(|o| o.kind == kind).unwrap().object;
        let mut written = Vec::new();
        value_paths(&json!({"spec": object["spec"]}), "", &mut written);
        assert!(written.len() > 2, "{written:?}");
        for path in written {
            assert!(
                known.contains(&path),
                "the chart writes no {path} in {kind}: {known:#?}"
            );
        }
    }
}
