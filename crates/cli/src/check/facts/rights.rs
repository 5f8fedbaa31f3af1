//! What the operator, its endpoint pickers and whoever installs them may do.

use futures::future::join_all;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::{Known, PerNamespace, Rights, Unknown, answer};
use crate::config;

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

pub(super) async fn picker_roles(
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
pub(super) async fn of_operator(
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
pub(super) async fn is_operator(
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

pub(super) async fn may_not_create(
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
