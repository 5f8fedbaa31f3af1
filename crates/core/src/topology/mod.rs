//! What an exposure means in this cluster: which pods, which port, which names and which Gateways.

pub(crate) mod listeners;
mod served_name;

use std::collections::BTreeMap;
use std::sync::Arc;

use kthena_bridge_api::annotation;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::condition::Reason;
use kthena_bridge_api::gateway::Gateway;
use kthena_bridge_api::kthena::{
    LABEL_ENTRY, LABEL_MODEL_NAME, LABEL_ROLE, LABEL_SERVING, ModelBackend, ModelBooster,
};
use kube::core::ObjectMeta;

use crate::config::GatewayPattern;
use crate::exposure::{Exposure, GatewayRef};
use crate::names::Names;
use crate::observe::{Child, Cluster, Detail, Route};
use crate::provider::{GENERIC, Provider};

/// The port on which Kthena starts every engine up to v1.0.0.
const DEFAULT_PORT: u16 = 8000;

/// The object that is exposed, and that owns what is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid; empty only offline.
    pub uid: String,
}

impl Owner {
    /// The owner with this metadata.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }

    /// The names of its objects.
    pub fn names(&self) -> Names {
        Names::of(&self.name)
    }

    /// Its object of a kind of which it has one, where that exists and is its own.
    pub fn child(&self, kind: ChildKind, cluster: &impl Cluster) -> Option<Arc<Child>> {
        let names = self.names();
        let child = cluster.child(kind, &self.namespace, names.of_kind(kind))?;
        child.belongs_to(&self.uid, &names.model).then_some(child)
    }

    /// Its HTTPRoute as it competes for requests, where that exists and is its own.
    pub fn route(&self, cluster: &impl Cluster) -> Option<Arc<Route>> {
        let child = self.child(ChildKind::HTTPRoute, cluster)?;
        cluster.route(child.namespace(), child.name())
    }
}

/// What an exposure means in this cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// The object that is exposed.
    pub owner: Owner,
    /// The names of its objects.
    pub names: Names,
    /// The labels of its pods.
    pub selector: BTreeMap<String, String>,
    /// The port that its pods serve on.
    pub target_port: u16,
    /// The names under which the engine serves it, the first one preferred; empty when not known.
    pub served_names: Vec<String>,
    /// Where it is attached.
    pub gateways: Vec<AttachedGateway>,
    /// Whether it has been active with a ready endpoint, once.
    pub activated: bool,
}

/// A Gateway with its implementation.
#[derive(Clone, Debug, PartialEq)]
pub struct AttachedGateway {
    /// The Gateway or its listener.
    pub reference: GatewayRef,
    /// Its implementation.
    pub provider: &'static Provider,
    /// Why it is not known whether it takes the route.
    pub unknown: Option<String>,
}

