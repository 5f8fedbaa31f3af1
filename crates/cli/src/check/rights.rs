//! Which of the rights that are needed are granted.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

/// What the operator needs: the role that its manifests have, with the name of the one that it binds endpoint
/// pickers to.
pub(super) fn of_operator(picker_role: &str) -> Vec<PolicyRule> {
    let mut rules = rules(include_str!("../../../../config/cluster-role.yaml"));
    for rule in &mut rules {
        if rule.verbs == ["bind"] {
            rule.resource_names = Some(vec![picker_role.to_owned()]);
        }
    }
    rules
}

/// What an operator that is confined to namespaces needs in each of them: what it needs of no namespace is left
/// out, and the role that it lets endpoint pickers have is one of the namespace.
pub(super) fn of_confined_operator(picker_role: &str) -> Vec<PolicyRule> {
    let cluster_wide = ["customresourcedefinitions", "gatewayclasses", "namespaces"];
    let mut rules = of_operator(picker_role);
    for rule in &mut rules {
        if let Some(resources) = &mut rule.resources {
            resources.retain(|resource| !cluster_wide.contains(&resource.as_str()));
            for resource in resources {
                if resource == "clusterroles" {
                    "roles".clone_into(resource);
                }
            }
        }
    }
    rules.retain(|rule| rule.resources.iter().flatten().next().is_some());
    rules
}

/// What an endpoint picker needs.
pub(super) fn of_pickers() -> Vec<PolicyRule> {
    rules(include_str!(
        "../../../../config/endpoint-picker-cluster-role.yaml"
    ))
}

fn rules(manifest: &str) -> Vec<PolicyRule> {
    // A test reads them.
    let role: ClusterRole = serde_yaml::from_str(manifest).unwrap_or_default();
    role.rules.unwrap_or_default()
}

/// What is needed and not granted, such as `list pods`.
pub(super) fn missing(needed: &[PolicyRule], granted: &[PolicyRule]) -> Vec<String> {
    let mut missing = Vec::new();
    for rule in needed {
        let names = rule.resource_names.as_deref().unwrap_or_default();
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    if !granted
                        .iter()
                        .any(|g| grants(g, group, resource, names, verb))
                    {
                        let dot = if group.is_empty() { "" } else { "." };
                        missing.push(format!("{verb} {resource}{dot}{group}"));
                    }
                }
            }
        }
    }
    missing
}

/// <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources>
fn grants(rule: &PolicyRule, group: &str, resource: &str, names: &[String], verb: &str) -> bool {
    let has = |all: Option<&Vec<String>>, one: &str| {
        all.into_iter()
            .flatten()
            .any(|name| name == "*" || name == one)
    };
    let subresource = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    has(rule.api_groups.as_ref(), group)
        && (has(rule.resources.as_ref(), resource)
            || subresource.is_some_and(|any| has(rule.resources.as_ref(), &any)))
        && has(Some(&rule.verbs), verb)
        && match rule.resource_names.as_deref().unwrap_or_default() {
            [] => true,
            only => !names.is_empty() && names.iter().all(|name| only.contains(name)),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]) -> PolicyRule {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        PolicyRule {
            api_groups: Some(owned(groups)),
            resources: Some(owned(resources)),
            resource_names: (!names.is_empty()).then(|| owned(names)),
            verbs: owned(verbs),
            ..PolicyRule::default()
        }
    }

    #[test]
    fn the_manifests_grant_what_they_need_and_nothing_grants_nothing() {
        for needed in [of_operator("a"), of_confined_operator("a"), of_pickers()] {
            assert!(needed.len() > 2, "{needed:?}");
            assert_eq!(missing(&needed, &needed), Vec::<String>::new());
            let all = rule(&["*"], &["*"], &[], &["*"]);
            assert_eq!(missing(&needed, &[all]), Vec::<String>::new());
            assert!(missing(&needed, &[]).len() > needed.len());
        }
    }

    #[test]
    fn a_confined_operator_needs_nothing_of_the_cluster() {
        let beyond = missing(&of_operator("a"), &of_confined_operator("a"));
        assert_eq!(
            beyond,
            [
                "list customresourcedefinitions.apiextensions.k8s.io",
                "watch customresourcedefinitions.apiextensions.k8s.io",
                "list namespaces",
                "watch namespaces",
                "list gatewayclasses.gateway.networking.k8s.io",
                "watch gatewayclasses.gateway.networking.k8s.io",
                "bind clusterroles.rbac.authorization.k8s.io",
            ]
        );
        let own = missing(&of_confined_operator("a"), &of_operator("a"));
        assert_eq!(own, ["bind roles.rbac.authorization.k8s.io"]);
        let another = missing(&of_confined_operator("a"), &of_confined_operator("b"));
        assert_eq!(another, own);
    }

    #[test]
    fn a_right_is_missing_unless_group_resource_name_and_verb_fit() {
        let needed = [
            rule(&["apps"], &["deployments"], &[], &["list", "patch"]),
            rule(&[""], &["pods/status"], &[], &["patch"]),
            rule(&["rbac"], &["roles"], &["mine"], &["bind"]),
        ];
        let granted = [
            rule(&["apps"], &["deployments"], &[], &["list"]),
            rule(&["apps"], &["deployments"], &["one"], &["patch"]),
            rule(&["", "x"], &["*/status"], &[], &["patch"]),
            rule(&["rbac"], &["roles"], &["other"], &["bind"]),
        ];
        assert_eq!(
            missing(&needed, &granted),
            ["patch deployments.apps", "bind roles.rbac"]
        );
    }
}
