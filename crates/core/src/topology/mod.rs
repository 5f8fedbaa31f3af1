//! What an exposure means in this cluster: which pods, which port, which names and which Gateways.

pub(crate) mod listeners;

use std::collections::BTreeMap;
use std::sync::Arc;

use kthena_bridge_api::annotation;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::condition::Reason;
use kthena_bridge_api::gateway::Gateway;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::text::GatewayPattern;

use crate::exposure::{Exposure, GatewayRef};
use crate::names::Names;
use crate::observe::{Child, Cluster, Detail};
use crate::owner::{Owner, OwnerKind};
use crate::provider::{GENERIC, Provider};
use crate::target::{Engine, Target, Workload};

/// What an exposure means in this cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// What asks for it.
    pub owner: Owner,
    /// The names of its objects.
    pub names: Names,
    /// The name of the Model that is exposed.
    pub model: String,
    /// The labels of its pods.
    pub selector: BTreeMap<String, String>,
    /// The port that its pods serve on.
    pub target_port: u16,
    /// The names under which the engine serves it, the first one preferred; empty when not known.
    pub served_names: Vec<String>,
    /// What its pods run.
    pub engine: Engine,
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

impl NotAccepted {
    /// Whether what was written stays as it is until this is mended. What somebody else exposes, or is not there, has
    /// no objects.
    pub fn keeps_objects(&self) -> bool {
        !matches!(self.reason, Reason::AlreadyExposed | Reason::TargetNotFound)
    }
}

impl Topology {
    /// Finds what an exposure of `target` means.
    ///
    /// # Errors
    /// When its pods cannot be chosen by one selector, or its Gateways cannot be found.
    pub fn of(
        exposure: &Exposure,
        owner: &Owner,
        target: &Target,
        cluster: &impl Cluster,
    ) -> Result<Self, NotAccepted> {
        let pool = owner.child(ChildKind::InferencePool, cluster);
        let route = owner.child(ChildKind::HTTPRoute, cluster);
        let workload = target.workload(exposure, owner, pool.as_deref(), cluster)?;
        let gateways = gateways(exposure, owner, route.as_deref(), cluster)?
            .into_iter()
            .map(|reference| {
                allow(&reference, owner, exposure)?;
                attached(reference, owner, exposure, cluster)
            })
            .collect::<Result<_, _>>()?;
        let any_ready = || {
            let pods = cluster.pods(&owner.namespace, &workload.selector);
            pods.iter().any(|pod| pod.ready)
        };
        let activated = route.is_some()
            || pool.is_some_and(|pool| pool.activated)
            || (target.is_active() && any_ready());
        Ok(Self::with(owner, target, workload, gateways, activated))
    }

    /// Finds what an exposure of a Model by its own annotations means.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn of_model(
        exposure: &Exposure,
        model: &ModelBooster,
        cluster: &impl Cluster,
    ) -> Result<Self, NotAccepted> {
        let owner = Owner::of(OwnerKind::ModelBooster, &model.metadata);
        let target = Target::Booster(Arc::new(model.clone()));
        Self::of(exposure, &owner, &target, cluster)
    }

    /// What an exposure means where there is no cluster: every Gateway is `provider`'s, the Model is
    /// active, and what Kthena would have created is derived as Kthena derives it.
    ///
    /// # Errors
    /// When its pods cannot be chosen by one selector.
    pub fn offline(
        exposure: &Exposure,
        owner: &Owner,
        target: &Target,
        cluster: &impl Cluster,
        provider: &'static Provider,
    ) -> Result<Self, NotAccepted> {
        let mut workload = target.workload(exposure, owner, None, cluster)?;
        if workload.served_names.is_empty() {
            workload.served_names = target.names_to_be();
        }
        let gateways = exposure.gateways.iter().map(|reference| AttachedGateway {
            reference: reference.clone(),
            provider,
            unknown: None,
        });
        Ok(Self::with(
            owner,
            target,
            workload,
            gateways.collect(),
            true,
        ))
    }

    fn with(
        owner: &Owner,
        target: &Target,
        workload: Workload,
        gateways: Vec<AttachedGateway>,
        activated: bool,
    ) -> Self {
        Self {
            names: owner.names(),
            owner: owner.clone(),
            model: target.name(),
            selector: workload.selector,
            target_port: workload.port,
            served_names: workload.served_names,
            engine: workload.engine,
            gateways,
            activated,
        }
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
                "no Gateway is named and namespace {} has {}; set {}",
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
                },
                match owner.kind {
                    OwnerKind::ModelBooster =>
                        format!("{} to [namespace/]name[:listener]", annotation::GATEWAY),
                    OwnerKind::ModelExposure => owner.setting(annotation::GATEWAY),
                }
            ),
        }),
    }
}

/// Checks that the operator lets Models of the owner's namespace onto a Gateway. Before it is looked at: nobody
/// need know which others there are.
fn allow(reference: &GatewayRef, owner: &Owner, exposure: &Exposure) -> Result<(), NotAccepted> {
    let allowed = &exposure.allowed_gateways;
    let fits = |pattern: &GatewayPattern| {
        pattern.fits(&reference.namespace, &reference.name, &owner.namespace)
    };
    if allowed.is_empty() || allowed.iter().any(fits) {
        return Ok(());
    }
    let allowed: Vec<&str> = allowed.iter().map(GatewayPattern::as_str).collect();
    Err(NotAccepted {
        reason: Reason::GatewayNotAllowed,
        message: format!(
            "the operator's configuration does not allow Gateway {}/{}; allowedGateways has {}: set {} to \
             one of them, or have this one added",
            reference.namespace,
            reference.name,
            allowed.join(", "),
            owner.setting(annotation::GATEWAY)
        ),
    })
}

fn attached(
    reference: GatewayRef,
    owner: &Owner,
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
    let setting = owner.setting(annotation::GATEWAY);
    let refuse = |reason, message: String| NotAccepted {
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
                format!("does not exist; create it, or set {setting} to one that does"),
            ));
        }
        (None, None) => {
            return Err(refuse(
                Reason::GatewayNotFound,
                format!(
                    "does not exist in a namespace that the operator watches, and is not among gateways in the \
                     operator's configuration; create it, add it there, or set {setting} to another"
                ),
            ));
        }
        (Some(_), None) => {
            return Err(refuse(
                Reason::Forbidden,
                "has a GatewayClass that the operator may not read; add the Gateway with its provider to gateways in \
                 the operator's configuration"
                    .to_owned(),
            ));
        }
        (None, Some(provider)) => (None, provider),
        (Some(gateway), Some(provider)) => {
            let hostnames = &exposure.hostnames;
            let unknown = listeners::admit(&reference, gateway, owner, hostnames, cluster)?;
            (unknown, provider)
        }
    };
    if exposure.match_model && !provider.headers {
        return Err(NotAccepted {
            reason: owner.kind.invalid(),
            message: format!(
                "{} does not work on Gateway {}/{}, since {} does not match headers; remove it, and tell Models apart \
                 by {} or {}",
                match owner.kind {
                    OwnerKind::ModelBooster =>
                        format!("annotation {}: \"true\"", annotation::MATCH_MODEL),
                    OwnerKind::ModelExposure => owner.setting(annotation::MATCH_MODEL),
                },
                reference.namespace,
                reference.name,
                provider.name,
                owner.setting(annotation::PATH),
                owner.setting(annotation::HOSTNAMES)
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
