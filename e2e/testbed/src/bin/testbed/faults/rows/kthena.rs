//! Kthena beside us: it writes the same status, or it does not run.

use std::time::Duration;

use futures::future::{Either, select};
use kthena_bridge_api::kthena::ModelBooster;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use serde_json::{Value, json};

use super::super::case::{Case, MODEL};
use super::super::life::Step;
use super::super::recorded::Settled;
use super::{Ends, PATIENCE, equal, text};

/// Between two of Kthena's writes.
const PAUSE: Duration = Duration::from_millis(50);
const KTHENAS: [&str; 2] = ["Initialized", "Active"];

/// Kthena's conditions of the Model, without when they turned.
async fn conditions(case: &Case<'_>) -> Result<Vec<(String, String)>, String> {
    let model = case.namespace.model_named(MODEL).map_err(text)?;
    let conditions = model.get().await?.status.unwrap_or_default().conditions;
    let all = conditions.into_iter().map(|c| (c.type_, c.status));
    Ok(all
        .filter(|(type_, _)| KTHENAS.contains(&type_.as_str()))
        .collect())
}

/// Fails when a condition of Kthena's is not what it was.
async fn survived(case: &Case<'_>, before: &[(String, String)]) -> Result<(), String> {
    let now = conditions(case).await?;
    if now == before {
        return Ok(());
    }
    Err(format!(
        "Kthena's conditions are {now:?}, and not {before:?}"
    ))
}

/// Writes the status as Kthena does, whole and over the version that was read, each time with something else to say
/// of `Active`, and counts how often it came through. Never ends.
async fn write(case: &Case<'_>, wrote: &mut u32) -> Result<(), String> {
    let client = case.bed.client().map_err(text)?;
    // Of the type, what we do not know would be lost.
    let resource = ApiResource::erase::<ModelBooster>(&());
    let models: Api<DynamicObject> = Api::namespaced_with(client, case.namespace.name(), &resource);
    loop {
        let mut model = models.get(MODEL).await.map_err(text)?;
        // As long as Kthena takes to make its status up.
        tokio::time::sleep(PAUSE).await;
        let conditions = model.data.pointer_mut("/status/conditions");
        let conditions = conditions.and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten() {
            if condition["type"] == "Active" {
                condition["message"] = json!(format!("told {wrote} times"));
            }
        }
        match models
            .replace_status(MODEL, &PostParams::default(), &model)
            .await
        {
            Ok(_) => *wrote += 1,
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => return Err(format!("Kthena cannot write: {error}")),
        }
    }
}

/// Lives while Kthena writes the same status: what both say is there in the end.
pub(super) async fn writes(case: &Case<'_>, ends: &Ends) -> Result<Settled, String> {
    let before = conditions(case).await?;
    let since = case.begin(Vec::new());
    let mut wrote = 0;
    let lived = async {
        for step in [Step::Create, Step::Edit, Step::Rename] {
            step.take(case, MODEL).await.map_err(text)?;
            let wanted = ends.of(step)?;
            case.reach(wanted, PATIENCE.limit).await?;
        }
        Ok::<_, String>(())
    };
    let result = match select(Box::pin(lived), Box::pin(write(case, &mut wrote))).await {
        Either::Left((lived, _)) => lived,
        Either::Right((wrote, _)) => wrote,
    };
    result?;
    if wrote == 0 {
        return Err("Kthena wrote nothing".to_owned());
    }
    survived(case, &before).await?;
    let wanted = ends.of(Step::Rename)?;
    case.settle(&since, PATIENCE, |state| equal(state, wanted))
        .await
}

/// Lives while Kthena does not run.
pub(super) async fn down(case: &Case<'_>, ends: &Ends) -> Result<Settled, String> {
    let before = conditions(case).await?;
    case.bed.stop_kthena().await.map_err(text)?;
    let lived = async {
        ends.live(case, Step::Create).await?;
        let since = case.begin(Vec::new());
        Step::Edit.take(case, MODEL).await.map_err(text)?;
        let edited = ends.of(Step::Edit)?;
        case.settle(&since, PATIENCE, |state| equal(state, edited))
            .await
    };
    let lived = lived.await;
    case.bed.start_kthena().await.map_err(text)?;
    let settled = lived?;
    ends.live(case, Step::Rename).await?;
    survived(case, &before).await?;
    Ok(settled)
}
