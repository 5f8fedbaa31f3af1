//! What is looked at: the cluster as the decisions see it.

mod child;
mod endpoint_slice;
mod metadata;
mod objects;
mod pod;
mod route;

use std::collections::BTreeMap;
use std::sync::Arc;

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_api::kthena::{ModelBooster, ModelRoute, ModelServer, ModelServing};
use kthena_bridge_api::model_exposure::ModelExposure;
use kube::core::ObjectMeta;
use serde_json::Value;

use crate::provider::Provider;
use crate::target::TargetKind;

pub use child::{Child, Detail};
pub use endpoint_slice::EndpointSlice;
pub use metadata::{Metadata, Owner};
pub use objects::Objects;
pub use pod::Pod;
pub use route::{Match, PathMatch, Route, RouteKey};

/// What is known of the cluster. Reading never waits.
pub trait Cluster {
    /// The ModelBooster of this name.
    fn booster(&self, namespace: &str, name: &str) -> Option<Arc<ModelBooster>>;
    /// The ModelExposures that name this target.
    fn exposures_of(
        &self,
        kind: TargetKind,
        namespace: &str,
        name: &str,
    ) -> Vec<Arc<ModelExposure>>;
    /// Whether the API server serves a kind of Models.
    fn serves_target(&self, kind: TargetKind) -> bool;
    /// The ModelRoutes that lead to a ModelServer.
    fn model_routes(&self, namespace: &str, server: &str) -> Vec<Arc<ModelRoute>>;
    /// The ModelServing of this name.
    fn serving(&self, namespace: &str, name: &str) -> Option<Arc<ModelServing>>;
    /// The ModelServer of this name.
    fn server(&self, namespace: &str, name: &str) -> Option<Arc<ModelServer>>;
    /// The pods that carry all of these labels.
    fn pods(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Arc<Pod>>;
    /// The Gateway of this name.
    fn gateway(&self, namespace: &str, name: &str) -> Option<Arc<Gateway>>;
    /// Every Gateway of a namespace.
    fn gateways_in(&self, namespace: &str) -> Vec<Arc<Gateway>>;
    /// The GatewayClass of this name.
    fn gateway_class(&self, name: &str) -> Option<Arc<GatewayClass>>;
    /// The labels of a namespace.
    fn namespace_labels(&self, name: &str) -> Option<BTreeMap<String, String>>;
    /// The HTTPRoutes, ours or not, that have this Gateway, host, path and headers in one of their
    /// matches, and those that are about to be written.
    fn routes(&self, key: &RouteKey) -> Vec<Arc<Route>>;
    /// The HTTPRoute of this name.
    fn route(&self, namespace: &str, name: &str) -> Option<Arc<Route>>;
    /// Whether a Service has a ready endpoint; nothing while that is not known.
    fn has_ready_endpoints(&self, namespace: &str, service: &str) -> Option<bool>;
    /// An object that we manage.
    fn child(&self, kind: ChildKind, namespace: &str, name: &str) -> Option<Arc<Child>>;
    /// The objects that we manage for the owner with this uid.
    fn children_of(&self, owner: &str) -> Vec<Arc<Child>>;
    /// Whether what belongs to no namespace may be read, such as GatewayClasses and the labels of namespaces.
    fn reads_cluster(&self) -> bool;
    /// The implementation of a Gateway that the operator's configuration names. Such a Gateway is taken to
    /// be there where it may not be read.
    fn configured_provider(&self, namespace: &str, gateway: &str) -> Option<&'static Provider>;
    /// Whether the API server serves a kind.
    fn serves(&self, kind: ChildKind) -> bool;
}

/// Annotation of the inference extension's CRDs: the version they are of.
const BUNDLE_VERSION: &str = "inference.networking.k8s.io/bundle-version";

/// The version of the inference extension that a CRD with this metadata says it is of.
pub fn bundle_version(crd: &ObjectMeta) -> Option<String> {
    crd.annotations.as_ref()?.get(BUNDLE_VERSION).cloned()
}

/// Metadata without what nothing here reads, most of its size.
pub fn reduced(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        labels: metadata.labels,
        ..ObjectMeta::default()
    }
}

/// A part of an object; its default when it is missing or of another form.
fn get<T: serde::de::DeserializeOwned + Default>(object: &Value, pointer: &str) -> T {
    object
        .pointer(pointer)
        .and_then(|value| T::deserialize(value).ok())
        .unwrap_or_default()
}
