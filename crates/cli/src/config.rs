//! The operator's configuration: a file, or what the operator of a cluster is given.

use std::io::Write as _;
use std::path::Path;

use k8s_openapi::api::core::v1::ConfigMap;
use kthena_bridge_core::Config;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::observe;

/// The namespace in which the operator usually runs.
pub(crate) const NAMESPACE: &str = "kthena-bridge-system";
/// The name of its ConfigMap, and of all other objects of its own but one.
pub(crate) const NAME: &str = "kthena-bridge";
/// The file in its ConfigMap.
pub(crate) const FILE: &str = "config.yaml";

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {problem}")]
pub(crate) struct Error {
    file: String,
    problem: String,
}

/// Reads a file; the defaults where there is none.
pub(crate) fn read(path: Option<&Path>) -> Result<Config, Error> {
    let Some(path) = path else {
        return Ok(Config::default());
    };
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(file, &text),
        Err(error) => Err(Error {
            file,
            problem: error.to_string(),
        }),
    }
}

/// Reads a file; where there is none, what the operator of the cluster is given, and the defaults, with a
/// note, where that is not known.
pub(crate) async fn read_or_ask(path: Option<&Path>, client: &Client) -> Result<Config, Error> {
    Ok(read_or_ask_where(path, client).await?.0)
}

/// The same, with what to say of where in the cluster it is from.
pub(crate) async fn read_or_ask_where(
    path: Option<&Path>,
    client: &Client,
) -> Result<(Config, Option<String>), Error> {
    if path.is_some() {
        return Ok((read(path)?, None));
    }
    let defaults = || Ok((Config::default(), None));
    let note = |what: &str| {
        anstream::eprintln!(
            "note: {what}, so its defaults are assumed; give the operator's file with --config"
        );
    };
    let found = match everywhere(client).await {
        Err(kube::Error::Api(status)) if status.code == 403 => in_namespace(client).await,
        found => found,
    };
    let found = match found {
        Ok(Some(found)) => found,
        Ok(None) => {
            note("there is no ConfigMap of the operator in the cluster");
            return defaults();
        }
        Err(error) => {
            let cause = observe::cause(&error);
            note(&format!(
                "the operator's ConfigMap cannot be read ({cause})"
            ));
            return defaults();
        }
    };
    let file = format!(
        "ConfigMap {}/{NAME}, {FILE}",
        found.metadata.namespace.unwrap_or_default()
    );
    let Some(text) = found.data.unwrap_or_default().remove(FILE) else {
        note(&format!("{file} is not there"));
        return defaults();
    };
    let origin = format!("the operator's configuration is that of {file}");
    Ok((parse(file, &text)?, Some(origin)))
}

async fn everywhere(client: &Client) -> Result<Option<ConfigMap>, kube::Error> {
    let params = ListParams::default()
        .labels(&format!("app.kubernetes.io/name={NAME}"))
        .fields(&format!("metadata.name={NAME}"));
    let found = Api::all(client.clone()).list(&params).await?;
    Ok(found.items.into_iter().next())
}

async fn in_namespace(client: &Client) -> Result<Option<ConfigMap>, kube::Error> {
    Api::namespaced(client.clone(), NAMESPACE)
        .get_opt(NAME)
        .await
}

/// Reads the text of a file.
pub(crate) fn parse(file: String, text: &str) -> Result<Config, Error> {
    Config::parse(text).map_err(|e| Error {
        file,
        problem: e.to_string(),
    })
}

/// What stands in the way of a Model of this namespace; nothing when the operator looks at it.
pub(crate) fn not_watched(config: &Config, namespace: &str) -> Option<String> {
    (!config.watches(namespace)).then(|| {
        format!(
            "the operator does not watch namespace {namespace}; add it to namespaces in the operator's configuration"
        )
    })
}

/// Prints the JSON Schema of the file.
pub(crate) fn print_schema() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &Config::schema())?;
    writeln!(out)
}
