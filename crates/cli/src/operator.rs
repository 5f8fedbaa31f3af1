//! The operator's own objects, as its manifests and its chart call them.

use k8s_openapi::api::core::v1::ConfigMap;
use kthena_bridge_core::Config;
use kube::{Api, Client};

/// The name of the Deployment, ConfigMap, ServiceAccount, ClusterRole and ClusterRoleBinding.
pub(crate) const NAME: &str = "kthena-bridge";
/// The namespace that the manifests and the documentation name.
pub(crate) const NAMESPACE: &str = "kthena-bridge-system";
/// The key of the ConfigMap that has the configuration.
const KEY: &str = "config.yaml";

/// Why the operator's configuration is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be read.
    #[error("ConfigMap {0}/{NAME} cannot be read: {1}")]
    Read(String, kube::Error),
    /// It is not there.
    #[error("there is no ConfigMap {0}/{NAME} with the key {KEY}")]
    Missing(String),
    /// It is there, and no configuration.
    #[error("ConfigMap {0}/{NAME}, key {KEY}: field {1}: {2}")]
    Field(String, String, String),
}

/// The configuration of the operator in a namespace.
pub(crate) async fn config(client: &Client, namespace: &str) -> Result<Config, Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = maps
        .get_opt(NAME)
        .await
        .map_err(|e| Error::Read(namespace.to_owned(), e))?;
    let text = map
        .and_then(|map| map.data?.remove(KEY))
        .ok_or_else(|| Error::Missing(namespace.to_owned()))?;
    parse(&text).map_err(|(field, problem)| Error::Field(namespace.to_owned(), field, problem))
}

/// Reads a configuration; the error is a field and what is wrong with it.
fn parse(text: &str) -> Result<Config, (String, String)> {
    // A file of comments alone is no document, and all defaults.
    if text
        .lines()
        .all(|line| matches!(line.trim().as_bytes(), [] | [b'#', ..]))
    {
        return Ok(Config::default());
    }
    serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|e| (e.path().to_string(), e.inner().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_have_the_default_configuration() {
        let map: serde_yaml::Value =
            serde_yaml::from_str(include_str!("../../../config/config-map.yaml")).unwrap();
        assert_eq!(map["metadata"]["name"].as_str(), Some(NAME));
        assert_eq!(map["metadata"]["namespace"].as_str(), Some(NAMESPACE));
        assert_eq!(
            parse(map["data"][KEY].as_str().unwrap()),
            Ok(Config::default())
        );
    }

    #[test]
    fn comments_alone_are_all_defaults_and_a_wrong_field_is_named() {
        assert_eq!(parse("# nothing\n\n"), Ok(Config::default()));
        assert_eq!(parse("failureMode: Never\n").unwrap_err().0, "failureMode");
    }
}
