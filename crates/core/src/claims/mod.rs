//! Claims: which requests a route asks for, and who has them already.
//!
//! A claim is a listener of a Gateway, a host, a path prefix and headers. It belongs to the route that has
//! it in the cluster, whatever the ages: what the Gateway would decide by age is decided here before
//! anything is written, so that a Model cannot take requests from another one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kthena_bridge_api::annotation;
use kthena_bridge_api::condition::Reason;

use crate::hostname;
use crate::observe::{Cluster, PathMatch, Route, RouteKey};
use crate::owner::{Owner, OwnerKind};
use crate::topology::{NotAccepted, listeners};

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    /// The Gateway's namespace.
    pub namespace: String,
    /// The Gateway's name.
    pub gateway: String,
    /// The listener.
    pub listener: String,
    /// The hosts: a name, one that begins with `*.`, or empty for all.
    pub host: String,
    /// The path prefix.
    pub path: String,
    /// Headers that have to be equal, by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// Whether the host is all that the listener serves.
    pub whole_listener: bool,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.is_empty() {
            "any host"
        } else {
            &self.host
        };
        write!(f, "{host}, path {}", self.path)?;
        for (name, value) in &self.headers {
            write!(f, ", header {name}: {value}")?;
        }
        write!(f, " on Gateway {}/{}", self.namespace, self.gateway)
    }
}

impl Claim {
    /// Whether every request of `other` is one of this claim.
    fn covers(&self, other: &Self) -> bool {
        (&self.namespace, &self.gateway, &self.listener)
            == (&other.namespace, &other.gateway, &other.listener)
            && hostname::covers(&self.host, &other.host)
            && is_below(&other.path, &self.path)
            && self
                .headers
                .iter()
                .all(|(name, value)| other.headers.get(name) == Some(value))
    }

    fn is(&self, other: &Self) -> bool {
        (&self.host, &self.path, &self.headers) == (&other.host, &other.path, &other.headers)
    }

    /// Routes that may have a claim that covers this one, found by what such a claim would be.
    fn rivals(&self, own: &Route, cluster: &impl Cluster) -> Vec<Arc<Route>> {
        let mut found: Vec<Arc<Route>> = Vec::new();
        let none = BTreeMap::new();
        let headers = if self.headers.is_empty() {
            vec![&none]
        } else {
            vec![&self.headers, &none]
        };
        for host in hostname::covering(&self.host) {
            for path in prefixes(&self.path) {
                for headers in &headers {
                    let key = RouteKey::new((&self.namespace, &self.gateway), &host, path, headers);
                    for route in cluster.routes(&key) {
                        let is = |r: &Route| {
                            (route.namespace(), route.name(), route.live)
                                == (r.namespace(), r.name(), r.live)
                        };
                        let own =
                            (route.namespace(), route.name()) == (own.namespace(), own.name());
                        if !own && !found.iter().any(|r| is(r)) {
                            found.push(route);
                        }
                    }
                }
            }
        }
        found
    }
}

/// Whether a path is a prefix or below it.
fn is_below(path: &str, prefix: &str) -> bool {
    prefix == "/"
        || path == prefix
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// The prefixes of a path, it included.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let slashes = path.match_indices('/').skip(1).map(|(at, _)| &path[..at]);
    let whole = (path != "/").then_some(path);
    std::iter::once("/").chain(slashes).chain(whole)
}

/// The claims of a route, in the cluster as it is. One that its Gateway refuses has none there.
pub fn of(route: &Route, cluster: &impl Cluster) -> Vec<Claim> {
    let mut claims = Vec::new();
    let any = [String::new()];
    let hosts = if route.hostnames.is_empty() {
        &any[..]
    } else {
        &route.hostnames
    };
    for (namespace, name, section) in route.gateways() {
        let Some(gateway) = cluster.gateway(namespace, name) else {
            continue;
        };
        if route.is_refused_by(namespace, name, section) {
            continue;
        }
        for listener in listeners::of(&gateway, section).filter(|l| listeners::speaks_http(l)) {
            let own = listener
                .hostname
                .as_deref()
                .unwrap_or_default()
                .to_ascii_lowercase();
            for host in hosts
                .iter()
                .filter_map(|host| hostname::intersection(&own, host))
            {
                for one in route.matches.iter().filter(|m| !m.more) {
                    let PathMatch::Prefix(path) = &one.path else {
                        continue;
                    };
                    claims.push(Claim {
                        namespace: namespace.to_owned(),
                        gateway: name.to_owned(),
                        listener: listener.name.clone(),
                        host: host.to_owned(),
                        path: path.clone(),
                        headers: one.headers.clone(),
                        whole_listener: host == own,
                    });
                }
            }
        }
    }
    claims
}

