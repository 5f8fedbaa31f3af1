//! The cluster at one moment: the only input of the translation.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::Resource;

use crate::api::{DestinationRule, Gateway, GatewayClass, HttpRoute, InferencePool};

/// The controller whose Gateways are served.
pub const CONTROLLER: &str = "istio.io/gateway-controller";

/// Where an object is; cluster-scoped ones have an empty namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// metadata.namespace
    pub namespace: String,
    /// metadata.name
    pub name: String,
}

impl Key {
    /// The key of a namespaced object.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The key of this object.
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    /// The DNS name that a Service with this key has.
    pub fn host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// All objects of a kind, in a fixed order.
pub type Objects<K> = BTreeMap<Key, Arc<K>>;

/// Puts objects in their order.
pub fn objects<K: Resource>(all: impl IntoIterator<Item = Arc<K>>) -> Objects<K> {
    all.into_iter()
        .map(|object| (Key::of(object.as_ref()), object))
        .collect()
}

/// Everything that the gateway's configuration and the statuses depend on.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "a field per kind")]
pub struct Snapshot {
    pub gateway_classes: Objects<GatewayClass>,
    pub gateways: Objects<Gateway>,
    pub http_routes: Objects<HttpRoute>,
    pub inference_pools: Objects<InferencePool>,
    pub destination_rules: Objects<DestinationRule>,
    pub namespaces: Objects<Namespace>,
    pub services: Objects<Service>,
    pub endpoint_slices: Objects<EndpointSlice>,
    pub pods: Objects<Pod>,
    /// The address that each Gateway listens on.
    pub addresses: BTreeMap<Key, Ipv4Addr>,
    /// What a condition that changes gets as `lastTransitionTime`.
    pub now: Timestamp,
}

impl Snapshot {
    /// The Gateways of the classes that are served.
    pub fn served_gateways(&self) -> impl Iterator<Item = (&Key, &Gateway)> {
        self.gateways
            .iter()
            .filter(|(_, gateway)| self.serves(gateway))
            .map(|(key, gateway)| (key, gateway.as_ref()))
    }

    /// Whether the Gateway is of a class that is served.
    pub fn serves(&self, gateway: &Gateway) -> bool {
        let class = Key::new("", &gateway.spec.gateway_class_name);
        self.gateway_classes
            .get(&class)
            .is_some_and(|class| class.spec.controller_name == CONTROLLER)
    }
}
