//! The raw floor: how fast the API server takes the same bodies from a client that does nothing else.
//!
//! The operator does not run meanwhile, since it would act on what is written; its watches are held open in its
//! place, and what they bring is thrown away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use kthena_bridge_api::FIELD_MANAGER;
use kthena_bridge_api::child::{ChildKind, LABEL_MANAGED_BY, MANAGED_BY};
use kthena_bridge_api::kthena::ModelBooster;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Api, Client, Resource as _};
use serde_json::{Value, json};
use testbed::{Error, Result, TestBed};
use tokio::task::JoinSet;

use super::By;
use super::cluster::{self, Model, Recorded, api};
use super::measure::number;
use super::stamp::Stamp;
use super::stand_in;

const LIMIT: Duration = Duration::from_mins(2);
const EVENTS: &str = "events.k8s.io";

/// What is written for one Model, by the operator and by those who report on it.
pub(crate) struct Bodies {
    of: Model,
    children: Vec<(ChildKind, Stamp)>,
    conditions: Vec<Value>,
    /// How often the conditions are written.
    statuses: usize,
    event: Option<Stamp>,
    /// How many Events are written.
    events: usize,
}

impl Bodies {
    /// As they are for this Model.
    pub(crate) async fn read(
        client: &Client,
        model: &Model,
        statuses: usize,
        events: usize,
    ) -> Result<Self> {
        let failed =
            |e: &dyn std::fmt::Display| Error::Other(format!("reading {}: {e}", model.key()));
        let value = |object: DynamicObject| serde_json::to_value(object).map_err(|e| failed(&e));
        let mut children = Vec::new();
        for kind in ChildKind::ALL {
            let api: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), &model.namespace, &kind.api_resource());
            let ours = ListParams::default().labels(&format!(
                "{LABEL_MANAGED_BY}={MANAGED_BY},kthena-bridge.io/model={}",
                model.name
            ));
            let found = match api.list(&ours).await {
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                found => found.map_err(|e| failed(&e))?,
            };
            for mut object in found.items {
                object.types = Some(kube::core::TypeMeta {
                    api_version: kind.api_version(),
                    kind: kind.as_str().to_owned(),
                });
                children.push((kind, Stamp::of(value(object)?)));
            }
        }
        let models: Api<ModelBooster> = Api::namespaced(client.clone(), &model.namespace);
        let status = models
            .get(&model.name)
            .await
            .map_err(|e| failed(&e))?
            .status;
        let conditions = status.unwrap_or_default().conditions;
        let ours = conditions
            .iter()
            .filter(|c| matches!(c.type_.as_str(), "Accepted" | "Programmed"));
        let told = api(client, &model.namespace, EVENTS, "Event");
        let told = told
            .list(&ListParams::default())
            .await
            .map_err(|e| failed(&e))?;
        let mut told = told
            .items
            .into_iter()
            .filter(|event| event.data["regarding"]["uid"] == model.uid.as_str());
        let event = told.next().map(|mut event| {
            event.types = Some(kube::core::TypeMeta {
                api_version: format!("{EVENTS}/v1"),
                kind: "Event".to_owned(),
            });
            event
        });
        Ok(Self {
            conditions: ours.map(|c| json!(c)).collect(),
            event: event.map(value).transpose()?.map(Stamp::of),
            of: model.clone(),
            children,
            statuses,
            events,
        })
    }

    /// How many writes a Model takes.
    pub(crate) fn writes(&self) -> usize {
        let reported = self.reported().count();
        let events = if self.event.is_some() { self.events } else { 0 };
        self.children.len() + reported + self.statuses + events
    }

    /// The kinds that somebody else writes the status of.
    fn reported(&self) -> impl Iterator<Item = ChildKind> {
        let kinds = self.children.iter().map(|(kind, _)| *kind);
        kinds.filter(|kind| stand_in::KINDS.contains(kind))
    }

    /// Writes all of it for another Model, one after the other.
    async fn write(&self, client: &Client, model: &Model) -> Result<()> {
        let names = [
            (self.of.uid.as_str(), model.uid.as_str()),
            (self.of.name.as_str(), model.name.as_str()),
            (self.of.namespace.as_str(), model.namespace.as_str()),
        ];
        for (kind, stamp) in &self.children {
            let path = DynamicObject::url_path(&kind.api_resource(), Some(&model.namespace));
            create(client, &path, stamp.text(&names).into_bytes()).await?;
        }
        for kind in self.reported() {
            let name = match kind {
                ChildKind::Deployment => format!("{}-epp", model.name),
                _ => model.name.clone(),
            };
            let path = DynamicObject::url_path(&kind.api_resource(), Some(&model.namespace));
            let status = Patch::Merge(stand_in::status(kind, &model.namespace, Some(1)));
            patch_status(client, &path, &name, &PatchParams::default(), &status).await?;
        }
        let path = ModelBooster::url_path(&(), Some(&model.namespace));
        let params = PatchParams::apply(FIELD_MANAGER).force();
        for n in 0..self.statuses {
            let mut conditions = self.conditions.clone();
            for condition in &mut conditions {
                // So that each changes something.
                condition["message"] = format!("{} {n}", condition["message"]).into();
            }
            let body = Patch::Apply(json!({
                "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelBooster",
                "metadata": {"name": model.name, "uid": model.uid},
                "status": {"conditions": conditions},
            }));
            patch_status(client, &path, &model.name, &params, &body).await?;
        }
        if let Some(event) = &self.event {
            let path = format!("/apis/{EVENTS}/v1/namespaces/{}/events", model.namespace);
            for n in 0..self.events {
                let mut event = event.value(&names)?;
                event["metadata"]["name"] = format!("{}.{n}", model.name).into();
                create(client, &path, event.to_string().into_bytes()).await?;
            }
        }
        Ok(())
    }
}

