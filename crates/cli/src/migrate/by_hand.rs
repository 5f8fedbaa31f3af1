//! What was made by hand, or by the inference extension's chart, for a Model: found by what refers to what.

use std::collections::BTreeMap;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role};
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::LABEL_MODEL_NAME;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};

use super::aside::LABEL;
use super::object::Object;
use super::{Error, TEMPORARY};
use crate::observe::cause;

/// The objects of a namespace that may have to do with it.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) objects: Vec<Object>,
    /// Of all namespaces, as far as they may be read.
    pub(super) cluster_role_bindings: Vec<Object>,
    /// The labels of the Model's pods.
    pub(super) pods: Vec<BTreeMap<String, String>>,
}

impl Lists {
    pub(super) async fn read(client: &Client, namespace: &str, model: &str) -> Result<Self, Error> {
        let mut resources: Vec<ApiResource> = ChildKind::ALL
            .iter()
            .map(|kind| kind.api_resource())
            .collect();
        resources.push(ApiResource::erase::<Role>(&()));
        // What the inference extension had before v1.0.
        for kind in ["InferencePool", "InferenceModel"] {
            let gvk = GroupVersionKind::gvk("inference.networking.x-k8s.io", "v1alpha2", kind);
            resources.push(ApiResource::from_gvk(&gvk));
        }
        let all = ListParams::default();
        let lists = resources
            .iter()
            .map(|r| list(client, Some(namespace), r, &all));
        let of_model = ListParams::default().labels(&format!("{LABEL_MODEL_NAME}={model}"));
        let (pod, binding) = (
            ApiResource::erase::<Pod>(&()),
            ApiResource::erase::<ClusterRoleBinding>(&()),
        );
        let (lists, pods, bindings) = tokio::join!(
            join_all(lists),
            list(client, Some(namespace), &pod, &of_model),
            list(client, None, &binding, &all),
        );
        let mut objects = Vec::new();
        for list in lists {
            objects.extend(list?);
        }
        let labels = |pod: &Object| {
            let labels = pod.map("/metadata/labels");
            labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect()
        };
        Ok(Self {
            objects,
            // They are only told of.
            cluster_role_bindings: bindings.unwrap_or_default(),
            pods: pods?.iter().map(labels).collect(),
        })
    }

    fn of(&self, kind: ChildKind) -> impl Iterator<Item = &Object> {
        let resource = kind.api_resource();
        self.objects.iter().filter(move |o| o.resource == resource)
    }

    fn named(&self, kind: ChildKind, name: &str) -> Option<&Object> {
        self.of(kind).find(|o| o.name() == name)
    }
}

/// The objects of a kind; none where it is not installed.
async fn list(
    client: &Client,
    namespace: Option<&str>,
    resource: &ApiResource,
    params: &ListParams,
) -> Result<Vec<Object>, Error> {
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    };
    let read = |problem: String| Error::Read(resource.plural.clone(), problem);
    match api.list(params).await {
        Ok(list) => list
            .items
            .into_iter()
            .map(|object| {
                let value = serde_json::to_value(object).map_err(|e| read(e.to_string()))?;
                Ok(Object::new(resource, value))
            })
            .collect(),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(read(cause(&error))),
    }
}

/// What was made by hand for a Model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ByHand {
    pub(super) route: Object,
    pub(super) pool: Object,
    /// The endpoint picker, its rights and its configuration, and what says of the pool how requests are
    /// treated.
    pub(super) others: Vec<Object>,
    /// What is left for others to delete, and why.
    pub(super) left: Vec<(String, &'static str)>,
}

