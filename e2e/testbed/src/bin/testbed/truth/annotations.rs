//! Annotations, and what stands in the way of writing what they ask for.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::DeleteParams;
use testbed::{Error, Model, Result};

use super::case::{Case, expose};
use super::{ABSENT, MODEL, NOT_TRUE, Situation, answers, fails};

pub(super) fn situations() -> Vec<Situation> {
    // What was serving goes on serving.
    let invalid = answers("InvalidAnnotation", "Programmed");
    vec![
        Situation::new("annotation unknown", invalid, async |case, model| {
            annotated(case, model, ("no-such-key", "1")).await
        }),
        Situation::new(
            "annotation target-port=http",
            invalid,
            async |case, model| annotated(case, model, ("target-port", "http")).await,
        ),
        Situation::new("annotation path=models", invalid, async |case, model| {
            annotated(case, model, ("path", "models")).await
        }),
        Situation::new("annotation expose=yes", invalid, expose_yes),
        Situation::new(
            "match-model, and nothing sets the header",
            invalid,
            async |case, model| annotated(case, model, ("match-model", "true")).await,
        ),
        Situation::from_nothing(
            "annotation wrong from the start",
            fails("InvalidAnnotation", NOT_TRUE),
            wrong_from_the_start,
        ),
        Situation::new("un-annotated", fails(ABSENT, ABSENT), un_annotated),
        Situation::new(
            "path changed",
            answers("Accepted", "Programmed"),
            path_changed,
        ),
        Situation::from_nothing(
            "foreign ConfigMap of the picker's name",
            fails("NameConflict", "EndpointPickerNotReady"),
            async |case| foreign(case, ChildKind::ConfigMap, "demo-epp", CONFIG_MAP).await,
        ),
        Situation::from_nothing(
            "foreign InferencePool of the Model's name",
            fails("NameConflict", NOT_TRUE),
            async |case| foreign(case, ChildKind::InferencePool, MODEL, POOL).await,
        ),
        Situation::from_nothing(
            "foreign HTTPRoute of the Model's name",
            fails("NameConflict", NOT_TRUE),
            async |case| foreign(case, ChildKind::HTTPRoute, MODEL, ROUTE).await,
        ),
        Situation::from_nothing(
            "a policy refuses the HTTPRoute",
            fails("Accepted", "ApplyFailed"),
            refused,
        ),
    ]
}

/// One annotation on a working exposure, and off again.
pub(super) async fn annotated(
    case: &Case<'_>,
    model: &Model<'_>,
    (key, value): (&str, &str),
) -> Result<()> {
    case.broken_by(model.annotate(&[(key, Some(value))])).await;
    case.undone_by(model.annotate(&[(key, None)])).await;
    Ok(())
}

async fn expose_yes(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    case.broken_by(model.annotate(&[("expose", Some("yes"))]))
        .await;
    case.undone_by(model.annotate(&[("expose", Some("true"))]))
        .await;
    Ok(())
}

async fn wrong_from_the_start(case: &Case<'_>) -> Result<()> {
    let model = case.active().await?;
    case.broken_by(expose(&model, &[("failure-mode", "open")]))
        .await;
    case.undone_by(model.annotate(&[("failure-mode", None)]))
        .await;
    Ok(())
}

async fn un_annotated(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    case.broken_by(model.annotate(&[("expose", None)])).await;
    case.undone_by(model.annotate(&[("expose", Some("true"))]))
        .await;
    Ok(())
}

async fn path_changed(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    let to = async |path: Option<&str>| {
        case.ask(|question| path.unwrap_or_default().clone_into(&mut question.path));
        model.annotate(&[("path", path)]).await
    };
    case.broken_by(to(Some("/moved"))).await;
    case.undone_by(to(None)).await;
    Ok(())
}

const CONFIG_MAP: &str =
    "{apiVersion: v1, kind: ConfigMap, metadata: {name: demo-epp}, data: {mine: 'true'}}";
const POOL: &str = "
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: demo}
spec:
  selector: {matchLabels: {app: somebody-elses}}
  targetPorts: [{number: 80}]
  endpointPickerRef: {name: somebody-elses, port: {number: 9002}}
";
/// Attached to nothing, so that it claims nothing.
const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: demo}
spec: {hostnames: [somebody-elses.example.com]}
";

/// An object of somebody else has the name that ours is to have.
async fn foreign(case: &Case<'_>, kind: ChildKind, name: &str, yaml: &str) -> Result<()> {
    let model = case.active().await?;
    case.apply(yaml).await?;
    case.broken_by(expose(&model, &[])).await;
    case.undone_by(case.delete(&model, kind, name)).await;
    Ok(())
}

/// Refuses, in one namespace, routes to the path that the Model is to be served at.
const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: NAME}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAME}}
    resourceRules:
    - apiGroups: [gateway.networking.k8s.io]
      apiVersions: ['*']
      operations: [CREATE, UPDATE]
      resources: [httproutes]
  validations:
  - expression: \"!object.spec.rules.exists(r, r.matches.exists(m, m.path.value == '/refused'))\"
    message: this path is refused
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: NAME}
spec: {policyName: NAME, validationActions: [Deny]}
";
const CANARY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary}
spec:
  hostnames: [canary.example.com]
  rules: [{matches: [{path: {type: PathPrefix, value: /refused}}]}]
";

async fn refused(case: &Case<'_>) -> Result<()> {
    let name = case.namespace.name();
    let model = case.active().await?;
    case.ask(|question| "/refused".clone_into(&mut question.path));
    case.apply(&POLICY.replace("NAME", name)).await?;
    let in_force = case.wait_for("the policy is in force", async || {
        match case.apply(CANARY).await {
            Err(error) if error.to_string().contains("this path is refused") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    in_force.await?;
    case.broken_by(expose(&model, &[("path", "/refused")]))
        .await;
    case.undone_by(async {
        let failed = |e: kube::Error| Error::Other(format!("deleting policy {name}: {e}"));
        let (client, params) = (case.client()?, DeleteParams::default());
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
        bindings.delete(name, &params).await.map_err(failed)?;
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client);
        policies
            .delete(name, &params)
            .await
            .map_err(failed)
            .map(drop)
    })
    .await;
    Ok(())
}