fn failed(what: &str, e: &dyn std::fmt::Display) -> Error {
    Error::Other(format!("the raw floor: {what}: {e}"))
}

async fn create(client: &Client, path: &str, body: Vec<u8>) -> Result<()> {
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let mut request = Request::new(path)
        .create(&params, body)
        .map_err(|e| failed(path, &e))?;
    // As the operator asks.
    if let Ok(strict) = format!("{}&fieldValidation=Strict", request.uri()).parse() {
        *request.uri_mut() = strict;
    }
    let answer = client.request_text(request).await;
    answer.map(drop).map_err(|e| failed(path, &e))
}

async fn patch_status(
    client: &Client,
    path: &str,
    name: &str,
    params: &PatchParams,
    patch: &Patch<Value>,
) -> Result<()> {
    let request = Request::new(path)
        .patch_subresource("status", name, params, patch)
        .map_err(|e| failed(name, &e))?;
    let answer = client.request_text(request).await;
    answer.map(drop).map_err(|e| failed(name, &e))
}

/// Writes per second at each of these concurrencies, in their order and then once more from the end: the API server
/// is not as fast at all times.
pub(crate) async fn rates(
    bed: &TestBed,
    recorded: &Recorded,
    bodies: &Arc<Bodies>,
    models: usize,
    concurrencies: &[usize],
) -> Result<Vec<(usize, f64)>> {
    let client = bed.client()?;
    let mut took = vec![Duration::ZERO; concurrencies.len()];
    let rounds = (0..concurrencies.len()).chain((0..concurrencies.len()).rev());
    for (round, at) in rounds.enumerate() {
        let namespaces = cluster::namespaces(bed, "floor", 1).await?;
        let Some(namespace) = namespaces.first() else {
            continue;
        };
        let names = (0..models).map(|n| format!("floor-{round:03}-{n:05}"));
        let made: Vec<Model> = stream::iter(names)
            .map(async |name| {
                recorded
                    .make(&client, namespace.name(), &name, (true, By::Annotations))
                    .await
            })
            .buffer_unordered(16)
            .try_collect()
            .await?;
        let began = Instant::now();
        // Tasks, so that no core waits for another.
        let written = stream::iter(made)
            .map(|model| {
                let (client, bodies) = (client.clone(), Arc::clone(bodies));
                tokio::spawn(async move { bodies.write(&client, &model).await })
            })
            .buffer_unordered(concurrencies[at])
            .map(|ended| ended.unwrap_or_else(|e| Err(failed("writing", &e))))
            .try_for_each(|()| future::ready(Ok(())));
        written.await?;
        took[at] += began.elapsed();
        clean(bed, &client, namespace.name(), bodies).await?;
    }
    let writes = number(2 * models * bodies.writes());
    let rates = concurrencies.iter().zip(took);
    Ok(rates
        .map(|(concurrency, took)| (*concurrency, writes / took.as_secs_f64()))
        .collect())
}

