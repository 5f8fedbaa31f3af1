//! What the operator wants for a Model now, decided as it decides.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::plan::Desired as Object;
use kthena_bridge_core::topology::NotAccepted;
use kthena_bridge_core::{Ask, Config, Exposure, Plan, Topology, ask, claims, plan};
use kube::Client;
use kube::api::{Api, DynamicObject};

use crate::observe::{self, Ours, Seen};

/// How many objects are looked for at the same time.
const AT_ONCE: usize = 32;

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

/// Decides, and decides again once objects were found that no list had: without our label they are there
/// all the same.
pub(crate) async fn decide<D: AsRef<[Desired]>>(
    client: &Client,
    seen: &mut Seen,
    decide: impl Fn(&Seen) -> D,
) -> Result<D, observe::Error> {
    let desired = decide(seen);
    let missing: Vec<(String, &Object)> = desired
        .as_ref()
        .iter()
        .filter_map(|desired| match desired {
            Desired::Served(served) => Some(served),
            _ => None,
        })
        .flat_map(|served| {
            let namespace = &served.topology.owner.namespace;
            let objects = served.plan.objects.iter();
            objects.map(move |object| (namespace.clone(), object))
        })
        .filter(|(namespace, object)| {
            let key = (object.kind, namespace.clone(), object.name.clone());
            !seen.objects.children.contains_key(&key) && !seen.unknown.contains(&object.kind)
        })
        .collect();
    let looks = missing
        .iter()
        .map(|(namespace, object)| look(client, namespace, object));
    let found: Vec<Option<Ours>> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
    let found: Vec<Ours> = found.into_iter().flatten().collect();
    if found.is_empty() {
        return Ok(desired);
    }
    for ours in found {
        seen.add(ours);
    }
    Ok(decide(seen))
}

async fn look(
    client: &Client,
    namespace: &str,
    object: &Object,
) -> Result<Option<Ours>, observe::Error> {
    let failed = |cause: String| observe::Error::Request {
        what: format!("getting {} {namespace}/{}", object.kind, object.name),
        cause,
    };
    let resource = object.kind.api_resource();
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let found = api.get_opt(&object.name).await;
    let Some(found) = found.map_err(|error| failed(observe::cause(&error)))? else {
        return Ok(None);
    };
    let found = serde_json::to_value(found).map_err(|error| failed(error.to_string()))?;
    Ok(Some(Ours::reduce(object.kind, found, true)))
}
