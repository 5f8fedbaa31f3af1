//! The objects that should exist for an exposure, complete as they are sent.
//!
//! Every default that the API server would fill in is spelled out: a created object is recorded as ours
//! with its defaults, and what we own must be exactly what we want ([`crate::ownership`]).

mod config_map;
mod deployment;
mod destination_rule;
mod gcp_backend_policy;
mod health_check_policy;
mod http_route;
mod inference_model_rewrite;
mod inference_objective;
mod inference_pool;
mod network_policy;
mod role_binding;
mod service;
mod service_account;

use std::borrow::Cow;
use std::collections::BTreeMap;

use kthena_bridge_api::child::{
    ChildKind, LABEL_MANAGED_BY, LABEL_MODEL, LABEL_PICKER, MANAGED_BY,
};
use serde_json::{Value, json};

use crate::config::{Config, EndpointPickerConfig};
use crate::exposure::{ENDPOINT_PICKER_PORT, EndpointPicker, Exposure, PickerSettings};
use crate::observe::{Child, Cluster, Route};
use crate::ownership::{self, Digest};
use crate::topology::Topology;

/// Port of the endpoint picker's gRPC health service.
const HEALTH_PORT: u16 = 9003;
/// Port of the endpoint picker's metrics.
const METRICS_PORT: u16 = 9090;

/// What should exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The objects, in the order of their kinds.
    pub objects: Vec<Desired>,
    /// Kinds that are needed and not served.
    pub missing: Vec<ChildKind>,
    /// Kinds whose objects are neither written nor removed for now.
    pub kept: Vec<ChildKind>,
    /// Names that clients may send and nothing rewrites, since the endpoint picker is too old to.
    pub unserved: Vec<String>,
}

/// An object that should exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Its kind.
    pub kind: ChildKind,
    /// Its name; it is in its owner's namespace.
    pub name: String,
    /// The whole object.
    pub object: Value,
    /// Of the fields that are ours.
    pub digest: Digest,
}

impl Plan {
    /// Whether an object of the plan's owner stays; one that does not is removed.
    pub fn keeps(&self, child: &Child) -> bool {
        self.kept.contains(&child.kind)
            || self
                .objects
                .iter()
                .any(|o| o.kind == child.kind && o.name == child.name())
    }
}

impl Desired {
    fn new(kind: ChildKind, object: Value) -> Self {
        Self {
            kind,
            name: object["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            digest: ownership::desired(&object),
            object,
        }
    }
}

/// What every builder of a kind is given.
struct Input<'a> {
    exposure: &'a Exposure,
    topology: &'a Topology,
    config: &'a Config,
    /// The endpoint picker, where one is run.
    picker: Cow<'a, EndpointPickerConfig>,
}

impl<'a> Input<'a> {
    fn new(exposure: &'a Exposure, topology: &'a Topology, config: &'a Config) -> Self {
        let usual = &config.endpoint_picker;
        let picker = match &exposure.endpoint_picker {
            EndpointPicker::Managed(settings) if **settings != PickerSettings::default() => {
                Cow::Owned(usual.with(settings))
            }
            _ => Cow::Borrowed(usual),
        };
        Self {
            exposure,
            topology,
            config,
            picker,
        }
    }
}

