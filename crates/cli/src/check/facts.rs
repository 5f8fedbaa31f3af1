//! What is read for the checks, each kind once and all side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kthena_bridge_api::child::{LABEL_MANAGED_BY, MANAGED_BY};
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::{Config, Source};
use kube::api::{ListParams, PostParams};
use kube::core::{NamespaceResourceScope, ObjectMeta};
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::config;
use crate::observe::cause;

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
            let (rights, picker_role, pickers, sources) = tokio::join!(
                rights(client, namespace, account, itself, &scopes),
                picker_roles(client, role, &scopes),
                workloads(client, &scopes, &pickers),
                sources(client, &scopes),
            );
            Some(Installed {
                operators,
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

/// The rules of a role: of a ClusterRole where all namespaces are watched.
async fn role(client: &Client, scope: &str, name: &str) -> Known<Option<Vec<PolicyRule>>> {
    let rules = if scope.is_empty() {
        let api: Api<ClusterRole> = Api::all(client.clone());
        answer(api.get_opt(name)).await?.map(|role| role.rules)
    } else {
        let api: Api<Role> = Api::namespaced(client.clone(), scope);
        answer(api.get_opt(name)).await?.map(|role| role.rules)
    };
    Ok(rules.map(Option::unwrap_or_default))
}

/// The role and the subjects of a binding: of a ClusterRoleBinding where all namespaces are watched.
async fn binding(
    client: &Client,
    scope: &str,
    name: &str,
) -> Known<Option<(RoleRef, Vec<Subject>)>> {
    let binding = if scope.is_empty() {
        let api: Api<ClusterRoleBinding> = Api::all(client.clone());
        answer(api.get_opt(name))
            .await?
            .map(|binding| (binding.role_ref, binding.subjects))
    } else {
        let api: Api<RoleBinding> = Api::namespaced(client.clone(), scope);
        answer(api.get_opt(name))
            .await?
            .map(|binding| (binding.role_ref, binding.subjects))
    };
    Ok(binding.map(|(role, subjects)| (role, subjects.unwrap_or_default())))
}

async fn picker_roles(
    client: &Client,
    name: &str,
    scopes: &[String],
) -> PerNamespace<Option<Vec<PolicyRule>>> {
    let roles = scopes
        .iter()
        .map(async |scope| (scope.clone(), role(client, scope, name).await));
    join_all(roles).await.into_iter().collect()
}

/// What the operator may do. When the caller is the operator, it asks for itself, which everybody may.
async fn rights(
    client: &Client,
    namespace: &str,
    account: &str,
    itself: bool,
    scopes: &[String],
) -> PerNamespace<Rights> {
    let rights = scopes.iter().map(async |scope| {
        let rights = if itself {
            // A ClusterRole's rules are those of every namespace, too.
            let asked = if scope.is_empty() { namespace } else { scope };
            own_rights(client, asked).await
        } else {
            granted(client, scope, namespace, account).await
        };
        (scope.clone(), rights)
    });
    join_all(rights).await.into_iter().collect()
}

/// Whether the caller is the operator: has its ServiceAccount, or, where that may not be seen, the usual one, or
/// any of its namespace together with its configuration, as `helm test` has.
async fn is_operator(
    client: &Client,
    namespace: &str,
    account: Option<&str>,
    has_config: bool,
) -> bool {
    let who: Api<SelfSubjectReview> = Api::all(client.clone());
    let caller = answer(who.create(&PostParams::default(), &SelfSubjectReview::default())).await;
    let caller = caller
        .ok()
        .and_then(|review| review.status?.user_info?.username)
        .unwrap_or_default();
    // <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>
    let own = caller.strip_prefix(&format!("system:serviceaccount:{namespace}:"));
    own.is_some_and(|name| match account {
        Some(account) => account == name,
        None => has_config || name == config::NAME,
    })
}

async fn own_rights(client: &Client, namespace: &str) -> Known<Rights> {
    let reviews: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let status = answer(reviews.create(&PostParams::default(), &review))
        .await?
        .status
        .unwrap_or_default();
    let rules = status.resource_rules.into_iter().map(|rule| PolicyRule {
        api_groups: rule.api_groups,
        resources: rule.resources,
        resource_names: rule.resource_names,
        verbs: rule.verbs,
        ..PolicyRule::default()
    });
    Ok(Rights::Own(rules.collect()))
}

/// What the operator's role says.
async fn granted(client: &Client, scope: &str, namespace: &str, account: &str) -> Known<Rights> {
    let (rules, binding) = tokio::join!(
        role(client, scope, config::NAME),
        binding(client, scope, config::NAME),
    );
    let (Some(rules), binding) = (rules?, binding?) else {
        return Ok(Rights::NoRole);
    };
    let bound = binding.is_some_and(|(role, subjects)| {
        let to_operator = subjects.iter().any(|subject| {
            subject.kind == "ServiceAccount"
                && subject.name == account
                && subject.namespace.as_deref() == Some(namespace)
        });
        let kind = if scope.is_empty() {
            "ClusterRole"
        } else {
            "Role"
        };
        to_operator && role.kind == kind && role.name == config::NAME
    });
    Ok(Rights::Role { rules, bound })
}

/// What an installation creates in the operator's namespace.
const INSTALLED: [(&str, &str); 6] = [
    ("", "serviceaccounts"),
    ("", "configmaps"),
    ("apps", "deployments"),
    ("", "services"),
    // For the Lease.
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
];
/// What it creates beside them: the kinds of `config/`.
const OF_CLUSTER: [(&str, &str); 3] = [
    ("", "namespaces"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
];
/// What it creates instead, in each namespace that the operator is confined to.
const OF_NAMESPACE: [(&str, &str); 2] = [
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
];

async fn may_not_create(
    client: &Client,
    namespace: &str,
    scopes: &[String],
    pre: bool,
) -> Known<Vec<String>> {
    if !pre {
        return Ok(Vec::new());
    }
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut needed: Vec<(&str, (&str, &str))> = Vec::new();
    for scope in scopes {
        if scope.is_empty() {
            needed.extend(OF_CLUSTER.map(|kind| ("", kind)));
        } else {
            needed.extend(OF_NAMESPACE.map(|kind| (scope.as_str(), kind)));
        }
    }
    needed.extend(INSTALLED.map(|kind| (namespace, kind)));
    let asked = needed.into_iter().map(async |(within, (group, resource))| {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(group.to_owned()),
                    namespace: (!within.is_empty()).then(|| within.to_owned()),
                    resource: Some(resource.to_owned()),
                    verb: Some("create".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let review = answer(reviews.create(&PostParams::default(), &review)).await?;
        let allowed = review.status.is_some_and(|status| status.allowed);
        Ok((!allowed).then(|| match within {
            "" => resource.to_owned(),
            within => format!("{resource} in {within}"),
        }))
    });
    let refused: Result<Vec<Option<String>>, Unknown> = join_all(asked).await.into_iter().collect();
    Ok(refused?.into_iter().flatten().collect())
}
