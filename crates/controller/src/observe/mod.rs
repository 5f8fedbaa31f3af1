//! What is known of the cluster: a cache per kind, filled by the watches, read by the decisions.

mod cache;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_api::kthena::{LABEL_SERVING, ModelServer, ModelServing};
use kthena_bridge_core::Config;
use kthena_bridge_core::observe::{
    Child, Cluster, EndpointSlice, Metadata, Pod, Route, RouteKey, reduced,
};
use kthena_bridge_core::provider::Provider;
use kube::core::ObjectMeta;

pub(crate) use cache::{Cache, Cached, Change, Identity, Scope};

/// A CRD, as far as it is looked at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Crd {
    /// Its metadata, reduced.
    pub metadata: ObjectMeta,
}

impl From<ObjectMeta> for Crd {
    fn from(metadata: ObjectMeta) -> Self {
        Self {
            metadata: reduced(metadata),
        }
    }
}

/// A namespace, as far as it is looked at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Namespace {
    /// Its metadata, reduced.
    pub(crate) metadata: ObjectMeta,
}

impl From<ObjectMeta> for Namespace {
    fn from(metadata: ObjectMeta) -> Self {
        Self {
            metadata: reduced(metadata),
        }
    }
}

/// The caches of all kinds.
#[derive(Debug)]
pub(crate) struct Caches {
    /// The namespaces that are watched, or everywhere.
    pub(crate) scopes: Vec<Scope>,
    /// The Gateways that the configuration names, by namespace and name.
    configured: HashMap<(String, String), &'static Provider>,
    /// ModelServings.
    pub servings: Cache<ModelServing>,
    /// ModelServers.
    pub servers: Cache<ModelServer>,
    /// Pods.
    pub pods: Cache<Pod>,
    /// Gateways.
    pub gateways: Cache<Gateway>,
    /// EndpointSlices. They are watched only where endpoint pickers of others are used.
    pub(crate) endpoint_slices: Cache<EndpointSlice>,
    /// Every HTTPRoute, ours or not.
    pub(crate) routes: Cache<Route>,
    /// The HTTPRoutes that Models have taken the requests for, written or not.
    pub(crate) claimed: Cache<Route>,
    /// Namespaces.
    pub(crate) namespaces: Cache<Namespace>,
    /// GatewayClasses.
    pub gateway_classes: Cache<GatewayClass>,
    /// What we wrote.
    children: HashMap<ChildKind, Cache<Child>>,
    /// The CRDs that are installed.
    pub crds: Cache<Crd>,
}

impl Caches {
    /// Empty caches of what the configuration has watched.
    pub(crate) fn new(config: &Config) -> Self {
        let everywhere = vec![Scope::new()];
        let scopes = match config.namespaces.as_slice() {
            [] => everywhere.clone(),
            namespaces => namespaces.iter().map(|n| n.as_str().to_owned()).collect(),
        };
        Self {
            configured: config.providers(),
            servings: Cache::of(&scopes),
            servers: Cache::of(&scopes),
            pods: Cache::of(&scopes),
            gateways: Cache::of(&scopes),
            gateway_classes: Cache::of(&everywhere),
            endpoint_slices: Cache::of(&scopes),
            routes: Cache::of(&scopes),
            claimed: Cache::of(&scopes),
            namespaces: Cache::of(&everywhere),
            children: ChildKind::ALL.map(|kind| (kind, Cache::of(&scopes))).into(),
            crds: Cache::of(&everywhere),
            scopes,
        }
    }

    /// Whether nothing may be read that belongs to no watched namespace.
    pub(crate) fn is_confined(&self) -> bool {
        self.scopes.iter().all(|scope| !scope.is_empty())
    }

    /// The cache of a kind that we write.
    pub(crate) fn children(&self, kind: ChildKind) -> &Cache<Child> {
        &self.children[&kind]
    }

    /// Whether the CRD of this name is installed.
    pub(crate) fn has_crd(&self, name: &str) -> bool {
        self.crds.get("", name).is_some()
    }
}

