//! Who exposes a Model, where several ask to: its own annotations and ModelExposures.
//!
//! Two pools over the same pods, each with an endpoint picker that sees half of the load, would be worse than either.
//! So one of them holds the Model, and keeps it, whatever the ages: the one that has objects already.

use std::sync::Arc;

use kthena_bridge_api::annotation;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::condition::Reason;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;

use crate::ask::is_exposed;
use crate::observe::{Child, Cluster};
use crate::owner::{Owner, OwnerKind};
use crate::target::{Target, TargetKind, serving_name};
use crate::topology::NotAccepted;

/// Who exposes a Model: of those that ask to, the one that has objects already, else the oldest.
pub fn of(target: &Target, cluster: &impl Cluster) -> Option<Owner> {
    let has_objects = |owner: &Owner| owner.child(ChildKind::InferencePool, cluster).is_some();
    let rank = |owner: &Owner| {
        (
            !has_objects(owner),
            owner.created,
            owner.kind,
            owner.name.clone(),
        )
    };
    let mut asking = asking(target, cluster);
    if asking.len() < 2 {
        // Nearly always: nothing has to be looked up.
        return asking.pop();
    }
    asking.into_iter().min_by_key(rank)
}

/// The ModelExposures of a Model, whether or not they hold it.
pub fn exposures(target: &Target, cluster: &impl Cluster) -> Vec<Arc<ModelExposure>> {
    let namespace = target.metadata().namespace.as_deref().unwrap_or_default();
    let of = |kind, name: &str| cluster.exposures_of(kind, namespace, name);
    let mut exposures = of(target.kind(), &target.name());
    // Kthena's ModelServer of a ModelBooster is over the same pods.
    match target {
        Target::Booster(model) => {
            for server in servers(model) {
                exposures.extend(of(TargetKind::ModelServer, &server));
            }
        }
        Target::Server(_) => {
            if let Some(model) = booster(target, cluster) {
                exposures.extend(of(TargetKind::ModelBooster, &Target::Booster(model).name()));
            }
        }
    }
    exposures.retain(|exposure| exposure.metadata.deletion_timestamp.is_none());
    exposures
}

/// All that ask to expose a Model.
fn asking(target: &Target, cluster: &impl Cluster) -> Vec<Owner> {
    let exposures = exposures(target, cluster);
    let exposures = exposures
        .iter()
        .map(|exposure| Owner::of(OwnerKind::ModelExposure, &exposure.metadata));
    let annotated = booster(target, cluster)
        .filter(|model| model.metadata.deletion_timestamp.is_none() && is_exposed(model))
        .map(|model| Owner::of(OwnerKind::ModelBooster, &model.metadata));
    exposures.chain(annotated).collect()
}

/// The ModelBooster that a Model is, or is a part of.
fn booster(target: &Target, cluster: &impl Cluster) -> Option<Arc<ModelBooster>> {
    match target {
        Target::Booster(model) => Some(Arc::clone(model)),
        Target::Server(server) => {
            let owners = server.metadata.owner_references.iter().flatten();
            let mut models = owners.filter(|owner| owner.kind == TargetKind::ModelBooster.as_str());
            let namespace = server.metadata.namespace.as_deref().unwrap_or_default();
            cluster.booster(namespace, &models.next()?.name)
        }
    }
}

/// The names of the ModelServers that Kthena makes for a ModelBooster.
fn servers(model: &ModelBooster) -> Vec<String> {
    let name = model.metadata.name.as_deref().unwrap_or_default();
    let backends = model.spec.backends();
    backends
        .map(|backend| serving_name(name, Some(backend)))
        .collect()
}

/// Whether an object was written for a Model that is no longer exposed by its annotations, and is now for one that a
/// ModelExposure of its name exposes: that one takes it over, so that requests go on being answered.
pub fn is_given_up(child: &Child, owner: &Owner, model: &str, cluster: &impl Cluster) -> bool {
    let [before] = child.owners() else {
        return false;
    };
    let is_of_model = OwnerKind::named(&before.kind) == Some(OwnerKind::ModelBooster)
        && &*before.name == model
        && owner.kind == OwnerKind::ModelExposure;
    is_of_model
        && child.managed
        && cluster
            .booster(child.namespace(), model)
            .is_some_and(|model| {
                model.metadata.uid.as_deref() == Some(&*before.uid) && !is_exposed(&model)
            })
}

/// Checks that nobody else exposes a Model.
///
/// # Errors
/// `AlreadyExposed`, with who does.
pub fn check(owner: &Owner, target: &Target, cluster: &impl Cluster) -> Result<(), NotAccepted> {
    let Some(holder) = of(target, cluster).filter(|holder| holder.uid != owner.uid) else {
        return Ok(());
    };
    let message = match (holder.kind, owner.kind) {
        (OwnerKind::ModelBooster, _) => format!(
            "{holder} is exposed by its annotations already; remove {} from it, or this ModelExposure",
            annotation::EXPOSE
        ),
        (OwnerKind::ModelExposure, OwnerKind::ModelBooster) => format!(
            "{holder} exposes this Model already; remove it, or {}",
            annotation::EXPOSE
        ),
        (OwnerKind::ModelExposure, OwnerKind::ModelExposure) => {
            format!("{holder} exposes {target} already; remove one of the two")
        }
    };
    Err(NotAccepted {
        reason: Reason::AlreadyExposed,
        message,
    })
}

