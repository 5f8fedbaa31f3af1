//! What is read for the checks, each kind once and all side by side.

mod rights;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kthena_bridge_api::child::{LABEL_MANAGED_BY, MANAGED_BY};
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::{Config, Source};
use kube::api::ListParams;
use kube::core::{NamespaceResourceScope, ObjectMeta};
use kube::{Api, Client, CustomResourceExt as _, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::config;
use crate::observe::cause;
use rights::{is_operator, may_not_create, picker_roles};

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The caller may not read it, in the API server's words.
    Forbidden(String),
    /// The answer did not come, or was another one.
    Failed(String),
    /// It is there, and cannot be understood.
    Wrong(String),
}

/// What was read, or why it could not be.
pub(crate) type Known<T> = Result<T, Unknown>;

/// A Deployment, as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The images of its containers.
    pub(crate) images: Vec<String>,
    /// What is set in the environment of its containers.
    pub(crate) environment: BTreeMap<String, String>,
    /// The ServiceAccount of its pods.
    pub(crate) account: String,
    pub(crate) wanted: i32,
    pub(crate) ready: i32,
}

/// The resources that are served, by group and version.
pub(crate) type Served = BTreeMap<(String, String), BTreeSet<String>>;

/// The metadata of the CRDs, by the CRD's name.
pub(crate) type Definitions = BTreeMap<String, ObjectMeta>;

/// By namespace, what is known of each that the operator watches; of all together when the name is empty.
pub(crate) type PerNamespace<T> = BTreeMap<String, Known<T>>;

/// What the operator may do, and how that is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rights {
    /// It asks for itself.
    Own(Vec<PolicyRule>),
    /// Its role has these, and is bound to its ServiceAccount, or not.
    Role { rules: Vec<PolicyRule>, bound: bool },
    /// There is no role of its name.
    NoRole,
}

/// All that is known.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The API server's version.
    pub(crate) kubernetes: String,
    /// The operator's configuration; before it is installed, the one that is meant for it.
    pub(crate) config: Known<Config>,
    pub(crate) served: Known<Served>,
    pub(crate) definitions: Known<Definitions>,
    pub(crate) classes: Known<Vec<GatewayClass>>,
    /// Those of the namespaces that the operator watches.
    pub(crate) gateways: Known<Vec<Gateway>>,
    /// Those of other namespaces that its configuration names, by namespace and name.
    pub(crate) elsewhere: BTreeMap<(String, String), Known<Option<Gateway>>>,
    pub(crate) kthena: Known<Vec<Workload>>,
    pub(crate) istiod: Known<Vec<Workload>>,
    /// What a user who installs the operator may not create; only before it is installed.
    pub(crate) may_not_create: Known<Vec<String>>,
    /// Only once it is installed.
    pub(crate) installed: Option<Installed>,
}

/// What is known of the operator, and of what it has made.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) operators: Known<Vec<Workload>>,
    /// The definition of ModelExposure, where there is one.
    pub(crate) definition: Known<Option<CustomResourceDefinition>>,
    pub(crate) rights: PerNamespace<Rights>,
    pub(crate) picker_role: PerNamespace<Option<Vec<PolicyRule>>>,
    pub(crate) pickers: Known<Vec<Workload>>,
    /// All that may ask for an exposure.
    pub(crate) sources: Known<Vec<Source>>,
}

/// Why there is nothing to check.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the API server does not answer: {0}; choose a cluster with --kubeconfig or --context")]
    NoAnswer(String),
}

