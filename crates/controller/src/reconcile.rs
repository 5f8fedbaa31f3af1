//! The loop for one that asks for an exposure: observe, decide, write what differs, report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::condition::{ConditionType, Reason};
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::reachable;
use kthena_bridge_core::report::{self, Outcome, Report, Verdict};
use kthena_bridge_core::topology::NotAccepted;
use kthena_bridge_core::{Config, Exposure, Plan, Source, Target, Topology, plan};

use crate::apply::Applied;
use crate::context::Context;
use crate::decide::{Decision, Served, decide, exposure_of};
use crate::error::Error;
use crate::object_ref::ObjectRef;
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

/// Makes the cluster what is asked for, and what is told of that what the cluster is. `seen` is when it was noticed
/// that there is something to do.
pub(crate) async fn reconcile(
    source: Source,
    seen: Instant,
    cx: Arc<Context>,
) -> Result<Next, Error> {
    let decision = decide(&source, &cx);
    if !matches!(decision, Decision::Withdraw | Decision::Mirror(_)) {
        cx.metrics.models.asks(&source, seen);
    }
    match decision {
        Decision::Wait => Ok(Next::Event),
        Decision::Withdraw => withdraw(&source, &cx).await,
        Decision::Mirror(exposure) => mirror(&source, &exposure, &cx).await,
        Decision::Invalid(invalid, target) => {
            let outcome = Outcome::Invalid(&invalid);
            publish(&source, target.as_ref(), outcome, &cx).await
        }
        Decision::Refuse(refused, target) => refuse(&source, target.as_ref(), &refused, &cx).await,
        Decision::Serve(served) => serve(&source, *served, &cx).await,
    }
}

/// Writes what differs, and reports.
async fn serve(source: &Source, served: Served, cx: &Context) -> Result<Next, Error> {
    let Served {
        exposure,
        target,
        topology,
        config,
        // Until all is written.
        writing: _writing,
    } = served;
    let mut plan = plan::build(&exposure, &topology, &config, &*cx.caches);
    let object = ObjectRef::of(source);
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
    let published = publish(source, Some(&target), outcome, cx).await;
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

/// Tells why it is not served. What somebody else serves, or what is not there, has no objects of its own.
async fn refuse(
    source: &Source,
    target: Option<&Target>,
    refused: &NotAccepted,
    cx: &Context,
) -> Result<Next, Error> {
    if !refused.keeps_objects() {
        let removed = cx.writer.remove(&source.owner().uid, None).await;
        removed.into_result()?;
    }
    publish(source, target, Outcome::NotAccepted(refused), cx).await
}

/// Reports, and tells what turned.
async fn publish(
    source: &Source,
    target: Option<&Target>,
    outcome: Outcome<'_>,
    cx: &Context,
) -> Result<Next, Error> {
    let object = ObjectRef::of(source);
    let owner = source.owner();
    let mut report = report::conditions(&owner, target, outcome, &*cx.caches, Timestamp::now());
    // A Model that an object exposes is served, whatever becomes of its annotations.
    if let (Source::Model(model), Outcome::NotAccepted(refused)) = (source, outcome)
        && refused.reason == Reason::AlreadyExposed
        && let Some(exposure) = exposure_of(&Target::Booster(Arc::clone(model)), cx)
        && let Some(told) = told(&exposure)
    {
        report.programmed = told.programmed;
    }
    if let Some(prober) = &cx.prober {
        let targets = owner
            .route(&*cx.caches)
            .map(|route| reachable::targets(&route, &*cx.caches))
            .unwrap_or_default();
        report.reachable = Some(prober.verdict(&object, targets));
    }
    cx.publisher.settle(source, &mut report, Instant::now());
    let details = match source {
        Source::Model(_) => None,
        Source::Object(_) => Some(report::details(&owner, &*cx.caches)),
    };
    let transitions = cx.publisher.publish(source, &report, details).await?;
    let reasons = report.verdicts().map(|verdict| verdict.reason).collect();
    cx.metrics.models.say(&object, reasons, Instant::now());
    cx.events.tell(source, &transitions);
    let again = report.again_in.filter(|again| *again < RESYNC);
    Ok(again.map_or(Next::Resync, Next::After))
}

/// What an object says of its conditions; nothing while it has said nothing.
fn told(exposure: &ModelExposure) -> Option<Report> {
    let conditions = &exposure.status.as_ref()?.conditions;
    let verdict = |type_: ConditionType| {
        let told = conditions.iter().find(|c| c.type_ == type_.as_str())?;
        let reason = Reason::named(&told.reason).filter(|reason| reason.condition() == type_)?;
        Some(Verdict {
            reason,
            message: told.message.clone(),
        })
    };
    Some(Report {
        accepted: verdict(ConditionType::Accepted)?,
        programmed: verdict(ConditionType::Programmed)?,
        reachable: verdict(ConditionType::Reachable),
        again_in: None,
    })
}

/// Tells of a Model what the object says that exposes it.
async fn mirror(source: &Source, exposure: &ModelExposure, cx: &Context) -> Result<Next, Error> {
    let object = ObjectRef::of(source);
    let owner = source.owner();
    let mut told = told(exposure);
    let accepted = told.as_ref().map(|report| report.accepted.reason);
    // One of its name takes its objects over, and then says so.
    let takes_over = exposure.metadata.name.as_deref() == Some(&*owner.name)
        && accepted.is_none_or(|reason| reason == Reason::AlreadyExposed);
    let removed = if takes_over {
        Applied::default()
    } else {
        cx.writer.remove(&owner.uid, None).await
    };
    if let Some(report) = &mut told
        && !takes_over
    {
        let name = exposure.metadata.name.as_deref().unwrap_or_default();
        let message = &report.accepted.message;
        report.accepted.message = format!("ModelExposure {name}: {message}");
        cx.publisher.publish(source, report, None).await?;
    }
    cx.metrics.models.forget(&object);
    removed.into_result()?;
    cx.claims.release(&object, &owner.names().model);
    cx.retries.forget(&object);
    Ok(Next::Event)
}

/// Takes everything of ours away.
async fn withdraw(source: &Source, cx: &Context) -> Result<Next, Error> {
    let removed = cx.writer.remove(&source.owner().uid, None).await;
    // Also when something could not be removed: what the conditions said is no longer so.
    cx.publisher.withdraw(source).await?;
    let object = ObjectRef::of(source);
    cx.metrics.models.forget(&object);
    removed.into_result()?;
    cx.lay_off(&object);
    Ok(Next::Event)
}
