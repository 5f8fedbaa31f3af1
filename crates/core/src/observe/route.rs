//! HTTPRoutes, ours or not, as they compete for requests.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kthena_bridge_api::gateway::{self, ParentReference, ParentStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Metadata, get};

/// An HTTPRoute, as far as it competes with others.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Route {
    /// Its metadata.
    pub metadata: Metadata,
    /// Where it wants to be attached.
    pub parent_refs: Vec<ParentReference>,
    /// Its hosts, in lower case; empty: every host of the listeners.
    pub hostnames: Vec<String>,
    /// What it matches, over all of its rules.
    pub matches: Vec<Match>,
    /// The parents that refuse it.
    pub refused_by: Vec<ParentReference>,
    /// Whether it exists; else it is about to be written, and its creation time is its Model's.
    pub live: bool,
}

/// What a route matches beside the host.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub struct Match {
    /// The path.
    pub path: PathMatch,
    /// Headers that have to be equal, by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// Whether there are conditions beside path and headers.
    pub more: bool,
}

/// How a path is matched.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// The path and what is below it; without a slash at its end, unless it is `/`.
    Prefix(String),
    /// The path alone.
    Exact(String),
    /// In another way, such as by a regular expression.
    Other,
}

/// A Gateway, host, path prefix and headers, as they stand in a route: what routes are found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteKey(String);

impl RouteKey {
    /// The key of the routes to a Gateway with this host (empty: none), path prefix and headers.
    pub fn new(
        gateway: (&str, &str),
        host: &str,
        path: &str,
        headers: &BTreeMap<String, String>,
    ) -> Self {
        let mut key = format!("{}/{} {host}{path}", gateway.0, gateway.1);
        for (name, value) in headers {
            for part in [" ", name, "=", value] {
                key.push_str(part);
            }
        }
        Self(key)
    }

    /// As an index's key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Route {
    /// Reduces an HTTPRoute as the API server sends it, or as it is planned.
    pub fn reduce(object: &Value) -> Self {
        let metadata = Metadata::of(object);
        let hostnames: Vec<String> = get(object, "/spec/hostnames");
        let rules: Vec<Value> = get(object, "/spec/rules");
        let parents: Vec<ParentStatus> = get(object, "/status/parents");
        let refuses = |parent: &ParentStatus| {
            parent
                .conditions
                .iter()
                .any(|c| c.type_ == "Accepted" && c.status == "False")
        };
        Self {
            parent_refs: get(object, "/spec/parentRefs"),
            hostnames: hostnames
                .iter()
                .map(|host| host.to_ascii_lowercase())
                .collect(),
            matches: rules.iter().flat_map(matches).collect(),
            refused_by: parents
                .into_iter()
                .filter(refuses)
                .map(|p| p.parent_ref)
                .collect(),
            live: metadata.uid.is_some(),
            metadata,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    /// The Gateways that it wants to be attached to, by namespace and name, with the listener.
    pub fn gateways(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        let of = |r: &ParentReference| {
            r.group.as_deref().unwrap_or(gateway::GROUP) == gateway::GROUP
                && r.kind.as_deref().unwrap_or("Gateway") == "Gateway"
        };
        self.parent_refs.iter().filter(move |r| of(r)).map(|r| {
            (
                r.namespace_or(self.namespace()),
                r.name.as_str(),
                r.section_name.as_deref(),
            )
        })
    }

    /// Whether a Gateway has said that it refuses this route.
    pub fn is_refused_by(&self, namespace: &str, name: &str, listener: Option<&str>) -> bool {
        self.refused_by.iter().any(|r| {
            r.name == name
                && r.namespace_or(self.namespace()) == namespace
                && r.section_name.as_deref() == listener
        })
    }

    /// What decides between equal matches: the older route, then the first by namespace and name.
    /// <https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule>
    pub fn seniority(&self) -> (Option<Timestamp>, &str, &str) {
        (self.metadata.created, self.namespace(), self.name())
    }

    /// The keys that it is found by. What is not matched by prefix competes with no Model.
    pub fn keys(&self) -> Vec<RouteKey> {
        let hosts: Vec<&str> = match self.hostnames.as_slice() {
            [] => vec![""],
            hosts => hosts.iter().map(String::as_str).collect(),
        };
        let mut keys = Vec::new();
        for (namespace, name, _) in self.gateways() {
            for host in &hosts {
                for one in &self.matches {
                    if let PathMatch::Prefix(path) = &one.path {
                        keys.push(RouteKey::new((namespace, name), host, path, &one.headers));
                    }
                }
            }
        }
        keys
    }
}

fn matches(rule: &Value) -> Vec<Match> {
    let matches: Vec<Value> = get(rule, "/matches");
    if matches.is_empty() {
        return vec![a_match(&Value::Null)];
    }
    matches.iter().map(a_match).collect()
}

fn a_match(value: &Value) -> Match {
    let path: String = value
        .pointer("/path/value")
        .and_then(Value::as_str)
        .unwrap_or("/")
        .to_owned();
    let headers: Vec<Value> = get(value, "/headers");
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let is_exact = |header: &&Value| header["type"].as_str().unwrap_or("Exact") == "Exact";
    let more = |key: &str| value.get(key).is_some_and(|v| !v.is_null());
    Match {
        path: match value.pointer("/path/type").and_then(Value::as_str) {
            None | Some("PathPrefix") => PathMatch::Prefix(without_slash(&path)),
            Some("Exact") => PathMatch::Exact(path),
            Some(_) => PathMatch::Other,
        },
        more: headers.iter().any(|h| !is_exact(&h)) || more("method") || more("queryParams"),
        headers: headers
            .iter()
            .filter(is_exact)
            .map(|h| (text(h, "name").to_ascii_lowercase(), text(h, "value")))
            .collect(),
    }
}

fn without_slash(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}
