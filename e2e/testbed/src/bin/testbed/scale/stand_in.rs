//! Who stands in for the gateway and for the deployment controller: endpoint pickers are ready, routes and
//! pools are accepted, as soon as they are there. It also notes when each was seen first, and which Models say
//! that they are served.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc::{self, UnboundedSender};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use kthena_bridge_api::child::{ChildKind, LABEL_MANAGED_BY, MANAGED_BY};
use kthena_bridge_api::kthena::ModelBooster;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use testbed::{Error, Result};
use tokio::task::JoinSet;

use super::cluster::GATEWAY;

/// What it writes the status of.
pub(crate) const KINDS: [ChildKind; 3] = [
    ChildKind::Deployment,
    ChildKind::InferencePool,
    ChildKind::HTTPRoute,
];
/// How many statuses are written at a time.
const WRITES: usize = 8;
/// How often it is looked whether something was seen. What is measured are the times that are noted.
const LOOK: Duration = Duration::from_millis(100);

/// A running stand-in. It ends when it is dropped.
pub(crate) struct StandIn {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    writes: AtomicBool,
    written: AtomicUsize,
    seen: Mutex<Seen>,
}

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Seen {
    /// When each object was there first, by kind, namespace and name.
    pub(crate) first: HashMap<(ChildKind, String), Instant>,
    /// The Models that say now that they are served, by namespace and name, and since when they were seen to.
    pub(crate) programmed: HashMap<String, Instant>,
    /// What went wrong last.
    pub(crate) problem: Option<String>,
}

impl Seen {
    /// How many objects of a kind were there whose Model is one of these, and when the last one came.
    pub(crate) fn objects(
        &self,
        kind: ChildKind,
        of: &HashSet<String>,
    ) -> (usize, Option<Instant>) {
        let fits = |name: &str| of.contains(name.strip_suffix("-epp").unwrap_or(name));
        let times = self
            .first
            .iter()
            .filter(|((k, n), _)| *k == kind && fits(n));
        times.fold((0, None), |(count, last), (_, time)| {
            (count + 1, last.max(Some(*time)))
        })
    }

    /// How many of these Models say that they are served, and when the last one began to.
    pub(crate) fn served(&self, of: &HashSet<String>) -> (usize, Option<Instant>) {
        let times = of.iter().filter_map(|name| self.programmed.get(name));
        times.fold((0, None), |(count, last), time| {
            (count + 1, last.max(Some(*time)))
        })
    }
}

impl StandIn {
    /// Starts it. Where it does not write, it looks on.
    pub(crate) fn start(client: &Client, writes: bool) -> Self {
        let shared = Arc::new(Shared::default());
        shared.writes.store(writes, Ordering::Release);
        let mut tasks = JoinSet::new();
        let (queue, waiting) = mpsc::unbounded();
        for kind in KINDS {
            tasks.spawn(follow(
                client.clone(),
                kind,
                Arc::clone(&shared),
                queue.clone(),
            ));
        }
        tasks.spawn(follow_models(client.clone(), Arc::clone(&shared)));
        let (client, to_write) = (client.clone(), Arc::clone(&shared));
        tasks.spawn(async move {
            waiting
                .for_each_concurrent(WRITES, |(kind, object)| {
                    write(&client, kind, object, &to_write)
                })
                .await;
        });
        Self {
            shared,
            _tasks: tasks,
        }
    }

    /// Whether it writes from now on.
    pub(crate) fn write(&self, writes: bool) {
        self.shared.writes.store(writes, Ordering::Release);
    }

    /// How many statuses it has written.
    pub(crate) fn written(&self) -> usize {
        self.shared.written.load(Ordering::Acquire)
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.lock()
    }

