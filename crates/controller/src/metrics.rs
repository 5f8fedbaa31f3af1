//! What is counted. No label has a Model's name: there may be thousands.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use kthena_bridge_api::child::ChildKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What became of a write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ApplyResult {
    Created,
    Changed,
    Deleted,
    Failed,
}

impl ApplyResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApplyLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaderLabels {
    name: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadLabels {
    result: &'static str,
}

const CONTROLLER: &str = "modelbooster";
const LEADER: LeaderLabels = LeaderLabels {
    name: "kthena-bridge",
};

/// The metrics of the operator.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: Family<ReconcileLabels, Counter>,
    reconcile_seconds: Histogram,
    applies: Family<ApplyLabels, Counter>,
    watch_errors: Family<KindLabels, Counter<u64, AtomicU64>>,
    status_writes: Counter,
    leader: Family<LeaderLabels, Gauge>,
    configuration_reads: Family<ReadLabels, Counter>,
    configuration_valid: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let reconciles = Family::default();
        let reconcile_seconds = Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let applies = Family::default();
        let watch_errors = Family::default();
        let status_writes = Counter::default();
        let leader: Family<LeaderLabels, Gauge> = Family::default();
        leader.get_or_create(&LEADER).set(0);
        registry.register(
            "leader_election_master_status",
            "Whether this process works: 1, or 0 while it waits for its Lease",
            leader.clone(),
        );
        let configuration_reads = Family::default();
        let configuration_valid = Gauge::default();
        // The operator does not start without.
        configuration_valid.set(1);
        registry.register(
            "controller_runtime_reconcile",
            "Reconciles, by result",
            reconciles.clone(),
        );
        registry.register(
            "controller_runtime_reconcile_time_seconds",
            "How long a reconcile takes",
            reconcile_seconds.clone(),
        );
        registry.register(
            "kthena_bridge_applies",
            "Objects written, by kind and result",
            applies.clone(),
        );
        registry.register(
            "kthena_bridge_watch_errors",
            "Failures of a watch, by kind",
            watch_errors.clone(),
        );
        registry.register(
            "kthena_bridge_status_writes",
            "Writes of a Model's conditions",
            status_writes.clone(),
        );
        registry.register(
            "kthena_bridge_config_reloads",
            "Changes of the configuration file, by whether they could be used",
            configuration_reads.clone(),
        );
        registry.register(
            "kthena_bridge_config_last_reload_successful",
            "Whether the configuration file can be used as it is",
            configuration_valid.clone(),
        );
        Self {
            registry,
            reconciles,
            reconcile_seconds,
            applies,
            watch_errors,
            status_writes,
            leader,
            configuration_reads,
            configuration_valid,
        }
    }
}

impl Metrics {
    pub(crate) fn reconciled(&self, result: &'static str, took: Duration) {
        let labels = ReconcileLabels {
            controller: CONTROLLER,
            result,
        };
        self.reconciles.get_or_create(&labels).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn applied(&self, kind: ChildKind, result: ApplyResult) {
        let labels = ApplyLabels {
            kind: kind.as_str(),
            result: result.as_str(),
        };
        self.applies.get_or_create(&labels).inc();
    }

    pub(crate) fn watch_failed(&self, kind: &str) {
        let labels = KindLabels {
            kind: kind.to_owned(),
        };
        self.watch_errors.get_or_create(&labels).inc();
    }

    pub(crate) fn status_written(&self) {
        self.status_writes.inc();
    }

    /// From now on this process works.
    pub(crate) fn leads(&self) {
        self.leader.get_or_create(&LEADER).set(1);
    }

    pub(crate) fn configuration_read(&self, valid: bool) {
        let labels = ReadLabels {
            result: if valid { "success" } else { "invalid" },
        };
        self.configuration_reads.get_or_create(&labels).inc();
        self.configuration_valid.set(i64::from(valid));
    }

    /// In the text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATIONS: &str = include_str!("../../../docs/operations.md");

    /// The names with their types, as they are served once everything has happened.
    fn served() -> Vec<(String, String)> {
        let metrics = Metrics::default();
        metrics.reconciled("success", Duration::ZERO);
        metrics.applied(ChildKind::HTTPRoute, ApplyResult::Created);
        metrics.watch_failed("Pod");
        metrics.status_written();
        metrics.configuration_read(true);
        let text = metrics.text();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types
            .map(|line| {
                let (name, type_) = line.split_once(' ').unwrap();
                let suffix = if type_ == "counter" { "_total" } else { "" };
                (format!("{name}{suffix}"), type_.to_owned())
            })
            .collect()
    }

    #[test]
    fn every_metric_is_in_the_documentation_and_no_other() {
        let served = served();
        assert!(served.len() >= 8, "{served:?}");
        let (_, section) = OPERATIONS.split_once("\n## Metrics\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows: Vec<&str> = section
            .lines()
            .filter(|line| line.starts_with("| `") && line.contains('_'))
            .collect();
        for (name, type_) in &served {
            let row = format!("| `{name}` | {type_} |");
            assert!(rows.iter().any(|r| r.starts_with(&row)), "{row}");
        }
        assert_eq!(rows.len(), served.len(), "{rows:#?}");
    }
}
