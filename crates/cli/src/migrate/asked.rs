//! What a hand-made route and pool ask for, as annotations of their Model.

use std::collections::{BTreeMap, BTreeSet};

use kthena_bridge_api::annotation as key;
use kthena_bridge_core::Config;
use serde_json::Value;

use super::by_hand::ByHand;

/// The header that a route of ours can match, in lower case.
const MODEL_HEADER: &str = "x-gateway-model-name";
/// The timeout of a Model that names none.
const TIMEOUT: &str = "300s";

/// The annotations, and what to know of the difference.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) notes: Vec<String>,
}

/// Reads what is asked for, where the engine serves these names on this port.
///
/// # Errors
/// What a Model's annotations cannot ask for: requests would be lost, or answered otherwise.
pub(super) fn read(
    by_hand: &ByHand,
    model: &str,
    served_names: &[String],
    target_port: u16,
    config: &Config,
) -> Result<Asked, Vec<String>> {
    let mut reader = Reader {
        asked: Asked::default(),
        problems: Vec::new(),
    };
    reader.set(key::EXPOSE, "true");
    reader.parents(by_hand);
    let hostnames: Vec<&str> = by_hand
        .route
        .list("/spec/hostnames")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if !hostnames.is_empty() {
        reader.set(key::HOSTNAMES, &hostnames.join(","));
    }
    let mut names = reader.rule(by_hand);
    reader.pool(by_hand, target_port, config);
    for rewrite in by_hand.of("InferenceModelRewrite") {
        for rule in rewrite.list("/spec/rules") {
            let matches = rule["matches"].as_array().into_iter().flatten();
            names.extend(
                matches
                    .filter_map(|m| m.pointer("/model/value")?.as_str())
                    .map(str::to_owned),
            );
            if rule["targets"]
                .as_array()
                .is_some_and(|targets| targets.len() > 1)
            {
                reader
                    .problems
                    .push(format!("{rewrite} divides requests among several names"));
            }
        }
    }
    let usual: BTreeSet<&str> = std::iter::once(model)
        .chain(served_names.iter().map(String::as_str))
        .collect();
    if !names.iter().all(|name| usual.contains(name.as_str())) {
        names.extend(usual.iter().map(|name| (*name).to_owned()));
        let names: Vec<String> = names.into_iter().collect();
        reader.set(key::MODEL_NAMES, &names.join(","));
    }
    let objectives: Vec<_> = by_hand.of("InferenceObjective").collect();
    match objectives.as_slice() {
        [] => {}
        [one] => {
            if let Some(priority) = one.value.pointer("/spec/priority").and_then(Value::as_i64) {
                reader.set(key::PRIORITY, &priority.to_string());
            }
            if one.name() != model {
                reader.asked.notes.push(format!(
                    "clients that send x-gateway-inference-objective: {} have to send {model} in its place",
                    one.name()
                ));
            }
        }
        many => reader
            .problems
            .push(format!("there are {} InferenceObjectives", many.len())),
    }
    if reader.problems.is_empty() {
        Ok(reader.asked)
    } else {
        Err(reader.problems)
    }
}

struct Reader {
    asked: Asked,
    problems: Vec<String>,
}

impl Reader {
    fn set(&mut self, key: &str, value: &str) {
        self.asked
            .annotations
            .insert(key.to_owned(), value.to_owned());
    }

    fn parents(&mut self, by_hand: &ByHand) {
        let mut gateways = Vec::new();
        for parent in by_hand.route.list("/spec/parentRefs") {
            let text = |field: &str| parent[field].as_str();
            if text("kind").is_some_and(|kind| kind != "Gateway") || !parent["port"].is_null() {
                self.problems.push(format!(
                    "{} has a parentRef with a port, or to no Gateway",
                    by_hand.route
                ));
                continue;
            }
            let namespace = text("namespace").filter(|n| *n != by_hand.route.namespace());
            let namespace = namespace.map(|n| format!("{n}/")).unwrap_or_default();
            let listener = text("sectionName")
                .map(|l| format!(":{l}"))
                .unwrap_or_default();
            gateways.push(format!(
                "{namespace}{}{listener}",
                text("name").unwrap_or_default()
            ));
        }
        self.set(key::GATEWAY, &gateways.join(","));
    }