    /// Waits until `look` finds what it looks for; what it gives as an error is the state, for the time-out's
    /// message.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Seen) -> Result<T, String>,
    ) -> Result<T> {
        let began = Instant::now();
        loop {
            let state = match look(&self.seen()) {
                Ok(found) => return Ok(found),
                Err(state) => state,
            };
            if began.elapsed() >= limit {
                let problem = self.seen().problem.clone().unwrap_or_default();
                return Err(Error::Other(format!(
                    "not within {limit:?}: {what}; there is {state}; {problem}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.lock());
    }
}

fn key(object: &impl kube::ResourceExt) -> String {
    format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    )
}

async fn follow(
    client: Client,
    kind: ChildKind,
    shared: Arc<Shared>,
    queue: UnboundedSender<(ChildKind, DynamicObject)>,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &kind.api_resource());
    let ours = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));
    let mut events = watcher(api, ours).default_backoff().boxed();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                shared.saw(|seen| {
                    seen.first
                        .entry((kind, key(&object)))
                        .or_insert_with(Instant::now);
                });
                if shared.writes.load(Ordering::Acquire) && !is_written(kind, &object) {
                    // It fails when the stand-in is ending.
                    let _ = queue.unbounded_send((kind, object));
                }
            }
            Ok(Some(watcher::Event::Delete(object))) => {
                shared.saw(|seen| {
                    seen.first.remove(&(kind, key(&object)));
                });
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                shared.saw(|seen| seen.problem = Some(format!("watching {kind}: {error}")));
            }
        }
    }
}

async fn follow_models(client: Client, shared: Arc<Shared>) {
    let api: Api<ModelBooster> = Api::all(client);
    let mut events = watcher(api, watcher::Config::default())
        .default_backoff()
        .boxed();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Apply(model) | watcher::Event::InitApply(model))) => {
                let conditions = model.status.iter().flat_map(|status| &status.conditions);
                let is_served = conditions
                    .into_iter()
                    .any(|c| c.type_ == "Programmed" && c.status == "True");
                shared.saw(|seen| {
                    if is_served {
                        seen.programmed
                            .entry(key(&model))
                            .or_insert_with(Instant::now);
                    } else {
                        seen.programmed.remove(&key(&model));
                    }
                });
            }
            Ok(Some(watcher::Event::Delete(model))) => {
                shared.saw(|seen| {
                    seen.programmed.remove(&key(&model));
                });
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                shared.saw(|seen| seen.problem = Some(format!("watching Models: {error}")));
            }
        }
    }
}

/// Whether the status is that of the object as it is.
fn is_written(kind: ChildKind, object: &DynamicObject) -> bool {
    let generation = object.metadata.generation;
    let status = &object.data["status"];
    let observed = match kind {
        ChildKind::Deployment => &status["observedGeneration"],
        _ => &status["parents"][0]["conditions"][0]["observedGeneration"],
    };
    observed.as_i64() == generation
}

async fn write(client: &Client, kind: ChildKind, object: DynamicObject, shared: &Shared) {
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &namespace, &kind.api_resource());
    let status = Patch::Merge(status(kind, &namespace, object.metadata.generation));
    let patched = api
        .patch_status(&object.name_any(), &PatchParams::default(), &status)
        .await;
    shared.written.fetch_add(1, Ordering::AcqRel);
    match patched {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => {
            shared
                .saw(|seen| seen.problem = Some(format!("writing the status of {kind}: {error}")));
        }
        Ok(_) => {}
    }
}

/// The status of an object of this generation: that of a Deployment with a ready pod, and what Istio writes on
/// routes and pools.
pub(crate) fn status(kind: ChildKind, namespace: &str, generation: Option<i64>) -> Value {
    let now = Timestamp::now().to_string();
    let condition = |type_: &str, reason: &str, message: &str| {
        json!({"type": type_, "status": "True", "reason": reason, "message": message,
            "observedGeneration": generation, "lastTransitionTime": now})
    };
    let status = match kind {
        ChildKind::Deployment => json!({
            "observedGeneration": generation,
            "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
            "conditions": [
                {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable",
                    "message": "Deployment has minimum availability.",
                    "lastUpdateTime": now, "lastTransitionTime": now},
            ],
        }),
        ChildKind::InferencePool => json!({"parents": [{
            "parentRef": {"group": "networking.istio.io", "kind": "Gateway", "name": GATEWAY,
                "namespace": namespace},
            "conditions": [
                condition("Accepted", "Accepted", "Referenced by an HTTPRoute accepted by the parentRef Gateway"),
                condition("ResolvedRefs", "ResolvedRefs", "Referenced ExtensionRef resolved successfully"),
            ],
        }]}),
        _ => json!({"parents": [{
            "controllerName": "istio.io/gateway-controller",
            "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": GATEWAY},
            "conditions": [
                condition("Accepted", "Accepted", "Route was valid"),
                condition("ResolvedRefs", "ResolvedRefs", "All references resolved"),
            ],
        }]}),
    };
    json!({"status": status})
}