impl ByHand {
    /// Finds it; nothing when there is no pool for the Model's pods.
    ///
    /// # Errors
    /// When it is not one chain from one route to one pool.
    pub(super) fn find(
        lists: &Lists,
        model: &str,
        uid: &str,
        only_pool: Option<&str>,
    ) -> Result<Option<Self>, Error> {
        let routes_to = |pool: &Object| -> Vec<&Object> {
            let routes = lists.of(ChildKind::HTTPRoute);
            routes
                .filter(|r| !r.is_owned_by(uid) && leads_to(r, pool.name()))
                .collect()
        };
        let mut pools: Vec<&Object> = lists
            .of(ChildKind::InferencePool)
            .filter(|pool| {
                !pool.is_owned_by(uid) && only_pool.is_none_or(|name| pool.name() == name)
            })
            .filter(|pool| lists.selects(pool, model))
            .collect();
        // What a run that was cut off had set aside stands beside what it is a copy of.
        let is_copy = |pool: &Object| pool.map("/metadata/labels").any(|(key, _)| key == LABEL);
        if pools
            .iter()
            .any(|pool| !is_copy(pool) && !routes_to(pool).is_empty())
        {
            pools.retain(|pool| !is_copy(pool));
        } else if pools.iter().any(|pool| is_copy(pool)) {
            pools.retain(|pool| is_copy(pool));
        }
        let pool = match pools.as_slice() {
            [] => return Ok(None),
            [pool] => *pool,
            many => {
                let names: Vec<&str> = many.iter().map(|pool| pool.name()).collect();
                return Err(Error::SeveralPools(names.join(", ")));
            }
        };
        let routes = routes_to(pool);
        // A copy of a route has the requests of its original.
        let originals = routes.iter().copied().filter(|route| !is_copy(route));
        let originals: Vec<&Object> = originals.collect();
        let routes = if originals.is_empty() {
            routes
        } else {
            originals
        };
        let route = match routes.as_slice() {
            [] => return Err(Error::NoRoute(pool.name().to_owned())),
            [route] => *route,
            many => {
                let names: Vec<&str> = many.iter().map(|route| route.name()).collect();
                return Err(Error::SeveralRoutes(
                    names.join(", "),
                    pool.name().to_owned(),
                ));
            }
        };
        let mut found = Self {
            route: route.clone(),
            pool: pool.clone(),
            others: Vec::new(),
            left: Vec::new(),
        };
        found.add_picker(lists);
        for kind in [
            ChildKind::InferenceObjective,
            ChildKind::InferenceModelRewrite,
        ] {
            let of_pool = lists
                .of(kind)
                .filter(|o| !o.is_owned_by(uid) && o.text("/spec/poolRef/name") == pool.name());
            found.others.extend(of_pool.cloned());
        }
        for old in &lists.objects {
            let is_old = old.resource.version == "v1alpha2"
                && (old.is("InferencePool") || old.is("InferenceModel"));
            let concerns =
                old.name() == pool.name() || old.text("/spec/poolRef/name") == pool.name();
            if is_old && concerns {
                let called = format!("{old} of inference.networking.x-k8s.io");
                found
                    .left
                    .push((called, "Gateways of today do not read it"));
            }
        }
        Ok(Some(found))
    }

    /// The endpoint picker, by the Service that the pool names.
    fn add_picker(&mut self, lists: &Lists) {
        let service = self.pool.text("/spec/endpointPickerRef/name").to_owned();
        let Some(service) = lists.named(ChildKind::Service, &service) else {
            return;
        };
        let namespace = self.pool.namespace().to_owned();
        self.others.push(service.clone());
        let rules = lists.of(ChildKind::DestinationRule).filter(|rule| {
            let host = rule.text("/spec/host");
            let host = host.strip_prefix(service.name()).unwrap_or("?");
            let namespaced = format!(".{namespace}");
            host.is_empty()
                || host
                    .strip_prefix(&namespaced)
                    .is_some_and(|d| d.is_empty() || d.starts_with('.'))
        });
        self.others.extend(rules.cloned());
        let selector: Vec<(&str, &str)> = service.map("/spec/selector").collect();
        let is_selected = |deployment: &&Object| {
            let labels: BTreeMap<&str, &str> =
                deployment.map("/spec/template/metadata/labels").collect();
            !selector.is_empty() && selector.iter().all(|(k, v)| labels.get(k) == Some(v))
        };
        let deployments: Vec<&Object> = lists
            .of(ChildKind::Deployment)
            .filter(is_selected)
            .collect();
        self.others.extend(deployments.iter().copied().cloned());
        for deployment in &deployments {
            self.add_parts(lists, deployment, &deployments);
        }
    }

