//! What the cluster has around one Model: what the operator would see of it, read once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kthena_bridge_api::child::{ChildKind, LABEL_MANAGED_BY, MANAGED_BY};
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_core::exposure::GatewayRef;
use kthena_bridge_core::observe::{Child, Objects, Pod, Route};
use kube::api::{DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long reading may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Where the inference extension's CRDs say of which version they are.
pub(crate) const BUNDLE_VERSION: &str = "inference.networking.k8s.io/bundle-version";

/// Why something is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server does not give it.
    #[error("{what} cannot be read: {source}")]
    Request { what: String, source: kube::Error },
    /// There is no answer.
    #[error("there is no answer from the API server after {} s", LIMIT.as_secs())]
    TimedOut,
}

/// Waits for the answer to a request, called `what` in the error.
pub(crate) async fn read<T>(
    what: impl Into<String>,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(answer) => answer.map_err(|source| Error::Request {
            what: what.into(),
            source,
        }),
        Err(_) => Err(Error::TimedOut),
    }
}

/// Whether the kind is not installed, or the object not there.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Reads what concerns a Model of `namespace` on these Gateways, and on those of its namespace.
pub(crate) async fn read_around(
    client: &Client,
    namespace: &str,
    gateways: &[GatewayRef],
) -> Result<Objects, Error> {
    let named: Vec<&GatewayRef> = gateways
        .iter()
        .filter(|g| g.namespace != namespace)
        .collect();
    let (servings, servers, pods, here, elsewhere, labels, routes, children, version) = tokio::join!(
        list(
            Api::namespaced(client.clone(), namespace),
            "ModelServings",
            namespace
        ),
        list(
            Api::namespaced(client.clone(), namespace),
            "ModelServers",
            namespace
        ),
        pods(client, namespace),
        list::<Gateway>(
            Api::namespaced(client.clone(), namespace),
            "Gateways",
            namespace
        ),
        try_join_all(named.iter().map(|gateway| named_gateway(client, gateway))),
        labels(client, namespace),
        routes(client),
        join_all(ChildKind::ALL.map(|kind| children(client, kind, namespace))),
        version(client),
    );
    let mut objects = Objects {
        servings: servings?,
        servers: servers?,
        pods: pods?,
        gateways: here?,
        routes: routes?,
        namespaces: [(namespace.to_owned(), labels?)].into(),
        inference_extension: version,
        ..Objects::default()
    };
    objects.gateways.extend(elsewhere?.into_iter().flatten());
    for (kind, children) in ChildKind::ALL.into_iter().zip(children) {
        match children? {
            Some(children) => objects.children.extend(children.into_iter().map(|child| {
                let key = (kind, child.namespace().to_owned(), child.name().to_owned());
                (key, Arc::new(child))
            })),
            None => objects.missing.push(kind),
        }
    }
    objects.gateway_classes = classes(client, &objects.gateways).await?;
    Ok(objects)
}

/// The objects of a kind; none when it is not installed.
async fn list<K>(api: Api<K>, what: &str, namespace: &str) -> Result<Vec<Arc<K>>, Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    match tokio::time::timeout(LIMIT, api.list(&ListParams::default())).await {
        Ok(Ok(list)) => Ok(list.items.into_iter().map(Arc::new).collect()),
        Ok(Err(error)) if is_not_found(&error) => Ok(Vec::new()),
        Ok(Err(source)) => Err(Error::Request {
            what: format!("{what} of namespace {namespace}"),
            source,
        }),
        Err(_) => Err(Error::TimedOut),
    }
}

async fn pods(client: &Client, namespace: &str) -> Result<Vec<Arc<Pod>>, Error> {
    let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let found = list(api, "Pods", namespace).await?;
    // What is no pod is none that requests could go to.
    let pods = found
        .iter()
        .filter_map(|pod| serde_json::from_value(to_value(pod)).ok());
    Ok(pods.map(Arc::new).collect())
}

async fn named_gateway(
    client: &Client,
    gateway: &GatewayRef,
) -> Result<Option<Arc<Gateway>>, Error> {
    let api: Api<Gateway> = Api::namespaced(client.clone(), &gateway.namespace);
    let what = format!("Gateway {}/{}", gateway.namespace, gateway.name);
    read(what, api.get_opt(&gateway.name))
        .await
        .map(|g| g.map(Arc::new))
}

async fn classes(
    client: &Client,
    gateways: &[Arc<Gateway>],
) -> Result<Vec<Arc<GatewayClass>>, Error> {
    let mut names: Vec<&str> = gateways
        .iter()
        .map(|g| g.spec.gateway_class_name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let api: Api<GatewayClass> = Api::all(client.clone());
    let found = names
        .iter()
        .map(|name| read(format!("GatewayClass {name}"), api.get_opt(name)));
    let found = try_join_all(found).await?;
    Ok(found.into_iter().flatten().map(Arc::new).collect())
}

async fn labels(client: &Client, namespace: &str) -> Result<BTreeMap<String, String>, Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let found = read(format!("Namespace {namespace}"), api.get_opt(namespace)).await?;
    Ok(found.map(|n| n.labels().clone()).unwrap_or_default())
}

/// Every HTTPRoute, since one of any namespace may have a claim.
async fn routes(client: &Client) -> Result<Vec<Arc<Route>>, Error> {
    let kind = ChildKind::HTTPRoute.api_resource();
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let found = list(api, "HTTPRoutes", "all").await?;
    Ok(found
        .iter()
        .map(|route| Arc::new(Route::reduce(&to_value(&**route))))
        .collect())
}

/// What the operator keeps of a kind in a namespace; nothing when the kind is not served.
async fn children(
    client: &Client,
    kind: ChildKind,
    namespace: &str,
) -> Result<Option<Vec<Child>>, Error> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &kind.api_resource());
    let ours = ListParams::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));
    let what = format!("{kind}s of namespace {namespace}");
    match read(what, api.list(&ours)).await {
        Ok(list) => Ok(Some(
            list.items
                .iter()
                .map(|object| Child::reduce(kind, &to_value(object)))
                .collect(),
        )),
        Err(Error::Request { source, .. }) if is_not_found(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The version that the InferencePool's CRD says, where the caller may read it.
async fn version(client: &Client) -> Option<String> {
    let name = ChildKind::InferencePool.crd()?;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let found = read(name.clone(), api.get_metadata_opt(&name)).await;
    found.ok()??.annotations().get(BUNDLE_VERSION).cloned()
}

/// An object as JSON. It came from JSON, so it goes back.
pub(crate) fn to_value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}
