//! The grammar of each annotation's value. An error completes the sentence "annotation KEY: VALUE …".

use std::collections::BTreeMap;
use std::fmt;

use kthena_bridge_api::annotation;
use kthena_bridge_api::text::{
    Duration, Hostname, LabelKey, LabelValue, ModelName, NamespaceName, ObjectName, ServiceName,
    path, quote,
};

use super::{ENDPOINT_PICKER_PORT, EndpointPicker};
use crate::config::FailureMode;

/// What there is a list of, in words.
const HOST_NAME: &str = "host name";
const MODEL_NAME: &str = "model name";

/// A Gateway, or one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayRef {
    /// The Gateway's namespace.
    pub namespace: String,
    /// The Gateway's name.
    pub name: String,
    /// The listener; all of them when there is none.
    pub listener: Option<String>,
}

impl fmt::Display for GatewayRef {
    /// As in the annotation, with the namespace: `namespace/name[:listener]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        match &self.listener {
            Some(listener) => write!(f, ":{listener}"),
            None => Ok(()),
        }
    }
}

/// What to say of a key that nothing reads: the nearest one that exists, and all of them.
pub(super) fn unknown_key(key: &str) -> String {
    let short = |k: &str| k.rsplit('/').next().unwrap_or_default().to_owned();
    let known: Vec<String> = annotation::ALL.iter().map(|a| short(a.key)).collect();
    let nearest = known
        .iter()
        .map(|k| (distance(&short(key), k), k))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, k)| format!("did you mean {k}? "))
        .unwrap_or_default();
    format!(
        "is not an annotation of kthena-bridge; {nearest}there are {}",
        known.join(", ")
    )
}

/// Levenshtein distance, for suggestions.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(100).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

pub(super) fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

/// Splits at commas; every part has something in it.
fn split(value: &str, what: &str) -> Result<Vec<String>, String> {
    let parts: Vec<String> = value
        .split(',')
        .map(|part| part.trim().to_owned())
        .collect();
    if parts.iter().any(String::is_empty) {
        return Err(format!(
            "has an empty {what}; name one or more, separated by commas"
        ));
    }
    Ok(parts)
}

/// Checks that no part comes twice, and that there are at most `limit`.
fn once(parts: Vec<String>, what: &str, limit: usize) -> Result<Vec<String>, String> {
    let twice = |(at, part): &(usize, &String)| parts[..*at].contains(part);
    if let Some((_, part)) = parts.iter().enumerate().find(twice) {
        return Err(format!("names the {what} {} twice", quote(part)));
    }
    if parts.len() > limit {
        return Err(format!(
            "names {} {what}s; at most {limit} are allowed",
            parts.len()
        ));
    }
    Ok(parts)
}

fn list(value: &str, what: &str, limit: usize) -> Result<Vec<String>, String> {
    once(split(value, what)?, what, limit)
}

pub(super) fn gateways(value: &str, own_namespace: &str) -> Result<Vec<GatewayRef>, String> {
    // HTTPRoute has at most 32 parentRefs.
    list(value, "Gateway", 32)?
        .iter()
        .map(|part| {
            let (namespace, rest) = part.split_once('/').unwrap_or((own_namespace, part));
            let (name, listener) = match rest.split_once(':') {
                Some((name, listener)) => (name, Some(listener)),
                None => (rest, None),
            };
            let is_name = |text: &str| ObjectName::new(text).is_ok();
            if NamespaceName::new(namespace).is_ok() && is_name(name) && listener.is_none_or(is_name) {
                Ok(GatewayRef {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    listener: listener.map(str::to_owned),
                })
            } else {
                Err(format!(
                    "names the Gateway {}, which is not of the form [namespace/]name[:listener] with \
                     lower-case letters, digits, '-' and '.'",
                    quote(part)
                ))
            }
        })
        .collect()
}

pub(super) fn hostnames(value: &str) -> Result<Vec<String>, String> {
    are_hostnames(split(value, HOST_NAME)?)
}

/// Checks host names.
pub(super) fn are_hostnames(names: Vec<String>) -> Result<Vec<String>, String> {
    let names = once(names, HOST_NAME, 16)?;
    for name in &names {
        if Hostname::new(name).is_err() {
            return Err(format!(
                "names the host {}, which is not {}",
                quote(name),
                Hostname::FORM
            ));
        }
        if name.parse::<std::net::IpAddr>().is_ok() {
            return Err(format!(
                "names the host {}; an IP address is not allowed",
                quote(name)
            ));
        }
    }
    Ok(names)
}