/// Builds the objects that should exist. It cannot fail: what could was found out before.
pub fn build(
    exposure: &Exposure,
    topology: &Topology,
    config: &Config,
    cluster: &impl Cluster,
) -> Plan {
    let input = Input::new(exposure, topology, config);
    let mut plan = Plan::default();
    let asks_picker = topology.asks_picker();
    let runs_picker = asks_picker && matches!(exposure.endpoint_picker, EndpointPicker::Managed(_));
    let picker = &input.picker;
    let mut rewritten = input.rewritten();
    if runs_picker && !picker.rewrites_models() {
        plan.unserved = std::mem::take(&mut rewritten);
    }
    if runs_picker && picker.needs_objectives() && !cluster.serves(picker.flavour.objective()) {
        plan.missing.push(picker.flavour.objective());
    }
    // Without knowing what the engine serves, a rewrite that exists may still be right.
    if topology.served_names.is_empty() {
        plan.kept.push(picker.flavour.model_rewrite());
    }
    for kind in ChildKind::ALL {
        let wanted = match kind {
            ChildKind::ServiceAccount
            | ChildKind::RoleBinding
            | ChildKind::ConfigMap
            | ChildKind::Service
            | ChildKind::Deployment => runs_picker,
            ChildKind::NetworkPolicy => runs_picker && picker.network_policy.enabled,
            ChildKind::InferencePool => true,
            ChildKind::DestinationRule => runs_picker && topology.needs(kind),
            ChildKind::HealthCheckPolicy | ChildKind::GCPBackendPolicy => topology.needs(kind),
            ChildKind::InferenceObjective | ChildKind::LlmDInferenceObjective => {
                asks_picker && !exposure.objectives.is_empty() && kind == picker.flavour.objective()
            }
            ChildKind::InferenceModelRewrite | ChildKind::LlmDInferenceModelRewrite => {
                asks_picker && !rewritten.is_empty() && kind == picker.flavour.model_rewrite()
            }
            ChildKind::HTTPRoute => topology.activated,
        };
        if !wanted {
            continue;
        }
        if !cluster.serves(kind) {
            if !plan.missing.contains(&kind) {
                plan.missing.push(kind);
            }
            continue;
        }
        if kind == picker.flavour.objective() {
            let objectives = exposure.objectives.iter();
            let objects = objectives.map(|one| inference_objective::build(&input, one));
            plan.objects
                .extend(objects.map(|object| Desired::new(kind, object)));
            continue;
        }
        let object = match kind {
            ChildKind::ServiceAccount => service_account::build(&input),
            ChildKind::RoleBinding => role_binding::build(&input),
            ChildKind::ConfigMap => config_map::build(&input),
            ChildKind::Service => service::build(&input),
            ChildKind::NetworkPolicy => network_policy::build(&input),
            ChildKind::InferencePool => inference_pool::build(&input),
            ChildKind::Deployment => deployment::build(&input, cluster),
            ChildKind::DestinationRule => destination_rule::build(&input),
            ChildKind::HealthCheckPolicy => health_check_policy::build(&input),
            ChildKind::GCPBackendPolicy => gcp_backend_policy::build(&input),
            // Of the other flavour, which nothing wants.
            ChildKind::InferenceObjective | ChildKind::LlmDInferenceObjective => continue,
            ChildKind::InferenceModelRewrite | ChildKind::LlmDInferenceModelRewrite => {
                inference_model_rewrite::build(&input, &rewritten)
            }
            ChildKind::HTTPRoute => http_route::build(&input),
        };
        plan.objects.push(Desired::new(kind, object));
    }
    plan
}

/// The route that is to be, also while it is not written yet.
pub fn route(exposure: &Exposure, topology: &Topology, config: &Config) -> Route {
    let input = Input::new(exposure, topology, config);
    Route::reduce(&http_route::build(&input))
}

/// The names that clients may send.
pub fn model_names(exposure: &Exposure, topology: &Topology) -> Vec<String> {
    let mut names = match &exposure.model_names {
        Some(names) => names.clone(),
        None => std::iter::once(&topology.model)
            .chain(&topology.served_names)
            .cloned()
            .collect(),
    };
    names.sort();
    names.dedup();
    names
}

/// The labels of the pods of an endpoint picker.
pub fn picker_labels(picker: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(LABEL_PICKER.to_owned(), picker.to_owned())])
}

impl Input<'_> {
    /// `apiVersion`, `kind` and `metadata` of an object of this kind.
    fn head(&self, kind: ChildKind, name: &str) -> Value {
        let owner = &self.topology.owner;
        let mut head = json!({
            "apiVersion": kind.api_version(),
            "kind": kind.as_str(),
            "metadata": {
                "name": name,
                "namespace": owner.namespace,
                "labels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_MODEL: self.topology.names.model},
            },
        });
        if !owner.uid.is_empty() {
            head["metadata"]["ownerReferences"] = json!([{
                "apiVersion": owner.kind.api_version(),
                "kind": owner.kind.as_str(),
                "name": owner.name,
                "uid": owner.uid,
                "controller": true,
                // OpenShift asks for a right on the owner's finalizers otherwise.
                "blockOwnerDeletion": false,
            }]);
        }
        head
    }

    /// The Service of the endpoint picker, and its port.
    fn picker_service(&self) -> (&str, u16) {
        match &self.exposure.endpoint_picker {
            EndpointPicker::Managed(_) => (&self.topology.names.picker, ENDPOINT_PICKER_PORT),
            EndpointPicker::Service { name, port } => (name, *port),
        }
    }

    /// The names that clients may send and the engine does not serve; none while that is not known.
    fn rewritten(&self) -> Vec<String> {
        let served = &self.topology.served_names;
        if served.is_empty() {
            return Vec::new();
        }
        model_names(self.exposure, self.topology)
            .into_iter()
            .filter(|name| !served.contains(name))
            .collect()
    }

    /// A reference to the Model's pool from an object of the inference extension.
    fn pool_ref(&self) -> Value {
        json!({
            "group": ChildKind::InferencePool.group(),
            "kind": ChildKind::InferencePool.as_str(),
            "name": self.topology.names.model,
        })
    }
}

#[cfg(test)]
mod tests;
