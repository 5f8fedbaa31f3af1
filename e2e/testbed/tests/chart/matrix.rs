//! What many sets of values give, compared with what a real API server takes: by itself, and with kubeconform
//! and the schemas that it publishes, which also finds keys that are there twice.

use std::collections::BTreeSet;
use std::path::Path;

use kthena_bridge_core::config::Config;
use kube::Client;
use kube::api::GetParams;
use kube::core::Request;
use serde_json::{Map, Value, json};
use testbed::{TestBed, documents, tool};

use crate::template::{EVERYTHING, configuration_of, manifests};

/// Sets of values, by name.
const MATRIX: [(&str, &str); 18] = [
    ("nothing", "{}"),
    ("everything", EVERYTHING),
    (
        "empty",
        "{resources: null, podSecurityContext: null, securityContext: null, readinessProbe: null, \
          commonLabels: null, podLabels: null, config: {reachable: null}}",
    ),
    ("no-config", "config: null"),
    ("policy", "networkPolicy: {enabled: true}"),
    (
        "policy-reachable",
        "{networkPolicy: {enabled: true}, config: {reachable: {enabled: true}}}",
    ),
    ("monitor", "metrics: {serviceMonitor: {enabled: true}}"),
    (
        "monitor-labels",
        "{commonLabels: {release: a}, metrics: {serviceMonitor: {enabled: true, labels: {release: b}}}}",
    ),
    ("alerts", "metrics: {prometheusRule: {enabled: true}}"),
    ("dashboard", "metrics: {dashboard: {enabled: true}}"),
    (
        "tag",
        "{image: {tag: latest}, config: {endpointPicker: {resources: {requests: {cpu: 1, memory: '1Gi'}}}}}",
    ),
    ("replicas", "replicas: 2"),
    (
        "replicas-no-budget",
        "{replicas: 2, podDisruptionBudget: {enabled: false}}",
    ),
    (
        "without-leader-election",
        "leaderElection: {enabled: false}",
    ),
    (
        "namespaced",
        "{watchNamespaces: [default, kube-public], \
          config: {gateways: [{namespace: infra, name: gateway, provider: istio}]}}",
    ),
    (
        "namespaced-replicas",
        "{watchNamespaces: [default], replicas: 3, networkPolicy: {enabled: true}}",
    ),
    (
        "own-rights",
        "{rbac: {create: false}, serviceAccount: {create: false, name: bridge}}",
    ),
    ("stopped", "replicas: 0"),
];

/// Each of all values without the others.
fn each_alone() -> impl Iterator<Item = (String, String)> {
    let everything: Map<String, Value> = serde_yaml::from_str(EVERYTHING).unwrap();
    everything
        .into_iter()
        // A mount is of one of the volumes.
        .filter(|(key, _)| key != "extraVolumeMounts")
        .map(|(key, value)| (format!("only-{key}"), json!({ key: value }).to_string()))
}

/// Every field of the configuration.
fn configured() -> Option<(String, String)> {
    let text = include_str!("../../../../crates/core/src/config/everything.yaml");
    let mut config: Map<String, Value> = serde_yaml::from_str(text).unwrap();
    // That is a value of its own.
    let namespaces = config.remove("namespaces")?;
    let values =
        json!({"watchNamespaces": namespaces, "rbac": {"create": false}, "config": config});
    Some(("configured".to_owned(), values.to_string()))
}

/// Every kind that the chart knows.
const KINDS: [&str; 14] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "CustomResourceDefinition",
    "Deployment",
    "NetworkPolicy",
    "Pod",
    "PodDisruptionBudget",
    "PrometheusRule",
    "Role",
    "RoleBinding",
    "Service",
    "ServiceAccount",
    "ServiceMonitor",
];

/// In what the API server publishes, references are to a place that only its own document has; and a key that
/// is in no schema is one too many.
fn make_strict(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref") {
                *reference = reference.replace("#/components/schemas/", "#/definitions/");
            }
            let open = map.contains_key("additionalProperties")
                || map.contains_key("x-kubernetes-preserve-unknown-fields");
            if map.get("properties").is_some_and(Value::is_object) && !open {
                map.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            map.values_mut().for_each(make_strict);
        }
        Value::Array(all) => all.iter_mut().for_each(make_strict),
        _ => {}
    }
}

