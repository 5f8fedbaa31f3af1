//! `docs/configuration.md` has every field of the configuration file, as the schema tells it.

use kthena_bridge_core::Config;
use serde_json::Value;
use testbed::document::{blocks, is_generated, read};

const FILE: &str = "docs/configuration.md";

/// What may stand in a field, in a few words.
fn form(schema: &Value) -> String {
    if let Some(values) = schema["oneOf"].as_array() {
        let value = |one: &Value| Some(format!("`{}`", one["const"].as_str()?));
        return values
            .iter()
            .filter_map(value)
            .collect::<Vec<_>>()
            .join(", ");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        several => several
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect(),
    };
    let types: Vec<&str> = types.into_iter().filter(|name| *name != "null").collect();
    match types.as_slice() {
        ["boolean"] => "`true`, `false`".to_owned(),
        ["integer"] => match (&schema["minimum"], &schema["maximum"]) {
            (from, Value::Null) => format!("{from} or more"),
            (from, to) => format!("{from} to {to}"),
        },
        ["array"] => format!("list of {}", form(&schema["items"])),
        ["string"] => "text".to_owned(),
        ["string", "number"] => "amount".to_owned(),
        ["object"] => {
            if let Some(values) = schema["patternProperties"].as_object() {
                let values: Vec<String> = values.values().map(form).collect();
                return format!("map to {}", values.join(", "));
            }
            match schema["properties"].as_object() {
                Some(fields) => {
                    let fields: Vec<&str> = fields.keys().map(String::as_str).collect();
                    format!("`{{{}}}`", fields.join(", "))
                }
                None => "map".to_owned(),
            }
        }
        other => unreachable!("{other:?} has no words yet"),
    }
}

/// A row for each field, those of a section behind it.
fn rows(schema: &Value, prefix: &str, all: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let about = field["description"]
            .as_str()
            .unwrap_or_default()
            .replace('\n', " ");
        assert!(!about.is_empty(), "{path} has no description");
        if field["properties"].is_object() {
            all.push(format!("| **`{path}`** | | | {about} |"));
            rows(field, &format!("{path}."), all);
            continue;
        }
        let default = match field.get("default") {
            None | Some(Value::Null) => String::new(),
            Some(Value::Array(items)) if items.is_empty() => String::new(),
            Some(Value::String(text)) => format!("`{text}`"),
            Some(other) => format!("`{other}`"),
        };
        all.push(format!(
            "| `{path}` | {} | {default} | {about} |",
            form(field)
        ));
    }
}

fn table() -> String {
    let mut all = vec![
        "| field | value | default | what it does |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    rows(&Config::schema().to_value(), "", &mut all);
    all.join("\n") + "\n"
}

#[test]
fn the_table_is_that_of_the_schema() {
    is_generated(FILE, "fields", &table()).unwrap();
}

#[test]
fn the_examples_of_the_document_are_valid() {
    let blocks = blocks(&read(FILE).unwrap());
    let examples: Vec<_> = blocks.iter().filter(|b| b.language == "yaml").collect();
    assert!(examples.len() >= 5, "{}", examples.len());
    for example in examples {
        let parsed = Config::parse(&example.text);
        let fits = parsed
            .as_ref()
            .is_ok_and(|config| *config != Config::default());
        assert!(fits, "{example:?}\n{parsed:?}");
    }
}
