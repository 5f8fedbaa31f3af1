//! What the operator did in a step, by the requests that went through the proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fault_proxy::{Action, Seen, Verb};
use serde_json::Value;

use super::state::State;

/// What came of a step.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) state: State,
    /// How often each object was written, by verb and object.
    pub(crate) writes: BTreeMap<String, u32>,
    /// How many different things each status said.
    pub(crate) said: BTreeMap<String, u32>,
    /// How many requests to write there were.
    pub(crate) requests: u32,
    /// How often a fault happened; one of a watch counts when its watch had something to pass on, or ended.
    pub(crate) fired: u32,
    /// From the first fault, else from the beginning, until the last write.
    pub(crate) took: Duration,
}

/// The resources that are watched: each watch begins with a list.
pub(crate) fn watched(seen: &[Seen]) -> BTreeSet<String> {
    let follows = |verb| matches!(verb, Verb::List | Verb::Watch);
    let begun = seen
        .iter()
        .filter(|s| follows(s.request.verb) && s.code == Some(200));
    begun
        .map(|seen| format!("{}.{}", seen.request.resource, seen.request.group))
        .map(short)
        .collect()
}

/// Those of ours and of the core go by their plural.
fn short(resource: String) -> String {
    match resource.split_once('.') {
        Some((plural, group)) if group != "llm-d.ai" => plural.to_owned(),
        _ => resource,
    }
}

/// Whether a write changes nothing but whose which field is, as is done once between the create of an object and
/// its first change.
fn is_bookkeeping(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body.as_array().is_some_and(|operations| {
        operations.iter().all(|o| {
            let path = o["path"].as_str().unwrap_or_default();
            path == "/metadata/resourceVersion" || path.starts_with("/metadata/managedFields/")
        })
    })
}

/// The reasons that a write of conditions gives, and the uid that it is for; nothing for other writes.
pub(crate) fn said(seen: &Seen) -> String {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let conditions = body.pointer("/status/conditions").and_then(Value::as_array);
    let Some(conditions) = conditions else {
        return String::new();
    };
    let reasons = conditions.iter().filter_map(|c| c["reason"].as_str());
    let uid = body["metadata"]["uid"].as_str().unwrap_or_default();
    format!("{} of {uid} ", reasons.collect::<Vec<_>>().join(", "))
}

/// What a write of conditions says, whenever it says so.
fn without_times(body: &[u8]) -> String {
    let mut body: Value = serde_json::from_slice(body).unwrap_or_default();
    let conditions = body.pointer_mut("/status/conditions");
    for condition in conditions
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(fields) = condition.as_object_mut() {
            fields.remove("lastTransitionTime");
        }
    }
    body.to_string()
}

/// Sums up what came since a step began.
pub(crate) fn settled(state: State, seen: &[Seen], began: Instant) -> Settled {
    let mut writes = BTreeMap::new();
    let mut said: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut requests = 0;
    for seen in seen.iter().filter(|seen| seen.request.writes()) {
        requests += 1;
        if seen.wrote() {
            let mut object = seen.request.to_string();
            if is_bookkeeping(&seen.body) {
                object.push_str(" (managed fields)");
            }
            if seen.request.subresource == "status" {
                let told = said.entry(object.clone()).or_default();
                told.insert(without_times(&seen.body));
            }
            *writes.entry(object).or_default() += 1;
        }
    }
    let count = |told: BTreeSet<String>| u32::try_from(told.len()).unwrap_or(u32::MAX);
    let said = said.into_iter().map(|(object, told)| (object, count(told)));
    let first = seen.iter().find(|seen| seen.action.is_some());
    let of_watch = |seen: &&Seen| matches!(seen.action, Some(Action::Watch(_)));
    let fired = seen
        .iter()
        .filter(|seen| seen.action.is_some() && !of_watch(seen))
        .count();
    let last = seen.iter().rev().find(|seen| seen.wrote());
    let since = first.map_or(began, |first| first.at);
    Settled {
        state,
        writes,
        said: said.collect(),
        requests,
        fired: u32::try_from(fired).unwrap_or(u32::MAX),
        took: last
            .map(|last| last.at.saturating_duration_since(since))
            .unwrap_or_default(),
    }
}
