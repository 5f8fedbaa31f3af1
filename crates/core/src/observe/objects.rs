//! A cluster made of objects at hand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_api::kthena::{ModelBooster, ModelRoute, ModelServer, ModelServing};
use kthena_bridge_api::model_exposure::ModelExposure;
use kube::core::ObjectMeta;

use crate::provider::Provider;
use crate::target::TargetKind;

use super::{Child, Cluster, EndpointSlice, Pod, Route, RouteKey};

/// A cluster made of objects at hand: what `render` sees, and tests.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// ModelBoosters.
    pub boosters: Vec<Arc<ModelBooster>>,
    /// ModelExposures.
    pub exposures: Vec<Arc<ModelExposure>>,
    /// ModelRoutes.
    pub model_routes: Vec<Arc<ModelRoute>>,
    /// ModelServings.
    pub servings: Vec<Arc<ModelServing>>,
    /// ModelServers.
    pub servers: Vec<Arc<ModelServer>>,
    /// Pods.
    pub pods: Vec<Arc<Pod>>,
    /// Gateways.
    pub gateways: Vec<Arc<Gateway>>,
    /// GatewayClasses.
    pub gateway_classes: Vec<Arc<GatewayClass>>,
    /// EndpointSlices; none: they are not looked at.
    pub endpoint_slices: Vec<EndpointSlice>,
    /// Labels of namespaces.
    pub namespaces: HashMap<String, BTreeMap<String, String>>,
    /// HTTPRoutes, ours or not.
    pub routes: Vec<Arc<Route>>,
    /// Objects that we manage.
    pub children: HashMap<(ChildKind, String, String), Arc<Child>>,
    /// Whether nothing may be read that belongs to no watched namespace.
    pub confined: bool,
    /// The Gateways that the operator's configuration names, by namespace and name.
    pub configured: HashMap<(String, String), &'static Provider>,
    /// Kinds that are not served.
    pub missing: Vec<ChildKind>,
}

fn is_called(metadata: &ObjectMeta, namespace: &str, name: &str) -> bool {
    metadata.name.as_deref() == Some(name)
        && metadata.namespace.as_deref().unwrap_or_default() == namespace
}

impl Cluster for Objects {
    fn booster(&self, namespace: &str, name: &str) -> Option<Arc<ModelBooster>> {
        self.boosters
            .iter()
            .find(|o| is_called(&o.metadata, namespace, name))
            .cloned()
    }
    fn exposures_of(
        &self,
        kind: TargetKind,
        namespace: &str,
        name: &str,
    ) -> Vec<Arc<ModelExposure>> {
        let of = |exposure: &&Arc<ModelExposure>| {
            let target = &exposure.spec.target_ref;
            exposure.metadata.namespace.as_deref().unwrap_or_default() == namespace
                && (target.kind.as_str(), target.name.as_str()) == (kind.as_str(), name)
        };
        self.exposures.iter().filter(of).cloned().collect()
    }
    fn serves_target(&self, _: TargetKind) -> bool {
        true
    }
    fn model_routes(&self, namespace: &str, server: &str) -> Vec<Arc<ModelRoute>> {
        let leads = |route: &&Arc<ModelRoute>| {
            route.metadata.namespace.as_deref().unwrap_or_default() == namespace
                && route.spec.servers().any(|name| name == server)
        };
        self.model_routes.iter().filter(leads).cloned().collect()
    }
    fn serving(&self, namespace: &str, name: &str) -> Option<Arc<ModelServing>> {
        self.servings
            .iter()
            .find(|o| is_called(&o.metadata, namespace, name))
            .cloned()
    }
    fn server(&self, namespace: &str, name: &str) -> Option<Arc<ModelServer>> {
        self.servers
            .iter()
            .find(|o| is_called(&o.metadata, namespace, name))
            .cloned()
    }
    fn pods(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Arc<Pod>> {
        let here = |p: &&Arc<Pod>| *p.metadata.namespace == *namespace && p.has(labels);
        self.pods.iter().filter(here).cloned().collect()
    }
    fn gateway(&self, namespace: &str, name: &str) -> Option<Arc<Gateway>> {
        self.gateways
            .iter()
            .find(|o| is_called(&o.metadata, namespace, name))
            .cloned()
    }
    fn gateways_in(&self, namespace: &str) -> Vec<Arc<Gateway>> {
        let here = |g: &&Arc<Gateway>| g.metadata.namespace.as_deref() == Some(namespace);
        self.gateways.iter().filter(here).cloned().collect()
    }
    fn gateway_class(&self, name: &str) -> Option<Arc<GatewayClass>> {
        self.gateway_classes
            .iter()
            .find(|o| is_called(&o.metadata, "", name))
            .cloned()
    }
    fn namespace_labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.namespaces.get(name).cloned()
    }
    fn routes(&self, key: &RouteKey) -> Vec<Arc<Route>> {
        self.routes
            .iter()
            .filter(|r| r.keys().contains(key))
            .cloned()
            .collect()
    }
    fn has_ready_endpoints(&self, namespace: &str, service: &str) -> Option<bool> {
        let of = |s: &&EndpointSlice| {
            s.metadata.namespace.as_deref() == Some(namespace) && s.service() == service
        };
        let ready = self.endpoint_slices.iter().filter(of).any(|s| s.ready);
        (!self.endpoint_slices.is_empty()).then_some(ready)
    }
    fn route(&self, namespace: &str, name: &str) -> Option<Arc<Route>> {
        self.routes
            .iter()
            .find(|route| (route.namespace(), route.name()) == (namespace, name))
            .cloned()
    }
    fn child(&self, kind: ChildKind, namespace: &str, name: &str) -> Option<Arc<Child>> {
        self.children
            .get(&(kind, namespace.to_owned(), name.to_owned()))
            .cloned()
    }
    fn children_of(&self, owner: &str) -> Vec<Arc<Child>> {
        let owned = |c: &&Arc<Child>| c.owners().iter().any(|o| *o.uid == *owner);
        self.children.values().filter(owned).cloned().collect()
    }
    fn reads_cluster(&self) -> bool {
        !self.confined
    }
    fn configured_provider(&self, namespace: &str, gateway: &str) -> Option<&'static Provider> {
        let key = (namespace.to_owned(), gateway.to_owned());
        self.configured.get(&key).copied()
    }
    fn serves(&self, kind: ChildKind) -> bool {
        !self.missing.contains(&kind)
    }
}