/// Where kubeconform looks for a schema: core kinds have the version in place of a group.
const SCHEMA: &str = "{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json";

/// Writes the schema of a kind as the API server publishes it.
async fn write_schema(client: &Client, folder: &Path, api_version: &str, kind: &str) {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let url = if group.is_empty() {
        "/openapi/v3/api".to_owned()
    } else {
        format!("/openapi/v3/apis/{group}")
    };
    let request = Request::new(&url)
        .get(version, &GetParams::default())
        .unwrap();
    let document: Value = client.request(request).await.unwrap();
    let mut definitions = document["components"]["schemas"].clone();
    let wanted = json!({"group": group, "version": version, "kind": kind});
    let found = definitions.as_object().unwrap().iter().find(|(_, schema)| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        kinds.is_some_and(|kinds| kinds.contains(&wanted))
    });
    let (name, _) = found.unwrap();
    let reference = format!("#/definitions/{name}");
    make_strict(&mut definitions);
    let schema = json!({"$ref": reference, "definitions": definitions});
    let group = if group.is_empty() { version } else { group };
    let name = format!("{group}_{version}_{}.json", kind.to_lowercase());
    std::fs::write(folder.join(name), schema.to_string()).unwrap();
}

/// The configuration has to be one that the operator reads.
fn read_configuration(name: &str, objects: &[Value]) {
    let config = configuration_of(objects);
    let read = Config::parse(&config.to_string());
    assert!(read.is_ok(), "{name}: {read:?}");
}

#[tokio::test]
async fn the_api_server_takes_what_any_values_give() {
    let bed = TestBed::shared().unwrap();
    bed.install_prometheus_operator_crds().await.unwrap();
    let namespace = bed.namespace("matrix").await.unwrap();
    // A pod, such as that of helm test, is taken only with its ServiceAccount.
    for name in ["kthena-bridge", "bridge"] {
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        namespace.apply(&account.to_string()).await.unwrap();
    }
    let folder = bed.dir().join("matrix");
    std::fs::create_dir_all(&folder).unwrap();
    let (mut files, mut kinds) = (Vec::new(), BTreeSet::new());
    let (mut objects_of_all, mut asked) = (0, BTreeSet::new());
    let matrix = MATRIX.map(|(name, values)| (name.to_owned(), values.to_owned()));
    for (name, values) in matrix.into_iter().chain(each_alone()).chain(configured()) {
        let text = manifests(&format!("matrix-{name}"), namespace.name(), &values)
            .await
            .unwrap();
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(&file, &text).unwrap();
        files.push(file.to_str().unwrap().to_owned());
        let objects = documents(&text).unwrap();
        for object in &objects {
            let text = |key: &str| object[key].as_str().unwrap().to_owned();
            kinds.insert((text("apiVersion"), text("kind")));
            // Most are the same for most values.
            if !asked.insert(object.to_string()) {
                continue;
            }
            let taken = bed.dry_run(object).await;
            assert!(taken.is_ok(), "{name}: {:?}", taken.unwrap_err());
        }
        objects_of_all += objects.len();
        read_configuration(&name, &objects);
    }
    let named: BTreeSet<&str> = kinds.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(named.into_iter().collect::<Vec<_>>(), KINDS);

    let client = bed.client().unwrap();
    for (api_version, kind) in &kinds {
        write_schema(&client, &folder, api_version, kind).await;
    }
    let schemas = folder.join(SCHEMA);
    let args = [
        "-strict",
        "-summary",
        "-schema-location",
        schemas.to_str().unwrap(),
    ];
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let said = tool("kubeconform", &[&args, &files[..]].concat())
        .await
        .unwrap();
    let valid = format!("Valid: {objects_of_all}, Invalid: 0, Errors: 0, Skipped: 0");
    assert!(said.contains(&valid), "{valid}: {said}");

    // It would find something.
    let wrong = folder.join("wrong.yaml");
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {port: []}\n";
    std::fs::write(&wrong, service).unwrap();
    let refused = tool(
        "kubeconform",
        &[&args[..], &[wrong.to_str().unwrap()]].concat(),
    )
    .await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("additional properties 'port' not allowed"),
        "{refused}"
    );
}
