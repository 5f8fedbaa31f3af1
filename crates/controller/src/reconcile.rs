//! The loop for one Model: observe, decide, write what differs, report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::reachable;
use kthena_bridge_core::report::{self, Outcome};
use kthena_bridge_core::topology::Owner;
use kthena_bridge_core::{Config, Exposure, Plan, Topology, plan};
use kube::ResourceExt as _;

use crate::apply::Applied;
use crate::context::Context;
use crate::decide::{Decision, Served, decide};
use crate::error::Error;
use crate::namespaced_name::NamespacedName;
use crate::retry::jittered;

/// When a Model is looked at again although nothing happened: a watch may have missed something.
const RESYNC: Duration = Duration::from_mins(30);

/// When a Model is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// When something happens.
    Event,
    /// Now and then, just in case.
    Resync,
    /// After this time, because it passes.
    After(Duration),
}

impl Next {
    /// How long that is, if nothing happens.
    pub(crate) fn delay(self) -> Option<Duration> {
        match self {
            Self::Event => None,
            Self::Resync => Some(jittered(RESYNC)),
            Self::After(delay) => Some(delay),
        }
    }
}

/// Makes the cluster what the Model asks for, and the Model's conditions what the cluster is. `seen` is when
/// it was noticed that there is something to do.
pub(crate) async fn reconcile(
    model: Arc<ModelBooster>,
    seen: Instant,
    cx: Arc<Context>,
) -> Result<Next, Error> {
    let decision = decide(&model, &cx);
    if !matches!(decision, Decision::Withdraw) {
        cx.metrics.models.asks(&model, seen);
    }
    match decision {
        Decision::Wait => Ok(Next::Event),
        Decision::Withdraw => withdraw(&model, &cx).await,
        Decision::Invalid(invalid) => publish(&model, Outcome::Invalid(&invalid), &cx).await,
        Decision::Refuse(refused) => publish(&model, Outcome::NotAccepted(&refused), &cx).await,
        Decision::Serve(served) => serve(&model, *served, &cx).await,
    }
}

/// Writes what differs, and reports.
async fn serve(model: &Arc<ModelBooster>, served: Served, cx: &Context) -> Result<Next, Error> {
    let Served {
        exposure,
        topology,
        config,
        // Until all is written.
        writing: _writing,
    } = served;
    let mut plan = plan::build(&exposure, &topology, &config, &*cx.caches);
    let object = NamespacedName::of(&**model);
    let held = cx.retries.held(&object, &plan);
    let applied = if exposure.paused {
        Applied::default()
    } else if let Some((_, failures)) = &held {
        Applied::as_before(failures)
    } else {
        converge(&exposure, &topology, &config, &mut plan, cx).await
    };
    // Somebody else wrote at the same time: that is for another look, not for a report.
    if applied.only_conflicts() {
        return applied.into_result().map(|()| Next::Event);
    }
    let outcome = Outcome::Applied {
        exposure: &exposure,
        topology: &topology,
        plan: &plan,
        failures: &applied.failures,
    };
    let published = publish(model, outcome, cx).await;
    if let Some((left, _)) = held {
        return published.map(|_| Next::After(left));
    }
    let failures = applied.failures.clone();
    if let Err(error) = applied.into_result() {
        if let Err(error) = published {
            tracing::warn!(model = %object, %error, "the conditions could not be written");
        }
        // Also then: what failed is not tried again at the next event.
        cx.retries.hold(&object, plan, failures);
        return Err(error);
    }
    let next = published?;
    cx.retries.forget(&object);
    Ok(next)
}

/// Writes what differs. The endpoint picker is told of its pool by the uid, which is known when it is there.
async fn converge(
    exposure: &Exposure,
    topology: &Topology,
    config: &Config,
    plan: &mut Plan,
    cx: &Context,
) -> Applied {
    if topology
        .owner
        .child(ChildKind::InferencePool, &*cx.caches)
        .is_none()
    {
        let applied = cx.writer.converge_pool(plan, topology).await;
        if !applied.errors.is_empty() {
            return applied;
        }
        *plan = plan::build(exposure, topology, config, &*cx.caches);
    }
    cx.writer.converge(plan, topology).await
}

/// Reports, and tells what turned.
async fn publish(
    model: &Arc<ModelBooster>,
    outcome: Outcome<'_>,
    cx: &Context,
) -> Result<Next, Error> {
    let object = NamespacedName::of(&**model);
    let mut report = report::conditions(model, outcome, &*cx.caches, Timestamp::now());
    if let Some(prober) = &cx.prober {
        let targets = Owner::of(&model.metadata)
            .route(&*cx.caches)
            .map(|route| reachable::targets(&route, &*cx.caches))
            .unwrap_or_default();
        report.reachable = Some(prober.verdict(&object, targets));
    }
    cx.publisher.settle(model, &mut report, Instant::now());
    let transitions = cx.publisher.publish(model, &report).await?;
    let reasons = report.verdicts().map(|verdict| verdict.reason).collect();
    cx.metrics.models.say(&object, reasons, Instant::now());
    cx.events.tell(model, &transitions);
    let again = report.again_in.filter(|again| *again < RESYNC);
    Ok(again.map_or(Next::Resync, Next::After))
}

/// Takes everything of ours away.
async fn withdraw(model: &ModelBooster, cx: &Context) -> Result<Next, Error> {
    let removed = cx
        .writer
        .remove(&model.uid().unwrap_or_default(), None)
        .await;
    // Also when something could not be removed: what the conditions said is no longer so.
    cx.publisher.withdraw(model).await?;
    let object = NamespacedName::of(model);
    cx.metrics.models.forget(&object);
    removed.into_result()?;
    cx.lay_off(&object);
    Ok(Next::Event)
}
