//! The grammar of each annotation's value. An error completes the sentence "annotation KEY: VALUE …".

use std::collections::BTreeMap;
use std::fmt;

use kthena_bridge_api::annotation;

use super::{ENDPOINT_PICKER_PORT, EndpointPicker};
use crate::config::FailureMode;

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

/// For a message: in quotes, control characters escaped, and shortened.
pub(crate) fn quote(value: &str) -> String {
    const SHOWN: usize = 80;
    let mut text: String = value
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if value.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    format!("\"{text}\"")
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

/// Splits at commas; every part has something in it, none comes twice, and there are at most `limit`.
fn list(value: &str, what: &str, limit: usize) -> Result<Vec<String>, String> {
    let mut parts: Vec<String> = Vec::new();
    for part in value.split(',').map(str::trim) {
        if part.is_empty() {
            return Err(format!(
                "has an empty {what}; name one or more, separated by commas"
            ));
        }
        if parts.iter().any(|p| p == part) {
            return Err(format!("names the {what} {} twice", quote(part)));
        }
        parts.push(part.to_owned());
    }
    if parts.len() > limit {
        return Err(format!(
            "names {} {what}s; at most {limit} are allowed",
            parts.len()
        ));
    }
    Ok(parts)
}

/// A DNS-1123 label: lower-case letters, digits and hyphens, 63 characters.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>
pub(super) fn is_label(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !value.is_empty()
        && value.len() <= 63
        && value.chars().all(inner)
        && !value.starts_with('-')
        && !value.ends_with('-')
}

/// A DNS-1123 subdomain: labels with dots between them, 253 characters. The labels may be longer here
/// than in DNS, as in Kubernetes' own check.
fn is_subdomain(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    value.len() <= 253
        && value.split('.').all(|label| {
            !label.is_empty()
                && label.chars().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
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
            if is_label(namespace) && is_subdomain(name) && listener.is_none_or(is_subdomain) {
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

/// Gateway API's Hostname: lower case, an asterisk only as the whole first label, no IP address.
/// <https://gateway-api.sigs.k8s.io/reference/spec/#hostname>
pub(super) fn hostnames(value: &str) -> Result<Vec<String>, String> {
    let names = list(value, "host name", 16)?;
    for name in &names {
        let bare = name.strip_prefix("*.").unwrap_or(name);
        if !is_subdomain(bare) || name.len() > 253 {
            return Err(format!(
                "names the host {}, which is not a DNS name in lower case, such as models.example.com or \
                 *.example.com",
                quote(name)
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
        return Err("does not start with a slash; a path is, for example, /models/demo".to_owned());
    }
    if value.len() > 1024 {
        return Err("is longer than 1024 characters".to_owned());
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
                "has the character {} where a path allows only letters, digits, -._~!$&'()*+,;=:@/ and \
                 %XX",
                quote(&c.to_string())
            ));
        }
    }
    let lower = value.to_ascii_lowercase();
    if let Some(bad) = ["//", "/./", "/../", "%2f"]
        .iter()
        .find(|bad| lower.contains(**bad))
    {
        return Err(format!(
            "has {} in it, which Gateway API does not allow in a path",
            quote(bad)
        ));
    }
    if value.ends_with("/.") || value.ends_with("/..") {
        return Err(
            "ends in a relative part, which Gateway API does not allow in a path".to_owned(),
        );
    }
    Ok(match value.trim_end_matches('/') {
        "" => "/".to_owned(),
        trimmed => trimmed.to_owned(),
    })
}

pub(super) fn model_names(value: &str) -> Result<Vec<String>, String> {
    // A rule of an HTTPRoute has at most 64 matches, and each name can become one.
    let names = list(value, "model name", 64)?;
    match names
        .iter()
        .find(|n| n.len() > 253 || n.chars().any(|c| c.is_control() || c.is_whitespace()))
    {
        Some(name) => Err(format!(
            "names the model {}; a model name has at most 253 characters, none of them white space or a \
             control character",
            quote(name)
        )),
        None => Ok(names),
    }
}

pub(super) fn priority(value: &str) -> Result<i32, String> {
    value
        .parse()
        .map_err(|_| format!("is not a whole number from {} to {}", i32::MIN, i32::MAX))
}

/// A Gateway API duration (GEP-2257): up to four parts, each up to five digits and h, m, s or ms.
/// <https://gateway-api.sigs.k8s.io/geps/gep-2257/>
pub(super) fn duration(value: &str) -> Result<String, String> {
    let mut rest = value;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let unit = ["ms", "h", "m", "s"]
            .iter()
            .find(|unit| rest[digits..].starts_with(**unit));
        match unit {
            Some(unit) if (1..=5).contains(&digits) => rest = &rest[digits + unit.len()..],
            _ => break,
        }
        parts += 1;
    }
    if rest.is_empty() && (1..=4).contains(&parts) {
        Ok(value.to_owned())
    } else {
        Err("is not a duration such as 300s, 1m30s or 500ms (0s: no limit)".to_owned())
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
        return Ok(EndpointPicker::Managed);
    }
    let (name, picker_port) = match value.split_once(':') {
        Some((name, text)) => (
            name,
            port(text)
                .map_err(|problem| format!("has the port {}, which {problem}", quote(text)))?,
        ),
        None => (value, ENDPOINT_PICKER_PORT),
    };
    if is_label(name) {
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
        let name = match key.split_once('/') {
            Some((prefix, name)) => Some(name).filter(|_| is_subdomain(prefix)),
            None => Some(key),
        };
        if !name.is_some_and(|n| !n.is_empty() && is_label_value(n)) {
            return Err(format!(
                "has the label key {}, which Kubernetes does not allow",
                quote(key)
            ));
        }
        if !is_label_value(label) {
            return Err(format!(
                "has the label value {}, which Kubernetes does not allow",
                quote(label)
            ));
        }
        if labels.insert(key.to_owned(), label.to_owned()).is_some() {
            return Err(format!("names the label {} twice", quote(key)));
        }
    }
    Ok(labels)
}

/// A label's value, or the name part of its key: 63 letters, digits, '-', '_' and '.', the first and
/// the last a letter or a digit.
fn is_label_value(value: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && value
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && edge(value.chars().next())
        && edge(value.chars().last())
}
