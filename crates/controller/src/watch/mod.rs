//! What fills the caches: a watch per kind, each in a task with a backoff of its own.
//!
//! kube's `Controller` joins its watches in one stream with one backoff, so that a kind that is not
//! installed, or forbidden, would hold up all the others. Kinds of CRDs are watched while their CRD is
//! there: they may be installed, and removed, at any time.

mod events;
mod installed;
mod kind;
mod pulse;
mod raw;
mod reduce;
mod trigger;

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Pod as PodObject};
use k8s_openapi::api::discovery::v1::EndpointSlice as EndpointSliceObject;
use kthena_bridge_api::child::{ChildKind, LABEL_MANAGED_BY, MANAGED_BY};
use kthena_bridge_api::gateway::GatewayClass;
use kthena_bridge_api::kthena::LABEL_MODEL_NAME;
use kthena_bridge_core::observe::{Child, EndpointSlice, Pod, Route};
use kube::api::PartialObjectMeta;
use kube::core::{ApiResource, NamespaceResourceScope};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, ExponentialBackoff};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::object_ref::ObjectRef;
use crate::observe::{Cache, Cached, Change, Namespace, Scope};

use events::{begun_anew, events, map, split};
pub(crate) use kind::Kind;
use pulse::Pulses;
pub(crate) use pulse::Vital;
use raw::Raw;

/// All watches.
pub(crate) struct Watches {
    cx: Arc<Context>,
    client: Client,
    /// The kinds that are watched now.
    running: Mutex<HashMap<Kind, Watch>>,
    /// When each of them last showed that it lives.
    pulses: Pulses,
    /// Wakes those who wait for the caches.
    synced: tokio::sync::watch::Sender<()>,
}

/// A watch that runs.
struct Watch {
    task: JoinHandle<()>,
    /// Where its kind was not listed yet.
    unlisted: HashSet<Scope>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watches {
    pub(crate) fn new(cx: Arc<Context>, client: Client) -> Self {
        Self {
            cx,
            client,
            running: Mutex::default(),
            pulses: Pulses::default(),
            synced: tokio::sync::watch::Sender::new(()),
        }
    }

    /// Watches which CRDs there are, and the kinds that are served. Never ends.
    pub(crate) async fn run(self: Arc<Self>) {
        let crds = installed::follow(&self, |event| {
            self.cx.caches.crds.take("", event, |_| ());
            if self.cx.caches.crds.is_synced() {
                self.adjust();
            }
        });
        let endpoints = async {
            self.cx.until_endpoints_are_looked_at().await;
            self.adjust();
        };
        futures::join!(crds, endpoints);
    }

    /// Ends all watches.
    pub(crate) fn stop(&self) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Waits until every kind that is served was listed once.
    pub(crate) async fn wait_until_synced(&self) {
        let mut synced = self.synced.subscribe();
        while !self.waiting_for().is_empty() {
            // The sender is part of `self`.
            let _ = synced.changed().await;
        }
    }

    /// The kinds that are served and were not listed yet.
    pub(crate) fn waiting_for(&self) -> Vec<&'static str> {
        if !self.cx.caches.crds.is_synced() {
            return vec![installed::kind(self)];
        }
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting: Vec<_> = running
            .iter()
            .filter(|(_, w)| !w.unlisted.is_empty())
            .map(|(k, _)| k.as_str())
            .collect();
        waiting.sort_unstable();
        waiting
    }

    /// How every kind's watches are.
    pub(crate) fn vitals(&self) -> Vec<Vital> {
        let installed = (
            installed::kind(self),
            self.cx.caches.crds.is_synced(),
            false,
        );
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let watches = running.iter().map(|(kind, watch)| {
            let listed = watch.unlisted.is_empty();
            (kind.as_str(), listed, watch.task.is_finished())
        });
        let all = watches.chain([installed]);
        all.map(|(kind, listed, ended)| self.pulses.vital(kind, listed, ended))
            .collect()
    }

