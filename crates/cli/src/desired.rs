//! What the operator wants now for what asks for an exposure, decided as it decides.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::observe::Objects;
use kthena_bridge_core::plan::Desired as Object;
use kthena_bridge_core::topology::NotAccepted;
use kthena_bridge_core::{Ask, Config, Exposure, Plan, Source, Topology, ask, claims, plan};
use kube::Client;
use kube::api::{Api, DynamicObject};

use crate::config;
use crate::observe::{self, Ours, Seen};

/// How many objects are looked for at the same time.
const AT_ONCE: usize = 32;

/// What the operator wants.
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

/// What is served, or will be.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) exposure: Exposure,
    pub(crate) topology: Topology,
    pub(crate) plan: Plan,
}

impl Desired {
    /// For what the cluster has, from what the operator sees.
    pub(crate) fn of(source: &Source, config: &Config, objects: &Objects) -> Self {
        let owner = source.owner();
        if let Some(why) = config::not_watched(config, &owner.namespace) {
            return Self::AsItIs(why);
        }
        let (exposure, target) = match Ask::of(source, config, objects) {
            Ask::Wait => {
                return Self::AsItIs(
                    "the operator waits: it is being deleted, or Kthena has not begun with it"
                        .to_owned(),
                );
            }
            Ask::Nothing => return Self::Nothing,
            Ask::Refused(refused) => return Self::refused(&refused),
            Ask::Invalid(invalid, _) => {
                return Self::Refused(format!("{}: {invalid}", owner.kind.invalid()));
            }
            Ask::Exposure(exposure, target) => (exposure, target),
        };
        let topology = match Topology::of(&exposure, &owner, &target, objects) {
            Ok(topology) => topology,
            Err(refused) => return Self::refused(&refused),
        };
        Self::with(*exposure, topology, config, objects)
    }

    /// What a plan says, unless somebody else has the requests.
    pub(crate) fn with(
        exposure: Exposure,
        topology: Topology,
        config: &Config,
        objects: &Objects,
    ) -> Self {
        let (wanted, live) = ask::route(&exposure, &topology, config, objects);
        if let Err(conflict) = claims::check(&wanted, live.as_deref(), objects, |_| false) {
            return Self::refused(&conflict.refusal(&topology.owner));
        }
        let plan = plan::build(&exposure, &topology, config, objects);
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

/// As if Kthena had begun with a Model, and it served.
pub(crate) fn assume_active(model: &mut ModelBooster) {
    let status = model.status.get_or_insert_default();
    if status.conditions.is_empty() {
        status.conditions.push(Condition {
            type_: "Active".to_owned(),
            status: "True".to_owned(),
            reason: "Assumed".to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        });
    }
}

/// Decides from what the operator sees, and decides again once objects were found that no list had: without
/// our label they are there all the same.
pub(crate) async fn decide<D: AsRef<[Desired]>>(
    client: &Client,
    config: &Config,
    seen: &mut Seen,
    decide: impl Fn(&Objects) -> D,
) -> Result<D, observe::Error> {
    let desired = decide(&seen.of_operator(config));
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
    Ok(decide(&seen.of_operator(config)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// What stands in the way, or the objects that are wanted.
    fn told(config: &str, model: &ModelBooster, seen: &Seen) -> Result<Plan, String> {
        let config = Config::parse(config).unwrap();
        match Desired::of(&model.clone().into(), &config, &seen.of_operator(&config)) {
            Desired::Served(served) => Ok(served.plan),
            Desired::AsItIs(why) | Desired::Refused(why) => Err(why),
            Desired::Nothing => Err("nothing".to_owned()),
        }
    }

    #[test]
    fn an_operator_of_some_namespaces_decides_by_what_it_sees() {
        let seen = fixture::seen();
        let model = fixture::model(&[("gateway", "a/g")]);
        let everywhere = told("", &model, &seen).unwrap();
        // Its GatewayClass belongs to no namespace.
        let unread = told("namespaces: [a]", &model, &seen).unwrap_err();
        assert!(unread.starts_with("Forbidden: Gateway a/g "), "{unread}");
        let named = "gateways: [{namespace: a, name: g, provider: istio}]";
        let named = told(&format!("{{namespaces: [a], {named}}}"), &model, &seen).unwrap();
        let kinds = |plan: &Plan| plan.objects.iter().map(|o| o.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&named), kinds(&everywhere));
        let elsewhere = told("namespaces: [b]", &model, &seen).unwrap_err();
        assert!(
            elsewhere.contains("does not watch namespace a"),
            "{elsewhere}"
        );
    }

    #[test]
    fn a_gateway_of_another_namespace_is_what_the_configuration_says() {
        let mut seen = fixture::seen();
        for gateway in &mut seen.objects.gateways {
            std::sync::Arc::make_mut(gateway).metadata.namespace = Some("infra".to_owned());
        }
        let model = fixture::model(&[("gateway", "infra/g")]);
        let unseen = told("namespaces: [a]", &model, &seen).unwrap_err();
        assert!(unseen.starts_with("GatewayNotFound: "), "{unseen}");
        let named = "gateways: [{namespace: infra, name: g, provider: istio}]";
        let named = told(&format!("{{namespaces: [a], {named}}}"), &model, &seen);
        assert!(named.is_ok(), "{named:?}");
    }
}
