//! The work on Models, under the names that controller-runtime has for it, so that its dashboards and alerts
//! show this operator, too.
//!
//! kube's applier has a queue that tells nothing of itself. What goes into it and what it hands out is known
//! here, and the queue between follows from that: a Model is in it once, from the earliest time that anything
//! asked for.
//! <https://book.kubebuilder.io/reference/metrics-reference>

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kthena_bridge_api::kthena::ModelBooster;
use kube::runtime::reflector::ObjectRef;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{count, gauge, label};
use crate::error::Class;

type Model = ObjectRef<ModelBooster>;

/// What controller-runtime would call the controller, and its queue.
const CONTROLLER: &str = "modelbooster";

/// What a pass over a Model ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The Model is looked at again when something happens, and now and then.
    Success,
    /// It is to be looked at again at a certain time.
    RequeueAfter,
    /// Something failed.
    Error(Class),
}

impl Pass {
    /// As controller-runtime calls it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::RequeueAfter => "requeue_after",
            Self::Error(_) => "error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    class: &'static str,
}

/// The work on Models.
#[derive(Debug)]
pub(crate) struct Work {
    passes: Family<ResultLabels, Counter>,
    errors: Counter,
    failures: Family<ClassLabels, Counter>,
    pass_seconds: Histogram,
    concurrency: Gauge,
    adds: Counter,
    retries: Counter,
    queue_seconds: Histogram,
    busy_seconds: Histogram,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The Models that wait, and those that are to be looked at later.
    queue: HashMap<Model, Due>,
    /// Since when a Model is being looked at.
    running: HashMap<Model, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    /// Whether it was counted: one that is for later is when its time has come.
    counted: bool,
}

/// How long a pass takes.
fn pass_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}

