//! Annotations, and what stands in the way of writing what they ask for.

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_core::OwnerKind;
use kube::Api;
use kube::api::DeleteParams;
use testbed::{Error, Model, Result, exposed_by};

use super::case::{Case, GATEWAY, expose};
use super::{ABSENT, Expect, MODEL, NOT_TRUE, Situation, answers, fails};

pub(super) fn situations() -> Vec<Situation> {
    // What was serving goes on serving. What the definition of ModelExposures refuses changes nothing.
    let by = exposed_by();
    let (invalid, wrong_at_first) = match by {
        OwnerKind::ModelBooster => (
            answers(by.invalid().as_str(), "Programmed"),
            fails(by.invalid().as_str(), NOT_TRUE),
        ),
        OwnerKind::ModelExposure => (Expect::WORKS, fails(ABSENT, ABSENT)),
    };
    vec![
        Situation::new("annotation unknown", invalid, async |case, model| {
            wrong(case, model, ("no-such-key", "1"), "noSuchField: 1").await
        }),
        Situation::new(
            "annotation target-port=http",
            invalid,
            async |case, model| {
                wrong(case, model, ("target-port", "http"), "targetPort: http").await
            },
        ),
        Situation::new("annotation path=models", invalid, async |case, model| {
            wrong(case, model, ("path", "models"), "path: models").await
        }),
        Situation::new("annotation expose=yes", invalid, async |case, model| {
            wrong(case, model, ("expose", "yes"), "paused: perhaps").await
        }),
        Situation::new(
            "match-model, and nothing sets the header",
            answers(by.invalid().as_str(), "Programmed"),
            async |case, model| annotated(case, model, ("match-model", "true")).await,
        ),
        Situation::from_nothing(
            "annotation wrong from the start",
            wrong_at_first,
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

/// One annotation on a working exposure, and as it was.
pub(super) async fn annotated(
    case: &Case<'_>,
    model: &Model<'_>,
    (key, value): (&str, &str),
) -> Result<()> {
    case.broken_by(model.annotate(&[(key, Some(value))])).await;
    let before = (key == "expose").then_some("true");
    case.undone_by(model.annotate(&[(key, before)])).await;
    Ok(())
}

/// One annotation that is not understood, on a working exposure, and as it was. A ModelExposure that says the like in
/// the `field` of its spec is refused.
async fn wrong(
    case: &Case<'_>,
    model: &Model<'_>,
    annotation: (&str, &str),
    field: &str,
) -> Result<()> {
    match exposed_by() {
        OwnerKind::ModelBooster => annotated(case, model, annotation).await,
        OwnerKind::ModelExposure => {
            case.broken_by(refused_with(case, field)).await;
            Ok(())
        }
    }
}

/// Applies the ModelExposure of a working exposure with another field, as kubectl does, and fails unless that is refused.
async fn refused_with(case: &Case<'_>, field: &str) -> Result<()> {
    let exposure = format!(
        "
apiVersion: kthena-bridge.io/v1alpha1
kind: ModelExposure
metadata: {{name: {MODEL}}}
spec:
  targetRef: {{kind: ModelBooster, name: {MODEL}}}
  gateways: [{{name: {GATEWAY}}}]
  {field}
"
    );
    let name = field.split(':').next().unwrap_or_default();
    match case.apply(&exposure).await {
        Err(error) if error.to_string().contains(&format!("spec.{name}: ")) => Ok(()),
        other => Err(Error::Other(format!(
            "a ModelExposure with {field:?} is to be refused for it: {other:?}"
        ))),
    }
}

async fn wrong_from_the_start(case: &Case<'_>) -> Result<()> {
    let model = case.active().await?;
    match exposed_by() {
        OwnerKind::ModelBooster => {
            case.broken_by(expose(&model, &[("failure-mode", "open")]))
                .await;
            case.undone_by(model.annotate(&[("failure-mode", None)]))
                .await;
        }
        OwnerKind::ModelExposure => {
            case.broken_by(refused_with(case, "failureMode: open"))
                .await;
            case.undone_by(expose(&model, &[])).await;
        }
    }
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
