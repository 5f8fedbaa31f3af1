//! Whom a change concerns.

use kthena_bridge_api::child::{ChildKind, LABEL_PICKER};
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_api::kthena::{
    LABEL_MODEL_NAME, ModelBooster, ModelRoute, ModelServer, ModelServing,
};
use kthena_bridge_api::model_exposure::{ModelExposure, TargetReference};
use kthena_bridge_core::observe::{Cluster, EndpointSlice, Pod};
use kthena_bridge_core::{OwnerKind, Source, TargetKind};
use kube::Resource as _;
use kube::core::ObjectMeta;

use crate::interest::{Interests, Topic};
use crate::object_ref::ObjectRef;
use crate::observe::{Cache, Cached, Caches, Change, Namespace};

/// The Model itself, and those that expose it.
pub(super) fn by_model(change: &Change<ModelBooster>, interests: &Interests) -> Vec<ObjectRef> {
    let model = change.both().next();
    let model = model.and_then(|model| named(&model.metadata));
    let model = model.map(|(namespace, name)| ObjectRef::model(namespace, name));
    with_exposures(model.into_iter().collect(), interests)
}

/// The ModelExposure itself, what it exposes, and who else does.
pub(super) fn by_exposure(
    change: &Change<ModelExposure>,
    caches: &Caches,
    interests: &Interests,
) -> Vec<ObjectRef> {
    let mut objects = Vec::new();
    for exposure in change.both() {
        let Some((namespace, name)) = named(&exposure.metadata) else {
            continue;
        };
        let own = ObjectRef::of_owner(namespace, (&ModelExposure::kind(&()), name));
        objects.extend(own);
        let target = &exposure.spec.target_ref;
        objects.extend(of_target_ref(namespace, target, interests));
        if TargetKind::named(&target.kind) == Some(TargetKind::ModelServer)
            && let Some(server) = caches.server(namespace, &target.name)
        {
            objects.extend(owners(&*server));
        }
    }
    objects
}

/// Those that own it, before or after.
pub(super) fn by_owner<K: Cached>(change: &Change<K>) -> Vec<ObjectRef> {
    change.both().flat_map(|object| owners(&**object)).collect()
}

/// The Model that owns a ModelServing, and those that expose it.
pub(super) fn by_serving(change: &Change<ModelServing>, interests: &Interests) -> Vec<ObjectRef> {
    let mut objects = with_exposures(by_owner(change), interests);
    if let Some((namespace, name)) = change.both().next().and_then(|s| named(&s.metadata)) {
        objects.extend(interests.of(&Topic::Serving(namespace.to_owned(), name.to_owned())));
    }
    objects
}

/// The Model that owns a ModelServer, and those that expose either.
pub(super) fn by_server(change: &Change<ModelServer>, interests: &Interests) -> Vec<ObjectRef> {
    let mut objects = with_exposures(by_owner(change), interests);
    if let Some((namespace, name)) = change.both().next().and_then(|s| named(&s.metadata)) {
        objects.extend(of_target(
            TargetKind::ModelServer,
            namespace,
            name,
            interests,
        ));
    }
    objects
}

/// Those that expose a ModelServer that a ModelRoute leads to.
pub(super) fn by_model_route(change: &Change<ModelRoute>, interests: &Interests) -> Vec<ObjectRef> {
    let mut objects = Vec::new();
    for route in change.both() {
        let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
        for server in route.spec.servers() {
            objects.extend(of_target(
                TargetKind::ModelServer,
                namespace,
                server,
                interests,
            ));
        }
    }
    objects
}

/// Those that look at what is exposed by the owner of something.
pub(super) fn rivals(owner: &ObjectRef, caches: &Caches, interests: &Interests) -> Vec<ObjectRef> {
    let namespace = owner.namespace();
    match owner.kind() {
        OwnerKind::ModelBooster => {
            of_target(TargetKind::ModelBooster, namespace, owner.name(), interests)
        }
        OwnerKind::ModelExposure => match caches.source(owner) {
            Some(Source::Object(exposure)) => {
                of_target_ref(namespace, &exposure.spec.target_ref, interests)
            }
            _ => Vec::new(),
        },
    }
}

