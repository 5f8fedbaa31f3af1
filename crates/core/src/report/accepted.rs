//! Whether the request is valid, allowed and ours to serve.

use std::fmt::Write as _;

use kthena_bridge_api::condition::Reason;
use kthena_bridge_api::kthena::ModelServer;

use super::{Cause, Outcome, Verdict};
use crate::exposure::Exposure;
use crate::observe::Cluster;
use crate::owner::Owner;
use crate::plan;
use crate::target::Target;
use crate::topology::Topology;

pub(super) fn verdict(
    owner: &Owner,
    target: Option<&Target>,
    outcome: Outcome<'_>,
    cluster: &impl Cluster,
) -> Verdict {
    let (exposure, topology, plan, failures) = match outcome {
        Outcome::Invalid(invalid) => {
            return Verdict::new(
                owner.kind.invalid(),
                format!("{invalid}; nothing is changed until this is mended"),
            );
        }
        Outcome::NotAccepted(refused) => {
            return Verdict::new(refused.reason, refused.message.clone());
        }
        Outcome::Applied {
            exposure,
            topology,
            plan,
            failures,
        } => (exposure, topology, plan, failures),
    };
    if let Some(kind) = plan.missing.first() {
        let crd = kind.crd().unwrap_or_default();
        return Verdict::new(
            Reason::MissingKind,
            format!(
                "{kind} is needed and not installed; install the CRD {crd}, and it is picked up"
            ),
        );
    }
    if let Some(conflict) = failures.iter().find(|f| f.cause == Cause::NameConflict) {
        return Verdict::new(
            Reason::NameConflict,
            format!(
                "{} {}/{} exists and does not belong to this {}; it is left alone: remove or rename it",
                conflict.kind,
                owner.namespace,
                conflict.name,
                owner.kind.called()
            ),
        );
    }
    if let Some(forbidden) = failures.iter().find(|f| f.cause == Cause::Forbidden) {
        return Verdict::new(
            Reason::Forbidden,
            format!(
                "{} {}/{}: {}; grant the operator's role this right",
                forbidden.kind, topology.owner.namespace, forbidden.name, forbidden.message
            ),
        );
    }
    if let Some(unknown) = topology.gateways.iter().find_map(|g| g.unknown.as_ref()) {
        return Verdict::new(Reason::NotReadable, unknown.clone());
    }
    let mut message = served_at(exposure, topology);
    if !plan.unserved.is_empty() {
        let _ = write!(
            message,
            "; the endpoint picker rewrites no names before v1.3, so {} is not served",
            plan.unserved.join(", ")
        );
    }
    if let Some(Target::Server(server)) = target {
        message.push_str(&passed_by(server, exposure, topology, cluster));
    }
    Verdict::new(Reason::Accepted, message)
}

/// What ModelRoutes say of a ModelServer, which counts only for requests through kthena-router.
fn passed_by(
    server: &ModelServer,
    exposure: &Exposure,
    topology: &Topology,
    cluster: &impl Cluster,
) -> String {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let mut routes = cluster.model_routes(&topology.owner.namespace, name);
    routes.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let known = plan::model_names(exposure, topology);
    let mut message = String::new();
    for route in routes {
        let names = std::iter::once(&route.spec.model_name).chain(&route.spec.lora_adapters);
        let unknown = names.filter(|name| !name.is_empty() && !known.contains(name));
        let unknown: Vec<&str> = unknown.map(String::as_str).collect();
        let mut lost = Vec::new();
        if route.spec.rate_limit.is_some() {
            lost.push("limits no rates".to_owned());
        }
        if !unknown.is_empty() {
            lost.push(format!("rewrites no {}", unknown.join(", ")));
        }
        if !lost.is_empty() {
            let _ = write!(
                message,
                "; ModelRoute {} {} here, since requests do not pass kthena-router",
                route.metadata.name.as_deref().unwrap_or_default(),
                lost.join(" and ")
            );
        }
    }
    message
}

/// Where and how the Model is served.
fn served_at(exposure: &Exposure, topology: &Topology) -> String {
    let gateways: Vec<String> = topology
        .gateways
        .iter()
        .map(|g| g.reference.to_string())
        .collect();
    let hosts = if exposure.hostnames.is_empty() {
        "any host".to_owned()
    } else {
        exposure.hostnames.join(", ")
    };
    let mut message = format!(
        "Gateway {}, {hosts}, path {}",
        gateways.join(", "),
        exposure.path
    );
    if exposure.paused {
        message.push_str("; paused: objects stay as they are");
    }
    if !exposure.objectives.is_empty() && topology.asks_picker() {
        let names: Vec<&str> = exposure
            .objectives
            .iter()
            .map(|o| o.name.as_str())
            .collect();
        let _ = write!(
            message,
            "; the priority acts on requests with the header x-gateway-inference-objective: {}",
            names.join(" or ")
        );
    }
    for note in topology.gateways.iter().filter_map(|g| g.provider.note) {
        message.push_str("; ");
        message.push_str(note);
    }
    let unserved: Vec<&str> = match &exposure.model_names {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => vec![topology.model.as_str()],
    };
    let unserved: Vec<&str> = unserved
        .into_iter()
        .filter(|name| !topology.served_names.iter().any(|served| served == name))
        .collect();
    let no_picker = topology.gateways.iter().find(|g| !g.provider.asks_picker);
    if let Some(gateway) = no_picker
        && !unserved.is_empty()
        && !topology.served_names.is_empty()
    {
        let _ = write!(
            message,
            "; Gateway {}/{} rewrites no names, so it does not serve {}",
            gateway.reference.namespace,
            gateway.reference.name,
            unserved.join(", ")
        );
    }
    message
}
