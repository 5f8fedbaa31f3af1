//! The cluster as it is: a handful of lists, side by side, made what the decisions of the operator see.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{join, join_all};
use k8s_openapi::api::core::v1::{Namespace, Pod as WholePod};
use kthena_bridge_api::annotation::POD_SELECTOR;
use kthena_bridge_api::child::{ChildKind, LABEL_MANAGED_BY, LABEL_PICKER, MANAGED_BY};
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_api::kthena::{
    LABEL_SERVING, ModelBooster, ModelRoute, ModelServer, ModelServing,
};
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::observe::{Child, Detail, Objects, Pod, Route};
use kthena_bridge_core::{Config, OwnerKind, Source};
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, ObjectMeta, Request};
use kube::{Client, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why a command cannot see what it needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "ModelBooster is not installed; install Kthena, or choose another cluster with --context"
    )]
    NoKthena,
    #[error(
        "ModelBoosters {of} may not be listed: {cause}; ask for that right, or name a namespace with --namespace"
    )]
    Forbidden { of: String, cause: String },
    #[error("{what}: {cause}; see whether the cluster can be reached (kubectl version)")]
    Request { what: String, cause: String },
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looked {
    /// The kinds of ours.
    pub(crate) children: &'static [ChildKind],
    /// What tells which objects are wanted, beside what tells how they fare.
    pub(crate) decisions: bool,
    /// The objects as they are, beside what is reduced of them.
    pub(crate) whole: bool,
}

/// What a command sees.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Kinds of ours that may not be read.
    pub(crate) unknown: Vec<ChildKind>,
    /// The Models and ModelExposures, each by namespace and name, and what is around them.
    pub(crate) objects: Objects,
    /// Objects of ours as they are, by kind, namespace and name.
    pub(crate) whole: HashMap<(ChildKind, String, String), Value>,
    /// Whether something is there that the caller may not read.
    pub(crate) partly: bool,
}

/// Looks at a namespace, or at all of them. What is not installed or may not be read is told on standard
/// error, where something useful remains.
pub(crate) async fn observe(
    client: &Client,
    namespace: Option<&str>,
    looked: Looked,
) -> Result<Seen, Error> {
    let lists = Lists {
        client,
        namespace,
        notes: Mutex::default(),
        forbidden: AtomicBool::new(false),
    };
    let decisions = looked.decisions;
    let everywhere = None;
    let children = looked.children.iter().map(async |kind| {
        let ours = format!("{LABEL_MANAGED_BY}={MANAGED_BY}");
        // They compete for requests, whoever has written them.
        let (of, labels) = match kind {
            ChildKind::HTTPRoute if decisions => (everywhere, ""),
            _ => (namespace, ours.as_str()),
        };
        let (kind, whole) = (*kind, looked.whole);
        let reduce = move |object| Ours::reduce(kind, object, whole);
        let found = lists.list(&kind.api_resource(), of, labels, reduce).await;
        found.map(|found| (kind, found))
    });
    let (pod, namespace_object) = (pods(), ApiResource::erase::<Namespace>(&()));
    let around = async {
        tokio::join!(
            lists.of::<ModelBooster>(namespace),
            lists.of::<ModelExposure>(namespace),
            lists.of::<Gateway>(everywhere),
            lists.list(&pod, namespace, LABEL_SERVING, a_pod),
            lists.list(&pod, namespace, LABEL_PICKER, a_pod),
        )
    };
    let deciding = async {
        if !decisions {
            let (servings, servers) = (Ok(Found::default()), Ok(Found::default()));
            let (classes, namespaces) = (Ok(Found::default()), Ok(Found::default()));
            return (servings, servers, Ok(Found::default()), classes, namespaces);
        }
        tokio::join!(
            lists.of::<ModelServing>(namespace),
            lists.of::<ModelServer>(namespace),
            lists.of::<ModelRoute>(namespace),
            lists.of::<GatewayClass>(everywhere),
            lists.list(&namespace_object, everywhere, "", same::<Metadata>),
        )
    };
    let (children, ((models, exposures, gateways, engines, pickers), deciding)) =
        join(join_all(children), join(around, deciding)).await;
    let (servings, servers, model_routes, classes, namespaces) = deciding;

    let models = models?;
    if let Some(missing) = models.missing {
        return Err(match missing {
            Missing::NotInstalled => Error::NoKthena,
            Missing::Forbidden(cause) => Error::Forbidden {
                of: within(namespace),
                cause,
            },
        });
    }
    let mut seen = Seen::default();
    let named = |m: &ObjectMeta| (m.namespace.clone(), m.name.clone());
    let objects = &mut seen.objects;
    objects.boosters = shared(models.items);
    objects.boosters.sort_by_cached_key(|m| named(&m.metadata));
    // Annotations do without.
    objects.exposures = shared(lists.kept_if_installed(exposures?, "ModelExposure"));
    objects.exposures.sort_by_cached_key(|e| named(&e.metadata));
    objects.model_routes = shared(lists.kept_if_installed(model_routes?, "ModelRoute"));
    objects.gateways = shared(lists.kept(gateways?, "Gateway"));
    objects.pods = shared(lists.kept(engines?, "Pod"));
    objects.pods.extend(shared(pickers?.items));
    objects.servings = shared(lists.kept(servings?, "ModelServing"));
    objects.servers = shared(lists.kept(servers?, "ModelServer"));
    objects.gateway_classes = shared(lists.kept(classes?, "GatewayClass"));
    for Metadata { metadata } in lists.kept(namespaces?, "Namespace") {
        let labels = metadata.labels.unwrap_or_default();
        let name = metadata.name.unwrap_or_default();
        objects.namespaces.insert(name, labels);
    }
    for child in children {
        let (kind, found) = child?;
        match found.missing {
            None => {}
            Some(Missing::NotInstalled) => seen.objects.missing.push(kind),
            Some(Missing::Forbidden(_)) => seen.unknown.push(kind),
        }
        // Whether another kind is needed is for the plan to say.
        let always = matches!(kind, ChildKind::InferencePool | ChildKind::HTTPRoute);
        let items = match found.missing {
            Some(Missing::NotInstalled) if !always => Vec::new(),
            _ => lists.kept(found, kind.as_str()),
        };
        for object in items {
            seen.add(object);
        }
    }
    lists.other_pods(&mut seen).await?;
    seen.partly = lists.forbidden.into_inner();
    let notes = lists.notes.into_inner();
    for note in notes.unwrap_or_else(PoisonError::into_inner) {
        anstream::eprintln!("note: {note}");
    }
    Ok(seen)
}

