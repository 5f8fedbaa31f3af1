//! What the whole cluster shares: the operator, Kthena, CRDs, rights.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_core::OwnerKind;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testbed::{Error, Model, OPERATOR, OPERATOR_NAMESPACE, Result, exposed_by};

use super::case::{Case, ENGINES, GATEWAY, expose};
use super::probe::Question;
use super::{ABSENT, ANY, MODEL, NOT_TRUE, Situation, answers, fails};

pub(super) fn situations() -> Vec<Situation> {
    let missing = fails("MissingKind", NOT_TRUE);
    let works = answers("Accepted", "Programmed");
    let absent = fails(ABSENT, ABSENT);
    let kthena_was_silent = match exposed_by() {
        // No condition before Kthena's first one: it would never write that.
        OwnerKind::ModelBooster => absent,
        OwnerKind::ModelExposure => fails("Accepted", "WaitingForModel"),
    };
    vec![
        Situation::new("namespace terminating", fails(ANY, NOT_TRUE), terminating),
        Situation::new("DestinationRule deleted, operator stopped", works, deleted).alone(),
        Situation::new(
            "pods unready at the operator's start",
            fails("Accepted", "NoReadyEndpoints"),
            unready,
        )
        .alone(),
        Situation::new("un-annotated, operator stopped", absent, un_annotated).alone(),
        Situation::new("Kthena down", works, kthena_down).alone(),
        Situation::from_nothing(
            "Kthena down, and the Model is new",
            kthena_was_silent,
            kthena_down_and_new,
        )
        .alone(),
        Situation::from_nothing("CRD of DestinationRules missing", missing, crd_missing).alone(),
        Situation::new(
            "CRD of InferenceModelRewrites removed",
            missing,
            crd_removed,
        )
        .alone(),
        Situation::from_nothing(
            "operator may not create Services",
            fails("Forbidden", "EndpointPickerNotReady"),
            forbidden,
        )
        .alone(),
    ]
}

/// Stops the operator, does something, and starts it again. Request and status have to agree from its
/// start on.
async fn while_stopped(case: &Case<'_>, change: impl Future<Output = Result<()>>) -> Result<()> {
    case.bed.scale_operator(0).await?;
    let changed = change.await;
    case.start_clock();
    case.bed.scale_operator(1).await?;
    changed
}

async fn deleted(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    let deleted = async {
        case.delete(model, ChildKind::DestinationRule, "demo-epp")
            .await?;
        case.fails_for_now().await
    };
    case.broken_by(while_stopped(case, deleted)).await;
    Ok(())
}

async fn unready(case: &Case<'_>, _: &Model<'_>) -> Result<()> {
    let unready = async {
        case.set_healthy(false).await?;
        case.wait_for_pods(ENGINES, 0, 1).await.map(drop)
    };
    case.broken_by(while_stopped(case, unready)).await;
    case.undone_by(case.set_healthy(true)).await;
    Ok(())
}

async fn un_annotated(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    let off = [("expose", None)];
    case.broken_by(while_stopped(case, model.annotate(&off)))
        .await;
    case.undone_by(model.annotate(&[("expose", Some("true"))]))
        .await;
    Ok(())
}

async fn kthena_down(case: &Case<'_>, _: &Model<'_>) -> Result<()> {
    case.broken_by(case.bed.stop_kthena()).await;
    case.undone_by(case.bed.start_kthena()).await;
    Ok(())
}

async fn kthena_down_and_new(case: &Case<'_>) -> Result<()> {
    let gateway = case.namespace.gateway(GATEWAY).await?;
    case.bed.stop_kthena().await?;
    let exposed = async {
        let model = case.namespace.model(MODEL).await?;
        case.observe(&model, Question::of(&model, gateway))?;
        case.broken_by(expose(&model, &[])).await;
        Ok(())
    };
    let exposed: Result<()> = exposed.await;
    case.undone_by(case.bed.start_kthena()).await;
    exposed
}

/// The namespace is deleted, and somebody else's finalizer keeps the Model.
async fn terminating(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    let finalizers = |all: Value| json!({"metadata": {"finalizers": all}});
    model
        .patch(&finalizers(json!(["example.com/keep"])))
        .await?;
    let namespaces: Api<Namespace> = Api::all(case.client()?);
    case.broken_by(async {
        let params = DeleteParams::default();
        let deleted = namespaces.delete(case.namespace.name(), &params).await;
        deleted.map_err(|e| Error::Other(format!("deleting the namespace: {e}")))?;
        case.fails_for_now().await
    })
    .await;
    model.patch(&finalizers(json!([]))).await
}

