//! The definition of ModelExposure in `crds/` and in the chart, and the table of its fields in
//! `docs/model-exposure.md`, are those of the code.

use std::fmt::Write as _;

use kthena_bridge_api::annotation;
use kthena_bridge_api::model_exposure::ModelExposure;
use kube::CustomResourceExt as _;
use serde_json::Value;
use testbed::document::{in_repository, is_generated, read};

/// Where the definition stands.
const FILES: [&str; 2] = [
    "crds/modelexposures.yaml",
    "charts/kthena-bridge/files/crds/modelexposures.yaml",
];

#[test]
fn the_table_is_made_of_the_definition_that_is_in_crds_and_the_chart() {
    let text = serde_yaml::to_string(&ModelExposure::crd()).unwrap();
    for file in FILES {
        if std::env::var_os("REGENERATE").is_some() {
            std::fs::write(in_repository(file), &text).unwrap();
        }
        let found = read(file).unwrap_or_default();
        assert!(found == text, "{file} is out of date: run `make generate`");
    }
}

#[test]
fn the_table_is_that_of_the_fields() {
    let crd = serde_json::to_value(ModelExposure::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut table = "| field | value | what it says | annotation |\n|---|---|---|---|\n".to_owned();
    for part in ["spec", "status"] {
        rows(part, &schema[part], &mut table);
    }
    is_generated("docs/model-exposure.md", "fields", &table).unwrap();
}

/// The rows of what a field consists of.
fn rows(path: &str, schema: &Value, table: &mut String) {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let mut form = form(field);
        if required.contains(&name.as_str()) {
            form.push_str(", required");
        }
        let about = field["description"].as_str().unwrap_or_default();
        let about = about.replace('\n', " ").replace('|', "\\|");
        let says = annotation::ALL
            .iter()
            .find(|a| !a.field.is_empty() && format!("spec.{}", a.field) == path);
        let says = says.map_or(String::new(), |a| format!("`{}`", a.key));
        writeln!(table, "| `{path}` | {form} | {about} | {says} |").unwrap();
        match field["type"].as_str() {
            // Kubernetes' own.
            _ if path == "status.conditions" => {}
            Some("array") => rows(&format!("{path}[]"), &field["items"], table),
            _ => rows(&path, field, table),
        }
    }
}

/// The form of a field's value, in words.
fn form(field: &Value) -> String {
    let type_ = field["type"].as_str().unwrap_or("any");
    let mut form = match (type_, field["items"]["type"].as_str()) {
        ("array", Some(of)) => format!("list of {of}s"),
        _ => type_.to_owned(),
    };
    let values = field["enum"].as_array().into_iter().flatten();
    let values: Vec<String> = values
        .filter_map(Value::as_str)
        .map(|value| format!("`{value}`"))
        .collect();
    if !values.is_empty() {
        form = values.join(", ");
    }
    if let (Some(least), Some(most)) = (field["minimum"].as_f64(), field["maximum"].as_f64()) {
        form = format!("{least} to {most}");
    }
    if let Some(most) = field["maxItems"].as_u64() {
        write!(form, ", {most} at most").unwrap();
    }
    let default = &field["default"];
    if !default.is_null() && *default != Value::Bool(false) {
        let default = default
            .as_str()
            .map_or_else(|| default.to_string(), str::to_owned);
        write!(form, "; default `{default}`").unwrap();
    }
    form
}
