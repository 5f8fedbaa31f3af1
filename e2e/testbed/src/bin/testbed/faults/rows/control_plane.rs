//! The API server is away, and etcd is full, under an operator that goes on.

use std::time::Duration;

use fault_proxy::Seen;
use kthena_bridge_api::child::ChildKind;
use kube::api::DeleteParams;

use super::super::case::{Case, MODEL};
use super::super::life::Step;
use super::super::recorded::Settled;
use super::super::state::State;
use super::{Ends, PATIENCE, api, equal, refused, text};

/// The most requests of each watch to an API server that is away: some at once, and then one in so many seconds, on
/// an average, since the delays grow from 0.2 to 15 s.
const AT_ONCE: u64 = 6;
const PACE: u64 = 3;

/// The API server ends, and is started again after this time. The operator is the same, writes nothing since
/// nothing is different, and answers the next change.
pub(super) async fn outage(
    case: &Case<'_>,
    away: Duration,
    ends: &Ends,
) -> Result<Settled, String> {
    let served = ends.live(case, Step::Create).await?;
    let before = case.operator.fate();
    let begun = case.begin(Vec::new());
    case.bed.stop_api_server().await.map_err(text)?;
    tokio::time::sleep(away).await;
    let asked = case.seen(&begun).len();
    case.bed.start_api_server().await.map_err(text)?;
    let each = u64::try_from(asked / case.watched.len().max(1)).unwrap_or(u64::MAX);
    if each > AT_ONCE + away.as_secs() / PACE {
        return Err(format!("each watch asked {each} times in {away:?}"));
    }
    let fits = |state: &State, seen: &[Seen]| {
        case.is_watched(seen)?;
        equal(state, served)
    };
    let (_, seen) = case.rest(&begun, PATIENCE, fits).await?;
    let wrote: Vec<_> = seen.iter().filter(|seen| seen.request.writes()).collect();
    if !wrote.is_empty() {
        return Err(format!("it wrote what was as wanted: {wrote:?}"));
    }
    let since = case.begin(Vec::new());
    Step::Edit.take(case, MODEL).await.map_err(text)?;
    let edited = ends.of(Step::Edit)?;
    let settled = case
        .settle(&since, PATIENCE, |state| equal(state, edited))
        .await?;
    let after = case.operator.fate();
    if (after.pid, after.started.len()) != (before.pid, before.started.len()) {
        return Err(format!("it was started again: {after:?}"));
    }
    Ok(settled)
}

/// etcd takes nothing any more, as at the end of its quota. What is gone meanwhile is made again afterwards.
pub(super) async fn full(case: &Case<'_>, ends: &Ends) -> Result<Settled, String> {
    let served = ends.live(case, Step::Create).await?;
    let before = case.operator.fate();
    case.bed.fill_etcd().await.map_err(text)?;
    let refused = async {
        let begun = case.begin(Vec::new());
        let routes = api(case, ChildKind::HTTPRoute)?;
        let deleted = routes.delete(MODEL, &DeleteParams::background()).await;
        deleted.map_err(|e| format!("deleting the HTTPRoute: {e}"))?;
        refused::patiently(case, &begun, |seen| {
            let full = |message: &String| message.contains("database space exceeded");
            seen.request.resource == "httproutes" && seen.refused.as_ref().is_some_and(full)
        })
        .await
    };
    let refused = refused.await;
    case.bed.empty_etcd().await.map_err(text)?;
    refused?;
    let since = case.begin(Vec::new());
    let settled = case
        .settle(&since, PATIENCE, |state| equal(state, served))
        .await?;
    let after = case.operator.fate();
    if after.pid != before.pid {
        return Err(format!("it was started again: {after:?}"));
    }
    Ok(settled)
}
