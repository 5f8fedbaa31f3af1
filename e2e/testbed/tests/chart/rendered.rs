//! What the chart gives for values, and which values it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use k8s_openapi::api::rbac::v1::PolicyRule;
use kthena_bridge_core::config::{Config, LogFormat};
use serde_json::{Value, json};
use testbed::{Helm, OPERATOR_NAMESPACE, config, documents, kustomize, parts};

use crate::chart;
use crate::template::{EVERYTHING, configuration, configuration_of, template, values_file};

fn kind_and_name(object: &Value) -> String {
    let metadata = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{} {}/{}",
        text(&object["kind"]),
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}

/// Whether an object is made by `helm test` only.
fn is_test(object: &Value) -> bool {
    object["metadata"]["annotations"]["helm.sh/hook"] == "test"
}

fn remove(object: &mut Value, path: &str, keys: &[&str]) {
    let Some(map) = object.pointer_mut(path).and_then(Value::as_object_mut) else {
        return;
    };
    for key in keys {
        map.remove(*key);
    }
    if map.is_empty() {
        let (parent, last) = path.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().remove(last);
    }
}

/// Objects by kind and name, without what only Helm writes or needs.
fn comparable(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for mut object in objects {
        let helms = [
            "app.kubernetes.io/instance",
            "app.kubernetes.io/managed-by",
            "app.kubernetes.io/version",
            "helm.sh/chart",
        ];
        remove(&mut object, "/metadata/labels", &helms);
        remove(
            &mut object,
            "/metadata/annotations",
            &["helm.sh/resource-policy"],
        );
        // Without Helm, whoever changes the configuration restarts the operator.
        let of_pod = "/spec/template/metadata/annotations";
        remove(&mut object, of_pod, &["checksum/config"]);
        if let Some(config) = configuration(&object) {
            object["data"]["config.yaml"] = config;
        }
        let name = kind_and_name(&object);
        assert!(all.insert(name.clone(), object).is_none(), "{name} twice");
    }
    all
}

#[tokio::test]
async fn helm_finds_nothing_wrong_with_the_chart() {
    let helm = Helm::without_cluster().unwrap();
    let (chart, everything) = (chart(), values_file("lint", EVERYTHING));
    for more in [&[][..], &["--values", everything.to_str().unwrap()]] {
        let args = [&["lint", "--strict", &chart][..], more].concat();
        let said = helm.run(&args).await.unwrap();
        assert!(said.contains("0 chart(s) failed"), "{said}");
    }
}

#[tokio::test]
async fn the_package_has_what_users_need() {
    let folder = std::env::temp_dir().join("packaged");
    let folder = folder.to_str().unwrap();
    let helm = Helm::without_cluster().unwrap();
    helm.run(&["package", &chart(), "--destination", folder])
        .await
        .unwrap();
    let listed = Command::new("tar")
        .args(["--list", "--gzip", "--file"])
        .arg(format!("{folder}/kthena-bridge-0.1.0.tgz"))
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let has = |path: &str| {
        listed
            .lines()
            .any(|line| line == format!("kthena-bridge/{path}"))
    };
    for path in [
        "Chart.yaml",
        "README.md",
        "values.schema.json",
        "dashboards/kthena-bridge.json",
        "templates/tests/check.yaml",
        "files/crds/modelexposures.yaml",
    ] {
        assert!(has(path), "{path}: {listed}");
    }
    assert!(!listed.contains("kthena-bridge/tests/"), "{listed}");
    // Helm would neither update nor keep what is there.
    assert!(!listed.contains("kthena-bridge/crds/"), "{listed}");
}

/// The chart gives for values what kustomize gives for a folder.
async fn compare(name: &str, values: &str, folder: &Path) {
    let chart = template(name, OPERATOR_NAMESPACE, values).await.unwrap();
    let chart = chart.into_iter().filter(|object| !is_test(object));
    let text = kustomize(&parts().unwrap(), folder).await.unwrap();
    let mut kustomized = documents(&text).unwrap();
    // Helm makes the namespace itself.
    kustomized.retain(|object| object["kind"] != "Namespace");
    let (chart, kustomized) = (comparable(chart.collect()), comparable(kustomized));
    let names = |all: &BTreeMap<String, Value>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&chart), names(&kustomized));
    for (name, object) in &chart {
        assert_eq!(
            object, &kustomized[name],
            "{name}: the chart's, and that of config/"
        );
    }
}

#[tokio::test]
async fn the_default_values_give_what_kustomize_gives() {
    compare("default", "{}", &config()).await;
}

#[tokio::test]
async fn two_replicas_are_what_the_component_of_kustomize_makes() {
    // A kustomization that takes both, as users write it: kustomize takes relative paths only.
    let folder = config().canonicalize().unwrap();
    let own = std::env::temp_dir().join("high-availability");
    std::fs::create_dir_all(&own).unwrap();
    let up = "../".repeat(own.canonicalize().unwrap().components().count() - 1);
    let config = format!("{up}{}", folder.strip_prefix("/").unwrap().display());
    let text =
        format!("resources: [{config}]\ncomponents: [{config}/components/high-availability]\n");
    std::fs::write(own.join("kustomization.yaml"), text).unwrap();
    compare("high-availability", "replicas: 2", &own).await;
}

#[tokio::test]
async fn the_default_configuration_is_the_operators_own() {
    let objects = template("config", OPERATOR_NAMESPACE, "{}").await.unwrap();
    let config = configuration_of(&objects);
    let config = Config::parse(&config.to_string()).unwrap();
    let own = Config {
        log_format: LogFormat::Json,
        ..Config::default()
    };
    assert_eq!(config, own);
}

