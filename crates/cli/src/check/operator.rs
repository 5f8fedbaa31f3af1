//! The operator: whether it runs, and may do what it has to.

use kthena_bridge_core::Config;

use super::facts::{Installed, Place, Rights, Workload};
use super::report::{Category, Check, Subject};
use super::version::{Version, base};
use super::{names, pickers, rights, unknown};
use crate::config;

const OWN: &str = env!("CARGO_PKG_VERSION");

pub(super) fn category(installed: &Installed) -> Category {
    let mut checks = Vec::new();
    match &installed.operators {
        Err(why) => checks.push(unknown(Subject::Operator, "the operator", why)),
        Ok(found) => match found.as_slice() {
            [] => checks.push(Check::failed(
                Subject::Operator,
                "the operator is not installed",
                "helm install kthena-bridge charts/kthena-bridge --namespace kthena-bridge-system --create-namespace",
            )),
            [one] => {
                checks.push(Check::ok(
                    Subject::Operator,
                    format!("the operator is installed: {}/{}", one.namespace, one.name),
                ));
                checks.push(ready(one));
                checks.push(version(one));
            }
            many => {
                let all: Vec<String> =
                    many.iter().map(|o| format!("{}/{}", o.namespace, o.name)).collect();
                checks.push(Check::failed(
                    Subject::Operator,
                    format!("there are several operators: {}", names(&all)),
                    "They write against each other. Remove all but one.",
                ));
            }
        },
    }
    // Without an operator, it is of no use to tell what it lacks.
    if installed.operators.as_ref().is_ok_and(Vec::is_empty) {
        return Category {
            name: "operator",
            checks,
        };
    }
    checks.push(match &installed.config {
        Ok(_) => Check::ok(
            Subject::OperatorConfiguration,
            "its configuration is understood",
        ),
        Err(why) => unknown(Subject::OperatorConfiguration, "its configuration", why),
    });
    checks.push(match &installed.rights {
        Err(why) => unknown(Subject::OperatorRights, "its rights", why),
        Ok(rights) => own_rights(rights, installed),
    });
    checks.push(picker_rights(installed));
    if let Ok(config) = &installed.config {
        checks.push(pickers::image(config.endpoint_picker.image()));
    }
    Category {
        name: "operator",
        checks,
    }
}

fn ready(operator: &Workload) -> Check {
    let subject = Subject::OperatorReady;
    if operator.ready > 0 {
        return Check::ok(subject, "the operator is ready");
    }
    let Workload {
        namespace,
        name,
        wanted,
        ..
    } = operator;
    if *wanted == 0 {
        return Check::failed(
            subject,
            "the operator is scaled to 0",
            format!(
                "What is exposed goes on serving, and nobody keeps it.\n\
                     kubectl -n {namespace} scale deployment {name} --replicas=1"
            ),
        );
    }
    Check::failed(
        subject,
        "the operator has no ready pod",
        format!(
            "kubectl -n {namespace} describe deployment {name}\nkubectl -n {namespace} logs deployment/{name}"
        ),
    )
}

fn version(operator: &Workload) -> Check {
    let subject = Subject::OperatorVersion;
    let image = operator
        .images
        .iter()
        .find(|image| base(image) == "kthena-bridge");
    let image = image.or(operator.images.first()).map_or("", String::as_str);
    match (Version::of_image(image), Version::parse(OWN)) {
        (Some(theirs), Some(own)) if theirs == own => Check::ok(
            subject,
            format!("the operator is {theirs}, as this command"),
        ),
        (Some(theirs), _) => Check::warning(
            subject,
            format!("the operator is {theirs}, and this command v{OWN}"),
            "What this command knows of the operator may not hold. Use the command of its version.",
        ),
        (None, _) => Check::warning(
            subject,
            format!("the version of the operator cannot be told by its image {image:?}"),
            format!("This command is v{OWN}."),
        ),
    }
}

/// The configuration, as far as it is known.
fn configuration(installed: &Installed) -> Config {
    installed.config.clone().unwrap_or_default()
}

/// A role as it is called.
fn called(place: &Place, name: &str) -> String {
    match place {
        None => format!("ClusterRole {name}"),
        Some(namespace) => format!("Role {namespace}/{name}"),
    }
}

fn own_rights(granted: &[(Place, Rights)], installed: &Installed) -> Check {
    let subject = Subject::OperatorRights;
    let needed = rights::of_operator(&configuration(installed));
    for (place, rights) in granted {
        let role = called(place, config::NAME);
        let apply = match place {
            None => {
                "In a checkout of its version:\n\
                     kubectl apply -f config/cluster-role.yaml -f config/cluster-role-binding.yaml"
            }
            Some(_) => {
                "The chart of its version makes it for each of watchNamespaces: helm upgrade"
            }
        };
        let rules = match rights {
            Rights::NoRole => {
                return Check::failed(
                    subject,
                    format!("there is no {role}"),
                    format!("The operator can do nothing there. {apply}"),
                );
            }
            Rights::Role { bound: false, .. } => {
                return Check::failed(
                    subject,
                    format!(
                        "no binding called {} binds the operator to {role}",
                        config::NAME
                    ),
                    format!("The operator can do nothing there. {apply}"),
                );
            }
            Rights::Role { rules, .. } | Rights::Own(rules) => rules,
        };
        let missing = rights::missing(&needed, rules);
        if !missing.is_empty() {
            let place = place.as_ref();
            let place = place.map_or_else(String::new, |n| format!(" in namespace {n}"));
            return Check::failed(
                subject,
                format!("the operator may not {}{place}", names(&missing)),
                format!("Apply the role of its version. {apply}"),
            );
        }
    }
    Check::ok(subject, "the operator has all rights that it needs")
}

fn picker_rights(installed: &Installed) -> Check {
    let subject = Subject::PickerRights;
    let config = configuration(installed);
    let name = &config.endpoint_picker.cluster_role;
    let roles = match &installed.picker_roles {
        Ok(roles) => roles,
        Err(why) => {
            let kind = if config.namespaces.is_empty() {
                "ClusterRole"
            } else {
                "Role"
            };
            return unknown(subject, &format!("{kind} {name}"), why);
        }
    };
    let mut all = Vec::new();
    for (place, granted) in roles {
        let role = called(place, name.as_str());
        let apply = match place {
            None => {
                "Endpoint pickers do not start without it. In a checkout:\n\
                     kubectl apply -f config/endpoint-picker-cluster-role.yaml"
            }
            Some(_) => {
                "Endpoint pickers do not start without it. The chart makes it for each of watchNamespaces: \
                        helm upgrade"
            }
        };
        let Some(granted) = granted else {
            return Check::failed(subject, format!("there is no {role}"), apply);
        };
        let missing = rights::missing(&rights::of_pickers(), granted);
        if !missing.is_empty() {
            let said = format!("by {role}, endpoint pickers may not {}", names(&missing));
            return Check::failed(subject, said, apply);
        }
        all.push(role);
    }
    let said = format!("endpoint pickers get all rights by {}", names(&all));
    Check::ok(subject, said)
}