impl Seen {
    /// Adds an object of ours, or a route of anybody's.
    pub(crate) fn add(&mut self, ours: Ours) {
        let Ours {
            child,
            route,
            whole,
        } = ours;
        let key = (
            child.kind,
            child.namespace().to_owned(),
            child.name().to_owned(),
        );
        self.objects.routes.extend(route.map(Arc::new));
        if let Some(whole) = whole {
            self.whole.insert(key.clone(), whole);
        }
        self.objects.children.insert(key, Arc::new(child));
    }

    /// What an operator with this configuration sees of it: nothing outside of the namespaces that it watches,
    /// and the Gateways that it is told of.
    pub(crate) fn of_operator(&self, config: &Config) -> Objects {
        let mut objects = self.objects.clone();
        objects.configured = config.providers();
        if config.namespaces.is_empty() {
            return objects;
        }
        let own = |gateway: &Gateway| gateway.metadata.namespace.clone().unwrap_or_default();
        objects.confined = true;
        objects.gateways.retain(|o| config.watches(&own(o)));
        objects.routes.retain(|o| config.watches(o.namespace()));
        objects.gateway_classes.clear();
        objects.namespaces.clear();
        objects
    }

    /// All that may ask for an exposure: the Models, then the ModelExposures.
    pub(crate) fn sources(&self) -> impl Iterator<Item = Source> + Clone {
        let models = self.objects.boosters.iter().cloned().map(Source::Model);
        let exposures = self.objects.exposures.iter().cloned();
        models.chain(exposures.map(Source::Object))
    }

    /// What a command means by a name.
    pub(crate) fn source(&self, namespace: &str, name: &str) -> Option<Source> {
        Named::of(name).find(namespace, self.sources())
    }
}

/// What a command means by a name: a ModelExposure by `modelexposure/NAME`, a Model by `modelbooster/NAME`, and without
/// a kind the Model of this name, unless it is not exposed and a ModelExposure has the name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    kind: Option<OwnerKind>,
    name: &'a str,
}

