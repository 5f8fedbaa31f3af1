//! Whatever is in the objects that are read, the plan and the report come to an end, and to the same one again.
//!
//! Objects are arbitrary where it matters: those of a cluster that serves, with parts taken out, replaced by any
//! JSON, or put somewhere else. `PROPTEST_CASES` says how many are tried.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod as WholePod;
use kthena_bridge_api::annotation as key;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::condition::ConditionType;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::observe::{Child, EndpointSlice, Objects, Pod, Route};
use kthena_bridge_core::plan::{self, Plan};
use kthena_bridge_core::report::{self, Cause, Failure, Outcome, Report};
use kthena_bridge_core::topology::Topology;
use kthena_bridge_core::{Ask, Config, Source, Target, ask};
use proptest::prelude::*;
use proptest::sample::Index;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Every field of the operator's configuration.
const EVERYTHING: &str = include_str!("../src/config/everything.yaml");
/// What the API server takes as a condition's message.
const LONGEST_MESSAGE: usize = 32_768;

/// A change of one place in an object.
#[derive(Clone, Debug)]
enum Change {
    Remove,
    Replace(Value),
    /// By what is somewhere else in it.
    Copy(Index),
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "\\PC{0,12}",
        "[-a-z0-9/.,:=*%~ ]{0,20}",
        prop::sample::select(vec![
            "",
            "True",
            "False",
            "Unknown",
            "Accepted",
            "Programmed",
            "ResolvedRefs",
            "Active",
            "Same",
            "All",
            "Selector",
            "istio",
            "demo",
            "demo-epp",
            "default",
            "inference-gateway",
            "HTTPRoute",
            "Gateway",
            "--served-model-name",
            "--port",
            "2026-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "\u{0}",
        ])
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2_i64..70_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-zA-Z.:/]{0,12}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Annotations of ours, and what somebody may have written there.
fn annotations() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let keys: Vec<&str> = key::ALL.iter().map(|annotation| annotation.key).collect();
    let value = prop_oneof![
        "\\PC{0,40}",
        "[-a-z0-9/.,:=%~ ]{0,40}",
        prop::sample::select(vec![
            "true",
            "false",
            "-1",
            "65535",
            "10s",
            "/a",
            "mine:9002",
            "a=b",
            "FailClose"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec((prop::sample::select(keys), value), 0..5)
}

fn changes() -> impl Strategy<Value = Vec<(Index, Index, Change)>> {
    let change = prop_oneof![
        Just(Change::Remove),
        any_json().prop_map(Change::Replace),
        any::<Index>().prop_map(Change::Copy),
    ];
    prop::collection::vec((any::<Index>(), any::<Index>(), change), 0..8)
}

/// The places in a value, as JSON pointers.
fn places(value: &Value, here: &str, into: &mut Vec<String>) {
    let mut inside = |key: &str, value: &Value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        let here = format!("{here}/{key}");
        into.push(here.clone());
        places(value, &here, into);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| inside(key, value)),
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                inside(&at.to_string(), value);
            }
        }
        _ => {}
    }
}

fn change(object: &mut Value, at: Index, change: &Change) {
    let mut all = Vec::new();
    places(object, "", &mut all);
    // What the API server sees to itself.
    let identity = ["", "/name", "/namespace", "/uid"].map(|field| format!("/metadata{field}"));
    all.retain(|place| !identity.contains(place));
    if all.is_empty() {
        return;
    }
    let place = at.get(&all);
    match change {
        Change::Remove => {
            let (parent, key) = place.rsplit_once('/').unwrap();
            match object.pointer_mut(parent) {
                Some(Value::Object(map)) => {
                    drop(map.remove(&key.replace("~1", "/").replace("~0", "~")));
                }
                Some(Value::Array(items)) => drop(items.remove(key.parse().unwrap())),
                _ => {}
            }
        }
        Change::Replace(value) => *object.pointer_mut(place).unwrap() = value.clone(),
        Change::Copy(from) => {
            let from: &String = from.get(&all);
            let value = object.pointer(from).unwrap().clone();
            *object.pointer_mut(place).unwrap() = value;
        }
    }
}

