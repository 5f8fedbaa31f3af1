//! What Helm makes of the chart for values.

use std::path::PathBuf;

use serde_json::Value;
use testbed::{Helm, OPERATOR, documents};

use crate::chart;

/// Every value, and hardly any of them the default.
pub(crate) const EVERYTHING: &str = include_str!("everything.yaml");

/// What the chart gives for values, which stand in a file of a name that no other test uses.
pub(crate) async fn template(
    name: &str,
    namespace: &str,
    values: &str,
) -> testbed::Result<Vec<Value>> {
    documents(&manifests(name, namespace, values).await?)
}

/// The same as text.
pub(crate) async fn manifests(
    name: &str,
    namespace: &str,
    values: &str,
) -> testbed::Result<String> {
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
    Helm::without_cluster()?.run(&args).await
}

pub(crate) fn values_file(name: &str, values: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("{name}.values.yaml"));
    std::fs::write(&path, values).unwrap();
    path
}

/// The operator's configuration, in its ConfigMap.
pub(crate) fn configuration(map: &Value) -> Option<Value> {
    let text = map["data"]["config.yaml"].as_str()?;
    Some(serde_yaml::from_str(text).unwrap())
}

/// The operator's configuration, among the objects of a release.
pub(crate) fn configuration_of(objects: &[Value]) -> Value {
    objects.iter().find_map(configuration).unwrap()
}

pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    found.next().unwrap()
}