impl Cluster for Caches {
    fn serving(&self, namespace: &str, name: &str) -> Option<Arc<ModelServing>> {
        self.servings.get(namespace, name)
    }
    fn server(&self, namespace: &str, name: &str) -> Option<Arc<ModelServer>> {
        self.servers.get(namespace, name)
    }
    fn pods(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Arc<Pod>> {
        let candidates = match labels.get(LABEL_SERVING) {
            Some(serving) => self.pods.indexed(&serving_key(namespace, serving)),
            None => self.pods.indexed(namespace),
        };
        candidates
            .into_iter()
            .filter(|pod| pod.has(labels))
            .collect()
    }
    fn gateway(&self, namespace: &str, name: &str) -> Option<Arc<Gateway>> {
        self.gateways.get(namespace, name)
    }
    fn gateways_in(&self, namespace: &str) -> Vec<Arc<Gateway>> {
        self.gateways.indexed(namespace)
    }
    fn gateway_class(&self, name: &str) -> Option<Arc<GatewayClass>> {
        self.gateway_classes.get("", name)
    }
    fn namespace_labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.namespaces.get("", name)?.metadata.labels.clone()
    }
    fn routes(&self, key: &RouteKey) -> Vec<Arc<Route>> {
        let mut routes = self.routes.indexed(key.as_str());
        routes.extend(self.claimed.indexed(key.as_str()));
        routes
    }
    fn has_ready_endpoints(&self, namespace: &str, service: &str) -> Option<bool> {
        let slices = self
            .endpoint_slices
            .indexed(&service_key(namespace, service));
        self.endpoint_slices
            .is_synced()
            .then(|| slices.iter().any(|slice| slice.ready))
    }
    fn route(&self, namespace: &str, name: &str) -> Option<Arc<Route>> {
        self.routes.get(namespace, name)
    }
    fn child(&self, kind: ChildKind, namespace: &str, name: &str) -> Option<Arc<Child>> {
        self.children(kind).get(namespace, name)
    }
    fn children_of(&self, owner: &str) -> Vec<Arc<Child>> {
        ChildKind::ALL
            .into_iter()
            .flat_map(|kind| self.children(kind).indexed(owner))
            .collect()
    }
    fn reads_cluster(&self) -> bool {
        !self.is_confined()
    }
    fn configured_provider(&self, namespace: &str, gateway: &str) -> Option<&'static Provider> {
        let key = (namespace.to_owned(), gateway.to_owned());
        self.configured.get(&key).copied()
    }
    fn serves(&self, kind: ChildKind) -> bool {
        kind.crd().is_none() || self.children(kind).is_synced()
    }
}

/// Index key of the pods of a ModelServing. A slash cannot be in a namespace's name.
fn serving_key(namespace: &str, serving: &str) -> String {
    format!("{namespace}/{serving}")
}

/// Index key of the EndpointSlices of a Service.
fn service_key(namespace: &str, service: &str) -> String {
    format!("{namespace}/{service}")
}

fn referred(metadata: &ObjectMeta) -> impl Iterator<Item = (&str, &str)> {
    let owners = metadata.owner_references.iter().flatten();
    owners.map(|owner| (owner.kind.as_str(), owner.name.as_str()))
}

fn kept(metadata: &Metadata) -> impl Iterator<Item = (&str, &str)> {
    let owners = metadata.owners.iter();
    owners.map(|owner| (&*owner.kind, &*owner.name))
}

macro_rules! cached {
    ($kind:ty, $owners:path, $object:ident => $index:expr) => {
        impl Cached for $kind {
            fn identity(&self) -> Identity<'_> {
                (&self.metadata).into()
            }
            fn owners(&self) -> impl Iterator<Item = (&str, &str)> {
                $owners(&self.metadata)
            }
            fn index(&self) -> Vec<String> {
                let $object = self;
                $index
            }
            fn differs(&self, other: &Self) -> bool {
                let version = |o: &Self| {
                    let mut o = o.clone();
                    o.metadata.resource_version = None;
                    o
                };
                version(self) != version(other)
            }
        }
    };
}

cached!(ModelServing, referred, _o => Vec::new());
cached!(ModelServer, referred, _o => Vec::new());
cached!(EndpointSlice, referred, o => vec![service_key(o.metadata.namespace.as_deref().unwrap_or_default(), o.service())]);
cached!(Crd, referred, _o => Vec::new());
cached!(Namespace, referred, _o => Vec::new());
cached!(Route, kept, o => o.keys().iter().map(|key| key.as_str().to_owned()).collect());
cached!(GatewayClass, referred, _o => Vec::new());
cached!(Gateway, referred, o => o.metadata.namespace.iter().cloned().collect());
cached!(Child, kept, o => o.owners().iter().map(|owner| owner.uid.to_string()).collect());
cached!(Pod, kept, o => {
    let namespace = o.metadata.namespace.to_string();
    let by_serving = o.label(LABEL_SERVING).map(|serving| serving_key(&namespace, serving));
    by_serving.into_iter().chain([namespace]).collect()
});