    /// What only this Deployment uses.
    fn add_parts(&mut self, lists: &Lists, deployment: &Object, pickers: &[&Object]) {
        let others = || {
            lists
                .of(ChildKind::Deployment)
                .filter(|d| !pickers.contains(d))
        };
        let account = deployment.text("/spec/template/spec/serviceAccountName");
        for name in config_maps(deployment) {
            let shared = others().any(|other| config_maps(other).any(|n| n == name));
            match lists.named(ChildKind::ConfigMap, name) {
                Some(map) if !shared => self.add(map),
                Some(map) => self
                    .left
                    .push((map.to_string(), "other Deployments use it")),
                None => {}
            }
        }
        if matches!(account, "" | "default") {
            return;
        }
        if others().any(|other| other.text("/spec/template/spec/serviceAccountName") == account) {
            let called = format!("ServiceAccount {account}");
            self.left.push((called, "other Deployments use it"));
            return;
        }
        if let Some(account) = lists.named(ChildKind::ServiceAccount, account) {
            self.add(account);
        }
        let namespace = deployment.namespace();
        for binding in lists
            .of(ChildKind::RoleBinding)
            .filter(|b| is_for(b, account, namespace))
        {
            if binding.list("/subjects").len() > 1 {
                self.left
                    .push((binding.to_string(), "others are bound by it, too"));
                continue;
            }
            self.add(binding);
            let of_role = |b: &&Object| {
                b.text("/roleRef/kind") == "Role"
                    && b.text("/roleRef/name") == binding.text("/roleRef/name")
            };
            let bindings = lists.of(ChildKind::RoleBinding).filter(of_role).count();
            let role = lists
                .objects
                .iter()
                .find(|o| o.is("Role") && o.name() == binding.text("/roleRef/name"));
            if let Some(role) = role.filter(|_| bindings == 1) {
                self.add(role);
            }
        }
        for binding in &lists.cluster_role_bindings {
            if is_for(binding, account, namespace) {
                let called = binding.to_string();
                self.left.push((
                    called,
                    "it is of the whole cluster; nobody needs it any more",
                ));
            }
        }
    }

    fn add(&mut self, object: &Object) {
        if !self.others.contains(object) {
            self.others.push(object.clone());
        }
    }

    /// All that is replaced; the route, through which requests come, first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Object> {
        [&self.route, &self.pool].into_iter().chain(&self.others)
    }

    /// Those of a kind.
    pub(super) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Object> {
        self.all().filter(move |o| o.is(kind))
    }
}

impl Lists {
    /// Whether a pool is for the Model: by its pods, or by the labels of Kthena's guide, which its pods have
    /// not had for long.
    fn selects(&self, pool: &Object, model: &str) -> bool {
        let selector: Vec<(&str, &str)> = pool.map("/spec/selector/matchLabels").collect();
        let of_guide = selector.contains(&("app.kubernetes.io/instance", model))
            && selector.contains(&("app.kubernetes.io/managed-by", "kthena"));
        let has = |pod: &BTreeMap<String, String>| {
            let fits = |(key, value): &(&str, &str)| pod.get(*key).is_some_and(|v| v == value);
            selector.iter().all(fits)
        };
        of_guide || (!selector.is_empty() && self.pods.iter().any(has))
    }
}

/// Whether a route has a backend that is this pool, and has requests: those of one that an earlier run has
/// parked go elsewhere already.
fn leads_to(route: &Object, pool: &str) -> bool {
    if route
        .text("/spec/rules/0/matches/0/path/value")
        .starts_with(TEMPORARY)
    {
        return false;
    }
    let rules = route.list("/spec/rules").iter();
    rules
        .flat_map(|rule| rule["backendRefs"].as_array().into_iter().flatten())
        .any(|backend| backend["kind"] == "InferencePool" && backend["name"] == pool)
}

fn config_maps(deployment: &Object) -> impl Iterator<Item = &str> {
    let volumes = deployment.list("/spec/template/spec/volumes").iter();
    volumes.filter_map(|volume| volume.pointer("/configMap/name")?.as_str())
}

fn is_for(binding: &Object, account: &str, namespace: &str) -> bool {
    binding.list("/subjects").iter().any(|subject| {
        let of = subject["namespace"]
            .as_str()
            .unwrap_or_else(|| binding.namespace());
        subject["kind"] == "ServiceAccount" && subject["name"] == account && of == namespace
    })
}
