//! What the Models' conditions say, all together, and how long a Model takes until it is served.
//!
//! The counts are kept as conditions change, so that no pass does more where there are more Models.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kthena_bridge_api::annotation;
use kthena_bridge_api::condition::{ConditionType, Reason};
use kthena_bridge_core::Source;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::object_ref::ObjectRef;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    condition: &'static str,
    status: &'static str,
    reason: &'static str,
}

impl From<Reason> for ReasonLabels {
    fn from(reason: Reason) -> Self {
        Self {
            condition: reason.condition().as_str(),
            status: reason.status().as_str(),
            reason: reason.as_str(),
        }
    }
}

/// The Models that are exposed.
#[derive(Debug)]
pub(crate) struct Models {
    by_reason: Family<ReasonLabels, Gauge>,
    to_programmed: Histogram,
    state: Mutex<HashMap<ObjectRef, State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What its conditions say.
    reasons: Vec<Reason>,
    /// Stands for what its annotations ask for.
    asked: Option<u64>,
    /// Since when they ask for that, while it is not served.
    since: Option<Instant>,
}

impl Models {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let models = Self {
            by_reason: Family::default(),
            // Up to most of an hour: a large Model is loaded first.
            to_programmed: Histogram::new(exponential_buckets(0.05, 2.0, 17)),
            state: Mutex::default(),
        };
        registry.register(
            "kthena_bridge_models",
            "Models that are exposed, by what each of their conditions says",
            models.by_reason.clone(),
        );
        registry.register(
            "kthena_bridge_annotate_to_programmed_seconds",
            "How long it takes from when the operator sees what a Model's annotations ask for until Programmed is True",
            models.to_programmed.clone(),
        );
        models
    }

    /// A Model is exposed, or asked for. `seen` is when its last change was noticed.
    pub(crate) fn asks(&self, source: &Source, seen: Instant) {
        let asked = Some(fingerprint(source));
        let mut state = self.lock();
        let state = state.entry(ObjectRef::of(source)).or_default();
        if state.asked != asked {
            // An operator before this one has seen it, and nobody knows when.
            let known = state.asked.is_none() && has_condition(source);
            state.since = (!known).then_some(seen);
            state.asked = asked;
        }
    }

    /// This is what a Model's conditions say now.
    pub(crate) fn say(&self, model: &ObjectRef, reasons: Vec<Reason>, now: Instant) {
        let mut state = self.lock();
        let state = state.entry(model.clone()).or_default();
        let programmed = reasons.contains(&Reason::Programmed);
        if let Some(since) = state.since.take_if(|_| programmed) {
            let took = now.saturating_duration_since(since);
            self.to_programmed.observe(took.as_secs_f64());
        }
        self.count(&reasons, 1);
        self.count(&std::mem::replace(&mut state.reasons, reasons), -1);
    }

    /// A Model is no longer exposed, or is gone.
    pub(crate) fn forget(&self, model: &ObjectRef) {
        let mut state = self.lock();
        if let Some(state) = state.remove(model) {
            self.count(&state.reasons, -1);
        }
    }

    fn count(&self, reasons: &[Reason], change: i64) {
        for reason in reasons {
            let labels = ReasonLabels::from(*reason);
            self.by_reason.get_or_create(&labels).inc_by(change);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef, State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for what is asked for.
fn fingerprint(source: &Source) -> u64 {
    let mut hasher = DefaultHasher::new();
    let metadata = source.metadata();
    metadata.uid.hash(&mut hasher);
    match source {
        Source::Model(_) => {
            for (key, value) in metadata.annotations.iter().flatten() {
                if annotation::ALL.iter().any(|a| a.key == key) {
                    (key, value).hash(&mut hasher);
                }
            }
        }
        Source::Object(_) => metadata.generation.hash(&mut hasher),
    }
    hasher.finish()
}

fn has_condition(source: &Source) -> bool {
    let accepted = ConditionType::Accepted.as_str();
    let mut conditions = source.conditions().iter();
    conditions.any(|condition| condition.type_ == accepted)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::json;

    use super::super::tests::{encoded, samples};
    use super::*;

    const TIMED: &str = "kthena_bridge_annotate_to_programmed_seconds";

    fn model(path: &str, conditions: &[&str]) -> Source {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|type_| {
                json!({
                    "type": type_, "status": "True", "reason": type_, "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                })
            })
            .collect();
        let model = serde_json::from_value(json!({
            "apiVersion": "workload.serving.volcano.sh/v1alpha1",
            "kind": "ModelBooster",
            "metadata": {
                "name": "demo",
                "namespace": "default",
                "uid": "1",
                "annotations": {annotation::EXPOSE: "true", annotation::PATH: path},
            },
            "spec": {},
            "status": {"conditions": conditions},
        }));
        Source::Model(Arc::new(model.unwrap()))
    }

    fn models() -> (Models, Registry, ObjectRef) {
        let mut registry = Registry::default();
        let models = Models::register(&mut registry);
        (models, registry, ObjectRef::model("default", "demo"))
    }

    /// The reasons that any condition has.
    fn counted(registry: &Registry) -> Vec<String> {
        let mut counted: Vec<String> = encoded(registry)
            .lines()
            .filter_map(|line| {
                let (labels, count) = line
                    .strip_prefix("kthena_bridge_models{")?
                    .split_once("} ")?;
                let reason = labels.split("reason=\"").nth(1)?.trim_end_matches('"');
                (count != "0").then(|| format!("{reason} {count}"))
            })
            .collect();
        counted.sort();
        counted
    }

    #[test]
    fn each_model_counts_for_what_its_conditions_say_last() {
        let (models, registry, demo) = models();
        let other = ObjectRef::model("default", "other");
        let now = Instant::now();
        models.say(&demo, vec![Reason::Accepted, Reason::Pending], now);
        models.say(&other, vec![Reason::Accepted, Reason::Pending], now);
        assert_eq!(counted(&registry), ["Accepted 2", "Pending 2"]);
        for _ in 0..2 {
            models.say(&demo, vec![Reason::Accepted, Reason::Programmed], now);
        }
        let all = ["Accepted 2", "Pending 1", "Programmed 1"];
        assert_eq!(counted(&registry), all);
        models.forget(&other);
        models.forget(&other);
        assert_eq!(counted(&registry), ["Accepted 1", "Programmed 1"]);
        models.forget(&demo);
        assert_eq!(counted(&registry), [""; 0]);
        assert!(models.lock().is_empty());
    }

    #[test]
    fn what_is_asked_for_is_timed_until_it_is_served() {
        let (models, registry, demo) = models();
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let says = |reason, at| models.say(&demo, vec![Reason::Accepted, reason], at);
        models.asks(&model("/a", &[]), start);
        says(Reason::Pending, start + second);
        // Other events bring the same Model.
        models.asks(&model("/a", &["Accepted"]), start + second);
        says(Reason::Programmed, start + 3 * second);
        let timed = || {
            let of = |what| samples(&registry, &format!("{TIMED}_{what}"));
            [of("count"), of("sum")].concat()
        };
        assert_eq!(timed(), ["1", "3.0"]);
        // What turns by itself is not timed.
        says(Reason::NoReadyEndpoints, start + 4 * second);
        says(Reason::Programmed, start + 9 * second);
        assert_eq!(timed(), ["1", "3.0"]);
        // Nor what is overtaken by another wish.
        models.asks(&model("/b", &["Accepted"]), start + 10 * second);
        models.asks(&model("/c", &["Accepted"]), start + 20 * second);
        says(Reason::Programmed, start + 21 * second);
        assert_eq!(timed(), ["2", "4.0"]);
    }

    #[test]
    fn what_an_operator_before_has_seen_is_not_timed() {
        let (models, registry, demo) = models();
        let timed = || samples(&registry, &format!("{TIMED}_count"));
        let now = Instant::now();
        models.asks(&model("/a", &["Active", "Accepted", "Programmed"]), now);
        models.say(&demo, vec![Reason::Accepted, Reason::Programmed], now);
        assert_eq!(timed(), ["0"]);
        // Exposed anew, it is.
        models.forget(&demo);
        models.asks(&model("/a", &["Active"]), now);
        models.say(&demo, vec![Reason::Accepted, Reason::Programmed], now);
        assert_eq!(timed(), ["1"]);
    }
}