impl Work {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let work = Self {
            passes: Family::default(),
            errors: Counter::default(),
            failures: Family::default(),
            pass_seconds: pass_seconds(),
            concurrency: Gauge::default(),
            adds: Counter::default(),
            retries: Counter::default(),
            // Thousands of Models may wait at the start.
            queue_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 20)),
            busy_seconds: pass_seconds(),
            state: Mutex::default(),
        };
        // So that the first one is an increase.
        for result in ["success", "error", "requeue", "requeue_after"] {
            let _ = work.passes.get_or_create(&ResultLabels { result });
        }
        for class in Class::ALL.map(Class::as_str) {
            let _ = work.failures.get_or_create(&ClassLabels { class });
        }
        registry.register(
            "kthena_bridge_reconcile_failures",
            "Passes over a Model that failed, by how",
            work.failures.clone(),
        );
        let of_controller = registry.sub_registry_with_label(label("controller", CONTROLLER));
        of_controller.register(
            "controller_runtime_reconcile",
            "Passes over a Model, by result",
            work.passes.clone(),
        );
        of_controller.register(
            "controller_runtime_reconcile_errors",
            "Passes over a Model that failed",
            work.errors.clone(),
        );
        of_controller.register(
            "controller_runtime_reconcile_time_seconds",
            "How long a pass over a Model takes",
            work.pass_seconds.clone(),
        );
        of_controller.register(
            "controller_runtime_max_concurrent_reconciles",
            "How many Models are looked at at the same time, at most",
            work.concurrency.clone(),
        );
        let of_queue = of_controller.sub_registry_with_label(label("name", CONTROLLER));
        of_queue.register(
            "workqueue_adds",
            "How often a Model came into the queue in which it was not",
            work.adds.clone(),
        );
        of_queue.register(
            "workqueue_retries",
            "How often a Model is to be looked at again at a certain time, after a failure or to see whether it goes on",
            work.retries.clone(),
        );
        of_queue.register(
            "workqueue_queue_duration_seconds",
            "How long a Model waits in the queue",
            work.queue_seconds.clone(),
        );
        of_queue.register(
            "workqueue_work_duration_seconds",
            "How long a Model that was taken from the queue is worked on",
            work.busy_seconds.clone(),
        );
        work
    }

    /// What is so now.
    pub(super) fn now(&self, registry: &mut Registry, now: Instant) {
        let state = self.lock();
        let waiting = state.queue.values().filter(|due| due.at <= now).count();
        let mut running: Vec<f64> = state
            .running
            .values()
            .map(|since| now.saturating_duration_since(*since).as_secs_f64())
            .collect();
        drop(state);
        running.sort_by(f64::total_cmp);
        let of_controller = registry.sub_registry_with_label(label("controller", CONTROLLER));
        count(
            of_controller,
            "controller_runtime_active_workers",
            "How many Models are being looked at",
            running.len(),
        );
        let of_queue = of_controller.sub_registry_with_label(label("name", CONTROLLER));
        count(
            of_queue,
            "workqueue_depth",
            "How many Models wait to be looked at",
            waiting,
        );
        gauge(
            of_queue,
            "workqueue_unfinished_work_seconds",
            "How long the Models that are being looked at have been, together",
            running.iter().fold(0.0, |sum, seconds| sum + seconds),
        );
        gauge(
            of_queue,
            "workqueue_longest_running_processor_seconds",
            "How long the one of them has been that takes longest",
            running.last().copied().unwrap_or_default(),
        );
    }

    /// So many Models are looked at at the same time, at most.
    pub(crate) fn concurrency(&self, concurrency: u16) {
        self.concurrency.set(concurrency.into());
    }

    /// A Model is to be looked at now.
    pub(crate) fn add(&self, model: &Model, now: Instant) {
        let mut state = self.lock();
        let due = state.queue.entry(model.clone()).or_insert(Due {
            at: now,
            counted: false,
        });
        due.at = due.at.min(now);
        if !std::mem::replace(&mut due.counted, true) {
            self.adds.inc();
        }
    }

    /// A Model is to be looked at again at a time, unless it is before; as a `retry`, or just in case.
    pub(crate) fn again(&self, model: &Model, at: Instant, retry: bool) {
        if retry {
            self.retries.inc();
        }
        let due = Due { at, counted: false };
        let mut state = self.lock();
        let earliest = state.queue.entry(model.clone()).or_insert(due);
        if at < earliest.at {
            *earliest = due;
        }
    }

    /// A Model is gone, so that it leaves the queue for nothing.
    pub(crate) fn gone(&self, model: &Model) {
        self.lock().queue.remove(model);
    }

    /// A pass over a Model begins. Tells since when it has been waited for.
    pub(crate) fn begin(&self, model: &Model, now: Instant) -> Instant {
        let mut state = self.lock();
        let due = state.queue.remove(model);
        state.running.insert(model.clone(), now);
        drop(state);
        if due.is_none_or(|due| !due.counted) {
            self.adds.inc();
        }
        let since = due.map_or(now, |due| due.at.min(now));
        self.queue_seconds.observe((now - since).as_secs_f64());
        since
    }

    /// It ended.
    pub(crate) fn end(&self, model: &Model, pass: Pass, now: Instant) {
        let result = pass.as_str();
        self.passes.get_or_create(&ResultLabels { result }).inc();
        if let Pass::Error(class) = pass {
            let class = class.as_str();
            self.errors.inc();
            self.failures.get_or_create(&ClassLabels { class }).inc();
        }
        let since = self.lock().running.remove(model);
        let took = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.pass_seconds.observe(took.as_secs_f64());
        self.busy_seconds.observe(took.as_secs_f64());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::samples;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn work() -> (Work, Registry, Model, Instant) {
        let mut registry = Registry::default();
        let work = Work::register(&mut registry);
        let model = ObjectRef::new("demo").within("default");
        (work, registry, model, Instant::now())
    }

    fn now(work: &Work, at: Instant) -> Registry {
        let mut registry = Registry::default();
        work.now(&mut registry, at);
        registry
    }

    #[test]
    fn a_model_is_in_the_queue_once() {
        let (work, registry, model, start) = work();
        for _ in 0..3 {
            work.add(&model, start);
        }
        assert_eq!(samples(&registry, "workqueue_adds_total"), ["1"]);
        assert_eq!(samples(&now(&work, start), "workqueue_depth"), ["1"]);
        assert_eq!(work.begin(&model, start + SECOND), start);
        let during = now(&work, start + 3 * SECOND);
        assert_eq!(samples(&during, "workqueue_depth"), ["0"]);
        assert_eq!(samples(&during, "controller_runtime_active_workers"), ["1"]);
        for name in [
            "workqueue_unfinished_work_seconds",
            "workqueue_longest_running_processor_seconds",
        ] {
            assert_eq!(samples(&during, name), ["2.0"], "{name}");
        }
        // What comes meanwhile waits for another pass.
        work.add(&model, start + 2 * SECOND);
        work.end(&model, Pass::Success, start + 3 * SECOND);
        assert_eq!(samples(&registry, "workqueue_adds_total"), ["2"]);
        let sum = samples(&registry, "workqueue_work_duration_seconds_sum");
        assert_eq!(sum, ["2.0"]);
        let sum = samples(&registry, "workqueue_queue_duration_seconds_sum");
        assert_eq!(sum, ["1.0"]);
    }

    #[test]
    fn what_is_for_later_waits_when_its_time_has_come() {
        let (work, registry, model, start) = work();
        work.again(&model, start + 10 * SECOND, false);
        assert_eq!(samples(&now(&work, start), "workqueue_depth"), ["0"]);
        let later = start + 12 * SECOND;
        assert_eq!(samples(&now(&work, later), "workqueue_depth"), ["1"]);
        assert_eq!(work.begin(&model, later), start + 10 * SECOND);
        assert_eq!(samples(&registry, "workqueue_adds_total"), ["1"]);
        assert_eq!(samples(&registry, "workqueue_retries_total"), ["0"]);
        // An event comes before.
        work.again(&model, later + 10 * SECOND, true);
        work.add(&model, later + SECOND);
        work.again(&model, later + 5 * SECOND, true);
        assert_eq!(work.begin(&model, later + 2 * SECOND), later + SECOND);
        assert_eq!(samples(&registry, "workqueue_adds_total"), ["2"]);
        assert_eq!(samples(&registry, "workqueue_retries_total"), ["2"]);
    }

    #[test]
    fn a_model_that_goes_leaves_nothing() {
        let (work, _, model, start) = work();
        work.add(&model, start);
        work.gone(&model);
        work.begin(&model, start);
        work.end(&model, Pass::Error(Class::Conflict), start);
        let state = work.lock();
        assert_eq!((state.queue.len(), state.running.len()), (0, 0));
    }
}