/// Why an exposure cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotAccepted {
    /// The reason of `Accepted`.
    pub reason: Reason,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Topology {
    /// Finds what the exposure of `model` means.
    ///
    /// # Errors
    /// When its pods cannot be chosen by one selector, or its Gateways cannot be found.
    pub fn of(
        exposure: &Exposure,
        model: &ModelBooster,
        cluster: &impl Cluster,
    ) -> Result<Self, NotAccepted> {
        let owner = Owner::of(&model.metadata);
        let names = owner.names();
        let pool = owner.child(ChildKind::InferencePool, cluster);
        let route = owner.child(ChildKind::HTTPRoute, cluster);

        let backend = backend(model, exposure)?;
        let serving = serving_name(&owner.name, backend);
        let selector = match &exposure.pod_selector {
            Some(selector) => selector.clone(),
            None => selector(&owner, &serving, pool.as_deref(), cluster),
        };
        // While the pool keeps the pods of a renamed backend, their port and name are those to use.
        let serving = selector.get(LABEL_SERVING).unwrap_or(&serving);
        let target_port = target_port(exposure, &owner.namespace, serving, cluster);
        let role = selector.get(LABEL_ROLE).map_or("leader", String::as_str);
        let served_names = cluster
            .serving(&owner.namespace, serving)
            .map(|s| served_name::of_serving(&s, role))
            .unwrap_or_default();

        let gateways = gateways(exposure, &owner, route.as_deref(), cluster)?
            .into_iter()
            .map(|reference| {
                allow(&reference, &owner.namespace, exposure)?;
                attached(reference, &owner.namespace, exposure, cluster)
            })
            .collect::<Result<_, _>>()?;

        let activated = route.is_some()
            || pool.is_some_and(|p| p.activated)
            || (is_active(model)
                && cluster
                    .pods(&owner.namespace, &selector)
                    .iter()
                    .any(|p| p.ready));
        Ok(Self {
            owner,
            names,
            selector,
            target_port,
            served_names,
            gateways,
            activated,
        })
    }

    /// What the exposure means where there is no cluster: every Gateway is `provider`'s, the Model is
    /// active, and what Kthena would have created is derived as Kthena derives it.
    ///
    /// # Errors
    /// When its pods cannot be chosen by one selector.
    pub fn offline(
        exposure: &Exposure,
        model: &ModelBooster,
        cluster: &impl Cluster,
        provider: &'static Provider,
    ) -> Result<Self, NotAccepted> {
        let owner = Owner::of(&model.metadata);
        let backend = backend(model, exposure)?;
        let serving = serving_name(&owner.name, backend);
        let selector = exposure
            .pod_selector
            .clone()
            .unwrap_or_else(|| leader_pods(&serving));
        let role = selector.get(LABEL_ROLE).map_or("leader", String::as_str);
        Ok(Self {
            names: owner.names(),
            target_port: target_port(exposure, &owner.namespace, &serving, cluster),
            served_names: match cluster.serving(&owner.namespace, &serving) {
                Some(serving) => served_name::of_serving(&serving, role),
                None => backend.map(served_name::of_backend).unwrap_or_default(),
            },
            selector,
            gateways: exposure
                .gateways
                .iter()
                .map(|reference| AttachedGateway {
                    reference: reference.clone(),
                    provider,
                    unknown: None,
                })
                .collect(),
            activated: true,
            owner,
        })
    }

    /// Whether any Gateway needs an object of this kind.
    pub fn needs(&self, kind: ChildKind) -> bool {
        self.gateways
            .iter()
            .any(|g| g.provider.objects.contains(&kind))
    }

    /// Whether any Gateway asks an endpoint picker.
    pub fn asks_picker(&self) -> bool {
        self.gateways.iter().any(|g| g.provider.asks_picker)
    }
}

/// The port that is asked for, else that of the ModelServer, else Kthena's.
fn target_port(exposure: &Exposure, namespace: &str, serving: &str, cluster: &impl Cluster) -> u16 {
    let of_server = || {
        let server = cluster.server(namespace, serving)?;
        let port = u16::try_from(server.spec.workload_port.port).ok()?;
        (port > 0).then_some(port)
    };
    exposure
        .target_port
        .or_else(of_server)
        .unwrap_or(DEFAULT_PORT)
}

/// Whether Kthena says that the Model is active.
pub fn is_active(model: &ModelBooster) -> bool {
    let conditions = model.status.iter().flat_map(|s| &s.conditions);
    conditions
        .into_iter()
        .any(|c| c.type_ == "Active" && c.status == "True")
}

