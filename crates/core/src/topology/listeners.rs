//! Which listeners of a Gateway take a route of a namespace, and for which hosts.
//! <https://gateway-api.sigs.k8s.io/reference/spec/#allowedroutes>

use kthena_bridge_api::annotation;
use kthena_bridge_api::condition::Reason;
use kthena_bridge_api::gateway::{self, Gateway, Listener};
use kube::core::{Selector, SelectorExt as _};

use super::NotAccepted;
use crate::exposure::GatewayRef;
use crate::hostname;
use crate::observe::Cluster;
use crate::owner::Owner;

/// The listeners that a reference means: the one that it names, or all.
pub(crate) fn of<'a>(
    gateway: &'a Gateway,
    name: Option<&'a str>,
) -> impl Iterator<Item = &'a Listener> {
    gateway
        .spec
        .listeners
        .iter()
        .filter(move |listener| name.is_none_or(|name| listener.name == name))
}

/// Whether HTTPRoutes can be attached to a listener of this protocol.
pub(crate) fn speaks_http(listener: &Listener) -> bool {
    matches!(listener.protocol.as_str(), "HTTP" | "HTTPS")
}

/// Whether a listener takes a route.
enum Admission {
    Yes,
    /// It does not: why not, as the end of a sentence.
    No(String),
    /// Nobody may know.
    Unknown,
}

/// Checks that a route of the owner's namespace for these hosts can be attached before it is. What it returns is why
/// that cannot be known.
pub(super) fn admit(
    reference: &GatewayRef,
    gateway: &Gateway,
    owner: &Owner,
    hostnames: &[String],
    cluster: &impl Cluster,
) -> Result<Option<String>, NotAccepted> {
    let namespace = owner.namespace.as_str();
    let setting = owner.setting(annotation::GATEWAY);
    let called = format!("Gateway {}/{}", reference.namespace, reference.name);
    let refuse = |reason, message| Err(NotAccepted { reason, message });
    let listeners: Vec<&Listener> = of(gateway, reference.listener.as_deref()).collect();
    if listeners.is_empty() {
        let names: Vec<&str> = gateway
            .spec
            .listeners
            .iter()
            .map(|l| l.name.as_str())
            .collect();
        let Some(named) = &reference.listener else {
            let message = format!("{called} has no listeners at all; name another in {setting}");
            return refuse(Reason::ListenerNotFound, message);
        };
        let message = format!(
            "{called} has no listener {named}; it has {}: name one of them in {setting}, or none for all",
            names.join(", ")
        );
        return refuse(Reason::ListenerNotFound, message);
    }
    let mut closed = Vec::new();
    let mut other_hosts = Vec::new();
    let mut unknown = None;
    for listener in listeners {
        let admission = allows(listener, gateway, namespace, cluster);
        match admission {
            Admission::No(why) => closed.push(format!("listener {} {why}", listener.name)),
            Admission::Yes | Admission::Unknown if !serves_any(listener, hostnames) => {
                other_hosts.push(format!(
                    "listener {} serves {}",
                    listener.name,
                    listener.hostname.as_deref().unwrap_or_default()
                ));
            }
            Admission::Yes => return Ok(None),
            Admission::Unknown => unknown = Some(listener),
        }
    }
    if let Some(listener) = unknown {
        return Ok(Some(format!(
            "listener {} of {called} takes routes by the labels of their namespace, and the operator may not get \
             namespaces; the route is written, and Programmed says what the Gateway says",
            listener.name
        )));
    }
    if other_hosts.is_empty() {
        let message = format!(
            "{called} takes no HTTPRoute of namespace {namespace}: {}; its owner can change that, or name another in \
             {setting}",
            closed.join("; ")
        );
        return refuse(Reason::NotAllowedByListeners, message);
    }
    let message = format!(
        "{called} serves none of the hosts {}: {}; change {} or the listener",
        hostnames.join(", "),
        other_hosts.join("; "),
        owner.setting(annotation::HOSTNAMES)
    );
    refuse(Reason::HostnameNotAllowed, message)
}

fn serves_any(listener: &Listener, hostnames: &[String]) -> bool {
    let own = listener.hostname.as_deref().unwrap_or_default();
    hostnames.is_empty()
        || hostnames
            .iter()
            .any(|host| hostname::intersection(own, host).is_some())
}

/// Whether a listener takes HTTPRoutes of a namespace.
fn allows(
    listener: &Listener,
    gateway: &Gateway,
    namespace: &str,
    cluster: &impl Cluster,
) -> Admission {
    if !speaks_http(listener) {
        return Admission::No(format!(
            "has the protocol {}, and HTTPRoutes need HTTP or HTTPS",
            listener.protocol
        ));
    }
    let kinds = &listener.allowed_routes.kinds;
    let is_http_route = |kind: &gateway::RouteGroupKind| {
        kind.kind == "HTTPRoute"
            && kind.group.as_deref().unwrap_or(gateway::GROUP) == gateway::GROUP
    };
    if !kinds.is_empty() && !kinds.iter().any(is_http_route) {
        return Admission::No("does not have HTTPRoute in allowedRoutes.kinds".to_owned());
    }
    let allowed = &listener.allowed_routes.namespaces;
    let own = gateway.metadata.namespace.as_deref() == Some(namespace);
    match allowed.from.as_deref() {
        Some("All") => Admission::Yes,
        None | Some("Same") if own => Admission::Yes,
        None | Some("Same") => Admission::No("has allowedRoutes.namespaces.from: Same".to_owned()),
        Some("Selector") if !cluster.reads_cluster() => Admission::Unknown,
        Some("Selector") => {
            let selector = allowed.selector.clone().unwrap_or_default();
            let labels = cluster.namespace_labels(namespace).unwrap_or_default();
            match Selector::try_from(selector) {
                Ok(selector) if selector.matches(&labels) => Admission::Yes,
                Ok(_) => Admission::No(format!(
                    "has an allowedRoutes.namespaces.selector that the labels of namespace {namespace} do not fit"
                )),
                Err(error) => Admission::No(format!(
                    "has an allowedRoutes.namespaces.selector that is not valid: {error}"
                )),
            }
        }
        Some(other) => Admission::No(format!("has allowedRoutes.namespaces.from: {other}")),
    }
}