impl<'a> Named<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let kind = |kind: &str| match kind.to_ascii_lowercase().as_str() {
            "mexp" | "modelexposure" | "modelexposures" => Some(OwnerKind::ModelExposure),
            "modelbooster" | "modelboosters" => Some(OwnerKind::ModelBooster),
            _ => None,
        };
        match text.split_once('/') {
            Some((before, name)) if kind(before).is_some() => Self {
                kind: kind(before),
                name,
            },
            _ => Self {
                kind: None,
                name: text,
            },
        }
    }

    /// The name without its kind.
    pub(crate) fn name(self) -> &'a str {
        self.name
    }

    /// What it is called where there is none.
    pub(crate) fn called(self, namespace: &str) -> String {
        let kind = self.kind.unwrap_or_default().as_str();
        format!("{kind} {namespace}/{}", self.name)
    }

    pub(crate) fn find(
        self,
        namespace: &str,
        sources: impl Iterator<Item = Source>,
    ) -> Option<Source> {
        let is = |source: &Source| {
            let metadata = source.metadata();
            metadata.namespace.as_deref() == Some(namespace)
                && metadata.name.as_deref() == Some(self.name)
                && self.kind.is_none_or(|kind| kind == source.kind())
        };
        // The first of those that are exposed, else the first.
        sources.filter(is).min_by_key(|source| !source.is_exposed())
    }
}

/// The pods by namespace and ModelServing: with many Models, each cannot look through all.
pub(crate) struct PodIndex<'a> {
    all: &'a [Arc<Pod>],
    by_serving: HashMap<(&'a str, &'a str), Vec<&'a Pod>>,
}

impl<'a> PodIndex<'a> {
    pub(crate) fn new(objects: &'a Objects) -> Self {
        let mut by_serving: HashMap<_, Vec<&Pod>> = HashMap::new();
        for pod in &objects.pods {
            if let Some(serving) = pod.label(LABEL_SERVING) {
                let key = (&*pod.metadata.namespace, serving);
                by_serving.entry(key).or_default().push(pod);
            }
        }
        Self {
            all: &objects.pods,
            by_serving,
        }
    }

    /// The pods that carry all of these labels.
    pub(crate) fn with(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<&'a Pod> {
        if let Some(serving) = labels.get(LABEL_SERVING) {
            let candidates = self.by_serving.get(&(namespace, serving.as_str()));
            let candidates = candidates.into_iter().flatten().copied();
            return candidates.filter(|pod| pod.has(labels)).collect();
        }
        let here = |pod: &&Pod| *pod.metadata.namespace == *namespace;
        let all = self.all.iter().map(|pod| &**pod);
        all.filter(here).filter(|pod| pod.has(labels)).collect()
    }
}

/// An object of ours, reduced.
pub(crate) struct Ours {
    child: Child,
    route: Option<Route>,
    whole: Option<Value>,
}

impl Ours {
    /// Reduces an object as the API server sends it.
    pub(crate) fn reduce(kind: ChildKind, object: Value, whole: bool) -> Self {
        Self {
            child: Child::reduce(kind, &object),
            route: (kind == ChildKind::HTTPRoute).then(|| Route::reduce(&object)),
            whole: whole.then_some(object),
        }
    }
}

/// What a list has brought.
struct Found<T> {
    items: Vec<T>,
    missing: Option<Missing>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            missing: None,
        }
    }
}

/// Why a list has brought nothing.
enum Missing {
    NotInstalled,
    Forbidden(String),
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

/// An object of which only the metadata is read.
#[derive(Deserialize)]
struct Metadata {
    metadata: ObjectMeta,
}

struct Lists<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    notes: Mutex<Vec<String>>,
    forbidden: AtomicBool,
}

