//! What is to become of a Model, from what is known. Nothing here waits.

use std::collections::HashSet;
use std::sync::Arc;

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::{LABEL_SERVING, ModelBooster};
use kthena_bridge_core::exposure::{EndpointPicker, InvalidAnnotations};
use kthena_bridge_core::observe::{Cluster, Detail};
use kthena_bridge_core::topology::{NotAccepted, Owner};
use kthena_bridge_core::{Ask, Config, Exposure, Topology, ask};

use crate::claims::Writing;
use crate::context::Context;
use crate::interest::Topic;
use crate::namespaced_name::NamespacedName;

/// What is to become of a Model.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Nothing, for now: it is on its way out, or Kthena has not begun with it.
    Wait,
    /// It is not, or no longer, exposed: nothing of ours may be there.
    Withdraw,
    /// Its annotations are not understood.
    Invalid(InvalidAnnotations),
    /// It cannot be served as it is.
    Refuse(NotAccepted),
    /// It is served.
    Serve(Box<Served>),
}

/// A Model that is served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) exposure: Exposure,
    pub(crate) topology: Topology,
    /// The configuration by which this was decided.
    pub(crate) config: Arc<Config>,
    /// That its route may be written.
    pub(crate) writing: Writing,
}

/// Decides, and takes what the Model's route asks for.
pub(crate) fn decide(model: &ModelBooster, cx: &Context) -> Decision {
    let config = cx.config();
    let asked = match Ask::of(model, &config) {
        Ask::Wait => return Decision::Wait,
        Ask::Nothing => return Decision::Withdraw,
        Ask::Invalid(invalid) => Err(invalid),
        Ask::Exposure(exposure) => Ok(*exposure),
    };
    let owner = Owner::of(&model.metadata);
    let object = NamespacedName::of(model);
    // Before anything is looked at, so that no change is missed between.
    let topics = topics(&owner, asked.as_ref().ok(), cx);
    if topics.iter().any(|t| matches!(t, Topic::Endpoints(..))) {
        cx.look_at_endpoints();
    }
    cx.interests.set(&object, &topics);
    let exposure = match asked {
        Ok(exposure) => exposure,
        Err(invalid) => return Decision::Invalid(invalid),
    };
    let names = owner.names();
    let topology = match Topology::of(&exposure, model, &*cx.caches) {
        Ok(topology) => topology,
        Err(refused) => {
            cx.claims.release(&object, &names.model);
            return Decision::Refuse(refused);
        }
    };
    let (route, live) = ask::route(model, &exposure, &topology, &config, &*cx.caches);
    match cx.claims.take(&object, route, live.as_deref()) {
        Ok(writing) => Decision::Serve(Box::new(Served {
            exposure,
            topology,
            config,
            writing,
        })),
        Err(conflict) => Decision::Refuse(NotAccepted::from(&*conflict)),
    }
}

/// What a Model looks at that does not name it: the Gateways that it asks for and those that its route is
/// attached to, and pods that are not its own.
fn topics(owner: &Owner, exposure: Option<&Exposure>, cx: &Context) -> HashSet<Topic> {
    let names = owner.names();
    let child = |kind| cx.caches.child(kind, &owner.namespace, &names.model);
    let mut topics = HashSet::from([Topic::Namespace(owner.namespace.clone())]);
    if let Some(exposure) = exposure {
        if exposure.gateways.is_empty() {
            topics.insert(Topic::GatewaysIn(owner.namespace.clone()));
        }
        for gateway in &exposure.gateways {
            topics.insert(Topic::Gateway(
                gateway.namespace.clone(),
                gateway.name.clone(),
            ));
        }
        if let EndpointPicker::Service { name, .. } = &exposure.endpoint_picker {
            topics.insert(Topic::Endpoints(owner.namespace.clone(), name.clone()));
        }
        if exposure.pod_selector.is_some() {
            topics.insert(Topic::PodsIn(owner.namespace.clone()));
        }
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
        topics.insert(Topic::PodsIn(owner.namespace.clone()));
    }
    topics
}