/// The one backend whose pods serve; nothing when a pod selector says which do.
fn backend<'a>(
    model: &'a ModelBooster,
    exposure: &Exposure,
) -> Result<Option<&'a ModelBackend>, NotAccepted> {
    let unsupported = |message: String| NotAccepted {
        reason: Reason::UnsupportedTopology,
        message,
    };
    let ways_out =
        "set kthena-bridge.io/pod-selector to the labels of the pods that should get requests";
    let backends: Vec<&ModelBackend> = model.spec.backends().collect();
    match backends.as_slice() {
        [one] if exposure.pod_selector.is_some() => Ok(Some(*one)),
        _ if exposure.pod_selector.is_some() => Ok(None),
        [one] if is_disaggregated(one) => Err(unsupported(format!(
            "spec.backend {:?} disaggregates prefill and decode, and a pool of both would send requests to \
             pods that cannot answer them; {ways_out}",
            one.name
        ))),
        [one] => Ok(Some(*one)),
        [] => Err(unsupported(format!(
            "spec.backend is missing, so there are no pods to send requests to; add it, or {ways_out}"
        ))),
        many => Err(unsupported(format!(
            "spec.backends has {} backends ({}), and one pool would mix their engines; {ways_out}",
            many.len(),
            many.iter()
                .map(|b| b.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

fn is_disaggregated(backend: &ModelBackend) -> bool {
    backend.r#type.ends_with("Disaggregated")
        || backend
            .workers
            .iter()
            .any(|w| matches!(w.r#type.as_str(), "prefill" | "decode"))
}

/// The name that Kthena gives a backend's ModelServing and ModelServer.
/// <https://github.com/volcano-sh/kthena/blob/v1.0.0/pkg/model-booster-controller/utils/template.go>
fn serving_name(model: &str, backend: Option<&ModelBackend>) -> String {
    match backend.map(|b| b.name.as_str()) {
        None | Some("") => model.to_owned(),
        Some(backend) => format!("{model}-{backend}"),
    }
}

/// The pods of a ModelServing that serve HTTP. The label of the Model alone would also select the
/// workers of a multi-node group, which are ready but serve nothing.
fn leader_pods(serving: &str) -> BTreeMap<String, String> {
    [
        (LABEL_SERVING, serving),
        (LABEL_ENTRY, "true"),
        (LABEL_ROLE, "leader"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into()
}

/// The pods of the Model's ModelServing; those of the one before while it has none that is ready. Kthena
/// deletes the one before at once, but its pods go on for a moment.
fn selector(
    owner: &Owner,
    serving: &str,
    pool: Option<&Child>,
    cluster: &impl Cluster,
) -> BTreeMap<String, String> {
    let wanted = leader_pods(serving);
    let Some(Detail::Pool {
        selector: current, ..
    }) = pool.map(|p| &p.detail)
    else {
        return wanted;
    };
    let any_ready = |labels: &BTreeMap<String, String>| {
        let pods = cluster.pods(&owner.namespace, labels);
        // Of this Model: an edited selector is no rename.
        let own = BTreeMap::from([(LABEL_MODEL_NAME.to_owned(), owner.name.clone())]);
        pods.iter().any(|pod| pod.ready && pod.has(&own))
    };
    let renamed = current
        .get(LABEL_SERVING)
        .is_some_and(|name| *current == leader_pods(name) && name != serving);
    if renamed && !any_ready(&wanted) && any_ready(current) {
        current.clone()
    } else {
        wanted
    }
}

fn gateways(
    exposure: &Exposure,
    owner: &Owner,
    route: Option<&Child>,
    cluster: &impl Cluster,
) -> Result<Vec<GatewayRef>, NotAccepted> {
    if !exposure.gateways.is_empty() {
        return Ok(exposure.gateways.clone());
    }
    // A second Gateway that appears must not move a route that is attached.
    if let Some(Detail::Route { parent_refs, .. }) = route.map(|r| &r.detail) {
        let attached: Vec<GatewayRef> = parent_refs
            .iter()
            .map(|p| GatewayRef {
                namespace: p.namespace_or(&owner.namespace).to_owned(),
                name: p.name.clone(),
                listener: p.section_name.clone(),
            })
            .filter(|g| {
                g.namespace == owner.namespace && cluster.gateway(&g.namespace, &g.name).is_some()
            })
            .collect();
        if !attached.is_empty() {
            return Ok(attached);
        }
    }
    let mut here = cluster.gateways_in(&owner.namespace);
    here.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    match here.as_slice() {
        [one] => Ok(vec![GatewayRef {
            namespace: owner.namespace.clone(),
            name: one.metadata.name.clone().unwrap_or_default(),
            listener: None,
        }]),
        some => Err(NotAccepted {
            reason: Reason::GatewayNotSpecified,
            message: format!(
                "no Gateway is named and namespace {} has {}; set kthena-bridge.io/gateway to \
                 [namespace/]name[:listener]",
                owner.namespace,
                match some {
                    [] => "none".to_owned(),
                    many => format!(
                        "{}: {}",
                        many.len(),
                        many.iter()
                            .filter_map(|g| g.metadata.name.as_deref())
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                }
            ),
        }),
    }
}

/// Checks that the operator lets Models of `namespace` onto a Gateway. Before it is looked at: nobody need
/// know which others there are.
fn allow(reference: &GatewayRef, namespace: &str, exposure: &Exposure) -> Result<(), NotAccepted> {
    let allowed = &exposure.allowed_gateways;
    let fits =
        |pattern: &GatewayPattern| pattern.fits(&reference.namespace, &reference.name, namespace);
    if allowed.is_empty() || allowed.iter().any(fits) {
        return Ok(());
    }
    let allowed: Vec<&str> = allowed.iter().map(GatewayPattern::as_str).collect();
    Err(NotAccepted {
        reason: Reason::GatewayNotAllowed,
        message: format!(
            "the operator's configuration does not allow Gateway {}/{}; allowedGateways has {}: set \
             kthena-bridge.io/gateway to one of them, or have this one added",
            reference.namespace,
            reference.name,
            allowed.join(", ")
        ),
    })
}

fn attached(
    reference: GatewayRef,
    namespace: &str,
    exposure: &Exposure,
    cluster: &impl Cluster,
) -> Result<AttachedGateway, NotAccepted> {
    let gateway = cluster.gateway(&reference.namespace, &reference.name);
    let provider = provider_of(
        &reference.namespace,
        &reference.name,
        gateway.as_deref(),
        cluster,
    );
    let refuse = |reason, message: &str| NotAccepted {
        reason,
        message: format!(
            "Gateway {}/{} {message}",
            reference.namespace, reference.name
        ),
    };
    let (unknown, provider) = match (&gateway, provider) {
        (None, None) if cluster.reads_cluster() => {
            return Err(refuse(
                Reason::GatewayNotFound,
                "does not exist; create it, or set kthena-bridge.io/gateway to one that does",
            ));
        }
        (None, None) => {
            return Err(refuse(
                Reason::GatewayNotFound,
                "does not exist in a namespace that the operator watches, and is not among gateways in the operator's \
                 configuration; create it, add it there, or set kthena-bridge.io/gateway to another",
            ));
        }
        (Some(_), None) => {
            return Err(refuse(
                Reason::Forbidden,
                "has a GatewayClass that the operator may not read; add the Gateway with its provider to gateways in \
                 the operator's configuration",
            ));
        }
        (None, Some(provider)) => (None, provider),
        (Some(gateway), Some(provider)) => {
            let hostnames = &exposure.hostnames;
            let unknown = listeners::admit(&reference, gateway, namespace, hostnames, cluster)?;
            (unknown, provider)
        }
    };
    if exposure.match_model && !provider.headers {
        return Err(NotAccepted {
            reason: Reason::InvalidAnnotation,
            message: format!(
                "annotation {}: \"true\" does not work on Gateway {}/{}, since {} does not match headers; \
                 remove it, and tell Models apart by kthena-bridge.io/path or kthena-bridge.io/hostnames",
                annotation::MATCH_MODEL,
                reference.namespace,
                reference.name,
                provider.name
            ),
        });
    }
    Ok(AttachedGateway {
        reference,
        provider,
        unknown,
    })
}

/// The implementation of a Gateway: what the operator's configuration says, else its GatewayClass. Nothing
/// when neither may be known.
pub(crate) fn provider_of(
    namespace: &str,
    name: &str,
    gateway: Option<&Gateway>,
    cluster: &impl Cluster,
) -> Option<&'static Provider> {
    let configured = cluster.configured_provider(namespace, name);
    configured.or_else(|| {
        let class = cluster.gateway_class(&gateway?.spec.gateway_class_name);
        match class {
            Some(class) => Some(Provider::of_controller(&class.spec.controller_name)),
            None => cluster.reads_cluster().then_some(&GENERIC),
        }
    })
}

#[cfg(test)]
mod tests;