fn status(types: &[&str]) -> Value {
    let of = |type_: &&str| {
        json!({"type": type_, "status": "True", "reason": type_, "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    types.iter().map(of).collect()
}

fn parents(types: &[&str]) -> Value {
    json!([{"parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "inference-gateway"},
        "controllerName": "istio.io/gateway-controller", "conditions": status(types)}])
}

fn child(name: &str, more: &Value) -> Value {
    let mut object = json!({"metadata": {
        "name": name, "namespace": "default", "uid": "c1", "generation": 1,
        "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app.kubernetes.io/managed-by": "kthena-bridge", "kthena-bridge.io/model": "demo"},
        "annotations": {},
        "ownerReferences": [{"apiVersion": "v1", "kind": "ModelBooster", "name": "demo", "uid": "u1"}],
        "managedFields": [{"manager": "kthena-bridge", "operation": "Apply", "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:selector": {}, "k:{\"name\":\"a\"}": {".": {}, "f:b": {}}}}}],
    }});
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more.clone());
    }
    object
}

/// The objects around a Model that serves, in the order of [`cluster`].
fn serving() -> Vec<Value> {
    let conditions = status(&["Initialized", "Active"]);
    let labels = json!({"modelserving.volcano.sh/name": "demo-backend1",
        "modelserving.volcano.sh/entry": "true", "modelserving.volcano.sh/role": "leader"});
    let reference = json!({"name": "inference-gateway"});
    let backend =
        json!({"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "demo"});
    vec![
        json!({"apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelBooster",
            "metadata": {"namespace": "default", "name": "demo", "uid": "u1", "generation": 1,
                "annotations": {key::EXPOSE: "true", key::GATEWAY: "inference-gateway"}},
            "spec": {"backend": {"name": "backend1", "type": "vLLM", "replicas": 1, "workers": [{"type": "server",
                "config": {"served-model-name": "Qwen", "max-model-len": 1, "enable-prefix-caching": ""}}]}},
            "status": {"conditions": conditions}}),
        json!({"apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelServing",
            "metadata": {"namespace": "default", "name": "demo-backend1"},
            "spec": {"template": {"roles": [{"name": "leader", "entryTemplate": {"spec": {"containers": [
                {"name": "engine", "command": ["vllm"], "args": ["--served-model-name", "Qwen", "--port=8000"]}]}}}]}}}),
        json!({"apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelServer",
            "metadata": {"namespace": "default", "name": "demo-backend1"},
            "spec": {"workloadPort": {"port": 8000}, "workloadSelector": {"matchLabels": labels}}}),
        json!({"metadata": {"namespace": "default", "name": "demo-0", "labels": labels},
            "spec": {"containers": [{"name": "engine", "ports": [{"containerPort": 8000, "name": "http"}],
                "readinessProbe": {"httpGet": {"port": "http"}}}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "engine", "image": "", "imageID": "", "ready": false, "restartCount": 3,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no"}}}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "istio"},
            "spec": {"controllerName": "istio.io/gateway-controller"}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"namespace": "default", "name": "inference-gateway", "generation": 1},
            "spec": {"gatewayClassName": "istio", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP",
                "hostname": "*.example.com", "allowedRoutes": {"namespaces": {"from": "Selector",
                    "selector": {"matchLabels": {"a": "b"}}}, "kinds": [{"kind": "HTTPRoute"}]}}]},
            "status": {"addresses": [{"type": "IPAddress", "value": "10.0.0.1"}],
                "conditions": status(&["Accepted", "Programmed"]),
                "listeners": [{"name": "http", "attachedRoutes": 1, "supportedKinds": [{"kind": "HTTPRoute"}],
                    "conditions": status(&["Accepted", "Programmed", "ResolvedRefs"])}]}}),
        child(
            "demo",
            &json!({"spec": {"parentRefs": [reference], "hostnames": ["a.example.com"],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"},
                "headers": [{"name": "a", "value": "b"}]}], "backendRefs": [backend]}]},
            "status": {"parents": parents(&["Accepted", "ResolvedRefs"])}}),
        ),
        child(
            "demo",
            &json!({"spec": {"selector": {"matchLabels": labels}, "targetPorts": [{"number": 8000}],
            "endpointPickerRef": {"name": "demo-epp", "port": {"number": 9002}, "failureMode": "FailOpen"}},
            "status": {"parents": parents(&["Accepted", "ResolvedRefs"])}}),
        ),
        child(
            "demo-epp",
            &json!({"spec": {"replicas": 1}, "status": {"readyReplicas": 1, "observedGeneration": 1}}),
        ),
        // A route of somebody else.
        json!({"metadata": {"namespace": "other", "name": "theirs"}, "spec": {"parentRefs": [
            {"name": "inference-gateway", "namespace": "default"}], "rules": [{"matches": [{"path": {"value": "/"}}]}]}}),
        json!({"metadata": {"namespace": "default", "name": "mine-1", "labels": {"kubernetes.io/service-name": "mine"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.2"], "conditions": {"ready": true}}]}),
        json!({"a": "b"}),
    ]
}

/// An object that the API server could have given; others are refused by their schemas.
fn read<T: DeserializeOwned>(object: &Value) -> Option<T> {
    serde_json::from_value(object.clone()).ok()
}

/// The Model, where it can be read, and what is around it.
fn cluster(objects: &[Value]) -> (Option<ModelBooster>, Objects) {
    fn all<T: DeserializeOwned>(object: &Value) -> Vec<Arc<T>> {
        read(object).map(Arc::new).into_iter().collect()
    }
    let [
        model,
        modelserving,
        server,
        pod,
        class,
        gateway,
        route,
        pool,
        picker,
        theirs,
        slice,
        labels,
    ] = objects
    else {
        unreachable!("{} objects", objects.len());
    };
    let children = [
        (ChildKind::HTTPRoute, "demo", route),
        (ChildKind::InferencePool, "demo", pool),
        (ChildKind::Deployment, "demo-epp", picker),
    ];
    let children = children.map(|(kind, name, object)| {
        let child = Arc::new(Child::reduce(kind, object));
        ((kind, "default".to_owned(), name.to_owned()), child)
    });
    let slice = read(slice)
        .map(|slice: k8s_openapi::api::discovery::v1::EndpointSlice| EndpointSlice::from(slice));
    let cluster = Objects {
        servings: all(modelserving),
        servers: all(server),
        pods: read(pod)
            .map(|pod: WholePod| Arc::new(Pod::from(pod)))
            .into_iter()
            .collect(),
        gateways: all(gateway),
        gateway_classes: all(class),
        endpoint_slices: slice.into_iter().collect(),
        namespaces: read(labels)
            .map(|labels| ("default".to_owned(), labels))
            .into_iter()
            .collect(),
        routes: [route, theirs]
            .map(|route| Arc::new(Route::reduce(route)))
            .into(),
        children: children.into(),
        ..Objects::default()
    };
    (read(model), cluster)
}

/// What is decided of a Model, as the operator decides it.
fn decide(
    model: &ModelBooster,
    cluster: &Objects,
    config: &Config,
) -> Option<(Option<Plan>, Report)> {
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    let source = Source::Model(Arc::new(model.clone()));
    let owner = source.owner();
    let target = Target::Booster(Arc::new(model.clone()));
    let report = |outcome| report::conditions(&owner, Some(&target), outcome, cluster, now);
    let exposure = match Ask::of(&source, config, cluster) {
        Ask::Wait | Ask::Nothing => return None,
        Ask::Invalid(invalid, _) => return Some((None, report(Outcome::Invalid(&invalid)))),
        Ask::Refused(refused) => return Some((None, report(Outcome::NotAccepted(&refused)))),
        Ask::Exposure(exposure, _) => exposure,
    };
    let topology = match Topology::of(&exposure, &owner, &target, cluster) {
        Ok(topology) => topology,
        Err(refused) => return Some((None, report(Outcome::NotAccepted(&refused)))),
    };
    let (wanted, live) = ask::route(&exposure, &topology, config, cluster);
    assert!(live.is_none_or(|live| live.name() == wanted.name()));
    let plan = plan::build(&exposure, &topology, config, cluster);
    let failures = [Failure {
        kind: ChildKind::Service,
        name: topology.names.picker.clone(),
        cause: Cause::Other,
        message: "no".to_owned(),
    }];
    let report = |failures| {
        report(Outcome::Applied {
            exposure: &exposure,
            topology: &topology,
            plan: &plan,
            failures,
        })
    };
    is_told(&report(&failures));
    let report = report(&[]);
    Some((Some(plan), report))
}

fn is_told(report: &Report) {
    for verdict in report.verdicts() {
        assert!(!verdict.message.is_empty(), "{report:#?}");
        assert!(
            verdict.message.chars().count() <= LONGEST_MESSAGE,
            "{report:#?}"
        );
    }
    assert_eq!(report.accepted.reason.condition(), ConditionType::Accepted);
    assert_eq!(
        report.programmed.reason.condition(),
        ConditionType::Programmed
    );
}

/// Its own, in its Model's namespace, and called so that the API server takes it.
fn is_written_as_it_should(plan: &Plan, model: &ModelBooster) {
    for desired in &plan.objects {
        let metadata = &desired.object["metadata"];
        assert_eq!(metadata["name"], desired.name);
        assert_eq!(
            metadata["namespace"].as_str(),
            model.metadata.namespace.as_deref()
        );
        assert_eq!(
            metadata["ownerReferences"][0]["uid"].as_str(),
            model.metadata.uid.as_deref()
        );
        let labels: Map<String, Value> = read(&metadata["labels"]).unwrap();
        for value in labels
            .values()
            .map(|value| value.as_str().unwrap())
            .chain([desired.name.as_str()])
        {
            assert!(value.len() <= 63, "{value}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_000)) })]

    #[test]
    fn any_object_comes_to_an_end_and_to_the_same_again(
        changes in changes(),
        annotations in annotations(),
        config in prop::sample::select(vec!["", EVERYTHING]),
    ) {
        let mut objects = serving();
        for (key, value) in annotations {
            objects[0]["metadata"]["annotations"][key] = value.into();
        }
        for (of, at, what) in &changes {
            change(of.get_mut(&mut objects), *at, what);
        }
        let config = Config::parse(config).unwrap();
        let (Some(model), around) = cluster(&objects) else {
            return Ok(());
        };
        let decided = decide(&model, &around, &config);
        if let Some((plan, report)) = &decided {
            is_told(report);
            if let Some(plan) = plan {
                is_written_as_it_should(plan, &model);
            }
        }
        // Read again, as after a restart.
        let (again, around) = cluster(&objects);
        prop_assert_eq!(decided, decide(&again.unwrap(), &around, &config));
    }

    /// The engine's flags are free in form: a Model is never unreadable for them, since then no Model could be.
    #[test]
    fn a_model_can_be_read_whatever_the_flags_of_its_engine(flags in any_json()) {
        let mut objects = serving();
        objects[0]["spec"]["backend"]["workers"][0]["config"] = flags;
        let (model, around) = cluster(&objects);
        let (plan, report) = decide(&model.unwrap(), &around, &Config::default()).unwrap();
        is_told(&report);
        prop_assert!(plan.is_some());
    }
}

/// Without a change everything is served: else nothing above would be reached.
#[test]
fn what_is_changed_is_served_before() {
    let (model, around) = cluster(&serving());
    let (plan, report) = decide(&model.unwrap(), &around, &Config::default()).unwrap();
    assert_eq!(report.accepted.reason.as_str(), "Accepted", "{report:#?}");
    assert!(plan.unwrap().objects.len() > 5);
}
