//! Two operators, one of which works until it loses the Lease.

use std::time::{Duration, Instant};

use fault_proxy::{Action, Fault, Seen, Selector};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use testbed::OPERATOR;

use super::super::case::{Case, GATEWAY, MODEL};
use super::super::life::Step;
use super::super::operator::Operator;
use super::super::recorded::Settled;
use super::{Ends, PATIENCE, SHOWN, ended, equal, text};

/// What both are started with.
pub(super) const ARGUMENTS: [&str; 1] = ["--leader-elect"];
/// How long whoever holds the Lease may be silent, and how much more a take-over may take.
const LEASE: Duration = Duration::from_secs(15);
const MARGIN: Duration = Duration::from_secs(2);
/// How long a write is on its way when its sender is told to stop.
const SLOW: Duration = Duration::from_secs(2);

/// How the Lease is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its holder stands still for longer than it lasts, and goes on.
    StandsStill,
    /// Somebody else writes their name into it.
    Stolen,
    /// Its holder is told to stop while a write is on its way.
    ToldToStop,
}

impl Loss {
    pub(super) const ALL: [Self; 3] = [Self::StandsStill, Self::Stolen, Self::ToldToStop];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::StandsStill => "who leads stands still for longer than the Lease lasts",
            Self::Stolen => "the Lease is stolen",
            Self::ToldToStop => "who leads is told to stop in the middle of a write",
        }
    }
}

/// The one that leads loses the Lease, the other one answers the next change in time, and of both only who may
/// writes.
pub(super) async fn lost(case: &mut Case<'_>, loss: Loss, ends: &Ends) -> Result<Settled, String> {
    ends.live(case, Step::Create).await?;
    let namespace = case.namespace.name();
    let waiting = Operator::start(case.bed, case.binary, namespace, GATEWAY, &ARGUMENTS);
    let waiting = waiting.await.map_err(text)?;
    waits(case, &waiting).await?;
    let first = std::mem::replace(&mut case.operator, waiting);
    let begun = Instant::now();
    let limit = match loss {
        Loss::StandsStill => {
            first.signal("STOP").await.map_err(text)?;
            LEASE + MARGIN
        }
        Loss::Stolen => {
            steal(case).await?;
            LEASE + MARGIN
        }
        Loss::ToldToStop => {
            let slow = vec![Fault {
                at: Selector::write(1),
                what: Action::Delay(SLOW),
            }];
            first.proxy.begin(slow);
            let from = first.proxy.count();
            Step::Edit.take(case, MODEL).await.map_err(text)?;
            let sent = case.bed.wait_for("a write is on its way", SHOWN, async || {
                let seen = first.proxy.seen(from);
                let sent = seen.iter().any(|seen| seen.action.is_some());
                sent.then_some(()).ok_or_else(|| format!("{seen:?}"))
            });
            sent.await.map_err(text)?;
            first.signal("TERM").await.map_err(text)?;
            // It gives the Lease back, when what is on its way has come.
            SLOW + MARGIN
        }
    };
    if loss == Loss::Stolen {
        // Until it looks at the Lease again, it answers itself.
        ended(case, &first).await?;
    }
    let since = case.begin(Vec::new());
    Step::Edit.take(case, MODEL).await.map_err(text)?;
    Step::Rename.take(case, MODEL).await.map_err(text)?;
    let taken = case.bed.wait_for("the other one works", SHOWN, async || {
        let seen = case.seen(&since);
        let first = seen.iter().find(|seen| seen.wrote());
        first
            .map(|seen| seen.at)
            .ok_or_else(|| format!("it sent {} requests", seen.len()))
    });
    let taken = taken.await.map_err(text)?.saturating_duration_since(begun);
    if taken > limit {
        return Err(format!(
            "it was taken over after {taken:.1?}, and not within {limit:?}"
        ));
    }
    if loss == Loss::StandsStill {
        first.signal("CONT").await.map_err(text)?;
    }
    let ended = ended(case, &first).await?;
    let as_told = ended.contains("ExitStatus(unix_wait_status(0))");
    if (loss == Loss::ToldToStop) != as_told {
        return Err(format!("the first one ended with {ended}"));
    }
    let wanted = ends.of(Step::Rename)?;
    let settled = case
        .settle(&since, PATIENCE, |state| equal(state, wanted))
        .await?;
    // Whatever the other one had to write is written: whoever wrote after it was not allowed to.
    let other = case.seen(&since).into_iter().find(Seen::wrote);
    let late = |seen: &Seen| seen.wrote() && other.as_ref().is_some_and(|other| seen.at > other.at);
    let late: Vec<_> = first.proxy.seen(0).into_iter().filter(late).collect();
    if late.is_empty() {
        Ok(settled)
    } else {
        Err(format!(
            "the first one wrote when the other one worked: {late:?}"
        ))
    }
}

/// Waits until an operator has seen that somebody else holds the Lease.
async fn waits(case: &Case<'_>, operator: &Operator) -> Result<(), String> {
    let waits = case.bed.wait_for("the other one waits", SHOWN, async || {
        let log = std::fs::read_to_string(&operator.log).map_err(text)?;
        let told = log.contains("somebody else holds the Lease");
        told.then_some(()).ok_or(log)
    });
    waits.await.map_err(text)
}

/// Writes another name into the Lease, of one that never renews it.
async fn steal(case: &Case<'_>) -> Result<(), String> {
    let client = case.bed.client().map_err(text)?;
    let leases: Api<Lease> = Api::namespaced(client, case.namespace.name());
    let patch = json!({"spec": {"holderIdentity": "thief"}});
    let stolen = leases
        .patch(OPERATOR, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    stolen
        .map(drop)
        .map_err(|e| format!("stealing the Lease: {e}"))
}