/// A path prefix, without its trailing slash (which means nothing in a prefix match).
/// <https://gateway-api.sigs.k8s.io/reference/spec/#httppathmatch>
pub(super) fn path(value: &str) -> Result<String, String> {
    if !value.starts_with('/') {
        return Err(path::NO_BEGINNING.to_owned());
    }
    if value.len() > path::LONGEST {
        return Err(format!("is longer than {} characters", path::LONGEST));
    }
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        let fine = match c {
            '%' => {
                rest.next().is_some_and(|h| h.is_ascii_hexdigit())
                    && rest.next().is_some_and(|h| h.is_ascii_hexdigit())
            }
            _ => c.is_ascii_alphanumeric() || "-/._~!$&'()*+,;=:@".contains(c),
        };
        if !fine {
            return Err(format!(
                "has the character {} {}",
                quote(&c.to_string()),
                path::CHARACTERS
            ));
        }
    }
    let lower = value.to_ascii_lowercase();
    if let Some(bad) = path::PARTS.iter().find(|bad| lower.contains(**bad)) {
        return Err(format!("has {} {}", quote(bad), path::NO_PART));
    }
    if value.ends_with("/.") || value.ends_with("/..") {
        return Err(path::NO_END.to_owned());
    }
    Ok(match value.trim_end_matches('/') {
        "" => "/".to_owned(),
        trimmed => trimmed.to_owned(),
    })
}

pub(super) fn model_names(value: &str) -> Result<Vec<String>, String> {
    are_model_names(split(value, MODEL_NAME)?)
}

/// Checks model names.
pub(super) fn are_model_names(names: Vec<String>) -> Result<Vec<String>, String> {
    // A rule of an HTTPRoute has at most 64 matches, and each name can become one.
    let names = once(names, MODEL_NAME, 64)?;
    match names.iter().find(|name| ModelName::new(name).is_err()) {
        Some(name) => Err(format!(
            "names the model {}, which is not {}",
            quote(name),
            ModelName::FORM
        )),
        None => Ok(names),
    }
}

pub(super) fn priority(value: &str) -> Result<i32, String> {
    value
        .parse()
        .map_err(|_| format!("is not a whole number from {} to {}", i32::MIN, i32::MAX))
}

pub(super) fn duration(value: &str) -> Result<String, String> {
    match Duration::new(value) {
        Ok(_) => Ok(value.to_owned()),
        Err(_) => Err(format!("is not {}", Duration::FORM)),
    }
}

pub(super) fn failure_mode(value: &str) -> Result<FailureMode, String> {
    [FailureMode::FailOpen, FailureMode::FailClose]
        .into_iter()
        .find(|mode| mode.as_str() == value)
        .ok_or_else(|| "is neither FailOpen nor FailClose".to_owned())
}

pub(super) fn port(value: &str) -> Result<u16, String> {
    match value.parse() {
        Ok(0) | Err(_) => Err("is not a port from 1 to 65535".to_owned()),
        Ok(port) => Ok(port),
    }
}

pub(super) fn endpoint_picker(value: &str) -> Result<EndpointPicker, String> {
    if value == "managed" {
        return Ok(EndpointPicker::default());
    }
    let (name, picker_port) = match value.split_once(':') {
        Some((name, text)) => (
            name,
            port(text)
                .map_err(|problem| format!("has the port {}, which {problem}", quote(text)))?,
        ),
        None => (value, ENDPOINT_PICKER_PORT),
    };
    if ServiceName::new(name).is_ok() {
        Ok(EndpointPicker::Service {
            name: name.to_owned(),
            port: picker_port,
        })
    } else {
        Err(
            "is neither managed nor the name of a Service with its port, such as my-picker:9002"
                .to_owned(),
        )
    }
}

/// `key=value`, comma-separated, in Kubernetes' grammar for labels.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>
pub(super) fn labels(value: &str) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    // InferencePool has at most 64 labels in its selector.
    for part in list(value, "label", 64)? {
        let (key, label) = part
            .split_once('=')
            .ok_or_else(|| format!("has {}, which is not of the form key=value", quote(&part)))?;
        is_label(key, label)?;
        if labels.insert(key.to_owned(), label.to_owned()).is_some() {
            return Err(format!("names the label {} twice", quote(key)));
        }
    }
    Ok(labels)
}

/// Checks a label's key and value.
pub(super) fn is_label(key: &str, value: &str) -> Result<(), String> {
    let refuse = |what, text| {
        Err(format!(
            "has the label {what} {}, which Kubernetes does not allow",
            quote(text)
        ))
    };
    if LabelKey::new(key).is_err() {
        return refuse("key", key);
    }
    if LabelValue::new(value).is_err() {
        return refuse("value", value);
    }
    Ok(())
}
