//! A namespace with a Model, an operator of its own behind a proxy, and things that are nobody's business.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use fault_proxy::{Action, Fault, Seen, Verb};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use kthena_bridge_api::child::ChildKind;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt as _};
use serde_json::Value;
use testbed::{Error, Namespace, Result, TestBed};

use super::life::Step;
use super::operator::Operator;
use super::plan::Plan;
use super::state::{State, capture};

/// The Model of every plan.
pub(crate) const MODEL: &str = "demo";
/// The Gateway that it is exposed on.
pub(crate) const GATEWAY: &str = "inference-gateway";
/// What carries our labels, and is not ours.
pub(crate) const SPOOFED: &str = "spoofed";
/// Between two looks at the requests.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a Model may take to be active.
const ACTIVE: Duration = Duration::from_mins(1);

const FOREIGN: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: foreign}
data: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: spoofed
  labels: {app.kubernetes.io/managed-by: kthena-bridge, kthena-bridge.io/model: demo}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: demo}
---
apiVersion: v1
kind: Service
metadata: {name: foreign}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: foreign}
spec:
  hostnames: [foreign.example.com]
  rules: [{backendRefs: [{name: foreign, port: 80}]}]
";

/// A namespace with a Model, an operator of its own behind a proxy, and things that are nobody's business.
pub(crate) struct Case<'a> {
    pub(crate) bed: &'a TestBed,
    pub(crate) namespace: Namespace<'a>,
    pub(crate) operator: Operator,
    /// The Models, of which the first is [`MODEL`].
    pub(crate) models: Vec<String>,
    /// The resources that the operator watches when it has begun.
    pub(crate) watched: BTreeSet<String>,
    /// The versions of what is nobody's business.
    foreign: Vec<(String, String)>,
}

/// Where a step begins.
pub(crate) struct Since {
    from: usize,
    at: Instant,
}

/// How long nothing is sent when it is over, and how long that may take to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) quiet: Duration,
    pub(crate) limit: Duration,
}

/// What came of a step.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) state: State,
    /// How often each object was written, by verb and object.
    pub(crate) writes: BTreeMap<String, u32>,
    /// How many different things each status said.
    pub(crate) said: BTreeMap<String, u32>,
    /// How many requests to write there were.
    pub(crate) requests: u32,
    /// How often a fault happened; one of a watch counts when its watch had something to pass on, or ended.
    pub(crate) fired: u32,
    /// From the first fault, else from the beginning, until the last write.
    pub(crate) took: Duration,
}

impl<'a> Case<'a> {
    /// Makes the namespace and the Model, which is not annotated, and starts the operator.
    pub(crate) async fn start(bed: &'a TestBed, binary: &Path) -> Result<Self> {
        let namespace = bed.namespace("faults").await?;
        namespace.gateway(GATEWAY).await?;
        namespace.apply(FOREIGN).await?;
        make_active(bed, &namespace, MODEL).await?;
        let operator = Operator::start(bed, binary, namespace.name(), GATEWAY).await?;
        let mut case = Self {
            bed,
            namespace,
            operator,
            models: vec![MODEL.to_owned()],
            watched: BTreeSet::new(),
            foreign: Vec::new(),
        };
        bed.wait_for("the operator watches what there is", ACTIVE, async || {
            let seen = case.operator.proxy.seen(0);
            let last = seen.last().map(|seen| seen.at);
            case.watched = watched(&seen);
            let settled = last.is_some_and(|at| at.elapsed() > Duration::from_secs(1));
            let enough =
                case.watched.contains("modelboosters") && case.watched.contains("httproutes");
            if settled && enough {
                Ok(())
            } else {
                Err(format!("{:?}", case.watched))
            }
        })
        .await?;
        case.foreign = case.versions().await?;
        Ok(case)
    }

    /// Makes more Models, which are not annotated.
    pub(crate) async fn add(&mut self, models: &[&str]) -> Result<()> {
        for model in models {
            if !self.models.iter().any(|known| known == model) {
                make_active(self.bed, &self.namespace, model).await?;
                self.models.push((*model).to_owned());
            }
        }
        Ok(())
    }

