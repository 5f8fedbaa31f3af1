//! Whether the request is valid, allowed and ours to serve.

use std::fmt::Write as _;

use kthena_bridge_api::condition::Reason;
use kthena_bridge_api::kthena::{ModelRoute, ModelServer};

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
    for lost in routes.iter().filter_map(|route| lost(route, &known)) {
        let _ = write!(
            message,
            "; {lost} here, since requests do not pass kthena-router"
        );
    }
    message
}

/// What a ModelRoute does not do where these names are served without it.
fn lost(route: &ModelRoute, known: &[String]) -> Option<String> {
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
    let name = route.metadata.name.as_deref().unwrap_or_default();
    (!lost.is_empty()).then(|| format!("ModelRoute {name} {}", lost.join(" and ")))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn of_a_model_route_what_is_lost_is_told() {
        let lost = |spec: Value| {
            let route = json!({
                "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute",
                "metadata": {"name": "chat"}, "spec": spec,
            });
            let route: ModelRoute = serde_json::from_value(route).unwrap();
            super::lost(&route, &["served".to_owned(), "adapter".to_owned()])
        };
        let known = json!({"modelName": "served", "loraAdapters": ["adapter"]});
        assert_eq!(lost(known), None);
        let limited = json!({"modelName": "served", "rateLimit": {"unit": "minute", "inputTokensPerUnit": 10}});
        assert_eq!(lost(limited).unwrap(), "ModelRoute chat limits no rates");
        let both = json!({"modelName": "x", "loraAdapters": ["adapter", "y"], "rateLimit": {"unit": "minute"}});
        assert_eq!(
            lost(both).unwrap(),
            "ModelRoute chat limits no rates and rewrites no x, y"
        );
    }
}
