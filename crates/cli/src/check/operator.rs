//! The operator: whether it runs, and may do what it has to.

use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::Config;
use kube::CustomResourceExt as _;

use super::facts::{Facts, Installed, PerNamespace, Rights, Workload};
use super::report::{Category, Check, Subject};
use super::version::{Version, base};
use super::{names, pickers, rights, unknown};

const OWN: &str = env!("CARGO_PKG_VERSION");

pub(super) fn category(facts: &Facts, installed: &Installed) -> Category {
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
            many => checks.push(several(many, facts.is_confined())),
        },
    }
    // Without an operator, it is of no use to tell what it lacks.
    if installed.operators.as_ref().is_ok_and(Vec::is_empty) {
        return Category {
            name: "operator",
            checks,
        };
    }
    checks.push(match &facts.config {
        Ok(_) => Check::ok(
            Subject::OperatorConfiguration,
            "its configuration is understood",
        ),
        Err(why) => unknown(Subject::OperatorConfiguration, "its configuration", why),
    });
    checks.push(definition(installed));
    checks.extend(own_rights(facts, installed));
    checks.extend(picker_rights(facts, installed));
    if let Ok(config) = &facts.config {
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

/// An older definition drops fields that it does not know from what is applied, and says nothing.
fn definition(installed: &Installed) -> Check {
    let subject = Subject::ModelExposureDefinition;
    let apply = "kthena-bridge crds | kubectl apply --server-side --force-conflicts --filename -";
    match &installed.definition {
        Err(why) => unknown(subject, "the definition of ModelExposure", why),
        Ok(None) => Check::warning(
            subject,
            "ModelExposure is not installed",
            format!("Models are exposed by annotations only. If you want it:\n{apply}"),
        ),
        Ok(Some(found)) if found.spec.versions == ModelExposure::crd().spec.versions => Check::ok(
            subject,
            "ModelExposure is installed, in this command's version",
        ),
        Ok(Some(_)) => Check::warning(
            subject,
            "ModelExposure is installed, in another version than this command's",
            format!(
                "Fields that it does not have are dropped from ModelExposures. If it is the older one:\n{apply}"
            ),
        ),
    }
}

fn several(operators: &[Workload], confined: bool) -> Check {
    let all: Vec<String> = operators
        .iter()
        .map(|o| format!("{}/{}", o.namespace, o.name))
        .collect();
    let said = format!("there are several operators: {}", names(&all));
    if confined {
        let hint = "That is all right as long as each is confined to namespaces of its own. Choose the one that is \
             checked with --operator-namespace.";
        return Check::warning(Subject::Operator, said, hint);
    }
    let hint = "They write against each other. Remove all but one.";
    Check::failed(Subject::Operator, said, hint)
}

/// One check of each namespace in which something is wrong, one of those of which nothing is known, and one of
/// those in which all is well.
fn per_namespace<T>(
    known: &PerNamespace<T>,
    subject: Subject,
    (what, fine): (&str, &str),
    judge: impl Fn(&str, &T) -> Option<Check>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let (mut well, mut hidden, mut cause) = (Vec::new(), Vec::new(), None);
    for (namespace, known) in known {
        match known {
            Ok(known) => match judge(namespace, known) {
                None => well.push(namespace.as_str()),
                Some(check) => checks.push(check),
            },
            Err(why) => {
                hidden.push(namespace.as_str());
                cause = cause.or(Some(why));
            }
        }
    }
    if !well.is_empty() {
        checks.push(Check::ok(subject, format!("{fine}{}", within(&well))));
    }
    if let Some(why) = cause {
        let what = format!("{what}{}", within(&hidden));
        checks.push(unknown(subject, &what, why));
    }
    checks
}

/// Nothing of the cluster, which has the empty name.
fn within(namespaces: &[&str]) -> String {
    match namespaces {
        [] | [""] => String::new(),
        namespaces => format!(" in {}", names(namespaces)),
    }
}

/// What to do about a role that is missing, or lacks something.
fn apply(namespace: &str, files: &[&str]) -> String {
    if namespace.is_empty() {
        let files: Vec<String> = files.iter().map(|f| format!("-f config/{f}")).collect();
        return format!(
            "In a checkout of its version:\nkubectl apply {}",
            files.join(" ")
        );
    }
    format!(
        "The chart of its version makes what it needs in the namespaces of the value watchNamespaces: see that \
         {namespace} is one of them, and upgrade the release."
    )
}

fn own_rights(facts: &Facts, installed: &Installed) -> Vec<Check> {
    let subject = Subject::OperatorRights;
    let default = Config::default();
    let config = facts.config.as_ref().unwrap_or(&default);
    let picker_role = config.endpoint_picker.cluster_role.as_str();
    let fine = "the operator has all rights that it needs";
    per_namespace(
        &installed.rights,
        subject,
        ("its rights", fine),
        |namespace, granted| {
            let of_cluster = namespace.is_empty();
            let (prefix, needed) = if of_cluster {
                ("Cluster", rights::of_operator(picker_role))
            } else {
                ("", rights::of_confined_operator(picker_role))
            };
            let within = within(&[namespace]);
            let apply = apply(
                namespace,
                &["cluster-role.yaml", "cluster-role-binding.yaml"],
            );
            let nothing = format!("The operator can do nothing{within}. {apply}");
            let rules = match granted {
                Rights::NoRole => {
                    let said = format!("there is no {prefix}Role kthena-bridge{within}");
                    return Some(Check::failed(subject, said, nothing));
                }
                Rights::Role { bound: false, .. } => {
                    let said = format!(
                        "no {prefix}RoleBinding kthena-bridge binds the operator to its role{within}"
                    );
                    return Some(Check::failed(subject, said, nothing));
                }
                Rights::Role { rules, .. } | Rights::Own(rules) => rules,
            };
            let missing = rights::missing(&needed, rules);
            if missing.is_empty() {
                return None;
            }
            // One that may do all may read its ConfigMap.
            let confined = if facts.config.is_err() && of_cluster {
                "If it is confined to namespaces, give its configuration with --config. "
            } else {
                ""
            };
            Some(Check::failed(
                subject,
                format!("the operator may not {}{within}", names(&missing)),
                format!("{confined}Its role is not that of its version. {apply}"),
            ))
        },
    )
}

fn picker_rights(facts: &Facts, installed: &Installed) -> Vec<Check> {
    let subject = Subject::PickerRights;
    let default = Config::default();
    let config = facts.config.as_ref().unwrap_or(&default);
    let name = &config.endpoint_picker.cluster_role;
    let kind = if config.namespaces.is_empty() {
        "ClusterRole"
    } else {
        "Role"
    };
    let role = format!("{kind} {name}");
    let fine = format!("endpoint pickers get all rights by {role}");
    per_namespace(
        &installed.picker_role,
        subject,
        (&role, &fine),
        |namespace, granted| {
            let (within, apply) = (
                within(&[namespace]),
                apply(namespace, &["endpoint-picker-cluster-role.yaml"]),
            );
            let said = match granted {
                None => format!("there is no {role}{within}"),
                Some(granted) => {
                    let missing = rights::missing(&rights::of_pickers(), granted);
                    if missing.is_empty() {
                        return None;
                    }
                    let missing = names(&missing);
                    format!("by {role}, endpoint pickers may not {missing}{within}")
                }
            };
            let hint = format!("Endpoint pickers do not start without it. {apply}");
            Some(Check::failed(subject, said, hint))
        },
    )
}
