//! What is to become of what asks for an exposure, from what is known. Nothing here waits.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::{LABEL_SERVING, ModelServer};
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::exposure::{EndpointPicker, InvalidSettings};
use kthena_bridge_core::observe::{Cluster, Detail};
use kthena_bridge_core::topology::NotAccepted;
use kthena_bridge_core::{
    Ask, Config, Exposure, Owner, Source, Target, TargetKind, Topology, ask, holder,
};

use crate::claims::Writing;
use crate::context::Context;
use crate::interest::Topic;
use crate::object_ref::ObjectRef;

/// What is to become of what asks for an exposure.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Nothing, for now: it is on its way out, or Kthena has not begun with it.
    Wait,
    /// It is not, or no longer, exposed: nothing of ours may be there.
    Withdraw,
    /// A Model of which this says how far it is exposed.
    Mirror(Arc<ModelExposure>),
    /// What it asks for is not understood.
    Invalid(InvalidSettings, Option<Target>),
    /// It cannot be served as it is.
    Refuse(NotAccepted, Option<Target>),
    /// It is served.
    Serve(Box<Served>),
}

/// What is served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) exposure: Exposure,
    pub(crate) target: Target,
    pub(crate) topology: Topology,
    /// The configuration by which this was decided.
    pub(crate) config: Arc<Config>,
    /// That its route may be written.
    pub(crate) writing: Writing,
}

/// Decides, and takes what the route asks for.
pub(crate) fn decide(source: &Source, cx: &Context) -> Decision {
    let config = cx.config();
    let object = ObjectRef::of(source);
    let owner = source.owner();
    // Before its target is looked at, so that no change is missed between.
    if matches!(source, Source::Object(_)) && !cx.interests.knows(&object) {
        cx.interests.set(&object, &topics(source, &owner, cx));
    }
    let asked = match Ask::of(source, &config, &*cx.caches) {
        Ask::Wait => return Decision::Wait,
        Ask::Nothing => return mirrored(source, cx),
        Ask::Refused(refused) => {
            cx.claims.release(&object, &owner.names().model);
            return Decision::Refuse(refused, None);
        }
        Ask::Invalid(invalid, target) => Err(Decision::Invalid(invalid, target)),
        Ask::Exposure(exposure, target) => Ok((*exposure, target)),
    };
    // The same for what else is looked at.
    let mut topics = topics(source, &owner, cx);
    if let Ok((exposure, _)) = &asked {
        topics.extend(of_exposure(exposure, &owner));
    }
    if topics.iter().any(|t| matches!(t, Topic::Endpoints(..))) {
        cx.look_at_endpoints();
    }
    cx.interests.set(&object, &topics);
    let (exposure, target) = match asked {
        Ok(asked) => asked,
        Err(invalid) => return invalid,
    };
    let topology = match Topology::of(&exposure, &owner, &target, &*cx.caches) {
        Ok(topology) => topology,
        Err(refused) => {
            cx.claims.release(&object, &owner.names().model);
            return Decision::Refuse(refused, Some(target));
        }
    };
    let (route, live) = ask::route(&exposure, &topology, &config, &*cx.caches);
    match cx.claims.take(&object, route, live.as_deref()) {
        Ok(writing) => Decision::Serve(Box::new(Served {
            exposure,
            target,
            topology,
            config,
            writing,
        })),
        Err(conflict) => Decision::Refuse(conflict.refusal(&owner), Some(target)),
    }
}

/// A Model that asks for nothing may be exposed by an object.
fn mirrored(source: &Source, cx: &Context) -> Decision {
    let exposure = match source {
        Source::Model(model) if ask::has_begun(model) => {
            exposure_of(&Target::Booster(Arc::clone(model)), cx)
        }
        _ => None,
    };
    exposure.map_or(Decision::Withdraw, Decision::Mirror)
}

