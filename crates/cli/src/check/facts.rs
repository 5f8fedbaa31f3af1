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
use kthena_bridge_core::Config;
use kube::api::{ListParams, PostParams};
use kube::core::ObjectMeta;
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
    /// The ServiceAccount of its pods.
    pub(crate) account: String,
    /// The images of its containers.
    pub(crate) images: Vec<String>,
    /// What is set in the environment of its containers.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) wanted: i32,
    pub(crate) ready: i32,
}

/// The resources that are served, by group and version.
pub(crate) type Served = BTreeMap<(String, String), BTreeSet<String>>;

/// The metadata of the CRDs, by the CRD's name.
pub(crate) type Definitions = BTreeMap<String, ObjectMeta>;

/// What the operator may do, and how that is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rights {
    /// It asks for itself.
    Own(Vec<PolicyRule>),
    /// The role of its name has these, and is bound to its ServiceAccount, or not.
    Role { rules: Vec<PolicyRule>, bound: bool },
    /// There is no role of its name.
    NoRole,
}

/// Where a role is: in the namespace of this name, or in the cluster.
pub(crate) type Place = Option<String>;

/// All that is known.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The API server's version.
    pub(crate) kubernetes: String,
    pub(crate) served: Known<Served>,
    pub(crate) definitions: Known<Definitions>,
    pub(crate) classes: Known<Vec<GatewayClass>>,
    pub(crate) gateways: Known<Vec<Gateway>>,
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
    pub(crate) config: Known<Config>,
    /// In each namespace that it watches.
    pub(crate) rights: Known<Vec<(Place, Rights)>>,
    /// The role of the endpoint pickers, likewise.
    pub(crate) picker_roles: Known<Vec<(Place, Option<Vec<PolicyRule>>)>>,
    pub(crate) pickers: Known<Vec<Workload>>,
    pub(crate) models: Known<Vec<ModelBooster>>,
}

/// Why there is nothing to check.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the API server does not answer: {0}; choose a cluster with --kubeconfig or --context")]
    NoAnswer(String),
}

impl Facts {
    /// Reads everything; `pre` leaves out what the operator brings.
    pub(crate) async fn read(
        client: &Client,
        operator_namespace: &str,
        pre: bool,
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
        let installed = async {
            if pre {
                None
            } else {
                Some(Box::pin(Installed::read(client, operator_namespace)).await)
            }
        };
        let (served, definitions, classes, gateways, kthena, istiod, may_not_create, installed) = tokio::join!(
            served(client),
            definitions(client),
            list(client, ListParams::default()),
            list(client, ListParams::default()),
            workloads(
                client,
                "app.kubernetes.io/component=kthena-controller-manager"
            ),
            workloads(client, "app=istiod"),
            may_not_create(client, operator_namespace, pre),
            installed,
        );
        Ok(Self {
            kubernetes: version.git_version,
            served,
            definitions,
            classes,
            gateways,
            kthena,
            istiod,
            may_not_create,
            installed,
        })
    }
}

impl Installed {
    async fn read(client: &Client, operator_namespace: &str) -> Self {
        let operator = async {
            let everywhere = workloads(client, "app.kubernetes.io/name=kthena-bridge").await;
            let mut operators = match everywhere {
                Ok(operators) => Ok(operators),
                Err(_) => workload(client, operator_namespace, config::NAME).await,
            };
            if let Ok(operators) = &mut operators {
                operators.retain(|o| o.name == config::NAME);
            }
            let (namespace, account) = match operators.as_deref() {
                Ok([first, ..]) => (first.namespace.as_str(), first.account.as_str()),
                _ => (operator_namespace, config::NAME),
            };
            let config = config_of(client, namespace).await;
            let default = Config::default();
            let known = config.as_ref().unwrap_or(&default);
            let places: Vec<Place> = match known.namespaces.as_slice() {
                [] => vec![None],
                some => some.iter().map(|n| Some(n.as_str().to_owned())).collect(),
            };
            let name = known.endpoint_picker.cluster_role.as_str();
            let (rights, picker_roles) = tokio::join!(
                rights(client, namespace, account, &places),
                in_each(&places, async |place| role(client, place, name).await),
            );
            (operators, config, rights, picker_roles)
        };
        let pickers = format!("{LABEL_MANAGED_BY}={MANAGED_BY}");
        let ((operators, config, rights, picker_roles), pickers, models) = tokio::join!(
            operator,
            workloads(client, &pickers),
            list(client, ListParams::default()),
        );
        Self {
            operators,
            config,
            rights,
            picker_roles,
            pickers,
            models,
        }
    }
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

/// The objects of a kind in all namespaces; none where the kind is not installed, which is told by its own
/// check.
async fn list<K>(client: &Client, params: ListParams) -> Known<Vec<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client.clone());
    answer(async {
        match api.list(&params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            list => list.map(|list| list.items),
        }
    })
    .await
}

