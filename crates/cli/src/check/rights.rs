//! Which of the rights that are needed are granted.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kthena_bridge_core::Config;

/// What belongs to no namespace, so that an operator of some namespaces does without.
const OF_THE_CLUSTER: [&str; 3] = ["customresourcedefinitions", "gatewayclasses", "namespaces"];

/// What an operator with this configuration needs, in the cluster or in each of its namespaces: the role that
/// its manifests have.
pub(super) fn of_operator(config: &Config) -> Vec<PolicyRule> {
    let mut rules = rules(include_str!("../../../../config/cluster-role.yaml"));
    let confined = !config.namespaces.is_empty();
    for rule in &mut rules {
        let resources = rule.resources.get_or_insert_default();
        if confined {
            resources.retain(|resource| !OF_THE_CLUSTER.contains(&resource.as_str()));
        }
        if rule.verbs == ["bind"] {
            let role = config.endpoint_picker.cluster_role.as_str();
            rule.resource_names = Some(vec![role.to_owned()]);
            if confined {
                *resources = vec!["roles".to_owned()];
            }
        }
    }
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
        for needed in [of_operator(&Config::default()), of_pickers()] {
            assert!(needed.len() > 2, "{needed:?}");
            assert_eq!(missing(&needed, &needed), Vec::<String>::new());
            let all = rule(&["*"], &["*"], &[], &["*"]);
            assert_eq!(missing(&needed, &[all]), Vec::<String>::new());
            assert!(missing(&needed, &[]).len() > needed.len());
        }
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