/// A claim that another route has.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// What is wanted.
    pub wanted: Claim,
    /// What stands in the way.
    pub held: Claim,
    /// Whose it is.
    pub holder: Arc<Route>,
}

/// Checks that a route may be written.
///
/// `live` is the same route as it is: what it has already, it keeps. Among routes that are not written yet
/// the one of the older Model goes first, but for one that is being written just now.
pub fn check(
    wanted: &Route,
    live: Option<&Route>,
    cluster: &impl Cluster,
    is_being_written: impl Fn(&Route) -> bool,
) -> Result<(), Box<Conflict>> {
    let had = live.map(|route| of(route, cluster)).unwrap_or_default();
    for claim in of(wanted, cluster) {
        if had.contains(&claim) {
            continue;
        }
        for rival in claim.rivals(wanted, cluster) {
            let is_there = rival.live || is_being_written(&rival);
            if !is_there && rival.seniority() > wanted.seniority() {
                continue;
            }
            let stands_in_the_way = |held: &Claim| {
                // Inside of what another namespace has, only what everybody shares may be divided.
                held.covers(&claim)
                    && (held.is(&claim)
                        || (rival.namespace() != wanted.namespace()
                            && !(held.path == "/" && held.whole_listener)))
            };
            if let Some(held) = of(&rival, cluster).into_iter().find(stands_in_the_way) {
                return Err(Box::new(Conflict {
                    wanted: claim,
                    held,
                    holder: rival,
                }));
            }
        }
    }
    Ok(())
}

impl Conflict {
    /// What it means for the one that wants the claim.
    pub fn refusal(&self, owner: &Owner) -> NotAccepted {
        let route = &self.holder;
        let mut owners = route.metadata.owners.iter();
        let holder = owners.find_map(|owner| Some((OwnerKind::named(&owner.kind)?, &owner.name)));
        let holder = match holder {
            Some((kind, name)) => format!("{} {}/{name}", kind.as_str(), route.namespace()),
            None => format!("HTTPRoute {}/{}", route.namespace(), route.name()),
        };
        let another = format!(
            "choose another {} or {}",
            owner.setting(annotation::HOSTNAMES),
            owner.setting(annotation::PATH)
        );
        let message = if self.held.is(&self.wanted) {
            let apart = owner.setting(annotation::MATCH_MODEL);
            format!(
                "{holder} has {}; {another}, or tell the routes apart by {apart}",
                self.held
            )
        } else {
            format!(
                "{holder} has {}, and {} is inside of it; {another}",
                self.held, self.wanted
            )
        };
        NotAccepted {
            reason: Reason::RouteConflict,
            message,
        }
    }
}

/// Below a Model's path, what clients ask for.
const REQUESTS: [&str; 2] = ["v1/chat/completions", "v1/completions"];

/// What a route has, and what of it another route may take: who has one of these is looked at when it
/// changes.
pub fn contended(route: &Route, cluster: &impl Cluster) -> Vec<Claim> {
    let own = of(route, cluster);
    let mut all = own.clone();
    for claim in own {
        for request in REQUESTS {
            let path = format!("{}/{request}", claim.path.trim_end_matches('/'));
            for prefix in prefixes(&path).filter(|prefix| prefix.len() > claim.path.len()) {
                for headers in [claim.headers.clone(), BTreeMap::new()] {
                    let part = Claim {
                        path: prefix.to_owned(),
                        headers,
                        ..claim.clone()
                    };
                    if !all.contains(&part) {
                        all.push(part);
                    }
                }
            }
        }
    }
    all
}

/// The route that gets the requests of a live one, if there is one: an older one with the same claim, or
/// one for just what clients ask for.
pub fn outranked(live: &Route, cluster: &impl Cluster) -> Option<Conflict> {
    for claim in of(live, cluster) {
        for request in REQUESTS {
            let path = format!("{}/{request}", claim.path.trim_end_matches('/'));
            let asked = Claim {
                path,
                ..claim.clone()
            };
            for rival in asked
                .rivals(live, cluster)
                .into_iter()
                .filter(|rival| rival.live)
            {
                let wins = |held: &Claim| {
                    held.covers(&asked)
                        && held.host == claim.host
                        && (held.path.len() > claim.path.len() && is_below(&held.path, &claim.path)
                            || held.is(&claim) && rival.seniority() < live.seniority())
                };
                if let Some(held) = of(&rival, cluster).into_iter().find(wins) {
                    return Some(Conflict {
                        wanted: claim,
                        held,
                        holder: rival,
                    });
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