    /// The kinds whose CRDs are not installed.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        Kind::all()
            .filter(|kind| kind.crd().is_some() && self.may_be_read(*kind))
            .filter(|kind| !self.is_served(*kind))
            .map(Kind::as_str)
            .collect()
    }

    fn may_be_read(&self, kind: Kind) -> bool {
        !(kind.is_cluster_scoped() && self.cx.caches.is_confined())
    }

    fn is_served(&self, kind: Kind) -> bool {
        if kind == Kind::EndpointSlice {
            return self.cx.looks_at_endpoints();
        }
        if !self.may_be_read(kind) {
            return false;
        }
        // Nothing else looks at them.
        if kind == Kind::ModelRoute && !self.is_served(Kind::ModelExposure) {
            return false;
        }
        kind.crd().is_none_or(|crd| self.cx.caches.has_crd(&crd))
    }

    /// Starts the watches of kinds that came, and ends those of kinds that went.
    fn adjust(self: &Arc<Self>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut went = false;
        for kind in Kind::all() {
            match (self.is_served(kind), running.contains_key(&kind)) {
                (true, false) => {
                    tracing::info!(kind = kind.as_str(), "watching");
                    self.pulses.forget(kind.as_str());
                    let task = tokio::spawn(Arc::clone(self).watch(kind));
                    let unlisted = if kind.is_cluster_scoped() {
                        HashSet::from([Scope::new()])
                    } else {
                        self.cx.caches.scopes.iter().cloned().collect()
                    };
                    running.insert(kind, Watch { task, unlisted });
                }
                (false, true) => {
                    tracing::warn!(kind = kind.as_str(), "its CRD was removed");
                    running.remove(&kind);
                    self.pulses.forget(kind.as_str());
                    self.clear(kind);
                    went = true;
                }
                _ => {}
            }
        }
        drop(running);
        if went {
            self.look_at_all();
        }
        self.synced.send_replace(());
    }

    fn clear(&self, kind: Kind) {
        let caches = &self.cx.caches;
        match kind {
            Kind::ModelBooster => {
                // Each is looked at once more, and found to be gone.
                let gone = caches.sources();
                caches.models.clear();
                self.look_at(gone);
            }
            Kind::ModelExposure => {
                let gone = caches.sources();
                caches.exposures.clear();
                self.look_at(gone);
            }
            Kind::ModelRoute => caches.model_routes.clear(),
            Kind::ModelServing => caches.servings.clear(),
            Kind::ModelServer => caches.servers.clear(),
            Kind::Gateway => caches.gateways.clear(),
            Kind::GatewayClass => caches.gateway_classes.clear(),
            Kind::Namespace => caches.namespaces.clear(),
            Kind::Pod => caches.pods.clear(),
            Kind::EndpointSlice => caches.endpoint_slices.clear(),
            Kind::Child(ChildKind::HTTPRoute) => {
                caches.routes.clear();
                caches.children(ChildKind::HTTPRoute).clear();
            }
            Kind::Child(kind) => caches.children(kind).clear(),
        }
    }

    /// Watches a kind. Never ends.
    async fn watch(self: Arc<Self>, kind: Kind) {
        let cx = &self.cx;
        let (caches, interests) = (&cx.caches, &cx.interests);
        match kind {
            Kind::ModelBooster => {
                let models = &caches.models;
                let by_model = |c: &_| trigger::by_model(c, interests);
                self.cached(kind, self.apis(kind), "", models, reduce::model, by_model)
                    .await;
            }
            Kind::ModelExposure => {
                let by_exposure = |c: &_| trigger::by_exposure(c, caches, interests);
                let exposures = &caches.exposures;
                self.cached(
                    kind,
                    self.apis(kind),
                    "",
                    exposures,
                    reduce::model_exposure,
                    by_exposure,
                )
                .await;
            }
            Kind::ModelServing => {
                let by_serving = |c: &_| trigger::by_serving(c, interests);
                self.typed(kind, &caches.servings, by_serving).await;
            }
            Kind::ModelServer => {
                let by_server = |c: &_| trigger::by_server(c, interests);
                self.typed(kind, &caches.servers, by_server).await;
            }
            Kind::ModelRoute => {
                let by_route = |c: &_| trigger::by_model_route(c, interests);
                let routes = &caches.model_routes;
                // Kthena's own say nothing that somebody asked for.
                let labels = format!("!{LABEL_MODEL_NAME}");
                self.cached(
                    kind,
                    self.apis(kind),
                    &labels,
                    routes,
                    reduce::typed,
                    by_route,
                )
                .await;
            }
            Kind::Gateway => {
                self.typed(kind, &caches.gateways, |c| {
                    trigger::by_gateway(c, interests)
                })
                .await;
            }
            Kind::GatewayClass => {
                let by_class = |c: &_| trigger::by_gateway_class(c, &caches.gateways, interests);
                let apis = self.everywhere::<GatewayClass>(kind.as_str());
                self.cached(
                    kind,
                    apis,
                    "",
                    &caches.gateway_classes,
                    reduce::typed,
                    by_class,
                )
                .await;
            }
            Kind::Namespace => {
                let apis = self.everywhere::<PartialObjectMeta<NamespaceObject>>(kind.as_str());
                let models = |c: &_| trigger::by_namespace(c, interests);
                let reduce = |o: PartialObjectMeta<NamespaceObject>| Namespace::from(o.metadata);
                self.cached(kind, apis, "", &caches.namespaces, reduce, models)
                    .await;
            }
            Kind::Pod => {
                let models = |c: &_| trigger::by_pod(c, caches, interests);
                let reduce = |o: PodObject| Pod::from(o);
                self.cached(kind, self.apis(kind), "", &caches.pods, reduce, models)
                    .await;
            }
            Kind::EndpointSlice => {
                let models = |c: &_| trigger::by_endpoint_slice(c, interests);
                let reduce = |o: EndpointSliceObject| EndpointSlice::from(o);
                let slices = &caches.endpoint_slices;
                self.cached(kind, self.apis(kind), "", slices, reduce, models)
                    .await;
            }
            Kind::Child(ChildKind::HTTPRoute) => self.routes(kind).await,
            Kind::Child(child) => {
                let apis = self.dynamic(kind, &child.api_resource());
                let ours = format!("{LABEL_MANAGED_BY}={MANAGED_BY}");
                let reduce = |raw: Raw| Child::reduce(child, &raw.object);
                let owner = |c: &_| self.of_child(c);
                self.cached(kind, apis, &ours, caches.children(child), reduce, owner)
                    .await;
            }
        }
    }

    /// Every HTTPRoute, not only ours: they compete for requests.
    async fn routes(&self, kind: Kind) {
        let child = ChildKind::HTTPRoute;
        let apis = self.dynamic(kind, &child.api_resource());
        let caches = &self.cx.caches;
        let (children, routes) = (caches.children(child), &caches.routes);
        self.follow(kind.as_str(), apis, "", |scope, event| {
            let listed = matches!(event, Event::InitDone);
            if let Event::Apply(object) = &event
                && children.has(object.meta().into())
                && routes.has(object.meta().into())
            {
                return;
            }
            let (of_children, of_routes) = split(map(event, |raw: Raw| {
                let object = &raw.object;
                (Child::reduce(child, object), Route::reduce(object))
            }));
            let claims = &self.cx.claims;
            routes.take(scope, of_routes, |change| claims.changed(Some(change)));
            let mut models = Vec::new();
            let owners = |change: &_| models.extend(self.of_child(change));
            children.take(scope, of_children, owners);
            self.look_at(models);
            if listed {
                self.listed(kind, scope);
            }
        })
        .await;
    }

    /// The Models that own it. Where it is gone, it may have been in the way of what one of them is to have now.
    fn of_child(&self, change: &Change<Child>) -> Vec<ObjectRef> {
        let mut owners = trigger::by_owner(change);
        if change.new.is_none() {
            let mut waiting = Vec::new();
            for owner in &owners {
                self.cx.retries.release(owner);
                // Whoever has the pool of a Model exposes it.
                if change
                    .both()
                    .any(|child| child.kind == ChildKind::InferencePool)
                {
                    waiting.extend(trigger::rivals(owner, &self.cx.caches, &self.cx.interests));
                }
            }
            owners.extend(waiting);
        }
        owners
    }

    fn client(&self, kind: &'static str, scope: &str) -> Client {
        pulse::felt(&self.client, &self.pulses.of(kind, scope))
    }

    /// A client of a kind for all namespaces, or for none.
    fn everywhere<K>(&self, kind: &'static str) -> Vec<(Scope, Api<K>)>
    where
        K: Resource<DynamicType = ()>,
    {
        let scope = Scope::new();
        let api = Api::all(self.client(kind, &scope));
        vec![(scope, api)]
    }

    /// A client of a kind for each scope.
    fn apis<K>(&self, kind: Kind) -> Vec<(Scope, Api<K>)>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let of = |scope: &Scope| {
            let client = self.client(kind.as_str(), scope);
            match scope.as_str() {
                "" => Api::all(client),
                namespace => Api::namespaced(client, namespace),
            }
        };
        let scopes = self.cx.caches.scopes.iter();
        scopes.map(|scope| (scope.clone(), of(scope))).collect()
    }

    /// A client for each scope of a kind that is known only now.
    fn dynamic(&self, kind: Kind, resource: &ApiResource) -> Vec<(Scope, Api<Raw>)> {
        let of = |scope: &Scope| {
            let client = self.client(kind.as_str(), scope);
            match scope.as_str() {
                "" => Api::all_with(client, resource),
                namespace => Api::namespaced_with(client, namespace, resource),
            }
        };
        let scopes = self.cx.caches.scopes.iter();
        scopes.map(|scope| (scope.clone(), of(scope))).collect()
    }

    async fn typed<K>(
        &self,
        kind: Kind,
        cache: &Cache<K>,
        models: impl Fn(&Change<K>) -> Vec<ObjectRef>,
    ) where
        K: Cached
            + Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        self.cached(kind, self.apis(kind), "", cache, reduce::typed, models)
            .await;
    }

    /// Keeps a cache, and has the Models looked at that a change concerns.
    async fn cached<K, C: Cached>(
        &self,
        kind: Kind,
        apis: Vec<(Scope, Api<K>)>,
        labels: &str,
        cache: &Cache<C>,
        reduce: impl Fn(K) -> C,
        models: impl Fn(&Change<C>) -> Vec<ObjectRef>,
    ) where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        self.follow(kind.as_str(), apis, labels, |scope, event| {
            let listed = matches!(event, Event::InitDone);
            // The answer to a write of ours brought it before.
            if let Event::Apply(object) = &event
                && cache.has(object.meta().into())
            {
                return;
            }
            let mut concerned = Vec::new();
            let tell = |change: &_| concerned.extend(models(change));
            cache.take(scope, map(event, &reduce), tell);
            self.look_at(concerned);
            if listed {
                self.listed(kind, scope);
            }
        })
        .await;
    }

    /// Follows a watch per scope for ever, each with a backoff of its own.
    async fn follow<K>(
        &self,
        kind: &'static str,
        apis: Vec<(Scope, Api<K>)>,
        labels: &str,
        mut take: impl FnMut(&str, Event<K>),
    ) where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(8))
            .with_jitter()
            .without_max_times();
        let mut config = watcher::Config::default();
        if !labels.is_empty() {
            config = config.labels(labels);
        }
        let watches = apis.into_iter().map(|(scope, api)| {
            let events = begun_anew(events(api, config.clone()));
            let events = events.backoff(ExponentialBackoff::from(backoff));
            events.map(move |event| (scope.clone(), event)).boxed()
        });
        let mut events = stream::select_all(watches);
        while let Some((scope, event)) = events.next().await {
            match event {
                Ok(None) => {
                    self.cx.metrics.watch_failed(kind);
                    tracing::info!(
                        kind,
                        namespace = scope,
                        "a watch expired; it is listed anew"
                    );
                }
                Ok(Some(event)) => {
                    if matches!(event, Event::InitDone) {
                        self.cx.metrics.watch_listed(kind);
                    }
                    take(&scope, event);
                }
                Err(error) => {
                    self.pulses.of(kind, &scope).failed();
                    self.cx.metrics.watch_failed(kind);
                    tracing::warn!(kind, namespace = scope, %error, "a watch failed; it is tried again");
                }
            }
        }
    }

    /// Notes that a kind was listed. When it came late, there may be objects of it to write.
    fn listed(&self, kind: Kind, scope: &str) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = running.get_mut(&kind);
        let first = watch.is_some_and(|watch| watch.unlisted.remove(scope));
        drop(running);
        self.synced.send_replace(());
        if first && (kind.crd().is_some() || kind == Kind::EndpointSlice) {
            self.look_at_all();
        }
    }

    fn look_at(&self, models: Vec<ObjectRef>) {
        self.cx.queue.look_at_each(models);
    }

    /// Has every Model looked at.
    pub(crate) fn look_at_all(&self) {
        let all = self.cx.caches.sources();
        self.cx.queue.look_at_later(all);
    }
}