/// The ModelExposure that exposes a Model, or would, if there is one.
pub(crate) fn exposure_of(target: &Target, cx: &Context) -> Option<Arc<ModelExposure>> {
    let holder = holder::of(target, &*cx.caches)?;
    let exposures = holder::exposures(target, &*cx.caches);
    let mut exposures = exposures.into_iter();
    exposures.find(|exposure| exposure.metadata.uid.as_deref() == Some(&holder.uid))
}

/// What is looked at that does not name it, whatever is asked for: what is exposed, the Gateways that the route is
/// attached to, and pods that do not belong to a Model.
fn topics(source: &Source, owner: &Owner, cx: &Context) -> HashSet<Topic> {
    let names = owner.names();
    let child = |kind| cx.caches.child(kind, &owner.namespace, &names.model);
    let mut topics = HashSet::from([Topic::Namespace(owner.namespace.clone())]);
    if let Source::Object(object) = source {
        topics.extend(of_target(object, &owner.namespace, cx));
    }
    if let Some(route) = child(ChildKind::HTTPRoute)
        && let Detail::Route { parent_refs, .. } = &route.detail
    {
        for parent in parent_refs {
            let namespace = parent.namespace_or(&owner.namespace).to_owned();
            topics.insert(Topic::Gateway(namespace, parent.name.clone()));
        }
    }
    if let Some(pool) = child(ChildKind::InferencePool)
        && let Detail::Pool { selector, .. } = &pool.detail
        && !selector.contains_key(LABEL_SERVING)
    {
        topics.extend(pods_with(&owner.namespace, selector));
    }
    topics
}

/// What is asked for that does not name who asks.
fn of_exposure(exposure: &Exposure, owner: &Owner) -> Vec<Topic> {
    let mut topics = Vec::new();
    if exposure.gateways.is_empty() {
        topics.push(Topic::GatewaysIn(owner.namespace.clone()));
    }
    for gateway in &exposure.gateways {
        topics.push(Topic::Gateway(
            gateway.namespace.clone(),
            gateway.name.clone(),
        ));
    }
    if let EndpointPicker::Service { name, .. } = &exposure.endpoint_picker {
        topics.push(Topic::Endpoints(owner.namespace.clone(), name.clone()));
    }
    if let Some(selector) = &exposure.pod_selector {
        topics.extend(pods_with(&owner.namespace, selector));
    }
    topics
}

/// What is exposed by an object, and what that is known by.
fn of_target(object: &ModelExposure, namespace: &str, cx: &Context) -> Vec<Topic> {
    let reference = &object.spec.target_ref;
    let Some(kind) = TargetKind::named(&reference.kind) else {
        return Vec::new();
    };
    let mut topics = vec![Topic::Target(
        kind,
        namespace.to_owned(),
        reference.name.clone(),
    )];
    if kind == TargetKind::ModelServer
        && let Some(server) = cx.caches.server(namespace, &reference.name)
    {
        topics.extend(of_server(&server, namespace));
    }
    topics
}

fn of_server(server: &ModelServer, namespace: &str) -> Vec<Topic> {
    let labels = &server.spec.workload_selector.match_labels;
    let owners = server.metadata.owner_references.iter().flatten();
    let models = owners.filter_map(|owner| {
        let kind = TargetKind::named(&owner.kind)?;
        Some(Topic::Target(
            kind,
            namespace.to_owned(),
            owner.name.clone(),
        ))
    });
    let serving = labels.get(LABEL_SERVING);
    let serving = serving.map(|name| Topic::Serving(namespace.to_owned(), name.clone()));
    models
        .chain(serving)
        .chain(pods_with(namespace, labels))
        .collect()
}

/// Pods that have all of these labels: each of them has the one that is looked at.
fn pods_with(namespace: &str, labels: &BTreeMap<String, String>) -> Option<Topic> {
    let serving = labels.get_key_value(LABEL_SERVING);
    let (key, value) = serving.or_else(|| labels.first_key_value())?;
    Some(Topic::PodsWith(
        namespace.to_owned(),
        key.clone(),
        value.clone(),
    ))
}
