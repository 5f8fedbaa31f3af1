//! What is made from something else: the schema of `config` in `values.schema.json`, and the table of the
//! chart's README.md. `make generate` writes it, by setting `REGENERATE`; without that, it is compared.

use std::fmt::Write as _;

use kthena_bridge_core::Config;
use serde_json::Value;

use crate::template::EVERYTHING;

fn read(file: &str) -> String {
    std::fs::read_to_string(testbed::chart().join(file)).unwrap()
}

/// Compares a file of the chart with what it has to be, or writes it.
fn is_generated(file: &str, wanted: &str) {
    if std::env::var_os("REGENERATE").is_some() {
        return std::fs::write(testbed::chart().join(file), wanted).unwrap();
    }
    let found = read(file);
    let differs = found
        .lines()
        .zip(wanted.lines())
        .find(|(found, wanted)| found != wanted);
    assert!(
        found == wanted,
        "{file} is out of date: run `make generate`. The first line that differs, and what it has to be: {differs:#?}"
    );
}

#[test]
fn the_schema_of_the_configuration_is_the_operators_own() {
    let file = "values.schema.json";
    let found = read(file);
    // It is the last of the definitions.
    let start = found.rfind("\n    \"config\": ").unwrap();
    let mut schema = Config::schema().to_value();
    let map = schema.as_object_mut().unwrap();
    map.remove("$schema");
    map.remove("title");
    let schema = serde_json::to_string_pretty(&schema).unwrap();
    let schema = schema.replace('\n', "\n    ");
    let wanted = format!("{}\n    \"config\": {schema}\n  }}\n}}\n", &found[..start]);
    is_generated(file, &wanted);
}

/// A row of a table of values.
struct Row {
    path: String,
    default: Option<Value>,
    about: String,
}

fn table(rows: &[Row]) -> String {
    let mut text = "| value | default | what |\n|---|---|---|\n".to_owned();
    for row in rows {
        let default = row.default.as_ref().map(|default| format!("`{default}`"));
        let (default, about) = (default.unwrap_or_default(), row.about.replace('|', "\\|"));
        writeln!(text, "| `{}` | {default} | {about} |", row.path).unwrap();
    }
    text
}

/// Whether the keys of a value are values of their own, as the schema has it; those that refer elsewhere are
/// somebody else's, such as a probe's.
fn is_section(schema: &Value, path: &[&str]) -> bool {
    let found = path.iter().fold(schema, |schema, key| {
        let properties = &schema["properties"];
        assert!(properties[key].is_object(), "{path:?} is not in the schema");
        &properties[key]
    });
    found["properties"].is_object() && found["$ref"].is_null()
}

/// The rows for the values that stand in `values.yaml`, in its order, with its comments.
fn value_rows() -> Vec<Row> {
    let text = read("values.yaml");
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let values: Value = serde_yaml::from_str(&text).unwrap();
    let (mut rows, mut comment, mut path) = (Vec::new(), Vec::new(), Vec::<&str>::new());
    // Deeper lines than this belong to a value that was told of as a whole.
    let mut told = usize::MAX;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let depth = (line.len() - trimmed.len()) / 2;
        if let Some(said) = trimmed.strip_prefix("# ") {
            comment.push(said);
            continue;
        }
        let about = std::mem::take(&mut comment).join(" ");
        let Some((key, _)) = trimmed.split_once(':') else {
            continue;
        };
        if depth > told {
            continue;
        }
        told = usize::MAX;
        path.truncate(depth);
        path.push(key);
        let is_section = is_section(&schema, &path);
        let default = path.iter().fold(&values, |value, key| &value[*key]);
        let path = path.join(".");
        if is_section && about.is_empty() {
            continue;
        }
        assert!(
            !about.is_empty(),
            "values.yaml: no comment says what {path} is"
        );
        if !is_section {
            told = depth;
        }
        let default = (!is_section && path != "config").then(|| default.clone());
        rows.push(Row {
            path,
            default,
            about,
        });
    }
    rows
}

/// The text with what stands between two marks replaced.
fn between(text: &str, name: &str, new: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}{new}{end}{after}")
}

#[test]
fn the_table_of_the_readme_is_that_of_the_values() {
    let wanted = between(&read("README.md"), "values", &table(&value_rows()));
    is_generated("README.md", &wanted);
}

#[test]
fn everything_sets_every_value() {
    let everything: Value = serde_yaml::from_str(EVERYTHING).unwrap();
    // It is about the whole cluster; some namespaces are another set of values.
    let elsewhere = ["watchNamespaces"];
    let unset: Vec<String> = value_rows()
        .into_iter()
        .filter(|row| !elsewhere.contains(&row.path.as_str()))
        .map(|row| format!("/{}", row.path.replace('.', "/")))
        .filter(|path| everything.pointer(path).is_none())
        .collect();
    assert_eq!(unset, Vec::<String>::new());
}
