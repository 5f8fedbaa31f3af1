//! Objects read from files: YAML or JSON, several documents in one.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::Source;
use kthena_bridge_core::observe::Objects;
use kube::Resource;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is wrong with the input.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Read {
        file: String,
        source: std::io::Error,
    },
    /// A document is not YAML, or not an object.
    #[error("{at}: {problem}")]
    Document { at: String, problem: String },
    /// A field of an object has the wrong form.
    #[error("{at} ({object}): field {field}: {problem}")]
    Field {
        at: String,
        object: String,
        field: String,
        problem: String,
    },
}

/// What asks for exposures in some files, and what goes with it.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// The Models and ModelExposures, with the file and document that each came from.
    pub(crate) sources: Vec<(String, Source)>,
    /// The Models themselves, their ModelServings and their ModelServers.
    pub(crate) objects: Objects,
}

impl Input {
    /// Reads the files; `-` is standard input. Objects without a namespace go to `namespace`.
    pub(crate) fn read(files: &[String], namespace: &str) -> Result<Self, Error> {
        let mut input = Self::default();
        for file in files {
            let text = read(file).map_err(|source| Error::Read {
                file: file.clone(),
                source,
            })?;
            for (index, document) in serde_yaml::Deserializer::from_str(&text).enumerate() {
                let at = At {
                    file,
                    document: index + 1,
                };
                let value = Value::deserialize(document).map_err(|e| at.problem(e.to_string()))?;
                input.add(&at, &value, namespace)?;
            }
        }
        Ok(input)
    }

    fn add(&mut self, at: &At<'_>, value: &Value, namespace: &str) -> Result<(), Error> {
        if value.is_null() {
            return Ok(());
        }
        let Some(kind) = value.get("kind").and_then(Value::as_str) else {
            return Err(at.problem("has no kind; a Kubernetes object was expected".to_owned()));
        };
        match kind {
            "ModelBooster" => {
                let model = Arc::new(at.object::<ModelBooster>(value, namespace)?);
                self.objects.boosters.push(Arc::clone(&model));
                self.sources.push((at.to_string(), Source::Model(model)));
            }
            "ModelExposure" => {
                let exposure = Arc::new(at.object::<ModelExposure>(value, namespace)?);
                self.objects.exposures.push(Arc::clone(&exposure));
                self.sources
                    .push((at.to_string(), Source::Object(exposure)));
            }
            "ModelServing" => self
                .objects
                .servings
                .push(Arc::new(at.object(value, namespace)?)),
            "ModelServer" => self
                .objects
                .servers
                .push(Arc::new(at.object(value, namespace)?)),
            other => eprintln!("note: {at}: {other} is not used"),
        }
        Ok(())
    }
}

/// The text of a file; `-` is standard input.
pub(crate) fn read(file: &str) -> std::io::Result<String> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(Path::new(file))
}

/// Where an object stands.
struct At<'a> {
    file: &'a str,
    document: usize,
}

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, document {}", self.file, self.document)
    }
}

impl At<'_> {
    fn problem(&self, problem: String) -> Error {
        Error::Document {
            at: self.to_string(),
            problem,
        }
    }

    /// Reads the object as `K`, which has to be its group and version too.
    fn object<K>(&self, value: &Value, namespace: &str) -> Result<K, Error>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let text = |pointer: &str| {
            value
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let name = text("/metadata/name");
        let field = |field: &str, problem: String| Error::Field {
            at: self.to_string(),
            object: format!("{} {name}", K::kind(&())),
            field: field.to_owned(),
            problem,
        };
        let api_version = text("/apiVersion");
        if api_version != K::api_version(&()) {
            return Err(field(
                "apiVersion",
                format!("is {api_version:?}, and {:?} is read", K::api_version(&())),
            ));
        }
        if name.is_empty() {
            return Err(field("metadata.name", "is missing".to_owned()));
        }
        let mut object: K = serde_path_to_error::deserialize(value)
            .map_err(|e| field(&e.path().to_string(), e.inner().to_string()))?;
        let metadata = object.meta_mut();
        metadata
            .namespace
            .get_or_insert_with(|| namespace.to_owned());
        Ok(object)
    }
}
