//! Kthena's own router as the Gateway. It writes no status and passes the model's name on as it is.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use testbed::{Error, KTHENA_ROUTER_NAMESPACE, Model, Result};
use tokio::sync::OnceCell;

use super::case::{Case, SERVED, expose};
use super::pods::replicas;
use super::probe::Question;
use super::{MODEL, Situation, fails};

pub(super) fn situations() -> Vec<Situation> {
    vec![
        Situation::from_nothing(
            "kthena-router, pods unready",
            fails("Accepted", "NoReadyEndpoints"),
            unready,
        ),
        Situation::from_nothing(
            "kthena-router, scaled to zero",
            fails("Accepted", "NoReadyEndpoints"),
            scaled,
        ),
        Situation::from_nothing(
            "kthena-router, target-port that nobody serves",
            fails("Accepted", "PortNotServed"),
            other_port,
        ),
        Situation::from_nothing(
            "kthena-router, by the Model's name",
            fails("Accepted", "Programmed"),
            by_own_name,
        )
        .excepted(
            "kthena-router rewrites no model names; Accepted names those that it does not serve",
        ),
        Situation::from_nothing("kthena-router down", fails("Accepted", "Programmed"), down)
            .excepted("kthena-router writes no status: nobody says that it is down")
            .alone(),
    ]
}

/// A Model that is exposed on the router, and works by the name that its engine serves.
async fn exposed<'b>(case: &Case<'b>) -> Result<Model<'b>> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let installed =
        INSTALLED.get_or_try_init(async || case.bed.install_kthena_router().await.map(drop));
    installed.await?;
    let gateway = case
        .namespace
        .kthena_router_gateway("kthenas-gateway")
        .await?;
    let model = case.namespace.model(MODEL).await?;
    let question = Question {
        port: gateway.port(),
        model: SERVED.to_owned(),
        ..Question::of(&model, *gateway.ip())
    };
    case.observe(&model, question)?;
    expose(&model, &[("gateway", "kthenas-gateway")]).await?;
    case.works().await?;
    Ok(model)
}

async fn unready(case: &Case<'_>) -> Result<()> {
    exposed(case).await?;
    case.broken_by(case.set_healthy(false)).await;
    case.undone_by(case.set_healthy(true)).await;
    Ok(())
}

async fn scaled(case: &Case<'_>) -> Result<()> {
    let model = exposed(case).await?;
    case.broken_by(model.patch(&replicas(0))).await;
    case.undone_by(model.patch(&replicas(1))).await;
    Ok(())
}

async fn other_port(case: &Case<'_>) -> Result<()> {
    let model = exposed(case).await?;
    case.broken_by(model.annotate(&[("target-port", Some("8001"))]))
        .await;
    case.undone_by(model.annotate(&[("target-port", None)]))
        .await;
    Ok(())
}

async fn by_own_name(case: &Case<'_>) -> Result<()> {
    exposed(case).await?;
    let by = async |name: &str| {
        case.ask(|question| name.clone_into(&mut question.model));
        Ok(())
    };
    case.broken_by(by(MODEL)).await;
    case.undone_by(by(SERVED)).await;
    Ok(())
}

async fn down(case: &Case<'_>) -> Result<()> {
    exposed(case).await?;
    case.broken_by(scale_router(case, 0)).await;
    case.undone_by(async {
        scale_router(case, 1).await?;
        let address = case.bed.kthena_router_address().await?;
        case.ask(|question| question.gateways = vec![address]);
        Ok(())
    })
    .await;
    Ok(())
}

async fn scale_router(case: &Case<'_>, replicas: u8) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(case.client()?, KTHENA_ROUTER_NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let scaled = api
        .patch("kthena-router", &PatchParams::default(), &patch)
        .await;
    scaled
        .map_err(|e| Error::Other(format!("scaling kthena-router: {e}")))
        .map(drop)
}
