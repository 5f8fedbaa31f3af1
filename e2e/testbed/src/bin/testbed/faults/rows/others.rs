//! What others do to an exposure: rivals, objects that are there already, every way to delete, and ways out of
//! what is broken.

use std::time::{Duration, Instant};

use kthena_bridge_api::FIELD_MANAGER;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::gateway::Gateway;
use kthena_bridge_core::OwnerKind;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use testbed::exposed_by;

use super::super::case::{Case, GATEWAY, MODEL};
use super::super::life::Step;
use super::super::recorded::Settled;
use super::{Ends, PATIENCE, api, equal, name_of, object_of, text};

/// How long a rival goes on, and between two of its writes.
const RIVALRY: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
/// The most that the operator may write meanwhile: what it makes good 5 times, by two writes where the rival adds
/// to what is the operator's alone, and what the first write takes more.
const ANSWERS: u32 = 11;

/// Fights about a field, and comes to rest when the rival does.
pub(super) async fn rival(
    case: &Case<'_>,
    kind: ChildKind,
    ends: &Ends,
) -> Result<Settled, String> {
    let served = ends.live(case, Step::Create).await?;
    let patch = match kind {
        ChildKind::HTTPRoute => json!({"spec": {"hostnames": ["rival.example.com"]}}),
        _ => json!({"spec": {"selector": {"matchLabels": {"rival": "true"}}}}),
    };
    let (api, name) = (api(case, kind)?, name_of(kind));
    let params = PatchParams {
        field_manager: Some("rival".to_owned()),
        ..PatchParams::default()
    };
    let since = case.begin(Vec::new());
    let began = Instant::now();
    while began.elapsed() < RIVALRY {
        let patched = api.patch(&name, &params, &Patch::Merge(&patch)).await;
        patched.map_err(|e| format!("the rival cannot write: {e}"))?;
        tokio::time::sleep(PAUSE).await;
    }
    let wrote = case.written(&since, kind, &name);
    if wrote > ANSWERS {
        return Err(format!("it wrote {wrote} times in {RIVALRY:?}"));
    }
    case.settle(&since, PATIENCE, |state| equal(state, served))
        .await
}

/// Leaves the object alone, says so, and goes on when it is gone.
pub(super) async fn foreign(
    case: &Case<'_>,
    kind: ChildKind,
    ends: &Ends,
) -> Result<Settled, String> {
    let served = ends.of(Step::Create)?;
    let (api, name) = (api(case, kind)?, name_of(kind));
    let object = object_of(case, served, kind, &name)?;
    api.create(&PostParams::default(), &object)
        .await
        .map_err(|e| format!("creating it: {e}"))?;
    let since = case.begin(Vec::new());
    let annotated = Step::Create.take(case, MODEL).await;
    annotated.map_err(|e| e.to_string())?;
    case.settle(&since, PATIENCE, |state| state.refuses(MODEL))
        .await?;
    let live = api.get(&name).await.map_err(|e| e.to_string())?;
    let touched = live
        .managed_fields()
        .iter()
        .any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    if touched || !live.owner_references().is_empty() {
        return Err(format!("it was touched: {live:#?}"));
    }
    let since = case.begin(Vec::new());
    api.delete(&name, &DeleteParams::background())
        .await
        .map_err(|e| format!("deleting it: {e}"))?;
    case.settle(&since, PATIENCE, |state| equal(state, served))
        .await
}

/// Nothing is left but what is to be. The namespace is of no use any more: what Kthena leaves to itself may stay.
pub(super) async fn deleted(case: &Case<'_>, how: &str, ends: &Ends) -> Result<Settled, String> {
    ends.live(case, Step::Create).await?;
    let closed = ends.of(Step::Close)?;
    let model = case.namespace.model_named(MODEL).map_err(text)?;
    let asking = model.asking().map_err(text)?;
    let propagation = match how {
        "Foreground" => PropagationPolicy::Foreground,
        "Orphan" => PropagationPolicy::Orphan,
        _ => PropagationPolicy::Background,
    };
    let params = DeleteParams {
        propagation_policy: Some(propagation),
        ..DeleteParams::default()
    };
    let since = case.begin(Vec::new());
    asking.delete(MODEL, &params).await.map_err(text)?;
    let settled = if how == "Orphan" {
        let settled = case
            .settle(&since, PATIENCE, |state| state.is_orphaned(MODEL))
            .await?;
        let wrote = match exposed_by() {
            OwnerKind::ModelBooster => settled.requests > 0,
            // The Model no longer says what a ModelExposure said that is gone.
            OwnerKind::ModelExposure => {
                let orphaned = |object: &String| !object.ends_with("/status");
                settled.writes.keys().any(orphaned)
            }
        };
        if wrote {
            return Err(format!("it wrote what was orphaned: {:?}", settled.writes));
        }
        settled
    } else {
        case.settle(&since, PATIENCE, |state| equal(state, closed))
            .await?
    };
    Ok(settled)
}

/// Takes everything away although the Gateway is gone, which comes back in the end.
pub(super) async fn without_gateway(case: &Case<'_>, ends: &Ends) -> Result<Settled, String> {
    ends.live(case, Step::Create).await?;
    let closed = ends.of(Step::Close)?;
    let client = case.bed.client().map_err(|e| e.to_string())?;
    let gateways: Api<Gateway> = Api::namespaced(client, case.namespace.name());
    let params = DeleteParams::default();
    let deleted = gateways.delete(GATEWAY, &params).await;
    deleted.map_err(|e| e.to_string())?;
    let since = case.begin(Vec::new());
    let taken = Step::Close.take(case, MODEL).await;
    taken.map_err(|e| e.to_string())?;
    let settled = case
        .settle(&since, PATIENCE, |state| equal(state, closed))
        .await?;
    let made = case.namespace.gateway(GATEWAY).await;
    made.map_err(|e| e.to_string())?;
    Ok(settled)
}