/// What a ModelExposure exposes, which says of itself what that says of it, and who else exposes it.
fn of_target_ref(
    namespace: &str,
    target: &TargetReference,
    interests: &Interests,
) -> Vec<ObjectRef> {
    let named = ObjectRef::of_owner(namespace, (&target.kind, &target.name));
    let mut objects: Vec<_> = named.into_iter().collect();
    if let Some(kind) = TargetKind::named(&target.kind) {
        objects.extend(of_target(kind, namespace, &target.name, interests));
    }
    objects
}

fn of_target(
    kind: TargetKind,
    namespace: &str,
    name: &str,
    interests: &Interests,
) -> Vec<ObjectRef> {
    interests.of(&Topic::Target(kind, namespace.to_owned(), name.to_owned()))
}

/// Models, and those that expose them.
fn with_exposures(models: Vec<ObjectRef>, interests: &Interests) -> Vec<ObjectRef> {
    let mut all = models.clone();
    for model in models {
        let (namespace, name) = (model.namespace(), model.name());
        all.extend(of_target(
            TargetKind::ModelBooster,
            namespace,
            name,
            interests,
        ));
    }
    all
}

fn named(metadata: &ObjectMeta) -> Option<(&str, &str)> {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    Some((namespace, metadata.name.as_deref()?))
}

fn owners<K: Cached>(object: &K) -> impl Iterator<Item = ObjectRef> {
    let namespace = object.identity().namespace;
    let owners = object.owners();
    owners.filter_map(move |owner| ObjectRef::of_owner(namespace, owner))
}

/// The Model that a pod belongs to, or whose endpoint picker it is, and those that select pods of their own.
pub(super) fn by_pod(
    change: &Change<Pod>,
    caches: &Caches,
    interests: &Interests,
) -> Vec<ObjectRef> {
    let mut models = Vec::new();
    for pod in change.both() {
        let namespace = &*pod.metadata.namespace;
        if let Some(model) = pod.label(LABEL_MODEL_NAME) {
            let model = ObjectRef::model(namespace, model);
            models.extend(with_exposures(vec![model], interests));
        }
        let picker = pod.label(LABEL_PICKER);
        if let Some(picker) = picker.and_then(|p| caches.child(ChildKind::Deployment, namespace, p))
        {
            models.extend(owners(&*picker));
        }
        for (key, value) in &pod.labels {
            let topic = Topic::PodsWith(namespace.to_owned(), key.to_string(), value.to_string());
            models.extend(interests.of(&topic));
        }
    }
    models
}

/// The Models whose endpoint picker is behind the Service.
pub(super) fn by_endpoint_slice(
    change: &Change<EndpointSlice>,
    interests: &Interests,
) -> Vec<ObjectRef> {
    let topics = change.both().map(|slice| {
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        Topic::Endpoints(namespace, slice.service().to_owned())
    });
    topics.flat_map(|topic| interests.of(&topic)).collect()
}

/// The Models of a namespace that look at its labels.
pub(super) fn by_namespace(change: &Change<Namespace>, interests: &Interests) -> Vec<ObjectRef> {
    let name = change
        .both()
        .next()
        .and_then(|namespace| namespace.metadata.name.clone());
    interests.of(&Topic::Namespace(name.unwrap_or_default()))
}

/// The Models that look at a Gateway.
pub(super) fn by_gateway(change: &Change<Gateway>, interests: &Interests) -> Vec<ObjectRef> {
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
) -> Vec<ObjectRef> {
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

fn of_gateway(gateway: &Gateway, interests: &Interests) -> Vec<ObjectRef> {
    let namespace = gateway.metadata.namespace.clone().unwrap_or_default();
    let name = gateway.metadata.name.clone().unwrap_or_default();
    let mut models = interests.of(&Topic::GatewaysIn(namespace.clone()));
    models.extend(interests.of(&Topic::Gateway(namespace, name)));
    models
}
