//! A watch for each kind, in a task of its own: one that fails does not hold up the others.

use std::{
    fmt::Debug,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::ApiResource,
    runtime::{
        WatchStreamExt as _,
        reflector::{Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, task::JoinSet, time::sleep};

use crate::{
    api::{
        DestinationRule, Gateway, GatewayClass, HttpRoute, InferencePool, Kind, destination_rules,
    },
    snapshot::{Objects, Snapshot, objects},
};

/// How soon a watch that failed is tried again: a definition that appears should be seen at once.
const RETRY: Duration = Duration::from_millis(500);

/// All watches. They end when this is dropped.
pub(crate) struct Watches {
    gateway_classes: Source<GatewayClass>,
    gateways: Source<Gateway>,
    http_routes: Source<HttpRoute>,
    inference_pools: Source<InferencePool>,
    destination_rules: Source<DestinationRule>,
    namespaces: Source<Namespace>,
    services: Source<Service>,
    endpoint_slices: Source<EndpointSlice>,
    pods: Source<Pod>,
    _tasks: JoinSet<()>,
}

impl Watches {
    /// Starts them. Every change is notified.
    pub(crate) fn start(client: &Client, changed: &Arc<Notify>) -> Self {
        let mut tasks = JoinSet::new();
        Self {
            gateway_classes: dynamic(client, &Kind::GatewayClass.resource(), changed, &mut tasks),
            gateways: dynamic(client, &Kind::Gateway.resource(), changed, &mut tasks),
            http_routes: dynamic(client, &Kind::HttpRoute.resource(), changed, &mut tasks),
            inference_pools: dynamic(client, &Kind::InferencePool.resource(), changed, &mut tasks),
            destination_rules: dynamic(client, &destination_rules(), changed, &mut tasks),
            namespaces: Source::start(Api::all(client.clone()), &(), changed, &mut tasks),
            services: Source::start(Api::all(client.clone()), &(), changed, &mut tasks),
            endpoint_slices: Source::start(Api::all(client.clone()), &(), changed, &mut tasks),
            pods: Source::start(Api::all(client.clone()), &(), changed, &mut tasks),
            _tasks: tasks,
        }
    }

    /// The cluster as it is known now; nothing before every kind is known or known not to be served, since
    /// what has not been listed yet would be reported as missing.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        Some(Snapshot {
            gateway_classes: self.gateway_classes.objects()?,
            gateways: self.gateways.objects()?,
            http_routes: self.http_routes.objects()?,
            inference_pools: self.inference_pools.objects()?,
            destination_rules: self.destination_rules.objects()?,
            namespaces: self.namespaces.objects()?,
            services: self.services.objects()?,
            endpoint_slices: self.endpoint_slices.objects()?,
            pods: self.pods.objects()?,
            ..Snapshot::default()
        })
    }
}

/// The objects of one kind.
struct Source<K>
where
    K: Resource + 'static,
    K::DynamicType: Eq + Hash,
{
    store: Store<K>,
    known: Arc<AtomicBool>,
}

fn dynamic<K>(
    client: &Client,
    resource: &ApiResource,
    changed: &Arc<Notify>,
    tasks: &mut JoinSet<()>,
) -> Source<K>
where
    K: Resource<DynamicType = ApiResource>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    Source::start(
        Api::all_with(client.clone(), resource),
        resource,
        changed,
        tasks,
    )
}

impl<K> Source<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Eq + Hash + Send + Sync + Unpin,
{
    fn start(
        api: Api<K>,
        resource: &K::DynamicType,
        changed: &Arc<Notify>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let writer = Writer::new(resource.clone());
        let source = Self {
            store: writer.as_reader(),
            known: Arc::default(),
        };
        tasks.spawn(keep(
            api,
            K::kind(resource).into_owned(),
            writer,
            Arc::clone(&source.known),
            Arc::clone(changed),
        ));
        source
    }

    fn objects(&self) -> Option<Objects<K>> {
        self.known
            .load(Ordering::Acquire)
            .then(|| objects(self.store.state()))
    }
}

async fn keep<K>(
    api: Api<K>,
    kind: String,
    mut writer: Writer<K>,
    known: Arc<AtomicBool>,
    changed: Arc<Notify>,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Clone + Eq + Hash,
{
    let mut failing = false;
    let events = watcher(api, watcher::Config::default())
        .modify(|object| object.managed_fields_mut().clear());
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                writer.apply_watcher_event(&event);
                failing &= !matches!(event, Event::InitDone);
                match event {
                    Event::InitDone => known.store(true, Ordering::Release),
                    // The objects of a list count only when all are there.
                    Event::Init | Event::InitApply(_) => continue,
                    Event::Apply(_) | Event::Delete(_) => {}
                }
                changed.notify_one();
            }
            Err(error) => {
                if is_not_served(&error) {
                    // Without its definition there are no objects of a kind, nor have there been since.
                    writer.apply_watcher_event(&Event::Init);
                    writer.apply_watcher_event(&Event::InitDone);
                    known.store(true, Ordering::Release);
                    if !failing {
                        tracing::info!(kind, "not served, waiting for its definition");
                        changed.notify_one();
                    }
                } else if !failing {
                    tracing::warn!(kind, %error, "watching failed, and is tried until it works");
                }
                failing = true;
                sleep(RETRY).await;
            }
        }
    }
}

fn is_not_served(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source)) =
        error
    else {
        return false;
    };
    matches!(source, kube::Error::Api(status) if status.code == 404)
}
