//! The alerts and the dashboard are about metrics that there are.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::template::{of_kind, template};

/// The operator's metrics that an expression asks for.
fn metrics_of(expression: &str) -> impl Iterator<Item = String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| {
        [
            "controller_runtime_",
            "kthena_bridge_",
            "leader_election_",
            "process_",
            "rest_client_",
            "workqueue_",
        ]
        .iter()
        .any(|prefix| word.starts_with(prefix))
    });
    ours.map(str::to_owned)
}

/// Those of every alert and every panel.
pub(crate) async fn asked_for() -> BTreeSet<String> {
    let values = "metrics: {prometheusRule: {enabled: true}, dashboard: {enabled: true}}";
    let objects = template("metrics", "default", values).await.unwrap();
    let mut metrics = BTreeSet::new();
    let groups = &of_kind(&objects, "PrometheusRule")["spec"]["groups"];
    let rules = groups[0]["rules"].as_array().unwrap();
    for rule in rules {
        metrics.extend(metrics_of(rule["expr"].as_str().unwrap()));
    }
    let dashboard = objects
        .iter()
        .find_map(|object| object["data"]["kthena-bridge.json"].as_str())
        .unwrap();
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}: nothing is shown", panel["title"]);
        for target in targets {
            metrics.extend(metrics_of(target["expr"].as_str().unwrap()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        metrics.extend(metrics_of(
            variable["definition"].as_str().unwrap_or_default(),
        ));
    }
    metrics
}

/// The document is compared with what is served where the metrics are registered.
#[tokio::test]
async fn alerts_and_dashboard_ask_for_metrics_that_are_documented() {
    let documented = testbed::document::read("docs/operations.md").unwrap();
    let asked_for = asked_for().await;
    assert!(asked_for.len() >= 15, "{asked_for:?}");
    for metric in asked_for {
        let whole = documented.contains(&format!("\n| `{metric}` | "));
        let histogram = ["_bucket", "_count"].iter().any(|suffix| {
            let name = metric.strip_suffix(suffix);
            name.is_some_and(|name| documented.contains(&format!("\n| `{name}` | histogram |")))
        });
        assert!(whole || histogram, "{metric}");
    }
}