impl Facts {
    /// Reads everything; `pre` leaves out what the operator brings. The configuration is that of the operator
    /// in the cluster where none is given.
    pub(crate) async fn read(
        client: &Client,
        operator_namespace: &str,
        pre: bool,
        config: Option<Config>,
    ) -> Result<Self, Error> {
        let version = match tokio::time::timeout(LIMIT, client.apiserver_version()).await {
            Ok(Ok(version)) => version,
            Ok(Err(error)) => return Err(Error::NoAnswer(cause(&error))),
            Err(_) => {
                return Err(Error::NoAnswer(format!(
                    "nothing came in {} s",
                    LIMIT.as_secs()
                )));
            }
        };
        let operators = if pre {
            Ok(Vec::new())
        } else {
            operators(client, operator_namespace).await
        };
        let operator = operators.as_deref().unwrap_or_default();
        let operator = operator
            .iter()
            .find(|o| o.namespace == operator_namespace)
            .or(operator.first())
            .cloned();
        let namespace = operator
            .as_ref()
            .map_or(operator_namespace, |o| o.namespace.as_str());
        let given = config.is_some();
        let config = match config {
            Some(config) => Ok(config),
            None if pre => Ok(Config::default()),
            None => config_of(client, namespace).await,
        };
        let default = Config::default();
        let assumed = config.as_ref().unwrap_or(&default);
        let scopes = scopes(assumed);
        let installed = async {
            if pre {
                return None;
            }
            let pickers = format!("{LABEL_MANAGED_BY}={MANAGED_BY}");
            let account = operator.as_ref().map(|o| o.account.as_str());
            let itself = is_operator(client, namespace, account, given).await;
            let account = account.unwrap_or(config::NAME);
            let role = assumed.endpoint_picker.cluster_role.as_str();
            let (definition, rights, picker_role, pickers, sources) = tokio::join!(
                definition(client),
                rights::of_operator(client, namespace, account, itself, &scopes),
                picker_roles(client, role, &scopes),
                workloads(client, &scopes, &pickers),
                sources(client, &scopes),
            );
            Some(Installed {
                operators,
                definition,
                rights,
                picker_role,
                pickers,
                sources,
            })
        };
        let everywhere = [String::new()];
        let (
            served,
            definitions,
            classes,
            gateways,
            elsewhere,
            kthena,
            istiod,
            may_not_create,
            installed,
        ) = tokio::join!(
            served(client),
            definitions(client),
            list(vec![Api::all(client.clone())], ListParams::default()),
            list(in_scopes(client, &scopes), ListParams::default()),
            elsewhere(client, assumed),
            workloads(
                client,
                &everywhere,
                "app.kubernetes.io/component=kthena-controller-manager"
            ),
            workloads(client, &everywhere, "app=istiod"),
            may_not_create(client, operator_namespace, &scopes, pre),
            Box::pin(installed),
        );
        Ok(Self {
            kubernetes: version.git_version,
            config,
            served,
            definitions,
            classes,
            gateways,
            elsewhere,
            kthena,
            istiod,
            may_not_create,
            installed,
        })
    }

    /// Whether the operator is confined to some namespaces.
    pub(crate) fn is_confined(&self) -> bool {
        self.config
            .as_ref()
            .is_ok_and(|config| !config.namespaces.is_empty())
    }
}

/// The namespaces that the operator watches; an empty name is all of them.
fn scopes(config: &Config) -> Vec<String> {
    match config.namespaces.as_slice() {
        [] => vec![String::new()],
        namespaces => namespaces.iter().map(|n| n.as_str().to_owned()).collect(),
    }
}

fn in_scope<K>(client: &Client, scope: &str) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    if scope.is_empty() {
        Api::all(client.clone())
    } else {
        Api::namespaced(client.clone(), scope)
    }
}

fn in_scopes<K>(client: &Client, scopes: &[String]) -> Vec<Api<K>>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    scopes.iter().map(|scope| in_scope(client, scope)).collect()
}

/// The operators of the cluster, or of the one namespace for those who may not see all.
async fn operators(client: &Client, operator_namespace: &str) -> Known<Vec<Workload>> {
    let everywhere = [String::new()];
    let labels = format!("app.kubernetes.io/name={}", config::NAME);
    let mut operators = match workloads(client, &everywhere, &labels).await {
        Ok(operators) => operators,
        Err(_) => workload(client, operator_namespace, config::NAME).await?,
    };
    operators.retain(|o| o.name == config::NAME);
    Ok(operators)
}

/// The Gateways that the configuration names, of namespaces that the operator does not watch.
async fn elsewhere(
    client: &Client,
    config: &Config,
) -> BTreeMap<(String, String), Known<Option<Gateway>>> {
    let watched = &config.namespaces;
    let named = config.gateways.iter();
    let elsewhere =
        named.filter(|named| !watched.is_empty() && !watched.contains(&named.namespace));
    let read = elsewhere.map(async |named| {
        let (namespace, name) = (named.namespace.as_str(), named.name.as_str());
        let api: Api<Gateway> = Api::namespaced(client.clone(), namespace);
        let found = answer(api.get_opt(name)).await;
        ((namespace.to_owned(), name.to_owned()), found)
    });
    join_all(read).await.into_iter().collect()
}

impl From<&kube::Error> for Unknown {
    fn from(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
                Self::Forbidden(cause(error))
            }
            _ => Self::Failed(cause(error)),
        }
    }
}

