//! The environment of a container, and `$(NAME)` in it and in its command.

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret},
};
use kube::ResourceExt as _;

use crate::volumes::Source;

/// Names and values in the order in which they are set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Env(pub(crate) Vec<(String, String)>);

impl Env {
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.into()));
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Replaces `$(NAME)` by its value. An unknown name stays as it is, and `$$` is a plain `$`.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            expanded.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                expanded.push('$');
                rest = after;
            } else if let Some((name, after)) = rest
                .strip_prefix('(')
                .and_then(|inner| inner.split_once(')'))
            {
                match self.get(name) {
                    Some(value) => expanded.push_str(value),
                    None => expanded.extend(["$(", name, ")"]),
                }
                rest = after;
            } else {
                expanded.push('$');
            }
        }
        expanded + rest
    }
}

/// The environment that a container asks for, on top of `base`. An error is the message of a
/// `CreateContainerConfigError`.
pub(crate) async fn of(
    container: &Container,
    pod: &Pod,
    base: Env,
    source: &Source,
) -> Result<Env, String> {
    let mut env = base;
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let mut values = Vec::new();
        if let Some(reference) = &from.config_map_ref {
            let map = source
                .find::<ConfigMap>(&reference.name, reference.optional)
                .await?;
            values.extend(map.and_then(|map| map.data).unwrap_or_default());
        }
        if let Some(reference) = &from.secret_ref {
            let secret = source
                .find::<Secret>(&reference.name, reference.optional)
                .await?;
            let data = secret.and_then(|secret| secret.data).unwrap_or_default();
            values.extend(data.into_iter().map(|(key, value)| (key, text(&value))));
        }
        for (key, value) in values {
            env.set(&format!("{prefix}{key}"), value);
        }
    }
    for var in container.env.iter().flatten() {
        let value = match &var.value_from {
            Some(from) => value_from(from, pod, source)
                .await
                .map_err(|e| format!("env {}: {e}", var.name))?,
            None => Some(env.expand(var.value.as_deref().unwrap_or_default())),
        };
        if let Some(value) = value {
            env.set(&var.name, value);
        }
    }
    Ok(env)
}

async fn value_from(
    from: &EnvVarSource,
    pod: &Pod,
    source: &Source,
) -> Result<Option<String>, String> {
    if let Some(field) = &from.field_ref {
        return pod_field(pod, &field.field_path).map(Some);
    }
    if let Some(reference) = &from.config_map_key_ref {
        let map = source
            .find::<ConfigMap>(&reference.name, reference.optional)
            .await?;
        let value = map.and_then(|map| map.data?.remove(&reference.key));
        return key_found(value, &reference.key, &reference.name, reference.optional);
    }
    if let Some(reference) = &from.secret_key_ref {
        let secret = source
            .find::<Secret>(&reference.name, reference.optional)
            .await?;
        let value = secret
            .and_then(|secret| secret.data?.remove(&reference.key))
            .map(|value| text(&value));
        return key_found(value, &reference.key, &reference.name, reference.optional);
    }
    Err("only fieldRef, configMapKeyRef and secretKeyRef are supported by this kubelet".to_owned())
}

fn key_found(
    value: Option<String>,
    key: &str,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<String>, String> {
    if value.is_none() && optional != Some(true) {
        return Err(format!("couldn't find key {key} in {name}"));
    }
    Ok(value)
}

fn text(value: &ByteString) -> String {
    String::from_utf8_lossy(&value.0).into_owned()
}

/// A field of the pod, as the downward API gives it.
pub(crate) fn pod_field(pod: &Pod, path: &str) -> Result<String, String> {
    let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']");
    if let Some(key) = keyed("metadata.labels['") {
        return Ok(pod.labels().get(key).cloned().unwrap_or_default());
    }
    if let Some(key) = keyed("metadata.annotations['") {
        return Ok(pod.annotations().get(key).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let value = match path {
        "metadata.name" => pod.metadata.name.clone(),
        "metadata.namespace" => pod.metadata.namespace.clone(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()),
        "status.podIP" | "status.podIPs" => status.and_then(|s| s.pod_ip.clone()),
        "status.hostIP" | "status.hostIPs" => status.and_then(|s| s.host_ip.clone()),
        _ => return Err(format!("unsupported fieldPath {path}")),
    };
    Ok(value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_as_the_api_says() {
        let env = Env(vec![
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), "$(A)".to_owned()),
        ]);
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(B)", "$(A)"),
            ("$(NO)", "$(NO)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
        ] {
            assert_eq!(env.expand(text), expected, "{text}");
        }
    }

    #[test]
    fn a_later_value_replaces_an_earlier_one() {
        let mut env = Env::default();
        env.set("A", "1");
        env.set("A", "2");
        assert_eq!(env.0, [("A".to_owned(), "2".to_owned())]);
    }

    #[test]
    fn reads_fields_of_the_pod() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "labels": {"a.b/c": "d"}}, "status": {"podIP": "10.0.0.1"}
        }))
        .unwrap();
        assert_eq!(pod_field(&pod, "metadata.labels['a.b/c']").unwrap(), "d");
        assert_eq!(pod_field(&pod, "status.podIP").unwrap(), "10.0.0.1");
        assert!(pod_field(&pod, "metadata.generation").is_err());
    }
}