/// Removes what was written, so that the operator does not find it.
async fn clean(bed: &TestBed, client: &Client, namespace: &str, bodies: &Bodies) -> Result<()> {
    let all = ListParams::default();
    let kinds = bodies.children.iter().map(|(kind, _)| *kind);
    let mut apis: Vec<Api<DynamicObject>> = kinds
        .map(|kind| Api::namespaced_with(client.clone(), namespace, &kind.api_resource()))
        .collect();
    apis.push(api(
        client,
        namespace,
        "workload.serving.volcano.sh",
        "ModelBooster",
    ));
    let ours = ListParams::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));
    for (n, api) in apis.iter().enumerate() {
        let which = if n + 1 == apis.len() { &all } else { &ours };
        let params = DeleteParams::background();
        let deleted = api.delete_collection(&params, which).await.map(drop);
        deleted.map_err(|e| failed("removing it", &e))?;
        let gone = bed.wait_for("what the raw floor wrote is gone", LIMIT, async || {
            let left = api.list(&which.clone().limit(1)).await;
            let left = left.map_err(|e| e.to_string())?.items.len();
            if left == 0 {
                Ok(())
            } else {
                Err("some is left".to_owned())
            }
        });
        gone.await?;
    }
    Ok(())
}

/// What of a watch says where it begins, and when it ends.
const BEGINNING: [&str; 3] = ["resourceVersion", "sendInitialEvents", "timeout"];

/// The watches of these requests: one that was begun several times is one.
pub(crate) fn watches(requests: &[String]) -> BTreeSet<String> {
    let watch = |uri: &String| {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let kept: Vec<&str> = query
            .split('&')
            .filter(|part| !BEGINNING.iter().any(|begins| part.starts_with(begins)))
            .collect();
        format!("{path}?{}", kept.join("&"))
    };
    requests.iter().map(watch).collect()
}

/// Holds watches open and throws away what they bring, until it is dropped.
pub(crate) async fn drain(client: &Client, watches: &BTreeSet<String>) -> Result<JoinSet<()>> {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let now = namespaces.list(&ListParams::default().limit(1)).await;
    let now = now.map_err(|e| failed("listing namespaces", &e))?;
    let now = now.metadata.resource_version.unwrap_or_default();
    let mut tasks = JoinSet::new();
    for asked in watches {
        let path = asked.split('?').next().unwrap_or_default();
        let uri = format!("{asked}&resourceVersion={now}&timeoutSeconds=3600");
        let mut request = Request::new(path)
            .list(&ListParams::default())
            .map_err(|e| failed(path, &e))?;
        *request.uri_mut() = uri.parse().map_err(|e| failed(&uri, &e))?;
        let client = client.clone();
        tasks.spawn(async move {
            if let Ok(events) = client.request_stream(request).await {
                // It ends with the run.
                let _ = futures::io::copy(events, &mut futures::io::sink()).await;
            }
        });
    }
    Ok(tasks)
}