    /// Of the only rule; gives the model names that it matches.
    fn rule(&mut self, by_hand: &ByHand) -> BTreeSet<String> {
        let route = &by_hand.route;
        let [rule] = route.list("/spec/rules") else {
            self.problems.push(format!("{route} has several rules"));
            return BTreeSet::new();
        };
        let length = |field: &str| rule[field].as_array().map_or(0, Vec::len);
        if length("backendRefs") != 1 || rule.pointer("/backendRefs/0/filters").is_some() {
            self.problems
                .push(format!("{route} has several backends, or filters of one"));
        }
        for filter in rule["filters"].as_array().into_iter().flatten() {
            let kind = filter["type"].as_str().unwrap_or_default();
            let replaced = filter
                .pointer("/urlRewrite/path/type")
                .and_then(Value::as_str);
            if kind != "URLRewrite" || replaced != Some("ReplacePrefixMatch") {
                self.problems.push(format!("{route} has a filter {kind}"));
            }
        }
        for field in ["retry", "sessionPersistence"] {
            if !rule[field].is_null() {
                self.problems.push(format!("{route} has {field}"));
            }
        }
        match rule.pointer("/timeouts/request").and_then(Value::as_str) {
            Some(TIMEOUT) => {}
            Some(timeout) => self.set(key::REQUEST_TIMEOUT, timeout),
            None => self.asked.notes.push(format!(
                "{route} has no timeout; from now on it is {TIMEOUT}, or what kthena-bridge.io/request-timeout says"
            )),
        }
        self.matches(by_hand, rule)
    }

    fn matches(&mut self, by_hand: &ByHand, rule: &Value) -> BTreeSet<String> {
        let route = &by_hand.route;
        let mut paths = BTreeSet::new();
        let mut names = BTreeSet::new();
        let mut headerless = false;
        let none = Vec::new();
        let matches = rule["matches"].as_array().unwrap_or(&none);
        for one in matches {
            if one
                .pointer("/path/type")
                .is_some_and(|kind| kind != "PathPrefix")
            {
                self.problems.push(format!(
                    "{route} matches a path in another way than by PathPrefix"
                ));
            }
            if !one["method"].is_null() || !one["queryParams"].is_null() {
                self.problems
                    .push(format!("{route} matches methods or query parameters"));
            }
            let path = one
                .pointer("/path/value")
                .and_then(Value::as_str)
                .unwrap_or("/");
            paths.insert(match path.trim_end_matches('/') {
                "" => "/".to_owned(),
                path => path.to_owned(),
            });
            match one["headers"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default()
            {
                [] => headerless = true,
                [header] if is_model_header(header) => {
                    names.insert(header["value"].as_str().unwrap_or_default().to_owned());
                }
                _ => self
                    .problems
                    .push(format!("{route} matches other headers than {MODEL_HEADER}")),
            }
        }
        if paths.len() > 1 || (headerless && !names.is_empty()) {
            self.problems.push(format!(
                "{route} matches several paths, or one with and without a header"
            ));
        }
        if !names.is_empty() {
            self.set(key::MATCH_MODEL, "true");
        }
        self.set(key::PATH, paths.first().map_or("/", String::as_str));
        names
    }

    fn pool(&mut self, by_hand: &ByHand, target_port: u16, config: &Config) {
        let pool = &by_hand.pool;
        // What the API server fills in where nothing is said.
        let mode = match pool.text("/spec/endpointPickerRef/failureMode") {
            "" => "FailClose",
            mode => mode,
        };
        if mode != config.failure_mode.as_str() {
            self.set(key::FAILURE_MODE, mode);
        }
        match pool.list("/spec/targetPorts") {
            [port] => {
                let port = port["number"].as_u64().unwrap_or_default();
                if port != u64::from(target_port) {
                    self.set(key::TARGET_PORT, &port.to_string());
                }
            }
            _ => self.problems.push(format!("{pool} has several ports")),
        }
    }
}

fn is_model_header(header: &Value) -> bool {
    header["name"]
        .as_str()
        .is_some_and(|name| name.eq_ignore_ascii_case(MODEL_HEADER))
        && header["type"].as_str().unwrap_or("Exact") == "Exact"
}