async fn crd_missing(case: &Case<'_>) -> Result<()> {
    let model = case.active().await?;
    case.broken_by(async {
        remove_crd(case, ChildKind::DestinationRule).await?;
        expose(&model, &[]).await
    })
    .await;
    case.undone_by(install_crd(case, ChildKind::DestinationRule))
        .await;
    Ok(())
}

async fn crd_removed(case: &Case<'_>, _: &Model<'_>) -> Result<()> {
    case.broken_by(remove_crd(case, ChildKind::InferenceModelRewrite))
        .await;
    case.undone_by(install_crd(case, ChildKind::InferenceModelRewrite))
        .await;
    Ok(())
}

/// Removes a CRD, and all objects of its kind with it.
async fn remove_crd(case: &Case<'_>, kind: ChildKind) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(case.client()?);
    let name = kind.crd().unwrap_or_default();
    let deleted = definitions.delete(&name, &DeleteParams::default()).await;
    deleted.map_err(|e| Error::Other(format!("deleting {name}: {e}")))?;
    case.wait_for("the CRD is gone", async || {
        match definitions.get_opt(&name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|crd| crd.map(|crd| crd.status)))),
        }
    })
    .await
}

async fn install_crd(case: &Case<'_>, kind: ChildKind) -> Result<()> {
    case.bed
        .install_crds(&[&kind.crd().unwrap_or_default()])
        .await
}

/// One verb is taken out of the operator's role.
async fn forbidden(case: &Case<'_>) -> Result<()> {
    let model = case.active().await?;
    let roles: Api<ClusterRole> = Api::all(case.client()?);
    let failed = |e: kube::Error| Error::Other(format!("ClusterRole {OPERATOR}: {e}"));
    let whole = roles.get(OPERATOR).await.map_err(failed)?.rules;
    let whole = whole.unwrap_or_default();
    let set = async |rules: &[PolicyRule], may: bool| {
        let patch = Patch::Merge(json!({"rules": rules}));
        let patched = roles.patch(OPERATOR, &PatchParams::default(), &patch).await;
        patched.map_err(failed)?;
        wait_until_may_create_services(case, may).await
    };
    let without: Vec<PolicyRule> = whole.iter().flat_map(without_creating_services).collect();
    case.broken_by(async {
        set(&without, false).await?;
        expose(&model, &[]).await
    })
    .await;
    case.undone_by(set(&whole, true)).await;
    Ok(())
}

/// A rule as two: of Services, and of the rest.
fn without_creating_services(rule: &PolicyRule) -> Vec<PolicyRule> {
    let resources = rule.resources.clone().unwrap_or_default();
    let (services, others): (Vec<_>, Vec<_>) = resources
        .into_iter()
        .partition(|resource| resource == "services");
    let with = |resources: Vec<String>| PolicyRule {
        resources: Some(resources),
        ..rule.clone()
    };
    let (mut services, others) = (with(services), with(others));
    services.verbs.retain(|verb| verb != "create");
    let mut both = vec![services, others];
    // A rule needs a resource.
    both.retain(|rule| rule.resources.as_ref().is_some_and(|some| !some.is_empty()));
    both
}

/// The API server takes a moment to follow a change of a role.
async fn wait_until_may_create_services(case: &Case<'_>, may: bool) -> Result<()> {
    let reviews: Api<SubjectAccessReview> = Api::all(case.client()?);
    let review: SubjectAccessReview = serde_json::from_value(json!({
        "metadata": {},
        "spec": {
            "user": format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR}"),
            "resourceAttributes": {
                "verb": "create",
                "resource": "services",
                "namespace": case.namespace.name(),
            },
        },
    }))
    .map_err(|e| Error::Other(format!("a SubjectAccessReview: {e}")))?;
    case.wait_for("the change of the role is in force", async || {
        let answer = reviews.create(&PostParams::default(), &review).await;
        match answer.map_err(|e| e.to_string())?.status {
            Some(status) if status.allowed == may => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}
