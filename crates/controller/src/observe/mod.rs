//! What is known of the cluster: a cache per kind, filled by the watches, read by the decisions.

mod cache;
mod packed;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_api::kthena::{
    LABEL_SERVING, ModelBooster, ModelRoute, ModelServer, ModelServing,
};
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::observe::{
    Child, Cluster, EndpointSlice, Metadata, Pod, Route, RouteKey, reduced,
};
use kthena_bridge_core::provider::Provider;
use kthena_bridge_core::{Config, OwnerKind, Source, TargetKind};
use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::object_ref::ObjectRef;

pub(crate) use cache::{Cache, Cached, Change, Identity, Scope};

/// A CRD, as far as it is looked at.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
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
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
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
    /// The Models.
    pub(crate) models: Cache<ModelBooster>,
    /// ModelExposures.
    pub(crate) exposures: Cache<ModelExposure>,
    /// ModelRoutes that somebody wrote.
    pub(crate) model_routes: Cache<ModelRoute>,
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
            models: Cache::of(&scopes),
            exposures: Cache::of(&scopes),
            model_routes: Cache::of(&scopes),
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

    /// All that may ask for an exposure.
    pub(crate) fn sources(&self) -> Vec<ObjectRef> {
        let of = |kind| move |name| ObjectRef::new(kind, name);
        let models = self.models.names().into_iter();
        let exposures = self.exposures.names().into_iter();
        models
            .map(of(OwnerKind::ModelBooster))
            .chain(exposures.map(of(OwnerKind::ModelExposure)))
            .collect()
    }

    /// What may ask for an exposure, by its name.
    pub(crate) fn source(&self, object: &ObjectRef) -> Option<Source> {
        let name = object.full_name();
        match object.kind() {
            OwnerKind::ModelBooster => self.models.named(name).map(Source::Model),
            OwnerKind::ModelExposure => self.exposures.named(name).map(Source::Object),
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
    fn booster(&self, namespace: &str, name: &str) -> Option<Arc<ModelBooster>> {
        self.models.get(namespace, name)
    }
    fn exposures_of(
        &self,
        kind: TargetKind,
        namespace: &str,
        name: &str,
    ) -> Vec<Arc<ModelExposure>> {
        self.exposures
            .indexed(&target_key(kind.as_str(), namespace, name))
    }
    fn serves_target(&self, kind: TargetKind) -> bool {
        match kind {
            TargetKind::ModelBooster => self.models.is_synced(),
            TargetKind::ModelServer => self.servers.is_synced(),
        }
    }
    fn model_routes(&self, namespace: &str, server: &str) -> Vec<Arc<ModelRoute>> {
        self.model_routes.indexed(&server_key(namespace, server))
    }
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

/// Index key of the ModelExposures of a target.
fn target_key(kind: &str, namespace: &str, name: &str) -> String {
    format!("{kind}/{namespace}/{name}")
}

/// Index key of the ModelRoutes to a ModelServer.
fn server_key(namespace: &str, server: &str) -> String {
    format!("{namespace}/{server}")
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
    (shared $kind:ty, $owners:path, $object:ident => $index:expr) => {
        cached!(@ true, $kind, $owners, $object => $index);
    };
    ($kind:ty, $owners:path, $object:ident => $index:expr) => {
        cached!(@ false, $kind, $owners, $object => $index);
    };
    (@ $shared:literal, $kind:ty, $owners:path, $object:ident => $index:expr) => {
        impl Cached for $kind {
            const SHARED: bool = $shared;

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
cached!(shared Crd, referred, _o => Vec::new());
cached!(shared Namespace, referred, _o => Vec::new());
cached!(Route, kept, o => o.keys().iter().map(|key| key.as_str().to_owned()).collect());
cached!(shared GatewayClass, referred, _o => Vec::new());
cached!(shared Gateway, referred, o => o.metadata.namespace.iter().cloned().collect());
cached!(Child, kept, o => o.owners().iter().map(|owner| owner.uid.to_string()).collect());
cached!(Pod, kept, o => {
    let namespace = o.metadata.namespace.to_string();
    let by_serving = o.label(LABEL_SERVING).map(|serving| serving_key(&namespace, serving));
    by_serving.into_iter().chain([namespace]).collect()
});

cached!(ModelRoute, referred, o => {
    let namespace = o.metadata.namespace.as_deref().unwrap_or_default();
    o.spec.servers().map(|server| server_key(namespace, server)).collect()
});

/// Of these, a write of ours is waited for by its version.
macro_rules! cached_by_version {
    ($kind:ty, $object:ident => $index:expr) => {
        impl Cached for $kind {
            fn identity(&self) -> Identity<'_> {
                (&self.metadata).into()
            }
            fn owners(&self) -> impl Iterator<Item = (&str, &str)> {
                referred(&self.metadata)
            }
            fn index(&self) -> Vec<String> {
                let $object = self;
                $index
            }
            fn differs(&self, other: &Self) -> bool {
                self.metadata.resource_version != other.metadata.resource_version
            }
        }
    };
}

cached_by_version!(ModelBooster, _o => Vec::new());
cached_by_version!(ModelExposure, o => {
    let namespace = o.metadata.namespace.as_deref().unwrap_or_default();
    let target = &o.spec.target_ref;
    vec![target_key(&target.kind, namespace, &target.name)]
});

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod as WholePod;
    use serde_json::{Value, json};

    use super::packed::{Packed, Samples};
    use super::*;

    fn is_compressed<K: Cached>(object: K) -> bool {
        let packed = Samples::default().pack(&Arc::new(object));
        matches!(packed, Packed::Compressed(_))
    }

    fn typed<K: serde::de::DeserializeOwned>(object: &Value) -> K {
        serde_json::from_value(object.clone()).unwrap()
    }

    /// Otherwise they take many times the memory.
    #[test]
    fn no_kind_of_which_there_are_many_has_to_be_kept_whole() {
        let condition = json!({"type": "Accepted", "status": "True", "reason": "Accepted", "message": "ok",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let parents = json!([{"parentRef": {"name": "gateway", "kind": "Gateway"}, "conditions": [condition]}]);
        let mut object = json!({
            "apiVersion": "any/v1", "kind": "Any",
            "metadata": {
                "name": "demo", "namespace": "default", "uid": "1", "resourceVersion": "7", "generation": 1,
                "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "demo"},
                "ownerReferences": [{"apiVersion": "any/v1", "kind": "ModelBooster", "name": "demo", "uid": "2"}],
                "managedFields": [{"manager": "kthena-bridge", "operation": "Apply", "fieldsV1": {"f:spec": {}},
                    "time": "2026-01-01T00:00:01Z"}],
            },
            "spec": {
                "backend": {"name": "b", "type": "vLLM", "workers": [{"type": "server", "config": {"max-model-len": 1}}]},
                "template": {"roles": [{"name": "leader", "entryTemplate": {"spec": {"containers": [
                    {"name": "engine", "image": "i", "args": ["--port", "8000"]}]}}}]},
                "workloadSelector": {"matchLabels": {"app": "demo"}}, "workloadPort": {"port": 8000},
                "containers": [{"name": "engine", "ports": [{"containerPort": 8000}]}],
                "parentRefs": [{"name": "gateway"}], "hostnames": ["demo.example.com"],
                "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"},
                    "headers": [{"name": "x-model", "value": "demo"}]}]}],
                "selector": {"matchLabels": {"app": "demo"}}, "targetPorts": [{"number": 8000}],
                "endpointPickerRef": {"name": "picker", "failureMode": "FailOpen"},
            },
            "status": {"conditions": [condition], "parents": parents, "readyReplicas": 1},
        });
        assert!(is_compressed::<ModelBooster>(typed(&object)));
        let mut exposure = object.clone();
        exposure["spec"] = json!({"targetRef": {"kind": "ModelBooster", "name": "demo"}, "selector": {"matchLabels": {"a": "b"}},
            "gateways": [{"name": "gateway"}], "objectives": [{"name": "high", "priority": 1}], "path": "/demo",
            "endpointPicker": {"managed": {"replicas": 2, "resources": {"requests": {"cpu": 1, "memory": "1Gi"}},
                "pluginsConfig": {"plugins": [{"type": "queue-scorer"}]}}}});
        exposure["status"] = json!({"conditions": [condition], "urls": ["http://10.0.0.1/v1"],
            "endpoints": {"ready": 1, "total": 2}, "objects": [{"group": "", "kind": "Service", "name": "demo"}]});
        assert!(is_compressed::<ModelExposure>(typed(&exposure)));
        assert!(is_compressed::<ModelServing>(typed(&object)));
        assert!(is_compressed::<ModelServer>(typed(&object)));
        assert!(is_compressed(Route::reduce(&object)));
        for kind in ChildKind::ALL {
            assert!(is_compressed(Child::reduce(kind, &object)), "{kind}");
        }
        object["apiVersion"] = "v1".into();
        object["kind"] = "Pod".into();
        assert!(is_compressed(Pod::from(typed::<WholePod>(&object))));
        let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}],
            "metadata": {"name": "demo", "labels": {"kubernetes.io/service-name": "demo"}}});
        assert!(is_compressed(EndpointSlice::from(typed::<
            k8s_openapi::api::discovery::v1::EndpointSlice,
        >(&slice))));
    }
}
