//! Whether the request is valid, allowed and ours to serve.

use std::fmt::Write as _;

use kthena_bridge_api::condition::Reason;

use super::{Cause, Outcome, Verdict};
use crate::exposure::Exposure;
use crate::topology::Topology;

pub(super) fn verdict(outcome: Outcome<'_>) -> Verdict {
    let (exposure, topology, plan, failures) = match outcome {
        Outcome::Invalid(invalid) => {
            return Verdict::new(
                Reason::InvalidAnnotation,
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
                "{} {}/{} exists and does not belong to this Model; it is left alone: remove or rename it",
                conflict.kind, topology.owner.namespace, conflict.name
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
    Verdict::new(Reason::Accepted, served_at(exposure, topology))
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
    if exposure.priority.is_some() && topology.asks_picker() {
        message.push_str(
            "; the priority acts on requests with the header x-gateway-inference-objective: ",
        );
        message.push_str(&topology.names.model);
    }
    for note in topology.gateways.iter().filter_map(|g| g.provider.note) {
        message.push_str("; ");
        message.push_str(note);
    }
    let unserved: Vec<&str> = match &exposure.model_names {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => vec![topology.owner.name.as_str()],
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
