//! What the chart gives for values, and which values it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kthena_bridge_core::config::Config;
use serde_json::Value;
use testbed::{Helm, OPERATOR, OPERATOR_NAMESPACE, TestBed, documents, kustomize, parts};

use crate::chart;

/// Kinds of the Prometheus operator, which the bed does not have.
const NOT_INSTALLED: [&str; 2] = ["PrometheusRule", "ServiceMonitor"];
const EVERYTHING: &str = include_str!("everything.yaml");

/// What the chart gives for values, which stand in a file of a name that no other test uses.
async fn template(name: &str, namespace: &str, values: &str) -> testbed::Result<Vec<Value>> {
    let path = values_file(name, values);
    let args = [
        "template",
        OPERATOR,
        &chart(),
        "--namespace",
        namespace,
        "--values",
        path.to_str().unwrap(),
    ];
    documents(&Helm::without_cluster()?.run(&args).await?)
}

fn values_file(name: &str, values: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("{name}.values.yaml"));
    std::fs::write(&path, values).unwrap();
    path
}

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
        if object["kind"] == "ConfigMap" {
            object["data"]["config.yaml"] = configuration(&object);
        }
        let name = kind_and_name(&object);
        assert!(all.insert(name.clone(), object).is_none(), "{name} twice");
    }
    all
}

/// The operator's configuration, in its ConfigMap.
fn configuration(map: &Value) -> Value {
    let text = map["data"]["config.yaml"].as_str().unwrap();
    serde_yaml::from_str(text).unwrap()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    found.next().unwrap()
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
async fn the_default_values_give_what_kustomize_gives() {
    let chart = template("default", OPERATOR_NAMESPACE, "{}").await.unwrap();
    let mut kustomized = documents(&kustomize(&parts().unwrap()).await.unwrap()).unwrap();
    // Helm makes the namespace itself.
    kustomized.retain(|object| object["kind"] != "Namespace");
    let (chart, kustomized) = (comparable(chart), comparable(kustomized));
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
async fn the_default_configuration_is_the_operators_own() {
    let objects = template("config", OPERATOR_NAMESPACE, "{}").await.unwrap();
    let config = configuration(of_kind(&objects, "ConfigMap"));
    let config: Config = serde_json::from_value(config).unwrap();
    assert_eq!(config, Config::default());
}

#[tokio::test]
async fn values_that_are_not_understood_are_refused() {
    let cases = [
        ("replicas: 2", "replicas"),
        ("config: {failureMode: Open}", "/config/failureMode"),
        ("config: {failuremode: FailOpen}", "failuremode"),
        (
            "config: {reachable: {intervalSeconds: 0}}",
            "intervalSeconds",
        ),
        ("image: {digest: latest}", "/image/digest"),
        ("logFormat: xml", "/logFormat"),
        ("extraArgs: --concurrency=1", "/extraArgs"),
        ("podLabels: {app.kubernetes.io/name: x}", "/podLabels"),
        (
            "networkPolicy: {apiServerPorts: [0]}",
            "/networkPolicy/apiServerPorts",
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

#[tokio::test]
async fn alerts_are_about_metrics_that_there_are() {
    let values = "metrics: {prometheusRule: {enabled: true}}";
    let objects = template("alerts", OPERATOR_NAMESPACE, values)
        .await
        .unwrap();
    let rules = of_kind(&objects, "PrometheusRule")["spec"]["groups"][0]["rules"].clone();
    let registered = include_str!("../../../../crates/controller/src/metrics.rs");
    let mut metrics = BTreeSet::new();
    for rule in rules.as_array().unwrap() {
        let expression = rule["expr"].as_str().unwrap();
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = words.filter(|word| {
            word.starts_with("controller_runtime_") || word.starts_with("kthena_bridge_")
        });
        metrics.extend(ours.map(str::to_owned));
    }
    assert_eq!(metrics.len(), 3, "{metrics:?}");
    for metric in metrics {
        let name = metric.strip_suffix("_total").unwrap_or(&metric);
        assert!(registered.contains(&format!("\"{name}\"")), "{metric}");
    }
}

#[tokio::test]
async fn the_api_server_takes_what_any_values_give() {
    let bed = TestBed::shared().unwrap();
    let matrix = [
        ("nothing", "{}"),
        ("everything", EVERYTHING),
        (
            "empty",
            "{resources: null, podSecurityContext: null, securityContext: null, config: {reachable: null}}",
        ),
        ("policy", "networkPolicy: {enabled: true}"),
        ("monitor", "metrics: {serviceMonitor: {enabled: true}}"),
        (
            "tag",
            "{image: {tag: latest}, config: {endpointPicker: {clusterRole: another}}}",
        ),
    ];
    let mut kinds = BTreeSet::new();
    for (name, values) in matrix {
        let objects = template(&format!("matrix-{name}"), "default", values)
            .await
            .unwrap();
        for object in &objects {
            let kind = object["kind"].as_str().unwrap();
            kinds.insert(kind.to_owned());
            if !NOT_INSTALLED.contains(&kind) {
                let taken = bed.dry_run(object).await;
                assert!(taken.is_ok(), "{name}: {:?}", taken.unwrap_err());
            }
        }
        let config = configuration(of_kind(&objects, "ConfigMap"));
        let read: Result<Config, _> = serde_json::from_value(config);
        assert!(read.is_ok(), "{name}: {read:?}");
    }
    let expected = [
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "Deployment",
        "NetworkPolicy",
        "PrometheusRule",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    ];
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
}
