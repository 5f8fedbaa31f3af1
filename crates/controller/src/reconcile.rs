//! The loop for one Model: observe, decide, write what differs, report.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::{LABEL_SERVING, ModelBooster};
use kthena_bridge_core::names::Names;
use kthena_bridge_core::observe::{Cluster, Detail};
use kthena_bridge_core::report::{self, Outcome};
use kthena_bridge_core::topology::Owner;
use kthena_bridge_core::{Exposure, Topology, plan};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use crate::apply::Applied;
use crate::context::Context;
use crate::error::Error;
use crate::interest::Topic;
use crate::retry::jittered;

/// When a Model is looked at again although nothing happened: a watch may have missed something.
const RESYNC: Duration = Duration::from_mins(10);

/// Makes the cluster what the Model asks for, and the Model's conditions what the cluster is.
pub(crate) async fn reconcile(model: Arc<ModelBooster>, cx: Arc<Context>) -> Result<Action, Error> {
    // The objects go with it, by their owner references.
    if model.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let owner = Owner::of(&model.metadata);
    let annotations = model.metadata.annotations.clone().unwrap_or_default();
    let parsed = Exposure::parse(&owner.namespace, &owner.name, &annotations, &cx.config);
    let Some(parsed) = parsed.transpose() else {
        return withdraw(&model, &owner, &cx).await;
    };
    // Kthena writes its first condition only while there is none at all.
    if model
        .status
        .as_ref()
        .is_none_or(|status| status.conditions.is_empty())
    {
        return Ok(Action::await_change());
    }
    let object = ObjectRef::from_obj(&*model);
    // Before anything is looked at, so that no change is missed between.
    cx.interests
        .set(&object, topics(&owner, parsed.as_ref().ok(), &cx));
    let exposure = match &parsed {
        Ok(exposure) => exposure,
        Err(invalid) => return publish(&model, Outcome::Invalid(invalid), &cx).await,
    };
    let topology = match Topology::of(exposure, &model, &*cx.caches) {
        Ok(topology) => topology,
        Err(refused) => return publish(&model, Outcome::NotAccepted(&refused), &cx).await,
    };
    let plan = plan::build(exposure, &topology, &cx.config, &*cx.caches);

    let held = cx.retries.held(&object, &plan);
    let applied = if exposure.paused {
        Applied::default()
    } else if let Some((_, failures)) = &held {
        Applied::as_before(failures)
    } else {
        cx.writer.converge(&plan, &topology).await
    };
    // Somebody else wrote at the same time: that is for another look, not for a report.
    if applied.only_conflicts() {
        return applied.into_result().map(|()| Action::await_change());
    }
    let outcome = Outcome::Applied {
        exposure,
        topology: &topology,
        plan: &plan,
        failures: &applied.failures,
    };
    let action = publish(&model, outcome, &cx).await?;
    if let Some((left, _)) = held {
        return Ok(Action::requeue(left));
    }
    let failures = applied.failures.clone();
    match applied.into_result() {
        Ok(()) => {
            cx.retries.forget(&object);
            Ok(action)
        }
        Err(error) => {
            cx.retries.hold(&object, plan, failures);
            Err(error)
        }
    }
}

/// Reports, and tells what turned.
async fn publish(
    model: &Arc<ModelBooster>,
    outcome: Outcome<'_>,
    cx: &Context,
) -> Result<Action, Error> {
    let report = report::conditions(model, outcome, &*cx.caches, Timestamp::now());
    let transitions = cx.publisher.publish(model, &report).await?;
    cx.events.tell(model, &transitions);
    let resync = jittered(RESYNC);
    Ok(Action::requeue(
        report.again_in.map_or(resync, |again| again.min(resync)),
    ))
}

/// Takes everything of ours away: the Model is not, or no longer, exposed.
async fn withdraw(model: &ModelBooster, owner: &Owner, cx: &Context) -> Result<Action, Error> {
    let removed = cx.writer.remove(&owner.uid, None).await;
    // Also when something could not be removed: what the conditions said is no longer so.
    cx.publisher.withdraw(model).await?;
    removed.into_result()?;
    let object = ObjectRef::from_obj(model);
    cx.interests.forget(&object);
    cx.retries.forget(&object);
    Ok(Action::await_change())
}

/// What a Model looks at that does not name it: the Gateways that it asks for and those that its route is
/// attached to, and pods that are not its own.
fn topics(owner: &Owner, exposure: Option<&Exposure>, cx: &Context) -> HashSet<Topic> {
    let names = Names::of(&owner.name);
    let child = |kind| cx.caches.child(kind, &owner.namespace, &names.model);
    let mut topics = HashSet::new();
    if let Some(exposure) = exposure {
        if exposure.gateways.is_empty() {
            topics.insert(Topic::GatewaysIn(owner.namespace.clone()));
        }
        for gateway in &exposure.gateways {
            topics.insert(Topic::Gateway(
                gateway.namespace.clone(),
                gateway.name.clone(),
            ));
        }
        if exposure.pod_selector.is_some() {
            topics.insert(Topic::PodsIn(owner.namespace.clone()));
        }
    }
    if let Some(Detail::Route { parent_refs, .. }) =
        child(ChildKind::HTTPRoute).map(|c| c.detail.clone())
    {
        for parent in parent_refs {
            let namespace = parent.namespace.unwrap_or_else(|| owner.namespace.clone());
            topics.insert(Topic::Gateway(namespace, parent.name));
        }
    }
    if let Some(Detail::Pool { selector, .. }) =
        child(ChildKind::InferencePool).map(|c| c.detail.clone())
        && !selector.contains_key(LABEL_SERVING)
    {
        topics.insert(Topic::PodsIn(owner.namespace.clone()));
    }
    topics
}
