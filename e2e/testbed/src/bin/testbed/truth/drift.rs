//! What somebody does to the bridge's objects by hand: mended at once, or, while paused, reported.

use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};
use testbed::{Model, Result};

use super::case::Case;
use super::pods::replicas;
use super::{MODEL, NOT_TRUE, Situation, answers, fails};

pub(super) fn situations() -> Vec<Situation> {
    let mended = answers("Accepted", "Programmed");
    let no_endpoints = fails("Accepted", "NoReadyEndpoints");
    vec![
        Situation::new("HTTPRoute deleted by hand", mended, async |case, model| {
            deleted(case, model, ChildKind::HTTPRoute).await
        }),
        Situation::new("pool deleted by hand", mended, async |case, model| {
            deleted(case, model, ChildKind::InferencePool).await
        }),
        Situation::new("pool's selector edited by hand", mended, selector_edited),
        Situation::new(
            "HTTPRoute deleted, paused",
            fails("Accepted", NOT_TRUE),
            async |case, model| {
                deleted_while_paused(case, model, ChildKind::HTTPRoute, MODEL).await
            },
        ),
        Situation::new(
            "pool deleted, paused",
            fails("Accepted", "RouteNotResolved"),
            async |case, model| {
                deleted_while_paused(case, model, ChildKind::InferencePool, MODEL).await
            },
        ),
        Situation::new(
            "pool's selector edited, paused",
            no_endpoints,
            selector_edited_while_paused,
        ),
        // Istio says nothing of it, and speaks plaintext to a picker that wants TLS.
        Situation::new(
            "DestinationRule deleted, paused",
            fails("Accepted", NOT_TRUE),
            async |case, model| {
                deleted_while_paused(case, model, ChildKind::DestinationRule, "demo-epp").await
            },
        ),
        Situation::new(
            "InferenceModelRewrite deleted, paused",
            fails("Accepted", NOT_TRUE),
            async |case, model| {
                deleted_while_paused(case, model, ChildKind::InferenceModelRewrite, MODEL).await
            },
        ),
        Situation::new(
            "paused, then scaled to zero",
            no_endpoints,
            scaled_while_paused,
        ),
    ]
}

async fn deleted(case: &Case<'_>, model: &Model<'_>, kind: ChildKind) -> Result<()> {
    let deleted = case.delete(model, kind, MODEL);
    case.broken_by(case.repaired_after(model, kind, deleted))
        .await;
    Ok(())
}

async fn selector_edited(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    let edited = edit_selector(case, model);
    case.broken_by(case.repaired_after(model, ChildKind::InferencePool, edited))
        .await;
    Ok(())
}

/// Adds a label that no pod has.
async fn edit_selector(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    let edit: Value = json!({"spec": {"selector": {"matchLabels": {"nobody": "has-this"}}}});
    case.patch(model, ChildKind::InferencePool, MODEL, &edit)
        .await
}

/// The bridge undoes it, once it may.
pub(super) async fn deleted_while_paused(
    case: &Case<'_>,
    model: &Model<'_>,
    kind: ChildKind,
    name: &str,
) -> Result<()> {
    case.pause(model).await?;
    case.broken_by(case.delete(model, kind, name)).await;
    case.undone_by(model.annotate(&[("paused", None)])).await;
    Ok(())
}

async fn selector_edited_while_paused(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    case.pause(model).await?;
    case.broken_by(edit_selector(case, model)).await;
    case.undone_by(model.annotate(&[("paused", None)])).await;
    Ok(())
}

async fn scaled_while_paused(case: &Case<'_>, model: &Model<'_>) -> Result<()> {
    case.pause(model).await?;
    case.broken_by(model.patch(&replicas(0))).await;
    case.undone_by(async {
        model.patch(&replicas(1)).await?;
        model.annotate(&[("paused", None)]).await
    })
    .await;
    Ok(())
}