#[cfg(test)]
mod tests {
    use kthena_bridge_api::kthena::ModelServer;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::observe::Objects;

    fn object<K: DeserializeOwned>(value: Value) -> Arc<K> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn model(expose: &str) -> Arc<ModelBooster> {
        object(json!({
            "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelBooster",
            "metadata": {"namespace": "a", "name": "demo", "uid": "m", "creationTimestamp": "2026-01-02T00:00:00Z",
                "annotations": {annotation::EXPOSE: expose}},
            "spec": {"backend": {"name": "b", "type": "vLLM"}},
        }))
    }

    fn exposure(name: &str, kind: &str, target: &str, day: u8) -> Arc<ModelExposure> {
        object(json!({
            "apiVersion": "kthena-bridge.io/v1alpha1", "kind": "ModelExposure",
            "metadata": {"namespace": "a", "name": name, "uid": name,
                "creationTimestamp": format!("2026-01-0{day}T00:00:00Z")},
            "spec": {"targetRef": {"kind": kind, "name": target}},
        }))
    }

    fn with_pool(cluster: &mut Objects, kind: &str, name: &str, uid: &str) {
        let pool = json!({"metadata": {"namespace": "a", "name": name, "uid": "p",
            "ownerReferences": [{"kind": kind, "name": name, "uid": uid}]}});
        let pool = Child::reduce(ChildKind::InferencePool, &pool);
        let key = (ChildKind::InferencePool, "a".to_owned(), name.to_owned());
        cluster.children.insert(key, Arc::new(pool));
    }

    #[test]
    fn whoever_has_objects_holds_a_model_and_else_the_oldest() {
        let mut cluster = Objects {
            boosters: vec![model("true")],
            exposures: vec![
                exposure("old", "ModelBooster", "demo", 1),
                exposure("new", "ModelBooster", "demo", 3),
                exposure("other", "ModelBooster", "another", 1),
            ],
            ..Objects::default()
        };
        let target = Target::Booster(model("true"));
        let holder = |cluster: &Objects| of(&target, cluster).unwrap().name;
        assert_eq!(holder(&cluster), "old");
        with_pool(&mut cluster, "ModelExposure", "new", "new");
        assert_eq!(holder(&cluster), "new");
        let owner = |name: &str| {
            let exposure = cluster
                .exposures
                .iter()
                .find(|e| e.metadata.name.as_deref() == Some(name));
            Owner::of(OwnerKind::ModelExposure, &exposure.unwrap().metadata)
        };
        assert_eq!(check(&owner("new"), &target, &cluster), Ok(()));
        let refused = check(&owner("old"), &target, &cluster).unwrap_err();
        assert_eq!(refused.reason, Reason::AlreadyExposed);
        assert_eq!(
            refused.message,
            "ModelExposure a/new exposes ModelBooster a/demo already; remove one of the two"
        );
        let annotated = Owner::of(OwnerKind::ModelBooster, target.metadata());
        let refused = check(&annotated, &target, &cluster).unwrap_err();
        assert_eq!(
            refused.message,
            "ModelExposure a/new exposes this Model already; remove it, or kthena-bridge.io/expose"
        );
    }

    #[test]
    fn a_model_that_is_not_annotated_is_nobodys() {
        let mut cluster = Objects::default();
        let target = Target::Booster(model("false"));
        cluster.boosters.push(model("false"));
        assert_eq!(of(&target, &cluster), None);
        cluster
            .exposures
            .push(exposure("one", "ModelBooster", "demo", 9));
        assert_eq!(of(&target, &cluster).unwrap().name, "one");
    }

    #[test]
    fn the_server_of_a_model_is_the_model() {
        let server: Arc<ModelServer> = object(json!({
            "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelServer",
            "metadata": {"namespace": "a", "name": "demo-b", "uid": "s",
                "ownerReferences": [{"apiVersion": "x/v1", "kind": "ModelBooster", "name": "demo", "uid": "m"}]},
            "spec": {},
        }));
        let mut cluster = Objects {
            boosters: vec![model("true")],
            exposures: vec![exposure("by-server", "ModelServer", "demo-b", 5)],
            ..Objects::default()
        };
        let target = Target::Server(Arc::clone(&server));
        assert_eq!(of(&target, &cluster).unwrap().kind, OwnerKind::ModelBooster);
        let owner = Owner::of(OwnerKind::ModelExposure, &cluster.exposures[0].metadata);
        let refused = check(&owner, &target, &cluster).unwrap_err();
        assert!(
            refused
                .message
                .starts_with("ModelBooster a/demo is exposed by its annotations already"),
            "{}",
            refused.message
        );
        with_pool(&mut cluster, "ModelExposure", "by-server", "by-server");
        let booster = Target::Booster(model("true"));
        assert_eq!(of(&booster, &cluster).unwrap().name, "by-server");
    }
}
