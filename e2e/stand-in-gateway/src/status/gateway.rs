//! The status of a Gateway.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    condition::{self, Condition},
    conditions_of, list_of,
};
use crate::{
    api::{GATEWAY_GROUP, Gateway, Listener},
    attach::{AttachedRoute, is_supported, is_tcp},
    snapshot::{Key, Objects, Snapshot},
};
use k8s_openapi::api::core::v1::Service;

pub(super) fn status(
    snapshot: &Snapshot,
    key: &Key,
    gateway: &Gateway,
    routes: &[AttachedRoute<'_>],
) -> Value {
    let current = gateway.status.as_ref();
    let generation = gateway.metadata.generation;
    let (programmed, address) = programmed(snapshot, key, gateway);
    let wanted = [
        Condition::true_("Accepted", "Accepted", "Resource accepted"),
        programmed,
        Condition::true_("ResolvedRefs", "ResolvedRefs", "All references resolved"),
    ];
    let listeners: Vec<_> = gateway
        .spec
        .listeners
        .iter()
        .map(|listener| {
            let before = list_of(current, "listeners").iter().find(|found| found["name"] == listener.name.as_str());
            json!({
                "name": listener.name,
                "attachedRoutes": attached_routes(key, listener, routes),
                "supportedKinds": supported_kinds(listener),
                "conditions": condition::list(
                    &listener_conditions(listener), conditions_of(before), generation, snapshot.now),
            })
        })
        .collect();
    let mut status = json!({
        "conditions": condition::list(&wanted, conditions_of(current), generation, snapshot.now),
        "listeners": listeners,
    });
    if let Some(address) = address {
        status["addresses"] = json!([{"type": "IPAddress", "value": address.to_string()}]);
    }
    status
}

/// What a Gateway's `spec.addresses` come to.
///
/// Istio takes the host name of a Service, or makes a Service of its own when none is given. Here there is
/// no such Service: its name is said all the same, and the address is one of the pool.
pub(crate) struct Requested {
    hosts: Vec<String>,
    unknown: Vec<String>,
}

impl Requested {
    /// Whether the Gateway is to have an address.
    pub(crate) fn is_usable(&self) -> bool {
        !self.hosts.is_empty()
    }
}

pub(crate) fn requested_address(
    services: &Objects<Service>,
    key: &Key,
    gateway: &Gateway,
) -> Requested {
    let mut requested = Requested {
        hosts: Vec::new(),
        unknown: Vec::new(),
    };
    let names: Vec<_> = gateway
        .spec
        .addresses
        .iter()
        .filter(|a| a.r#type.as_deref() == Some("Hostname"))
        .collect();
    if names.is_empty() {
        let name = format!("{}-{}", key.name, gateway.spec.gateway_class_name);
        requested.hosts.push(Key::new(&key.namespace, &name).host());
    }
    for name in names {
        let found = services.keys().any(|service| service.host() == name.value);
        let list = if found {
            &mut requested.hosts
        } else {
            &mut requested.unknown
        };
        list.push(name.value.clone());
    }
    requested
}

fn programmed(
    snapshot: &Snapshot,
    key: &Key,
    gateway: &Gateway,
) -> (Condition, Option<std::net::Ipv4Addr>) {
    let requested = requested_address(&snapshot.services, key, gateway);
    let warnings: Vec<_> = requested
        .unknown
        .iter()
        .map(|host| format!("hostname {host:?} not found"))
        .collect();
    let warnings = warnings.join("; ");
    if !requested.is_usable() {
        let message = format!("Failed to assign to any requested addresses: {warnings}");
        return (
            Condition::false_("Programmed", "AddressNotUsable", message),
            None,
        );
    }
    let Some(address) = snapshot.addresses.get(key) else {
        return (
            Condition::false_(
                "Programmed",
                "AddressNotAssigned",
                "No address of the pool is free",
            ),
            None,
        );
    };
    let ports: BTreeSet<_> = gateway
        .spec
        .listeners
        .iter()
        .map(|listener| listener.port)
        .collect();
    let services: Vec<_> = requested
        .hosts
        .iter()
        .flat_map(|host| ports.iter().map(move |port| format!("{host}:{port}")))
        .collect();
    let services = enumerate(&services);
    let condition = if warnings.is_empty() {
        let message = format!("Resource programmed, assigned to service(s) {services}");
        Condition::true_("Programmed", "Programmed", message)
    } else {
        let message = format!(
            "Assigned to service(s) {services}, but failed to assign to all requested addresses: {warnings}"
        );
        Condition::false_("Programmed", "AddressNotUsable", message)
    };
    (condition, Some(*address))
}

/// `a`, `a and b`, `a, b, and c`.
fn enumerate(items: &[String]) -> String {
    match items {
        [all @ .., last] if all.len() > 1 => format!("{}, and {last}", all.join(", ")),
        _ => items.join(" and "),
    }
}

fn attached_routes(gateway: &Key, listener: &Listener, routes: &[AttachedRoute<'_>]) -> usize {
    let attaches = |attached: &&AttachedRoute<'_>| {
        let parents = attached
            .parents
            .iter()
            .filter(|parent| parent.gateway == *gateway);
        parents
            .flat_map(|parent| parent.outcome.iter().flatten())
            .any(|found| found.listener.name == listener.name)
    };
    routes.iter().filter(attaches).count()
}

fn supported_kinds(listener: &Listener) -> Vec<Value> {
    let kinds = &listener.allowed_routes.kinds;
    let of_protocol = if is_tcp(listener) {
        &["TCPRoute"][..]
    } else {
        &["HTTPRoute", "GRPCRoute"]
    };
    of_protocol
        .iter()
        .filter(|kind| kinds.is_empty() || kinds.iter().any(|allowed| allowed.kind == **kind))
        .map(|kind| json!({"group": GATEWAY_GROUP, "kind": kind}))
        .collect()
}

fn listener_conditions(listener: &Listener) -> [Condition; 4] {
    const FINE: &str = "No errors found";
    let (accepted, programmed) = if is_supported(listener) || is_tcp(listener) {
        (
            Condition::true_("Accepted", "Accepted", FINE),
            Condition::true_("Programmed", "Programmed", FINE),
        )
    } else {
        let message = format!(
            "protocol {:?} is not supported by the stand-in",
            listener.protocol
        );
        (
            Condition::false_("Accepted", "UnsupportedProtocol", message.clone()),
            Condition::false_("Programmed", "Invalid", message),
        )
    };
    [
        accepted,
        Condition::false_("Conflicted", "NoConflicts", FINE),
        programmed,
        Condition::true_("ResolvedRefs", "ResolvedRefs", FINE),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_enumerated_as_a_sentence_does() {
        let items: Vec<_> = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!(enumerate(&items[..1]), "a");
        assert_eq!(enumerate(&items[..2]), "a and b");
        assert_eq!(enumerate(&items), "a, b, and c");
    }
}