impl Lists<'_> {
    async fn of<K>(&self, namespace: Option<&str>) -> Result<Found<K>, Error>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Send + 'static,
    {
        let resource = ApiResource::erase::<K>(&());
        self.list(&resource, namespace, "", same::<K>).await
    }

    /// Lists a kind. Where it may not be listed everywhere, it is in the namespace of the command.
    async fn list<T, R>(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        labels: &str,
        reduce: impl Fn(T) -> R + Clone + Send + 'static,
    ) -> Result<Found<R>, Error>
    where
        T: DeserializeOwned,
        R: Send + 'static,
    {
        let found = self.list_in(resource, namespace, labels, reduce.clone());
        let found = found.await?;
        match (&found.missing, namespace, self.namespace) {
            (Some(Missing::Forbidden(_)), None, Some(own)) if is_namespaced(resource) => {
                let narrower = self.list_in(resource, Some(own), labels, reduce).await?;
                if narrower.missing.is_none() {
                    self.note(format!(
                        "{} may not be listed in all namespaces, so only those of {own} are known",
                        resource.kind
                    ));
                }
                Ok(narrower)
            }
            _ => Ok(found),
        }
    }

    async fn list_in<T, R>(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        labels: &str,
        reduce: impl Fn(T) -> R + Send + 'static,
    ) -> Result<Found<R>, Error>
    where
        T: DeserializeOwned,
        R: Send + 'static,
    {
        let failed = |cause: String| Error::Request {
            what: format!("listing {} {}", resource.plural, within(namespace)),
            cause,
        };
        let params = ListParams::default().labels(labels);
        let request = Request::new(DynamicObject::url_path(resource, namespace))
            .list(&params)
            .map_err(|e| failed(e.to_string()))?;
        let missing = |missing| {
            Ok(Found {
                items: Vec::new(),
                missing: Some(missing),
            })
        };
        // Reading a long list takes longer than getting it, so it is done side by side, too.
        let read = |text: String| {
            tokio::task::spawn_blocking(move || {
                let list: List<T> = serde_json::from_str(&text)?;
                Ok::<Vec<R>, serde_json::Error>(list.items.into_iter().map(reduce).collect())
            })
        };
        match self.client.request_text(request).await {
            Ok(text) => match read(text).await {
                Ok(Ok(items)) => Ok(Found {
                    items,
                    missing: None,
                }),
                Ok(Err(error)) => Err(failed(error.to_string())),
                Err(error) => Err(failed(error.to_string())),
            },
            Err(kube::Error::Api(status)) if status.code == 404 => missing(Missing::NotInstalled),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                missing(Missing::Forbidden(status.message.clone()))
            }
            Err(error) => Err(failed(cause(&error))),
        }
    }

    /// The pods of pools that select others than those of a ModelServing: all of their namespaces.
    async fn other_pods(&self, seen: &mut Seen) -> Result<(), Error> {
        let pools = seen
            .objects
            .children
            .values()
            .filter_map(|child| match &child.detail {
                Detail::Pool { selector, .. } if !selector.contains_key(LABEL_SERVING) => {
                    Some(child.namespace().to_owned())
                }
                _ => None,
            });
        let models = seen.objects.boosters.iter().filter_map(|model| {
            let annotations = model.metadata.annotations.as_ref()?;
            let other = !annotations.get(POD_SELECTOR)?.contains(LABEL_SERVING);
            model.metadata.namespace.clone().filter(|_| other)
        });
        let exposures = seen.objects.exposures.iter().filter_map(|exposure| {
            let spec = &exposure.spec;
            let other = spec.selector.is_some() || spec.target_ref.kind == "ModelServer";
            exposure.metadata.namespace.clone().filter(|_| other)
        });
        let namespaces: BTreeSet<String> = pools.chain(models).chain(exposures).collect();
        let resource = pods();
        let lists = namespaces
            .iter()
            .map(|namespace| self.list(&resource, Some(namespace), "", a_pod));
        for (namespace, found) in namespaces.iter().zip(join_all(lists).await) {
            let found = found?;
            if found.missing.is_none() {
                let pods = &mut seen.objects.pods;
                pods.retain(|pod| *pod.metadata.namespace != **namespace);
                pods.extend(shared(found.items));
            }
        }
        Ok(())
    }

    /// What a list has brought of a kind that need not be there.
    fn kept_if_installed<T>(&self, found: Found<T>, kind: &str) -> Vec<T> {
        match found.missing {
            Some(Missing::NotInstalled) => Vec::new(),
            _ => self.kept(found, kind),
        }
    }

    /// What a list has brought; a note where that is nothing.
    fn kept<T>(&self, found: Found<T>, kind: &str) -> Vec<T> {
        match &found.missing {
            None => {}
            Some(Missing::NotInstalled) => {
                self.note(format!("{kind} is not installed, so there is none"));
            }
            Some(Missing::Forbidden(cause)) => {
                self.forbidden.store(true, Ordering::Relaxed);
                self.note(format!("{kind} is not known: {cause}"));
            }
        }
        found.items
    }

    fn note(&self, note: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(note);
    }
}

fn a_pod(whole: WholePod) -> Pod {
    Pod::from(whole)
}

fn same<T>(object: T) -> T {
    object
}

fn shared<T>(items: Vec<T>) -> Vec<Arc<T>> {
    items.into_iter().map(Arc::new).collect()
}

fn pods() -> ApiResource {
    ApiResource::erase::<WholePod>(&())
}

fn is_namespaced(resource: &ApiResource) -> bool {
    !matches!(resource.kind.as_str(), "GatewayClass" | "Namespace")
}

/// For a message.
pub(crate) fn within(namespace: Option<&str>) -> String {
    namespace.map_or_else(
        || "in all namespaces".to_owned(),
        |namespace| format!("in namespace {namespace}"),
    )
}

/// What the API server said, or why it was not reached.
pub(crate) fn cause(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let chain = std::iter::successors(std::error::Error::source(error), |e| e.source());
    chain
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string)
}
