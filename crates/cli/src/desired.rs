//! What the operator wants for a Model now, decided as it decides.

use futures::future::join_all;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::plan::Desired as Object;
use kthena_bridge_core::topology::NotAccepted;
use kthena_bridge_core::{Ask, Config, Exposure, Plan, Topology, ask, claims, plan};
use kube::Client;
use kube::api::{Api, DynamicObject};

use crate::observe::{self, Seen};

/// What the operator wants for a Model.
#[derive(Debug)]
pub(crate) enum Desired {
    /// Nothing is touched for now, and why.
    AsItIs(String),
    /// None of its objects.
    Nothing,
    /// Nothing is touched until this is mended: the reason and message of `Accepted`.
    Refused(String),
    /// What a plan says.
    Served(Box<Served>),
}

/// A Model that is served, or will be.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) exposure: Exposure,
    pub(crate) topology: Topology,
    pub(crate) plan: Plan,
}

impl Desired {
    /// For a Model of the cluster.
    pub(crate) fn of(model: &ModelBooster, config: &Config, seen: &Seen) -> Self {
        let objects = &seen.objects;
        let exposure = match Ask::of(model, config) {
            Ask::Wait => {
                return Self::AsItIs(
                    "the operator waits: the Model is being deleted, or Kthena has not begun with it"
                        .to_owned(),
                );
            }
            Ask::Nothing => return Self::Nothing,
            Ask::Invalid(invalid) => {
                return Self::Refused(format!("InvalidAnnotation: {invalid}"));
            }
            Ask::Exposure(exposure) => exposure,
        };
        let topology = match Topology::of(&exposure, model, objects) {
            Ok(topology) => topology,
            Err(refused) => return Self::refused(&refused),
        };
        Self::with(model, *exposure, topology, config, seen)
    }

    /// What a plan says, unless somebody else has the requests.
    pub(crate) fn with(
        model: &ModelBooster,
        exposure: Exposure,
        topology: Topology,
        config: &Config,
        seen: &Seen,
    ) -> Self {
        let (wanted, live) = ask::route(model, &exposure, &topology, config, &seen.objects);
        if let Err(conflict) = claims::check(&wanted, live.as_deref(), &seen.objects) {
            return Self::refused(&NotAccepted::from(&*conflict));
        }
        let plan = plan::build(&exposure, &topology, config, &seen.objects);
        Self::Served(Box::new(Served {
            exposure,
            topology,
            plan,
        }))
    }

    /// What stands in the way.
    pub(crate) fn refused(refused: &NotAccepted) -> Self {
        Self::Refused(format!("{}: {}", refused.reason, refused.message))
    }
}

/// Looks for objects of plans that no list had: without our label they are there all the same.
pub(crate) async fn look_for_unlabelled(
    client: &Client,
    seen: &mut Seen,
    desired: &[Desired],
) -> Result<(), observe::Error> {
    let mut missing: Vec<(&str, &Object)> = Vec::new();
    for desired in desired {
        let Desired::Served(served) = desired else {
            continue;
        };
        let namespace = served.topology.owner.namespace.as_str();
        for object in &served.plan.objects {
            let key = (object.kind, namespace.to_owned(), object.name.clone());
            if !seen.objects.children.contains_key(&key) {
                missing.push((namespace, object));
            }
        }
    }
    let looks = missing.iter().map(async |(namespace, object)| {
        let resource = object.kind.api_resource();
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
        let found = api.get_opt(&object.name).await;
        let found = found.map_err(|error| observe::Error::Request {
            what: format!("getting {} {namespace}/{}", object.kind, object.name),
            cause: observe::cause(&error),
        })?;
        Ok((object.kind, found))
    });
    for found in join_all(looks).await {
        let (kind, Some(object)) = found? else {
            continue;
        };
        let object = serde_json::to_value(object).map_err(|error| observe::Error::Request {
            what: format!("reading {kind}"),
            cause: error.to_string(),
        })?;
        seen.add(kind, object, true);
    }
    Ok(())
}
