//! What a ModelExposure's status says beside its conditions.

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::model_exposure::{EndpointsStatus, ModelExposureStatus, ObjectStatus};

use crate::observe::{Cluster, Detail};
use crate::owner::Owner;
use crate::reachable;

/// Where the Model answers, how many pods it has, and what was made for it. Without its conditions.
pub fn details(owner: &Owner, cluster: &impl Cluster) -> ModelExposureStatus {
    let route = owner.route(cluster);
    let targets = route.map(|route| reachable::targets(&route, cluster));
    let targets = targets.unwrap_or_default();
    let pool = owner.child(ChildKind::InferencePool, cluster);
    let endpoints = pool.and_then(|pool| match &pool.detail {
        Detail::Pool { selector, .. } => Some(cluster.pods(&owner.namespace, selector)),
        _ => None,
    });
    let number = |pods: usize| i32::try_from(pods).unwrap_or(i32::MAX);
    let mut objects: Vec<_> = cluster.children_of(&owner.uid);
    objects.retain(|child| !child.ending);
    objects.sort_by_key(|child| (child.kind, child.metadata.name.clone()));
    ModelExposureStatus {
        observed_generation: None,
        conditions: Vec::new(),
        urls: targets.iter().map(reachable::Target::base_url).collect(),
        endpoints: endpoints.map(|pods| EndpointsStatus {
            ready: number(pods.iter().filter(|pod| pod.ready).count()),
            total: number(pods.len()),
        }),
        objects: objects
            .iter()
            .map(|child| ObjectStatus {
                group: child.kind.group().to_owned(),
                kind: child.kind.as_str().to_owned(),
                name: child.name().to_owned(),
            })
            .collect(),
    }
}
