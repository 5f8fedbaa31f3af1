//! The work on Models, under the names that controller-runtime has for it, so that its dashboards and alerts
//! show this operator, too.
//! <https://book.kubebuilder.io/reference/metrics-reference>

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{count, gauge, label};
use crate::error::Class;

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
}

/// How much there is to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    /// How many Models wait.
    pub(crate) waiting: usize,
    /// How long each that is being looked at has been.
    pub(crate) running: Vec<Duration>,
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
    pub(super) fn now(registry: &mut Registry, load: &Load) {
        let mut running: Vec<f64> = load.running.iter().map(Duration::as_secs_f64).collect();
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
            load.waiting,
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

    /// So many Models came into the queue in which they were not.
    pub(crate) fn added(&self, models: usize) {
        self.adds.inc_by(models as u64);
    }

    /// A Model was taken from the queue.
    pub(crate) fn taken(&self, waited: Duration) {
        self.queue_seconds.observe(waited.as_secs_f64());
    }

    /// A pass over a Model ended.
    pub(crate) fn passed(&self, pass: Pass, took: Duration) {
        let result = pass.as_str();
        self.passes.get_or_create(&ResultLabels { result }).inc();
        if pass != Pass::Success {
            self.retries.inc();
        }
        if let Pass::Error(class) = pass {
            let class = class.as_str();
            self.errors.inc();
            self.failures.get_or_create(&ClassLabels { class }).inc();
        }
        self.pass_seconds.observe(took.as_secs_f64());
        self.busy_seconds.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::samples;
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_under_way_shows() {
        let mut registry = Registry::default();
        let load = Load {
            waiting: 7,
            running: vec![seconds(3), seconds(2)],
        };
        Work::now(&mut registry, &load);
        for (name, value) in [
            ("workqueue_depth", "7"),
            ("controller_runtime_active_workers", "2"),
            ("workqueue_unfinished_work_seconds", "5.0"),
            ("workqueue_longest_running_processor_seconds", "3.0"),
        ] {
            assert_eq!(samples(&registry, name), [value], "{name}");
        }
    }

    #[test]
    fn passes_are_counted_by_how_they_end() {
        let mut registry = Registry::default();
        let work = Work::register(&mut registry);
        work.added(3);
        work.taken(seconds(1));
        work.passed(Pass::Success, seconds(2));
        work.passed(Pass::RequeueAfter, seconds(1));
        work.passed(Pass::Error(Class::Conflict), seconds(1));
        for (name, value) in [
            ("workqueue_adds_total", "3"),
            ("workqueue_retries_total", "2"),
            ("controller_runtime_reconcile_errors_total", "1"),
            ("workqueue_queue_duration_seconds_sum", "1.0"),
            ("workqueue_work_duration_seconds_sum", "4.0"),
        ] {
            assert_eq!(samples(&registry, name), [value], "{name}");
        }
    }
}