    /// Kinds, names and versions of what is nobody's business.
    async fn versions(&self) -> Result<Vec<(String, String)>> {
        let (client, namespace) = (self.bed.client()?, self.namespace.name());
        let failed = |e: kube::Error| Error::Other(format!("looking at what is foreign: {e}"));
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let mut versions = Vec::new();
        for name in ["foreign", SPOOFED] {
            let map = maps.get(name).await.map_err(failed)?;
            versions.push((
                format!("ConfigMap {name}"),
                map.resource_version().unwrap_or_default(),
            ));
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let account = accounts.get(MODEL).await.map_err(failed)?;
        versions.push((
            format!("ServiceAccount {MODEL}"),
            account.resource_version().unwrap_or_default(),
        ));
        let services: Api<Service> = Api::namespaced(client.clone(), namespace);
        let service = services.get("foreign").await.map_err(failed)?;
        versions.push((
            "Service foreign".to_owned(),
            service.resource_version().unwrap_or_default(),
        ));
        let routes: Api<DynamicObject> =
            Api::namespaced_with(client, namespace, &ChildKind::HTTPRoute.api_resource());
        let route = routes.get("foreign").await.map_err(failed)?;
        versions.push((
            "HTTPRoute foreign".to_owned(),
            route.resource_version().unwrap_or_default(),
        ));
        Ok(versions)
    }

    /// The version of everything, now.
    async fn now(&self) -> Result<String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.bed.client()?, self.namespace.name());
        let listed = maps.list(&ListParams::default()).await;
        let listed =
            listed.map_err(|e| Error::Other(format!("asking for the version of now: {e}")))?;
        Ok(listed.metadata.resource_version.unwrap_or_default())
    }

    /// What became of what is nobody's business; empty when nothing did.
    pub(crate) async fn meddled(&self) -> Result<String> {
        let now = self.versions().await?;
        let changed: Vec<_> = now
            .iter()
            .zip(&self.foreign)
            .filter(|(now, was)| now != was)
            .collect();
        Ok(if changed.is_empty() {
            String::new()
        } else {
            format!("foreign objects changed: {changed:?}")
        })
    }

    /// Begins with a plan; what follows is counted from here.
    pub(crate) fn begin(&self, faults: Vec<Fault>) -> Since {
        let since = Since {
            from: self.operator.proxy.count(),
            at: Instant::now(),
        };
        self.operator.proxy.begin(faults);
        since
    }

    /// Takes a step with a plan, and waits until nothing is written any more and everything is as `wanted`;
    /// without that, until the step has had its effect.
    pub(crate) async fn step(
        &self,
        step: Step,
        plan: Option<&Plan>,
        wanted: Option<&State>,
        patience: Patience,
    ) -> Result<Settled, String> {
        let mut faults = plan.map(|plan| plan.faults.clone()).unwrap_or_default();
        let past = faults.iter_mut().filter_map(|fault| match &mut fault.what {
            Action::AsOf(version) => Some(version),
            _ => None,
        });
        for version in past {
            *version = self.now().await.map_err(|e| e.to_string())?;
        }
        let since = self.begin(faults);
        step.take(self, MODEL).await.map_err(|e| e.to_string())?;
        if let Some(silence) = plan.and_then(|plan| plan.silence) {
            tokio::time::sleep(silence).await;
            self.operator.proxy.thaw();
        }
        let fits = |state: &State, seen: &[Seen]| match wanted {
            Some(wanted) if state == wanted => Ok(()),
            Some(wanted) => Err(state.differences(wanted)),
            None if step.serves() && !seen.iter().any(Seen::wrote) => {
                Err("nothing was written".to_owned())
            }
            None => state.is(MODEL, step.serves()),
        };
        let (state, seen) = self.rest(&since, patience, fits).await?;
        let mut settled = settled(state, &seen, since.at);
        settled.fired += self.operator.proxy.tampered();
        Ok(settled)
    }

    /// The requests since then.
    pub(crate) fn seen(&self, since: &Since) -> Vec<Seen> {
        self.operator.proxy.seen(since.from)
    }

    /// How often an object was written since then.
    pub(crate) fn written(&self, since: &Since, kind: ChildKind, name: &str) -> u32 {
        let resource = kind.api_resource().plural;
        let seen = self.seen(since);
        let wrote = seen.iter().filter(|seen| {
            seen.wrote() && seen.request.resource == resource && seen.request.name == name
        });
        u32::try_from(wrote.count()).unwrap_or(u32::MAX)
    }

    /// Waits until everything is as `wanted`, whatever is sent meanwhile.
    pub(crate) async fn reach(&self, wanted: &State, limit: Duration) -> Result<(), String> {
        let reached = self.bed.wait_for("all is as wanted", limit, async || {
            let state = capture(self.bed, &self.namespace, &self.models).await?;
            let differences = state.differences(wanted);
            differences.is_empty().then_some(()).ok_or(differences)
        });
        reached.await.map_err(|e| e.to_string())
    }

    /// The same as [`Self::rest`], and what came of it.
    pub(crate) async fn settle(
        &self,
        since: &Since,
        patience: Patience,
        fits: impl Fn(&State) -> Result<(), String>,
    ) -> Result<Settled, String> {
        let (state, seen) = self.rest(since, patience, |state, _| fits(state)).await?;
        Ok(Settled {
            // What others do is all that it is about.
            fired: 1,
            ..settled(state, &seen, since.at)
        })
    }

    /// Waits until nothing is sent any more and everything fits.
    pub(crate) async fn rest(
        &self,
        since: &Since,
        patience: Patience,
        fits: impl Fn(&State, &[Seen]) -> Result<(), String>,
    ) -> Result<(State, Vec<Seen>), String> {
        let proxy = &self.operator.proxy;
        let began = Instant::now();
        let mut last = String::from(
            "nothing was looked at, since requests went on, or a start did not come to its end",
        );
        while began.elapsed() < patience.limit {
            self.bed.check().map_err(|e| e.to_string())?;
            if let Some(ended) = self.operator.fate().ended {
                return Err(format!("the operator ended by itself: {ended}"));
            }
            let seen = proxy.seen(since.from);
            seen.iter().try_for_each(|seen| self.is_its_own(seen))?;
            if self.rests(&seen, since.at, patience.quiet) {
                let state = capture(self.bed, &self.namespace, &self.models).await?;
                match fits(&state, &seen) {
                    Ok(()) if proxy.count() == since.from + seen.len() => return Ok((state, seen)),
                    Ok(()) => {}
                    Err(problem) => last = problem,
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(format!(
            "not as it should be after {:?}: {last}",
            patience.limit
        ))
    }

    /// What the operator writes or lists in a time in which nothing happens; empty when nothing.
    pub(crate) async fn restless(&self, time: Duration) -> String {
        let from = self.operator.proxy.count();
        tokio::time::sleep(time).await;
        let seen = self.operator.proxy.seen(from);
        let asked = seen
            .iter()
            .filter(|s| s.request.verb.writes() || s.request.verb == Verb::List);
        asked
            .map(|seen| seen.request.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// An error when a write is about something that the operator has no business with.
    fn is_its_own(&self, seen: &Seen) -> Result<(), String> {
        let request = &seen.request;
        let child = ChildKind::ALL
            .iter()
            .any(|kind| kind.api_resource().plural == request.resource);
        let own = self.models.iter().any(|model| {
            if child {
                let picker = format!("{model}-epp");
                (request.name == *model || request.name == picker) && request.subresource.is_empty()
            } else {
                (
                    request.resource.as_str(),
                    &request.name,
                    request.subresource.as_str(),
                ) == ("modelboosters", model, "status")
            }
        });
        if own || !request.writes() {
            return Ok(());
        }
        Err(format!("it wrote what is not its own: {request}"))
    }

    /// Whether the operator sent nothing for a while; when it was started since `began`, it also has to have come
    /// as far as the first one did.
    fn rests(&self, seen: &[Seen], began: Instant, quiet: Duration) -> bool {
        let sent = seen.last().is_some_and(|last| last.at.elapsed() < quiet);
        if sent || self.operator.proxy.is_crashed() {
            return false;
        }
        let started = self.operator.fate().started.last().copied();
        let Some(started) = started.filter(|started| *started > began) else {
            return true;
        };
        let since: Vec<Seen> = seen
            .iter()
            .filter(|seen| seen.at > started)
            .cloned()
            .collect();
        self.watched.is_subset(&watched(&since))
    }
}

/// Makes a Model, which is not annotated, and waits until Kthena says that it is active.
async fn make_active(bed: &TestBed, namespace: &Namespace<'_>, name: &str) -> Result<()> {
    let model = namespace.model(name).await?;
    bed.wait_for(format!("the Model {name} is active"), ACTIVE, async || {
        let conditions = model.get().await?.status.unwrap_or_default().conditions;
        let active = conditions
            .iter()
            .any(|c| c.type_ == "Active" && c.status == "True");
        if active {
            Ok(())
        } else {
            Err(format!("{conditions:?}"))
        }
    })
    .await
}

/// The resources of which a watch was begun.
fn watched(seen: &[Seen]) -> BTreeSet<String> {
    let begun = seen
        .iter()
        .filter(|s| s.request.verb == Verb::Watch && s.code == Some(200));
    begun
        .map(|seen| format!("{}.{}", seen.request.resource, seen.request.group))
        .map(short)
        .collect()
}

/// Those of ours and of the core go by their plural.
fn short(resource: String) -> String {
    match resource.split_once('.') {
        Some((plural, group)) if group != "llm-d.ai" => plural.to_owned(),
        _ => resource,
    }
}

/// Whether a write changes nothing but whose which field is, as is done once between the create of an object and
/// its first change.
fn is_bookkeeping(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body.as_array().is_some_and(|operations| {
        operations.iter().all(|o| {
            let path = o["path"].as_str().unwrap_or_default();
            path == "/metadata/resourceVersion" || path.starts_with("/metadata/managedFields/")
        })
    })
}

/// The reasons that a write of conditions gives, and the uid that it is for; nothing for other writes.
pub(crate) fn said(seen: &Seen) -> String {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let conditions = body.pointer("/status/conditions").and_then(Value::as_array);
    let Some(conditions) = conditions else {
        return String::new();
    };
    let reasons = conditions.iter().filter_map(|c| c["reason"].as_str());
    let uid = body["metadata"]["uid"].as_str().unwrap_or_default();
    format!("{} of {uid} ", reasons.collect::<Vec<_>>().join(", "))
}

/// What a write of conditions says, whenever it says so.
fn without_times(body: &[u8]) -> String {
    let mut body: Value = serde_json::from_slice(body).unwrap_or_default();
    let conditions = body.pointer_mut("/status/conditions");
    for condition in conditions
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(fields) = condition.as_object_mut() {
            fields.remove("lastTransitionTime");
        }
    }
    body.to_string()
}

fn settled(state: State, seen: &[Seen], began: Instant) -> Settled {
    let mut writes = BTreeMap::new();
    let mut said: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut requests = 0;
    for seen in seen.iter().filter(|seen| seen.request.writes()) {
        requests += 1;
        if seen.wrote() {
            let mut object = seen.request.to_string();
            if is_bookkeeping(&seen.body) {
                object.push_str(" (managed fields)");
            }
            if seen.request.subresource == "status" {
                let told = said.entry(object.clone()).or_default();
                told.insert(without_times(&seen.body));
            }
            *writes.entry(object).or_default() += 1;
        }
    }
    let count = |told: BTreeSet<String>| u32::try_from(told.len()).unwrap_or(u32::MAX);
    let said = said.into_iter().map(|(object, told)| (object, count(told)));
    let first = seen.iter().find(|seen| seen.action.is_some());
    let of_watch = |seen: &&Seen| matches!(seen.action, Some(Action::Watch(_)));
    let fired = seen
        .iter()
        .filter(|seen| seen.action.is_some() && !of_watch(seen))
        .count();
    let last = seen.iter().rev().find(|seen| seen.wrote());
    let since = first.map_or(began, |first| first.at);
    Settled {
        state,
        writes,
        said: said.collect(),
        requests,
        fired: u32::try_from(fired).unwrap_or(u32::MAX),
        took: last
            .map(|last| last.at.saturating_duration_since(since))
            .unwrap_or_default(),
    }
}
