//! Route configurations: the virtual hosts of a Gateway's port and the order of the routes in each.
//!
//! Envoy takes the most specific virtual host and, in it, the first route that matches. A request whose
//! host has a virtual host of its own never falls through to a route without hostnames; nor does it with
//! Istio.

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Options, Xds, action, listener::GatewayPort};
use crate::{
    api::{HttpRouteMatch, HttpRouteRule, NamedMatch},
    attach::AttachedRoute,
    snapshot::{Key, Snapshot},
};

pub(super) fn configuration(
    xds: &mut Xds,
    snapshot: &Snapshot,
    name: &str,
    (gateway, port): GatewayPort<'_>,
    routes: &[AttachedRoute<'_>],
    options: &Options,
) -> Value {
    let mut hosts: BTreeMap<&str, Vec<Candidate<'_>>> = BTreeMap::new();
    for attached in routes {
        let parents = attached
            .parents
            .iter()
            .filter(|parent| parent.gateway == *gateway);
        let attachments = parents.flat_map(|parent| parent.outcome.iter().flatten());
        for attachment in attachments.filter(|attachment| attachment.listener.port == port) {
            for hostname in &attachment.hostnames {
                hosts
                    .entry(hostname)
                    .or_default()
                    .extend(candidates(attached));
            }
        }
    }
    let hosts: Vec<_> = hosts
        .into_iter()
        .map(|(hostname, mut candidates)| {
            candidates.sort_by(|a, b| a.rank.cmp(&b.rank));
            // Two listeners of one port, or two parentRefs, may bring the same match twice.
            candidates.dedup_by(|a, b| a.rank == b.rank);
            let routes: Vec<_> = candidates
                .iter()
                .map(|found| route(xds, snapshot, found, options))
                .collect();
            json!({"name": hostname, "domains": [hostname], "routes": routes})
        })
        .collect();
    json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": name,
        "virtual_hosts": hosts,
        "ignore_port_in_host_matching": true,
    })
}

/// One match of one rule.
struct Candidate<'a> {
    key: &'a Key,
    rule: &'a HttpRouteRule,
    matching: Match<'a>,
    rank: Rank<'a>,
}

/// A match with the API's defaults filled in.
struct Match<'a> {
    path: Path<'a>,
    rest: Option<&'a HttpRouteMatch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path<'a> {
    Exact(&'a str),
    /// Without a trailing slash, so `/` is empty.
    Prefix(&'a str),
    Regex(&'a str),
}

/// The order in which matches are tried: lower ones come first.
/// <https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule>
type Rank<'a> = (
    u8,             // exact paths, then prefixes, then regular expressions
    Reverse<usize>, // longer paths
    Reverse<bool>,  // with a method
    Reverse<usize>, // more headers
    Reverse<usize>, // more query parameters
    Timestamp,      // older routes
    &'a Key,        // by namespace and name
    usize,          // earlier rules
    usize,          // earlier matches
);

fn candidates<'a>(attached: &AttachedRoute<'a>) -> Vec<Candidate<'a>> {
    let (key, route) = (attached.key, attached.route);
    let created = route
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let mut candidates = Vec::new();
    for (at, rule) in route.spec.rules.iter().enumerate() {
        // A rule without matches matches every path.
        let none = rule.matches.is_empty().then_some(None);
        for (nth, rest) in rule.matches.iter().map(Some).chain(none).enumerate() {
            let path = path(rest);
            let (kind, length) = match path {
                Path::Exact(path) => (0, path.len()),
                Path::Prefix(path) => (1, path.len()),
                Path::Regex(path) => (2, path.len()),
            };
            let count = |of: fn(&HttpRouteMatch) -> usize| Reverse(rest.map_or(0, of));
            let rank = (
                kind,
                Reverse(length),
                Reverse(rest.is_some_and(|rest| rest.method.is_some())),
                count(|rest| rest.headers.len()),
                count(|rest| rest.query_params.len()),
                created,
                key,
                at,
                nth,
            );
            candidates.push(Candidate {
                key,
                rule,
                matching: Match { path, rest },
                rank,
            });
        }
    }
    candidates
}

fn path(rest: Option<&HttpRouteMatch>) -> Path<'_> {
    let Some(path) = rest.and_then(|rest| rest.path.as_ref()) else {
        return Path::Prefix("");
    };
    let value = path.value.as_deref().unwrap_or("/");
    match path.r#type.as_deref() {
        Some("Exact") => Path::Exact(value),
        Some("RegularExpression") => Path::Regex(value),
        _ => Path::Prefix(value.trim_end_matches('/')),
    }
}

fn route(
    xds: &mut Xds,
    snapshot: &Snapshot,
    candidate: &Candidate<'_>,
    options: &Options,
) -> Value {
    let mut route = action::of_rule(
        xds,
        snapshot,
        candidate.key,
        candidate.rule,
        candidate.matching.path,
        options,
    );
    route["match"] = matching(&candidate.matching);
    route["name"] = json!(format!("{}/{}", candidate.key, candidate.rank.7));
    route
}

fn matching(wanted: &Match<'_>) -> Value {
    let mut matching = match wanted.path {
        Path::Exact(path) => json!({"path": path}),
        Path::Prefix("") => json!({"prefix": "/"}),
        // Matches `/a`, `/a/b` and `/a?x`, but not `/ab`.
        Path::Prefix(path) => json!({"path_separated_prefix": path}),
        Path::Regex(regex) => json!({"safe_regex": {"regex": regex}}),
    };
    let Some(rest) = wanted.rest else {
        return matching;
    };
    let method = rest
        .method
        .as_ref()
        .map(|method| json!({"name": ":method", "string_match": {"exact": method}}));
    let headers: Vec<_> = method
        .into_iter()
        .chain(rest.headers.iter().map(named))
        .collect();
    if !headers.is_empty() {
        matching["headers"] = json!(headers);
    }
    if !rest.query_params.is_empty() {
        matching["query_parameters"] = rest.query_params.iter().map(named).collect();
    }
    matching
}

fn named(wanted: &NamedMatch) -> Value {
    let value = match wanted.r#type.as_deref() {
        Some("RegularExpression") => json!({"safe_regex": {"regex": wanted.value}}),
        _ => json!({"exact": wanted.value}),
    };
    json!({"name": wanted.name, "string_match": value})
}
