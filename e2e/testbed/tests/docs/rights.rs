//! `docs/security.md` names every right of the operator and of the endpoint pickers.

use serde_json::Value;
use testbed::document::read;

/// The rows of a table: group, resource and verbs of each rule, in the manifest's words.
fn rights(path: &str) -> Vec<String> {
    let role: Value = serde_yaml::from_str(&read(path).unwrap()).unwrap();
    let mut rights = Vec::new();
    let words = |rule: &Value, field: &str| -> Vec<String> {
        let words = rule[field].as_array().into_iter().flatten();
        words
            .map(|word| word.as_str().unwrap().to_owned())
            .collect()
    };
    for rule in role["rules"].as_array().unwrap() {
        let verbs = words(rule, "verbs").join(", ");
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                let dot = if group.is_empty() { "" } else { "." };
                rights.push(format!("| `{resource}{dot}{group}` | {verbs} |"));
            }
        }
    }
    rights
}

fn compare(path: &str, heading: &str, at_least: usize) {
    let text = read("docs/security.md").unwrap();
    let (_, section) = text.split_once(&format!("\n{heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let written: Vec<&str> = section.lines().filter(|l| l.starts_with("| `")).collect();
    let rights = rights(path);
    assert!(rights.len() >= at_least, "{rights:?}");
    let missing: Vec<&String> = rights
        .iter()
        .filter(|right| !written.iter().any(|row| row.starts_with(*right)))
        .collect();
    assert!(missing.is_empty(), "add to {heading}: {missing:#?}");
    let surplus: Vec<&&str> = written
        .iter()
        .filter(|row| !rights.iter().any(|right| row.starts_with(right)))
        .collect();
    assert!(surplus.is_empty(), "remove from {heading}: {surplus:#?}");
}

#[test]
fn every_right_of_the_operator_is_explained() {
    compare("config/cluster-role.yaml", "## The operator's rights", 25);
}

#[test]
fn every_right_of_an_endpoint_picker_is_explained() {
    let path = "config/endpoint-picker-cluster-role.yaml";
    compare(path, "## The endpoint picker's rights", 8);
}
