//! What is counted. No label has a Model's name: there may be thousands.

mod client;
mod models;
mod process;
mod work;

use std::borrow::Cow;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use jiff::Timestamp;
use kthena_bridge_api::child::ChildKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::error::Class;
use crate::watch::Vital;

use client::{Counting, Requests};
use models::Models;
use work::Work;

pub(crate) use work::{Load, Pass};

/// What became of a write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ApplyResult {
    Created,
    Changed,
    Deleted,
    Failed(Class),
}

impl ApplyResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Failed(Class::Transient) => "failed",
            Self::Failed(class) => class.as_str(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApplyLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadLabels {
    result: &'static str,
}

/// The metrics of the operator.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    started: Timestamp,
    /// The work on Models.
    pub(crate) work: Work,
    /// The Models that are exposed.
    pub(crate) models: Models,
    requests: Requests,
    applies: Family<ApplyLabels, Counter>,
    watch_errors: Family<KindLabels, Counter>,
    watch_lists: Family<KindLabels, Counter>,
    status_writes: Counter,
    leader: Gauge,
    configuration_reads: Family<ReadLabels, Counter>,
    configuration_valid: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let metrics = Self {
            started: Timestamp::now(),
            work: Work::register(&mut registry),
            models: Models::register(&mut registry),
            requests: Requests::register(&mut registry),
            applies: Family::default(),
            watch_errors: Family::default(),
            watch_lists: Family::default(),
            status_writes: Counter::default(),
            leader: Gauge::default(),
            configuration_reads: Family::default(),
            configuration_valid: Gauge::default(),
            registry: Registry::default(),
        };
        // The operator does not start without.
        metrics.configuration_valid.set(1);
        let of_lease = registry.sub_registry_with_label(label("name", "kthena-bridge"));
        of_lease.register(
            "leader_election_master_status",
            "Whether this process works: 1, or 0 while it waits for its Lease",
            metrics.leader.clone(),
        );
        registry.register(
            "kthena_bridge_applies",
            "Objects written, by kind and result",
            metrics.applies.clone(),
        );
        registry.register(
            "kthena_bridge_watch_errors",
            "Failures of a watch, by kind",
            metrics.watch_errors.clone(),
        );
        registry.register(
            "kthena_bridge_watch_lists",
            "Lists that a watch began with, by kind",
            metrics.watch_lists.clone(),
        );
        registry.register(
            "kthena_bridge_status_writes",
            "Writes of a Model's conditions",
            metrics.status_writes.clone(),
        );
        registry.register(
            "kthena_bridge_config_reloads",
            "Changes of the configuration file, by whether they could be used",
            metrics.configuration_reads.clone(),
        );
        registry.register(
            "kthena_bridge_config_last_reload_successful",
            "Whether the configuration file can be used as it is",
            metrics.configuration_valid.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }
}

impl Metrics {
    pub(crate) fn applied(&self, kind: ChildKind, result: ApplyResult) {
        let labels = ApplyLabels {
            kind: kind.as_str(),
            result: result.as_str(),
        };
        self.applies.get_or_create(&labels).inc();
    }

    pub(crate) fn watch_failed(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&KindLabels { kind }).inc();
    }

    /// A watch has brought all that there is.
    pub(crate) fn watch_listed(&self, kind: &'static str) {
        self.watch_lists.get_or_create(&KindLabels { kind }).inc();
    }

    pub(crate) fn status_written(&self) {
        self.status_writes.inc();
    }

    /// From now on this process works.
    pub(crate) fn leads(&self) {
        self.leader.set(1);
    }

    pub(crate) fn configuration_read(&self, valid: bool) {
        let labels = ReadLabels {
            result: if valid { "success" } else { "invalid" },
        };
        self.configuration_reads.get_or_create(&labels).inc();
        self.configuration_valid.set(i64::from(valid));
    }

    /// Counts the requests to an API server.
    pub(crate) fn requests_to(&self, host: &str) -> Counting {
        self.requests.to(host)
    }

    /// In the text format.
    pub(crate) fn text(&self, watches: &[Vital], load: &Load) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &self.now(watches, load));
        let _ = encode_eof(&mut text);
        text
    }

    /// What is not counted, but so when it is asked for.
    fn now(&self, watches: &[Vital], load: &Load) -> Registry {
        let mut registry = Registry::default();
        let now = Instant::now();
        Work::now(&mut registry, load);
        process::now(&mut registry, self.started);
        let (listed, heard) = (Family::default(), Family::default());
        for watch in watches {
            let labels = KindLabels { kind: watch.kind };
            let of_kind: &Gauge = &listed.get_or_create_owned(&labels);
            of_kind.set(i64::from(watch.listed));
            let silent = now.saturating_duration_since(watch.heard);
            let heard_at = Timestamp::now().as_duration().as_secs_f64() - silent.as_secs_f64();
            let of_kind: &Gauge<f64, AtomicU64> = &heard.get_or_create_owned(&labels);
            of_kind.set(heard_at);
        }
        registry.register(
            "kthena_bridge_watch_listed",
            "Whether all that there is of a kind was seen",
            listed,
        );
        registry.register(
            "kthena_bridge_watch_last_heard_timestamp_seconds",
            "When something came by a watch last, were it only that nothing has changed",
            heard,
        );
        registry
    }
}

fn label(name: &'static str, value: &'static str) -> (Cow<'static, str>, Cow<'static, str>) {
    (name.into(), value.into())
}

/// What is so now.
fn gauge(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// How many there are now.
fn count(registry: &mut Registry, name: &str, help: &str, count: usize) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::FutureExt as _;
    use http::{Request, Response};
    use kthena_bridge_api::condition::Reason;
    use tower::{Layer as _, ServiceExt as _, service_fn};

    use super::*;
    use crate::object_ref::ObjectRef;

    const OPERATIONS: &str = include_str!("../../../../docs/operations.md");

    /// What a registry has, in the text format.
    pub(super) fn encoded(registry: &Registry) -> String {
        let mut text = String::new();
        encode_registry(&mut text, registry).unwrap();
        text
    }

    /// The samples of a name, without their labels.
    pub(super) fn samples(registry: &Registry, name: &str) -> Vec<String> {
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        let value = |line: &str| line.rsplit(' ').next().unwrap().to_owned();
        encoded(registry)
            .lines()
            .filter(of_name)
            .map(value)
            .collect()
    }

    /// The names with their types, as they are served once everything has happened.
    fn served() -> Vec<(String, String)> {
        let metrics = Metrics::default();
        let (model, now) = (ObjectRef::model("default", "demo"), Instant::now());
        metrics.models.say(&model, vec![Reason::Accepted], now);
        let answers = async |_: Request<()>| Ok::<_, Infallible>(Response::new(()));
        let service = metrics.requests_to("here").layer(service_fn(answers));
        let asked = service.oneshot(Request::new(())).now_or_never();
        asked.unwrap().unwrap();
        metrics.applied(ChildKind::HTTPRoute, ApplyResult::Created);
        metrics.watch_failed("Pod");
        metrics.watch_listed("Pod");
        metrics.status_written();
        metrics.configuration_read(true);
        let pods = Vital {
            kind: "Pod",
            listed: true,
            ended: false,
            heard: now,
            alive: now,
        };
        let text = metrics.text(&[pods], &Load::default());
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
        assert!(served.len() >= 30, "{served:?}");
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