#[tokio::test]
async fn values_that_are_not_understood_are_refused() {
    let cases = [
        ("replica: 2", "replica"),
        ("replicas: two", "/replicas"),
        (
            "podDisruptionBudget: {maxUnavailable: 0}",
            "/podDisruptionBudget/maxUnavailable",
        ),
        (
            "commonLabels: {app.kubernetes.io/instance: x}",
            "/commonLabels",
        ),
        ("livenessProbe: {exec: {command: [ls]}}", "/livenessProbe"),
        ("config: {defaultGateway: 1}", "/config/defaultGateway"),
        ("config: {failureMode: Open}", "/config/failureMode"),
        ("config: {failuremode: FailOpen}", "failuremode"),
        (
            "config: {reachable: {intervalSeconds: 0}}",
            "intervalSeconds",
        ),
        ("image: {digest: latest}", "/image/digest"),
        ("config: {logFormat: xml}", "/config/logFormat"),
        ("logFormat: text", "logFormat"),
        ("extraArgs: --concurrency=1", "/extraArgs"),
        ("podLabels: {app.kubernetes.io/name: x}", "/podLabels"),
        (
            "networkPolicy: {apiServerPorts: [0]}",
            "/networkPolicy/apiServerPorts",
        ),
        ("watchNamespaces: [Team]", "/watchNamespaces/0"),
        ("watchNamespaces: team", "/watchNamespaces"),
        (
            "config: {endpointPicker: {cpus: 1}}",
            "/config/endpointPicker",
        ),
    ];
    for (values, named) in cases {
        let error = template("refused", OPERATOR_NAMESPACE, values)
            .await
            .expect_err(values)
            .to_string();
        assert!(error.contains(named), "{values}: {error}");
    }
}

/// Everything that is allowed by rules: group, resource, name where there is one, and verb.
fn rights(rules: &Value) -> BTreeSet<(String, String, String, String)> {
    let rules: Vec<PolicyRule> = serde_json::from_value(rules.clone()).unwrap();
    let mut rights = BTreeSet::new();
    for rule in rules {
        let any = vec![String::new()];
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for name in rule.resource_names.as_ref().unwrap_or(&any) {
                    for verb in &rule.verbs {
                        let right = [group, resource, name, verb].map(Clone::clone);
                        rights.insert(right.into());
                    }
                }
            }
        }
    }
    rights
}

fn rules_of(objects: &[Value], kind: &str, namespace: &str, name: &str) -> Value {
    let found: Vec<&Value> = objects
        .iter()
        .filter(|object| {
            let metadata = &object["metadata"];
            object["kind"] == kind
                && metadata["name"] == name
                && metadata["namespace"].as_str().unwrap_or_default() == namespace
        })
        .collect();
    assert_eq!(found.len(), 1, "{kind} {namespace}/{name}: {found:?}");
    found[0]["rules"].clone()
}

/// What belongs to no namespace.
const OF_THE_CLUSTER: [&str; 3] = ["customresourcedefinitions", "gatewayclasses", "namespaces"];

#[tokio::test]
async fn with_namespaces_there_is_no_right_in_the_cluster() {
    let everywhere = template("everywhere", OPERATOR_NAMESPACE, "{}")
        .await
        .unwrap();
    let values = "watchNamespaces: [one, two]";
    let objects = template("namespaced", OPERATOR_NAMESPACE, values)
        .await
        .unwrap();
    for object in &objects {
        let kind = object["kind"].as_str().unwrap();
        assert!(!kind.starts_with("Cluster"), "{object:#}");
    }
    let name = "kthena-bridge";
    let mut expected = rights(&rules_of(&everywhere, "ClusterRole", "", name));
    expected.retain(|(_, resource, ..)| !OF_THE_CLUSTER.contains(&resource.as_str()));
    let expected: BTreeSet<_> = expected
        .into_iter()
        .map(|(group, resource, name, verb)| {
            // The endpoint pickers' role is one of the namespace, too.
            (group, resource.replace("clusterroles", "roles"), name, verb)
        })
        .collect();
    let pickers = "kthena-bridge-endpoint-picker";
    for namespace in ["one", "two"] {
        let rules = rules_of(&objects, "Role", namespace, name);
        assert_eq!(rights(&rules), expected);
        assert_eq!(
            rules_of(&objects, "Role", namespace, pickers),
            rules_of(&everywhere, "ClusterRole", "", pickers)
        );
    }
    let config = configuration_of(&objects);
    assert_eq!(config["namespaces"], json!(["one", "two"]));
}

#[tokio::test]
async fn no_role_has_a_wildcard_or_reads_a_secret() {
    for (name, values) in [
        ("rights-everything", EVERYTHING),
        ("rights-default", "{}"),
        ("rights-namespaced", "{watchNamespaces: [one], replicas: 2}"),
    ] {
        let objects = template(name, OPERATOR_NAMESPACE, values).await.unwrap();
        let roles = objects.iter().filter(|object| object["rules"].is_array());
        let rights: BTreeSet<_> = roles.flat_map(|role| rights(&role["rules"])).collect();
        assert!(!rights.is_empty());
        for right in rights {
            let (group, resource, _, verb) = &right;
            let wild = [group, resource, verb]
                .into_iter()
                .any(|part| part.contains('*'));
            assert!(!wild && resource != "secrets", "{name}: {right:?}");
        }
    }
}
