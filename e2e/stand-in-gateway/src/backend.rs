//! What a rule's backendRefs lead to.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};

use crate::{
    api::{BackendRef, HttpRoute, INFERENCE_GROUP, InferencePool},
    snapshot::{Key, Snapshot},
};

pub(crate) enum Backend<'a> {
    Pool { key: Key, pool: &'a InferencePool },
    Service { key: Key, port: &'a ServicePort },
}

/// Why a backendRef leads nowhere: a reason and message of the condition ResolvedRefs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unresolved {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

pub(crate) fn resolve<'a>(
    snapshot: &'a Snapshot,
    route: &Key,
    reference: &BackendRef,
) -> Result<Backend<'a>, Unresolved> {
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or("Service");
    let namespace = reference.namespace.as_deref().unwrap_or(&route.namespace);
    let key = Key::new(namespace, &reference.name);
    // ReferenceGrants are not read: a route of the project never refers to another namespace.
    if namespace != route.namespace {
        return Err(Unresolved {
            reason: "RefNotPermitted",
            message: format!(
                "backendRef {}/{namespace} not accessible to a HTTPRoute in namespace {:?} (missing a ReferenceGrant?)",
                reference.name, route.namespace
            ),
        });
    }
    match (group, kind) {
        (INFERENCE_GROUP, "InferencePool") => {
            let pool = snapshot.inference_pools.get(&key).map(Arc::as_ref);
            pool.map(|pool| Backend::Pool { key, pool })
                .ok_or_else(|| not_found(&reference.name))
        }
        ("", "Service") => {
            let service = snapshot.services.get(&key);
            let port = service.and_then(|service| port_of(service, reference.port?));
            let host = key.host();
            port.map(|port| Backend::Service { key, port })
                .ok_or_else(|| not_found(&host))
        }
        _ => Err(Unresolved {
            reason: "InvalidKind",
            message: format!("referencing unsupported backendRef: group {group:?} kind {kind:?}"),
        }),
    }
}

fn not_found(name: &str) -> Unresolved {
    Unresolved {
        reason: "BackendNotFound",
        message: format!("backend({name}) not found"),
    }
}

/// The port of a Service by its number.
pub(crate) fn port_of(service: &Service, number: u16) -> Option<&ServicePort> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    ports.iter().find(|port| port.port == i32::from(number))
}

/// The first backendRef of a route that leads nowhere.
pub(crate) fn first_unresolved(
    snapshot: &Snapshot,
    key: &Key,
    route: &HttpRoute,
) -> Option<Unresolved> {
    let mut references = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
    references.find_map(|reference| resolve(snapshot, key, reference).err())
}

/// Whether the route has a rule that leads to this pool.
pub(crate) fn refers_to(key: &Key, route: &HttpRoute, pool: &Key) -> bool {
    route
        .spec
        .rules
        .iter()
        .flat_map(|rule| &rule.backend_refs)
        .any(|reference| {
            reference.group.as_deref() == Some(INFERENCE_GROUP)
                && reference.kind.as_deref() == Some("InferencePool")
                && reference.name == pool.name
                && reference.namespace.as_deref().unwrap_or(&key.namespace) == pool.namespace
                && key.namespace == pool.namespace
        })
}
