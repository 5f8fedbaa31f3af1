//! Models in files, for Git: their annotations are changed, and everything else stays.

use std::collections::BTreeMap;

use kthena_bridge_api::annotation;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::exposure::InvalidSettings;
use kthena_bridge_core::{Config, Exposure};
use kube::Resource as _;
use serde::Deserialize as _;
use serde_yaml::{Mapping, Value};

use super::Settings;
use crate::input;

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}: {1}")]
    Read(String, std::io::Error),
    #[error("{0}, document {1}: {2}")]
    Document(String, usize, String),
    #[error("{0}, document {1} (ModelBooster {2}): {3}")]
    Invalid(String, usize, String, InvalidSettings),
    #[error("there is no ModelBooster {name} in {files}", name = .0.as_deref().unwrap_or("at all"), files = .1.join(", "))]
    NoModel(Option<String>, Vec<String>),
    #[error("writing YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
}

/// The files' documents, with the annotations of one Model, or of all, changed.
pub(super) fn annotate(
    files: &[String],
    only: Option<&str>,
    namespace: &str,
    settings: &Settings,
    config: &Config,
) -> Result<String, Error> {
    let mut documents = Vec::new();
    let mut found = false;
    for file in files {
        let text = input::read(file).map_err(|e| Error::Read(file.clone(), e))?;
        if text.lines().any(|line| line.trim_start().starts_with('#')) {
            anstream::eprintln!("note: {file}: comments are not kept");
        }
        for (index, document) in serde_yaml::Deserializer::from_str(&text).enumerate() {
            let problem = |problem: String| Error::Document(file.clone(), index + 1, problem);
            let mut value = Value::deserialize(document).map_err(|e| problem(e.to_string()))?;
            if value.is_null() {
                continue;
            }
            if is_model(&value) {
                let name = value["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                if name.is_empty() {
                    return Err(problem("metadata.name is missing".to_owned()));
                }
                if only.is_none_or(|only| only == name) {
                    found = true;
                    let namespace = value["metadata"]["namespace"].as_str().unwrap_or(namespace);
                    let before = annotations(&value).map_err(problem)?;
                    let after = settings.applied_to(&before);
                    Exposure::parse(namespace, &name, &after, config).map_err(|invalid| {
                        Error::Invalid(file.clone(), index + 1, name.clone(), invalid)
                    })?;
                    set(&mut value, &before, &after);
                }
            }
            documents.push(serde_yaml::to_string(&value)?);
        }
    }
    if !found {
        return Err(Error::NoModel(only.map(str::to_owned), files.to_vec()));
    }
    Ok(documents.join("---\n"))
}

fn is_model(value: &Value) -> bool {
    value["kind"].as_str() == Some(&*ModelBooster::kind(&()))
        && value["apiVersion"].as_str() == Some(&*ModelBooster::api_version(&()))
}

/// The annotations; the error says what is wrong with them.
fn annotations(value: &Value) -> Result<BTreeMap<String, String>, String> {
    match &value["metadata"]["annotations"] {
        Value::Null => Ok(BTreeMap::new()),
        annotations => serde_yaml::from_value(annotations.clone()).map_err(|e| {
            format!("metadata.annotations: {e}; put true, false and numbers in quotes")
        }),
    }
}

/// Sets what differs, so that the others stay where they are.
fn set(value: &mut Value, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    let Some(metadata) = value.get_mut("metadata").and_then(Value::as_mapping_mut) else {
        return;
    };
    if metadata.get("annotations").is_none_or(Value::is_null) {
        metadata.insert("annotations".into(), Mapping::new().into());
    }
    let Some(annotations) = metadata
        .get_mut("annotations")
        .and_then(Value::as_mapping_mut)
    else {
        return;
    };
    for key in before
        .keys()
        .filter(|key| annotation::is_ours(key) && !after.contains_key(*key))
    {
        annotations.shift_remove(key.as_str());
    }
    for (key, text) in after
        .iter()
        .filter(|(key, text)| before.get(*key) != Some(text))
    {
        annotations.insert(key.as_str().into(), text.as_str().into());
    }
    if annotations.is_empty() {
        metadata.shift_remove("annotations");
    }
}
