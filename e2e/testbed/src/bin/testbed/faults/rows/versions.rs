//! Another version of the operator takes over, or an earlier one did its work under another name. What is there stays
//! what it is: of routes that want the same requests, the older one has them.

use std::collections::BTreeMap;
use std::path::Path;

use fault_proxy::{Seen, Verb};
use kthena_bridge_api::FIELD_MANAGER;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::super::case::{Case, GATEWAY, MODEL};
use super::super::life::Step;
use super::super::operator::Operator;
use super::super::recorded::Settled;
use super::{Ends, PATIENCE, ended, equal, text};

/// Which of two binaries works, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// This one, the other one, and this one again.
    ThereAndBack,
    /// The other one, and then this one.
    FromTheOther,
}

/// What every object was when it was made, by kind and name.
async fn made(case: &Case<'_>) -> Result<BTreeMap<String, String>, String> {
    let model = case.namespace.model_named(MODEL).map_err(text)?;
    let children = model.children().await?.into_iter();
    Ok(children
        .map(|(kind, object)| {
            let created = object.metadata.creation_timestamp.as_ref();
            let created = created.map(|time| time.0.to_string()).unwrap_or_default();
            let uid = object.uid().unwrap_or_default();
            (
                format!("{kind} {}", object.name_any()),
                format!("{uid} of {created}"),
            )
        })
        .collect())
}

/// Fails when an object is another one than it was, or was made or removed since.
async fn same(
    case: &Case<'_>,
    before: &BTreeMap<String, String>,
    seen: &[Seen],
) -> Result<(), String> {
    let remade = seen.iter().find(|seen| {
        let verb = seen.request.verb;
        seen.wrote() && matches!(verb, Verb::Create | Verb::Delete | Verb::DeleteCollection)
    });
    if let Some(remade) = remade {
        return Err(format!("{} although it is there", remade.request));
    }
    let now = made(case).await?;
    if now == *before {
        return Ok(());
    }
    Err(format!("it is another one: {now:?}, and not {before:?}"))
}

/// Has the operator end, and another binary take its place.
async fn replace(case: &mut Case<'_>, binary: &Path) -> Result<(), String> {
    case.operator.signal("TERM").await.map_err(text)?;
    ended(case, &case.operator).await?;
    let next = Operator::start(case.bed, binary, case.namespace.name(), GATEWAY, &[]).await;
    case.operator = next.map_err(text)?;
    Ok(())
}

/// Lives with one version after the other.
pub(super) async fn replaced(
    case: &mut Case<'_>,
    versions: Versions,
    ends: &Ends,
) -> Result<Settled, String> {
    let Some(other) = &ends.other else {
        return Err("there is no other binary: say which by --other".to_owned());
    };
    let this = case.binary;
    if versions == Versions::FromTheOther {
        replace(case, other).await?;
    }
    // What another version writes is its own business, as long as it serves.
    let serves = |state: &super::State| state.is(MODEL, true);
    let since = case.begin(Vec::new());
    Step::Create.take(case, MODEL).await.map_err(text)?;
    case.settle(&since, PATIENCE, serves).await?;
    let before = made(case).await?;
    if versions == Versions::ThereAndBack {
        replace(case, other).await?;
        let since = case.begin(Vec::new());
        Step::Edit.take(case, MODEL).await.map_err(text)?;
        case.settle(&since, PATIENCE, serves).await?;
        same(case, &before, &case.operator.proxy.seen(0)).await?;
    }
    replace(case, this).await?;
    let since = case.begin(Vec::new());
    for step in [Step::Edit, Step::Rename] {
        step.take(case, MODEL).await.map_err(text)?;
        case.reach(ends.of(step)?, PATIENCE.limit).await?;
    }
    let wanted = ends.of(Step::Rename)?;
    let settled = case
        .settle(&since, PATIENCE, |state| equal(state, wanted))
        .await?;
    same(case, &before, &case.operator.proxy.seen(0)).await?;
    Ok(settled)
}

/// What is there was written under another name, as by a version that was called so.
pub(super) async fn renamed(case: &Case<'_>, ends: &Ends) -> Result<Settled, String> {
    ends.live(case, Step::Create).await?;
    let before = made(case).await?;
    let model = case.namespace.model_named(MODEL).map_err(text)?;
    for (kind, object) in model.children().await? {
        let mut entries = serde_json::to_value(object.managed_fields()).map_err(text)?;
        for entry in entries.as_array_mut().into_iter().flatten() {
            if entry["manager"] == FIELD_MANAGER {
                entry["manager"] = Value::from("called-otherwise");
            }
        }
        let patch = Patch::Merge(json!({"metadata": {"managedFields": entries}}));
        let api = model.children_api(kind).map_err(text)?;
        let params = PatchParams::default();
        let renamed = api.patch(&object.name_any(), &params, &patch).await;
        renamed.map_err(|e| format!("{kind}: {e}"))?;
    }
    let since = case.begin(Vec::new());
    case.operator.start_anew().await.map_err(text)?;
    for step in [Step::Edit, Step::Rename] {
        step.take(case, MODEL).await.map_err(text)?;
        case.reach(ends.of(step)?, PATIENCE.limit).await?;
    }
    let wanted = ends.of(Step::Rename)?;
    let settled = case
        .settle(&since, PATIENCE, |state| equal(state, wanted))
        .await?;
    same(case, &before, &case.seen(&since)).await?;
    Ok(settled)
}
