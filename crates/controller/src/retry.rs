//! When a Model whose reconcile failed is tried again.
//!
//! kube's scheduler keeps the earliest time that is asked for, so that any event of a Model would cut its
//! delay short. A plan that failed is therefore held until its time: events are still looked at and
//! reported, and only writing waits. Another plan is tried at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kthena_bridge_core::Plan;
use kthena_bridge_core::report::{Cause, Failure};

use crate::error::Class;
use crate::object_ref::ObjectRef;

/// The longest delay.
const CAP: Duration = Duration::from_mins(1);

/// The failures of Models.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    entries: Mutex<HashMap<ObjectRef, Entry>>,
}

#[derive(Debug)]
struct Entry {
    /// How often it failed in a row, each time for the same and of the same class.
    attempts: u32,
    class: Option<Class>,
    until: Instant,
    held: Option<(Plan, Vec<Failure>)>,
}

impl Entry {
    fn new() -> Self {
        Self {
            attempts: 0,
            class: None,
            until: Instant::now(),
            held: None,
        }
    }
}

impl Retries {
    /// Counts a failure, and tells how long to wait.
    pub(crate) fn failed(&self, model: &ObjectRef, class: Class) -> Duration {
        let mut entries = self.lock();
        let entry = entries.entry(model.clone()).or_insert_with(Entry::new);
        // A conflict is over as soon as the watch has brought the other's write.
        if entry.class.replace(class) != Some(class) {
            entry.attempts = 0;
        }
        let first = match class {
            Class::Conflict => Duration::from_millis(50),
            Class::Forbidden | Class::NotOurs | Class::Transient => Duration::from_secs(1),
        };
        let delay = jittered(CAP.min(first * 2_u32.pow(entry.attempts.min(16))));
        entry.attempts += 1;
        entry.until = Instant::now() + delay;
        delay
    }

    /// Holds a plan that failed until the time of the next attempt.
    pub(crate) fn hold(&self, model: &ObjectRef, plan: Plan, failures: Vec<Failure>) {
        let mut entries = self.lock();
        let entry = entries.entry(model.clone()).or_insert_with(Entry::new);
        if entry.held.as_ref().is_some_and(|(held, _)| *held != plan) {
            entry.attempts = 0;
        }
        entry.held = Some((plan, failures));
    }

    /// Lets go of a plan that failed since another's objects had the names of its own: one of those is gone.
    pub(crate) fn release(&self, model: &ObjectRef) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(model) {
            let blocked = |(_, failures): &(_, Vec<Failure>)| {
                failures.iter().all(|f| f.cause == Cause::NameConflict)
            };
            if entry.held.take_if(|held| blocked(held)).is_some() {
                entry.attempts = 0;
            }
        }
    }

    /// How long this plan is still held, and what it failed with.
    pub(crate) fn held(&self, model: &ObjectRef, plan: &Plan) -> Option<(Duration, Vec<Failure>)> {
        let entries = self.lock();
        let entry = entries.get(model)?;
        let (held, failures) = entry.held.as_ref()?;
        let left = entry.until.checked_duration_since(Instant::now())?;
        (held == plan).then(|| (left, failures.clone()))
    }

    /// Forgets the failures of a Model: it went well, or it is gone.
    pub(crate) fn forget(&self, model: &ObjectRef) {
        self.lock().remove(model);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Up to a fifth more or less, so that what failed together is not retried together.
pub(crate) fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(0.8 + 0.4 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> ObjectRef {
        ObjectRef::model("default", name)
    }

    #[test]
    fn delays_grow_up_to_the_cap_and_start_again_after_a_success() {
        let retries = Retries::default();
        let mut last = Duration::ZERO;
        for attempt in 0..20 {
            let delay = retries.failed(&model("model"), Class::Transient);
            let nominal = CAP.min(Duration::from_secs(1 << attempt));
            assert!(
                delay >= nominal.mul_f64(0.79) && delay <= nominal.mul_f64(1.21),
                "{attempt}: {delay:?}"
            );
            last = delay;
        }
        assert!(last > CAP / 2);
        retries.forget(&model("model"));
        assert!(retries.failed(&model("model"), Class::Transient) < Duration::from_secs(2));
        assert!(retries.failed(&model("other"), Class::Conflict) < Duration::from_millis(100));
    }

    #[test]
    fn what_fails_for_something_else_starts_again() {
        let retries = Retries::default();
        for _ in 0..10 {
            retries.failed(&model("1"), Class::Conflict);
        }
        assert!(retries.failed(&model("1"), Class::NotOurs) < Duration::from_secs(2));
        retries.hold(&model("1"), Plan::default(), Vec::new());
        assert!(retries.failed(&model("1"), Class::NotOurs) > Duration::from_secs(1));
        let other = Plan {
            missing: vec![kthena_bridge_api::child::ChildKind::HTTPRoute],
            ..Plan::default()
        };
        retries.hold(&model("1"), other, Vec::new());
        assert!(retries.failed(&model("1"), Class::NotOurs) < Duration::from_secs(2));
    }

    #[test]
    fn a_plan_is_released_when_what_had_its_names_may_be_gone() {
        let retries = Retries::default();
        let failure = |cause| Failure {
            kind: kthena_bridge_api::child::ChildKind::InferencePool,
            name: "demo".to_owned(),
            cause,
            message: String::new(),
        };
        for (cause, held) in [(Cause::NameConflict, false), (Cause::Forbidden, true)] {
            retries.failed(&model("1"), Class::NotOurs);
            retries.hold(&model("1"), Plan::default(), vec![failure(cause)]);
            retries.release(&model("1"));
            assert_eq!(
                retries.held(&model("1"), &Plan::default()).is_some(),
                held,
                "{cause:?}"
            );
        }
    }

    #[test]
    fn a_plan_that_failed_is_held_and_another_is_not() {
        let retries = Retries::default();
        let failed = Plan::default();
        let other = Plan {
            missing: vec![kthena_bridge_api::child::ChildKind::HTTPRoute],
            ..Plan::default()
        };
        assert!(retries.held(&model("1"), &failed).is_none());
        retries.failed(&model("1"), Class::Transient);
        assert!(
            retries.held(&model("1"), &failed).is_none(),
            "it failed elsewhere than in writing"
        );
        retries.hold(&model("1"), failed.clone(), Vec::new());
        assert!(retries.held(&model("1"), &failed).is_some());
        assert!(retries.held(&model("1"), &other).is_none());
        assert!(retries.held(&model("2"), &failed).is_none());
        retries.forget(&model("1"));
        assert!(retries.held(&model("1"), &failed).is_none());
    }
}
