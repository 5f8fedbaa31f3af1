//! Who the operator of a plan is: a user with the rights that the manifests of `config/` give, in one namespace, and
//! with nothing else.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use testbed::{Error, Namespace, OPERATOR, Result, config, documents};

/// How long it may take until a right is there, or gone.
const IN_FORCE: Duration = Duration::from_secs(15);
/// What grants the operator its rights.
const ROLES: [&str; 2] = ["cluster-role.yaml", "leader-election-role.yaml"];
/// What it may bind.
const PICKERS_ROLE: &str = "endpoint-picker-cluster-role.yaml";

/// A right of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Right {
    pub(crate) verb: &'static str,
    pub(crate) on: Resource,
}

/// What a right is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// A kind that is written.
    Child(ChildKind),
    /// Anything else, by its plural, and its subresource behind a slash.
    Other(&'static str),
}

impl Right {
    /// The plural, and the subresource behind a slash.
    pub(crate) fn resource(self) -> String {
        match self.on {
            Resource::Child(kind) => kind.api_resource().plural,
            Resource::Other(resource) => resource.to_owned(),
        }
    }
}

/// The user that the operator of a namespace is.
pub(crate) fn user(namespace: &str) -> String {
    format!("system:serviceaccount:{namespace}:{OPERATOR}")
}

/// Reads a role of the operator's, as it is where it works in one namespace only.
fn role(name: &str) -> Result<String> {
    let path = config().join(name);
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|e| Error::Other(format!("reading {}: {e}", path.display())))?;
    Ok(text
        .replace("kind: ClusterRole", "kind: Role")
        .replace("[clusterroles]", "[roles]"))
}

/// A right as a rule of a role grants it.
struct Granted {
    group: String,
    resource: String,
    /// Of this object only.
    name: Option<String>,
    verb: String,
}

impl Granted {
    /// Those of the operator.
    fn all() -> Result<Vec<Self>> {
        let mut granted = Vec::new();
        for name in ROLES {
            let documents = documents(&role(name)?)?;
            let rules = documents.iter().flat_map(rules);
            for rule in rules {
                for group in strings(&rule["apiGroups"]) {
                    for resource in strings(&rule["resources"]) {
                        for verb in strings(&rule["verbs"]) {
                            granted.push(Self {
                                group: group.clone(),
                                resource: resource.clone(),
                                name: strings(&rule["resourceNames"]).next(),
                                verb,
                            });
                        }
                    }
                }
            }
        }
        Ok(granted)
    }

    fn is(&self, right: Right) -> bool {
        self.verb == right.verb && self.resource == right.resource()
    }

    fn rule(&self) -> Value {
        let names: Vec<&String> = self.name.iter().collect();
        json!({"apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb],
            "resourceNames": names})
    }
}

fn rules(role: &Value) -> impl Iterator<Item = &Value> {
    role["rules"].as_array().into_iter().flatten()
}

fn strings(list: &Value) -> impl Iterator<Item = String> {
    let strings = list.as_array().into_iter().flatten();
    strings.filter_map(|string| string.as_str().map(str::to_owned))
}

/// Gives the operator of a namespace all of its rights there.
pub(crate) async fn grant(namespace: &Namespace<'_>) -> Result<()> {
    let granted = Granted::all()?;
    namespace.apply(&role(PICKERS_ROLE)?).await?;
    apply(namespace, granted.iter()).await?;
    match granted.last() {
        Some(last) => wait_until(namespace, last, true).await,
        None => Ok(()),
    }
}

/// Takes one of them away.
pub(crate) async fn take(namespace: &Namespace<'_>, right: Right) -> Result<()> {
    let granted = Granted::all()?;
    apply(namespace, granted.iter().filter(|g| !g.is(right))).await?;
    wait_until(namespace, find(&granted, right)?, false).await
}

/// Gives it back.
pub(crate) async fn give_back(namespace: &Namespace<'_>, right: Right) -> Result<()> {
    let granted = Granted::all()?;
    apply(namespace, granted.iter()).await?;
    wait_until(namespace, find(&granted, right)?, true).await
}

fn find(granted: &[Granted], right: Right) -> Result<&Granted> {
    let found = granted.iter().find(|granted| granted.is(right));
    found.ok_or_else(|| Error::Other(format!("no role of the operator grants {right:?}")))
}

async fn apply(namespace: &Namespace<'_>, granted: impl Iterator<Item = &Granted>) -> Result<()> {
    let api_version = "rbac.authorization.k8s.io/v1";
    let metadata = json!({"name": OPERATOR});
    let rules: Vec<Value> = granted.map(Granted::rule).collect();
    let role =
        json!({"apiVersion": api_version, "kind": "Role", "metadata": metadata, "rules": rules});
    let binding = json!({"apiVersion": api_version, "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": OPERATOR},
        "subjects": [{"kind": "ServiceAccount", "name": OPERATOR, "namespace": namespace.name()}]});
    for object in [role, binding] {
        namespace.apply(&object.to_string()).await?;
    }
    Ok(())
}

/// Waits until a right is there, or gone.
async fn wait_until(namespace: &Namespace<'_>, right: &Granted, wanted: bool) -> Result<()> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (right.resource.as_str(), None),
    };
    let asked = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user(namespace.name())),
            resource_attributes: Some(ResourceAttributes {
                group: Some(right.group.clone()),
                name: right.name.clone(),
                namespace: Some(namespace.name().to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(right.verb.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(namespace.bed().client()?);
    let what = format!("that one may {} {resource} is {wanted}", right.verb);
    let waited = namespace.bed().wait_for(what, IN_FORCE, async || {
        let answer = reviews.create(&PostParams::default(), &asked).await;
        let status = answer.map_err(|e| e.to_string())?.status;
        let allowed = status.as_ref().is_some_and(|status| status.allowed);
        (allowed == wanted)
            .then_some(())
            .ok_or(format!("{status:?}"))
    });
    waited.await
}