impl Unknown {
    fn timed_out() -> Self {
        Self::Failed(format!("there was no answer in {} s", LIMIT.as_secs()))
    }
}

async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> Known<T> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(answer) => answer.map_err(|error| Unknown::from(&error)),
        Err(_) => Err(Unknown::timed_out()),
    }
}

/// The configuration of the operator in a namespace.
async fn config_of(client: &Client, namespace: &str) -> Known<Config> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = answer(maps.get_opt(config::NAME)).await?;
    let file = format!("ConfigMap {namespace}/{}, {}", config::NAME, config::FILE);
    let Some(text) = map.and_then(|map| map.data?.remove(config::FILE)) else {
        return Err(Unknown::Wrong(format!("{file} is not there")));
    };
    config::parse(file, &text).map_err(|e| Unknown::Wrong(e.to_string()))
}

/// The objects of a kind; none where the kind is not installed, which is told by its own check.
async fn list<K>(apis: Vec<Api<K>>, params: ListParams) -> Known<Vec<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let lists = apis.iter().map(|api| {
        answer(async {
            match api.list(&params).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
                list => list.map(|list| list.items),
            }
        })
    });
    let lists: Known<Vec<Vec<K>>> = join_all(lists).await.into_iter().collect();
    Ok(lists?.into_iter().flatten().collect())
}

/// The Models and the ModelExposures.
async fn sources(client: &Client, scopes: &[String]) -> Known<Vec<Source>> {
    let (models, exposures) = tokio::join!(
        list::<ModelBooster>(in_scopes(client, scopes), ListParams::default()),
        list::<ModelExposure>(in_scopes(client, scopes), ListParams::default()),
    );
    let (models, exposures) = (models?, exposures?);
    let models = models.into_iter().map(Source::from);
    Ok(models
        .chain(exposures.into_iter().map(Source::from))
        .collect())
}

/// The Deployments with a label.
async fn workloads(client: &Client, scopes: &[String], labels: &str) -> Known<Vec<Workload>> {
    let params = ListParams::default().labels(labels);
    let deployments: Vec<Deployment> = list(in_scopes(client, scopes), params).await?;
    Ok(deployments.into_iter().map(Workload::of).collect())
}

async fn workload(client: &Client, namespace: &str, name: &str) -> Known<Vec<Workload>> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let found = answer(api.get_opt(name)).await?;
    Ok(found.into_iter().map(Workload::of).collect())
}

impl Workload {
    fn of(deployment: Deployment) -> Self {
        let (namespace, name) = (deployment.namespace(), deployment.name_any());
        let spec = deployment.spec.unwrap_or_default();
        let pod = spec.template.spec.unwrap_or_default();
        let containers = pod.containers;
        let environment = containers.iter().flat_map(|c| c.env.iter().flatten());
        Self {
            namespace: namespace.unwrap_or_default(),
            name,
            environment: environment
                .filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?)))
                .collect(),
            images: containers.into_iter().filter_map(|c| c.image).collect(),
            // <https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/>
            account: pod
                .service_account_name
                .unwrap_or_else(|| "default".to_owned()),
            wanted: spec.replicas.unwrap_or(1),
            ready: deployment
                .status
                .and_then(|s| s.ready_replicas)
                .unwrap_or_default(),
        }
    }
}

/// What is served, which everybody may ask for.
async fn served(client: &Client) -> Known<Served> {
    let groups = answer(client.list_api_groups_aggregated()).await?;
    let mut served = Served::new();
    for group in groups.items {
        let name = group.metadata.and_then(|m| m.name).unwrap_or_default();
        for version in group.versions {
            let resources = version.resources.into_iter().filter_map(|r| r.resource);
            served
                .entry((name.clone(), version.version.unwrap_or_default()))
                .or_default()
                .extend(resources);
        }
    }
    Ok(served)
}

async fn definitions(client: &Client) -> Known<Definitions> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let list = answer(api.list_metadata(&ListParams::default())).await?;
    let definitions = list.items.into_iter();
    Ok(definitions
        .map(|crd| (crd.name_any(), crd.metadata))
        .collect())
}

/// The definition of ModelExposure. Found in a list, since the operator may list definitions and not get them.
async fn definition(client: &Client) -> Known<Option<CustomResourceDefinition>> {
    let name = format!("metadata.name={}", ModelExposure::crd_name());
    let params = ListParams::default().fields(&name);
    Ok(list(vec![Api::all(client.clone())], params).await?.pop())
}
