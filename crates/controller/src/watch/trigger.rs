//! Which Models a change concerns.

use kthena_bridge_api::child::{ChildKind, LABEL_PICKER};
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_api::kthena::{LABEL_MODEL_NAME, ModelBooster};
use kthena_bridge_core::observe::{Cluster, EndpointSlice, Pod};
use kube::Resource as _;

use crate::interest::{Interests, Topic};
use crate::namespaced_name::NamespacedName;
use crate::observe::{Cache, Cached, Caches, Change, Namespace};

/// The Model itself.
pub(super) fn by_name(change: &Change<ModelBooster>) -> Vec<NamespacedName> {
    let model = change.both().next();
    model
        .map(|model| NamespacedName::of(&**model))
        .into_iter()
        .collect()
}

/// The Models that own it, before or after.
pub(super) fn by_owner<K: Cached>(change: &Change<K>) -> Vec<NamespacedName> {
    change.both().flat_map(|object| owners(&**object)).collect()
}

fn owners<K: Cached>(object: &K) -> impl Iterator<Item = NamespacedName> {
    let namespace = object.identity().namespace;
    let owners = object.owners();
    let models = owners.filter(|(kind, _)| *kind == ModelBooster::kind(&()));
    models.map(move |(_, name)| NamespacedName::new(namespace, name))
}

/// The Model that a pod belongs to, or whose endpoint picker it is, and those that select pods of their own.
pub(super) fn by_pod(
    change: &Change<Pod>,
    caches: &Caches,
    interests: &Interests,
) -> Vec<NamespacedName> {
    let mut models = Vec::new();
    for pod in change.both() {
        let namespace = &*pod.metadata.namespace;
        if let Some(model) = pod.label(LABEL_MODEL_NAME) {
            models.push(NamespacedName::new(namespace, model));
        }
        let picker = pod.label(LABEL_PICKER);
        if let Some(picker) = picker.and_then(|p| caches.child(ChildKind::Deployment, namespace, p))
        {
            models.extend(owners(&*picker));
        }
        models.extend(interests.of(&Topic::PodsIn(namespace.to_owned())));
    }
    models
}

/// The Models whose endpoint picker is behind the Service.
pub(super) fn by_endpoint_slice(
    change: &Change<EndpointSlice>,
    interests: &Interests,
) -> Vec<NamespacedName> {
    let topics = change.both().map(|slice| {
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        Topic::Endpoints(namespace, slice.service().to_owned())
    });
    topics.flat_map(|topic| interests.of(&topic)).collect()
}

/// The Models of a namespace that look at its labels.
pub(super) fn by_namespace(
    change: &Change<Namespace>,
    interests: &Interests,
) -> Vec<NamespacedName> {
    let name = change
        .both()
        .next()
        .and_then(|namespace| namespace.metadata.name.clone());
    interests.of(&Topic::Namespace(name.unwrap_or_default()))
}

/// The Models that look at a Gateway.
pub(super) fn by_gateway(change: &Change<Gateway>, interests: &Interests) -> Vec<NamespacedName> {
    change
        .both()
        .take(1)
        .flat_map(|gateway| of_gateway(gateway, interests))
        .collect()
}

/// The Models that look at a Gateway of the class.
pub(super) fn by_gateway_class(
    change: &Change<GatewayClass>,
    gateways: &Cache<Gateway>,
    interests: &Interests,
) -> Vec<NamespacedName> {
    let Some(class) = change
        .both()
        .next()
        .and_then(|class| class.metadata.name.clone())
    else {
        return Vec::new();
    };
    let gateways = gateways
        .names()
        .into_iter()
        .filter_map(|name| gateways.named(&name));
    let of_class = gateways.filter(|gateway| gateway.spec.gateway_class_name == class);
    of_class
        .flat_map(|gateway| of_gateway(&gateway, interests))
        .collect()
}

fn of_gateway(gateway: &Gateway, interests: &Interests) -> Vec<NamespacedName> {
    let namespace = gateway.metadata.namespace.clone().unwrap_or_default();
    let name = gateway.metadata.name.clone().unwrap_or_default();
    let mut models = interests.of(&Topic::GatewaysIn(namespace.clone()));
    models.extend(interests.of(&Topic::Gateway(namespace, name)));
    models
}