/// The Deployments with a label, in all namespaces.
async fn workloads(client: &Client, labels: &str) -> Known<Vec<Workload>> {
    let params = ListParams::default().labels(labels);
    let deployments: Vec<Deployment> = list(client, params).await?;
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
        let account = pod.service_account_name;
        let containers = pod.containers;
        let environment = containers.iter().flat_map(|c| c.env.iter().flatten());
        Self {
            namespace: namespace.unwrap_or_default(),
            name,
            account: account.unwrap_or_else(|| "default".to_owned()),
            environment: environment
                .filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?)))
                .collect(),
            images: containers.into_iter().filter_map(|c| c.image).collect(),
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

/// The same of each place.
async fn in_each<T>(
    places: &[Place],
    read: impl AsyncFn(Option<&str>) -> Known<T>,
) -> Known<Vec<(Place, T)>> {
    let all = join_all(places.iter().map(|place| read(place.as_deref()))).await;
    let each = places.iter().zip(all);
    each.map(|(place, read)| Ok((place.clone(), read?)))
        .collect()
}

/// The rules of a role; nothing where there is none.
async fn role(client: &Client, place: Option<&str>, name: &str) -> Known<Option<Vec<PolicyRule>>> {
    let rules = match place {
        None => {
            let api: Api<ClusterRole> = Api::all(client.clone());
            answer(api.get_opt(name)).await?.map(|role| role.rules)
        }
        Some(namespace) => {
            let api: Api<Role> = Api::namespaced(client.clone(), namespace);
            answer(api.get_opt(name)).await?.map(|role| role.rules)
        }
    };
    Ok(rules.map(Option::unwrap_or_default))
}

/// What the operator's binding binds to whom; nothing where there is none.
async fn binding(client: &Client, place: Option<&str>) -> Known<Option<(RoleRef, Vec<Subject>)>> {
    let found = match place {
        None => {
            let api: Api<ClusterRoleBinding> = Api::all(client.clone());
            let found = answer(api.get_opt(config::NAME)).await?;
            found.map(|binding| (binding.role_ref, binding.subjects))
        }
        Some(namespace) => {
            let api: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
            let found = answer(api.get_opt(config::NAME)).await?;
            found.map(|binding| (binding.role_ref, binding.subjects))
        }
    };
    Ok(found.map(|(role, subjects)| (role, subjects.unwrap_or_default())))
}

/// What the operator may do. When the caller is the operator, it asks for itself, which everybody may.
async fn rights(
    client: &Client,
    namespace: &str,
    account: &str,
    places: &[Place],
) -> Known<Vec<(Place, Rights)>> {
    let who: Api<SelfSubjectReview> = Api::all(client.clone());
    let caller = answer(who.create(&PostParams::default(), &SelfSubjectReview::default())).await;
    let caller = caller
        .ok()
        .and_then(|review| review.status?.user_info?.username);
    let operator = format!("system:serviceaccount:{namespace}:{account}");
    if caller.is_some_and(|name| name == operator) {
        let own = async |place: Option<&str>| own(client, place.unwrap_or(namespace)).await;
        return in_each(places, own).await;
    }
    in_each(places, async |place| {
        let (role, binding) =
            tokio::join!(role(client, place, config::NAME), binding(client, place));
        let (Some(rules), binding) = (role?, binding?) else {
            return Ok(Rights::NoRole);
        };
        let bound = binding.is_some_and(|(role, subjects)| {
            let is_operator = |subject: &Subject| {
                subject.kind == "ServiceAccount"
                    && subject.name == account
                    && subject.namespace.as_deref() == Some(namespace)
            };
            role.name == config::NAME && subjects.iter().any(is_operator)
        });
        Ok(Rights::Role { rules, bound })
    })
    .await
}

/// What the caller may do in a namespace.
async fn own(client: &Client, namespace: &str) -> Known<Rights> {
    let reviews: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let review = answer(reviews.create(&PostParams::default(), &review)).await?;
    let rules = review.status.unwrap_or_default().resource_rules.into_iter();
    let rules = rules.map(|rule| PolicyRule {
        api_groups: rule.api_groups,
        resources: rule.resources,
        resource_names: rule.resource_names,
        verbs: rule.verbs,
        ..PolicyRule::default()
    });
    Ok(Rights::Own(rules.collect()))
}

/// What an installation creates: the kinds of `config/`.
const INSTALLED: [(&str, &str); 7] = [
    ("", "namespaces"),
    ("", "serviceaccounts"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("", "configmaps"),
    ("apps", "deployments"),
    ("", "services"),
];

async fn may_not_create(client: &Client, namespace: &str, pre: bool) -> Known<Vec<String>> {
    if !pre {
        return Ok(Vec::new());
    }
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let asked = INSTALLED.map(async |(group, resource)| {
        let cluster_wide = resource == "namespaces" || resource.starts_with("cluster");
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(group.to_owned()),
                    namespace: (!cluster_wide).then(|| namespace.to_owned()),
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
        Ok((!allowed).then(|| resource.to_owned()))
    });
    let refused: Result<Vec<Option<String>>, Unknown> = join_all(asked).await.into_iter().collect();
    Ok(refused?.into_iter().flatten().collect())
}
