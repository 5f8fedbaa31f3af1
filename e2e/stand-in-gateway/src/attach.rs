//! Which route attaches to which listener, and why not.
//!
//! <https://gateway-api.sigs.k8s.io/reference/spec/#allowedroutes>

use std::collections::BTreeSet;

use crate::{
    api::{GATEWAY_GROUP, Gateway, HttpRoute, Listener, ParentReference},
    hostname,
    snapshot::{Key, Snapshot},
};

/// Why a listener does not take a route, in the order in which one of several is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    NotAllowedByListeners,
    NoMatchingListenerHostname,
    NoMatchingParent,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowedByListeners => "NotAllowedByListeners",
            Self::NoMatchingListenerHostname => "NoMatchingListenerHostname",
            Self::NoMatchingParent => "NoMatchingParent",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// A listener that takes a route, for these hostnames.
pub(crate) struct Attachment<'a> {
    pub(crate) listener: &'a Listener,
    pub(crate) hostnames: BTreeSet<&'a str>,
}

/// A parentRef that names a Gateway that is served.
pub(crate) struct Parent<'a> {
    pub(crate) reference: &'a ParentReference,
    pub(crate) gateway: Key,
    /// Every listener that takes the route or, when there is none, why.
    pub(crate) outcome: Result<Vec<Attachment<'a>>, Denial>,
}

/// A route and what has become of each of its parentRefs.
pub(crate) struct AttachedRoute<'a> {
    pub(crate) key: &'a Key,
    pub(crate) route: &'a HttpRoute,
    pub(crate) parents: Vec<Parent<'a>>,
    /// Whether a parentRef names a Gateway that does not exist.
    pub(crate) parent_missing: bool,
}

pub(crate) fn attach_all(snapshot: &Snapshot) -> Vec<AttachedRoute<'_>> {
    snapshot
        .http_routes
        .iter()
        .map(|(key, route)| attach(snapshot, key, route))
        .collect()
}

fn attach<'a>(snapshot: &'a Snapshot, key: &'a Key, route: &'a HttpRoute) -> AttachedRoute<'a> {
    let mut attached = AttachedRoute {
        key,
        route,
        parents: Vec::new(),
        parent_missing: false,
    };
    for reference in &route.spec.parent_refs {
        let kind = (
            reference.group.as_deref().unwrap_or(GATEWAY_GROUP),
            reference.kind.as_deref(),
        );
        if !matches!(kind, (GATEWAY_GROUP, None | Some("Gateway"))) {
            continue;
        }
        let name = Key::new(
            reference.namespace.as_deref().unwrap_or(&key.namespace),
            &reference.name,
        );
        let Some(gateway) = snapshot.gateways.get(&name) else {
            attached.parent_missing = true;
            continue;
        };
        if snapshot.serves(gateway) {
            let outcome = outcome(snapshot, key, route, reference, gateway);
            attached.parents.push(Parent {
                reference,
                gateway: name,
                outcome,
            });
        }
    }
    attached
}

fn outcome<'a>(
    snapshot: &Snapshot,
    key: &Key,
    route: &'a HttpRoute,
    reference: &ParentReference,
    gateway: &'a Gateway,
) -> Result<Vec<Attachment<'a>>, Denial> {
    let mut attachments = Vec::new();
    let mut denials = Vec::new();
    for listener in gateway
        .spec
        .listeners
        .iter()
        .filter(|listener| is_supported(listener) || is_tcp(listener))
    {
        match admit(snapshot, key, route, reference, gateway, listener) {
            Ok(hostnames) => attachments.push(Attachment {
                listener,
                hostnames,
            }),
            Err(denial) => denials.push(denial),
        }
    }
    if !attachments.is_empty() {
        return Ok(attachments);
    }
    Err(denials
        .into_iter()
        .min_by_key(|denial| denial.reason)
        .unwrap_or_else(|| Denial {
            reason: Reason::NoMatchingParent,
            message: "no listener that is supported".to_owned(),
        }))
}

/// TLS is left out: the recorded Gateways have none.
pub(crate) fn is_supported(listener: &Listener) -> bool {
    listener.protocol == "HTTP"
}

/// Istio serves it, and takes TCPRoutes on it only.
pub(crate) fn is_tcp(listener: &Listener) -> bool {
    listener.protocol == "TCP"
}

/// The checks in Istio's order, since the first that fails is the one that is reported.
fn admit<'a>(
    snapshot: &Snapshot,
    key: &Key,
    route: &'a HttpRoute,
    reference: &ParentReference,
    gateway: &Gateway,
    listener: &'a Listener,
) -> Result<BTreeSet<&'a str>, Denial> {
    let deny = |reason, message| Err(Denial { reason, message });
    if let Some(port) = reference.port
        && port != listener.port
    {
        return deny(Reason::NoMatchingParent, format!("port {port} not found"));
    }
    if let Some(section) = &reference.section_name
        && *section != listener.name
    {
        return deny(
            Reason::NoMatchingParent,
            format!("sectionName {section:?} not found"),
        );
    }

    let hostnames = hostnames(listener, route);
    let original = listener.hostname.as_deref().unwrap_or_default();
    if hostnames.is_empty() {
        let message = format!("no hostnames matched parent hostname {original:?}");
        return deny(Reason::NoMatchingListenerHostname, message);
    }
    if !allows_namespace(snapshot, gateway, listener, &key.namespace) {
        let message = format!(
            "hostnames matched parent hostname {original:?}, but namespace {:?} is not allowed by the parent",
            key.namespace
        );
        return deny(Reason::NotAllowedByListeners, message);
    }
    let kinds = &listener.allowed_routes.kinds;
    let allowed = |group: Option<&str>, kind: &str| {
        group.is_none_or(|g| g == GATEWAY_GROUP) && kind == "HTTPRoute"
    };
    let excluded = !kinds.is_empty()
        && !kinds
            .iter()
            .any(|kind| allowed(kind.group.as_deref(), &kind.kind));
    if excluded || is_tcp(listener) {
        let message = format!("kind {GATEWAY_GROUP}/v1/HTTPRoute is not allowed");
        return deny(Reason::NotAllowedByListeners, message);
    }
    Ok(hostnames)
}

fn hostnames<'a>(listener: &'a Listener, route: &'a HttpRoute) -> BTreeSet<&'a str> {
    let own = listener
        .hostname
        .as_deref()
        .filter(|hostname| !hostname.is_empty())
        .unwrap_or(hostname::ANY);
    if route.spec.hostnames.is_empty() {
        return BTreeSet::from([own]);
    }
    route
        .spec
        .hostnames
        .iter()
        .filter_map(|wanted| hostname::intersection(own, wanted))
        .collect()
}

fn allows_namespace(
    snapshot: &Snapshot,
    gateway: &Gateway,
    listener: &Listener,
    namespace: &str,
) -> bool {
    let allowed = &listener.allowed_routes.namespaces;
    match allowed.from.as_deref() {
        None | Some("Same") => gateway.metadata.namespace.as_deref() == Some(namespace),
        Some("All") => true,
        Some("Selector") => {
            let found = snapshot.namespaces.get(&Key::new("", namespace));
            found.is_some_and(|found| allowed.selector.selects(found.metadata.labels.as_ref()))
        }
        Some(_) => false,
    }
}
