//! Writes our conditions on a Model, beside Kthena's, and takes them off again.
//!
//! Kthena writes the whole status back from a copy that may be older than ours, so that it can restore a
//! condition that we changed, or removed, a moment ago. Each write of ours is remembered, and what comes
//! back differently is written again. Ours are told from others' by the field manager.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kthena_bridge_api::FIELD_MANAGER;
use kthena_bridge_api::condition::{ConditionType, Reason};
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::observe::Metadata;
use kthena_bridge_core::report::{Report, Verdict};
use kube::api::{Patch, PatchParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::error::Error;
use crate::metrics::Metrics;
use crate::namespaced_name::NamespacedName;
use crate::observe::Identity;
use crate::request::{answer, patch_of_version, patch_params};

/// How many conditions of ours on one Model are remembered.
const REMEMBERED: usize = 64;

/// How long a Gateway may take to report on a change before a Model that is served says so: most do in less, and
/// what waits for the condition would see it come and go with every edit.
const SETTLING: Duration = Duration::from_millis(500);

/// What we wrote on a Model.
#[derive(Clone, Debug, Default)]
struct Written {
    /// Our conditions after our last write.
    conditions: Vec<Condition>,
    /// The metadata of the answer to it: uid and resource version.
    answer: Metadata,
    /// Hashes of every condition that we wrote: Kthena may restore an old one, in its own name.
    told: HashSet<u64>,
    /// Since when a Gateway has not reported on a change, while the Model says that it is served.
    pending: Option<Instant>,
}

impl Written {
    /// Whether this is a condition that we wrote once.
    fn told(&self, condition: &Condition) -> bool {
        self.told.contains(&fingerprint(condition))
    }

    /// Whether the watch has not brought our last write to this Model yet.
    fn is_ahead_of(&self, model: &ModelBooster) -> bool {
        Identity::from(&model.metadata).is_older(Identity::from(&self.answer))
    }

    fn take(&mut self, conditions: Vec<Condition>, answer: ObjectMeta) {
        if self.told.len() > REMEMBERED {
            self.told.clear();
        }
        self.told.extend(conditions.iter().map(fingerprint));
        self.conditions = conditions;
        self.answer = Metadata {
            uid: answer.uid.map(Into::into),
            resource_version: answer.resource_version.map(Into::into),
            ..Metadata::default()
        };
    }
}

fn fingerprint(condition: &Condition) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Condition {
        type_,
        status,
        reason,
        message,
        ..
    } = condition;
    (type_, status, reason, message).hash(&mut hasher);
    hasher.finish()
}

/// Writes conditions.
pub(crate) struct Publisher {
    client: Client,
    metrics: Arc<Metrics>,
    written: Mutex<HashMap<NamespacedName, Written>>,
}

/// A condition whose status or reason changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    /// What it says now.
    pub verdict: Verdict,
    /// The status that it had; nothing when it is new.
    pub was: Option<String>,
}

impl Publisher {
    pub(crate) fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self {
            client,
            metrics,
            written: Mutex::default(),
        }
    }

    /// Lets a Model that is served say so while a Gateway has just begun to take a change.
    pub(crate) fn settle(&self, model: &ModelBooster, report: &mut Report, now: Instant) {
        let current = self.current(model);
        let mut written = self.lock();
        let object = NamespacedName::of(model);
        let served = current
            .into_iter()
            .find(|c| c.type_ == ConditionType::Programmed.as_str() && c.status == "True");
        let served = served.filter(|_| report.programmed.reason == Reason::Pending);
        let Some(served) = served else {
            if let Some(written) = written.get_mut(&object) {
                written.pending = None;
            }
            return;
        };
        let since = *written
            .entry(object)
            .or_default()
            .pending
            .get_or_insert(now);
        let left = SETTLING.saturating_sub(now.duration_since(since));
        if !left.is_zero() {
            report.programmed = Verdict {
                reason: Reason::Programmed,
                message: served.message,
            };
            report.again_in = Some(left);
        }
    }

    /// Writes both conditions where they differ, and tells which changed.
    pub(crate) async fn publish(
        &self,
        model: &ModelBooster,
        report: &Report,
    ) -> Result<Vec<Transition>, Error> {
        let current = self.current(model);
        let verdicts: Vec<&Verdict> = report.verdicts().collect();
        let wanted: Vec<Condition> = verdicts
            .iter()
            .map(|verdict| condition(verdict, model, &current))
            .collect();
        let is = |old: &Condition, new: &Condition| {
            (
                &old.type_,
                &old.status,
                &old.reason,
                &old.message,
                old.observed_generation,
            ) == (
                &new.type_,
                &new.status,
                &new.reason,
                &new.message,
                new.observed_generation,
            )
        };
        // One that is no longer wanted goes with the next apply.
        let is_surplus = |old: &Condition| {
            owns(model, &old.type_) && wanted.iter().all(|new| new.type_ != old.type_)
        };
        let is_there = |new: &Condition| current.iter().any(|old| is(old, new));
        if wanted.iter().all(is_there) && !current.iter().any(is_surplus) {
            return Ok(Vec::new());
        }
        let answer = self.apply(model, &wanted).await?;
        self.remember(model, wanted.clone(), answer);
        let mut transitions = Vec::new();
        for (verdict, new) in verdicts.into_iter().zip(&wanted) {
            let old = current.iter().find(|old| old.type_ == new.type_);
            if old.is_none_or(|old| (&old.status, &old.reason) != (&new.status, &new.reason)) {
                transitions.push(Transition {
                    verdict: verdict.clone(),
                    was: old.map(|old| old.status.clone()),
                });
            }
        }
        Ok(transitions)
    }

    /// Takes our conditions off.
    pub(crate) async fn withdraw(&self, model: &ModelBooster) -> Result<(), Error> {
        let known = self.lock().get(&NamespacedName::of(model)).cloned();
        if known.as_ref().is_some_and(|known| known.is_ahead_of(model)) {
            // The watch has not brought our last write yet; it will come.
            return Ok(());
        }
        let was_ours = |c: &Condition| {
            owns(model, &c.type_) || known.as_ref().is_some_and(|known| known.told(c))
        };
        let conditions = model
            .status
            .as_ref()
            .map(|s| s.conditions.as_slice())
            .unwrap_or_default();
        let is_type = |c: &Condition| ConditionType::ALL.iter().any(|t| t.as_str() == c.type_);
        // From the end, so that the indices stay right.
        let ours = conditions
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, c)| is_type(c) && was_ours(c));
        let operations: Vec<Value> = ours
            .map(
                |(index, _)| json!({"op": "remove", "path": format!("/status/conditions/{index}")}),
            )
            .collect();
        if operations.is_empty() {
            return Ok(());
        }
        let what = || naming("remove our conditions from", model);
        let version = model
            .metadata
            .resource_version
            .as_deref()
            .unwrap_or_default();
        let patch = Patch::<()>::Json(patch_of_version(what, version, operations)?);
        let api = self.api(model);
        let patched = answer(what, api.patch_status(name(model), &patch_params(), &patch)).await?;
        let ours = known.map(|known| known.conditions).unwrap_or_default();
        self.remember(model, ours, patched.metadata);
        Ok(())
    }

    /// Forgets a Model that is gone.
    pub(crate) fn forget(&self, model: &NamespacedName) {
        self.lock().remove(model);
    }

    fn remember(&self, model: &ModelBooster, conditions: Vec<Condition>, answer: ObjectMeta) {
        self.metrics.status_written();
        let mut written = self.lock();
        let written = written.entry(NamespacedName::of(model)).or_default();
        written.take(conditions, answer);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NamespacedName, Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Our conditions as they are: those of the last write while the watch has not brought it.
    fn current(&self, model: &ModelBooster) -> Vec<Condition> {
        match self.lock().get(&NamespacedName::of(model)) {
            Some(last) if last.is_ahead_of(model) => last.conditions.clone(),
            _ => model
                .status
                .as_ref()
                .map(|s| s.conditions.clone())
                .unwrap_or_default(),
        }
    }

    /// The version that is looked at: that of the last write while the watch has not brought it.
    fn version(&self, model: &ModelBooster) -> Option<String> {
        let last = self.lock();
        let last = last.get(&NamespacedName::of(model));
        match last.filter(|last| last.is_ahead_of(model)) {
            Some(last) => last.answer.resource_version.as_deref().map(str::to_owned),
            None => model.metadata.resource_version.clone(),
        }
    }

    fn api(&self, model: &ModelBooster) -> Api<ModelBooster> {
        Api::namespaced(
            self.client.clone(),
            model.metadata.namespace.as_deref().unwrap_or_default(),
        )
    }

    /// Server-side apply, so that only our entries of the list are touched. It takes them over by force:
    /// where Kthena wrote one back, it is recorded as Kthena's. Only over the version that was looked at: the
    /// API server ignores the uid in a write of the status, and a Model of the same name that was made
    /// meanwhile would be told what was so of the one before.
    async fn apply(
        &self,
        model: &ModelBooster,
        conditions: &[Condition],
    ) -> Result<ObjectMeta, Error> {
        let body = json!({
            "apiVersion": "workload.serving.volcano.sh/v1alpha1",
            "kind": "ModelBooster",
            "metadata": {"name": name(model), "uid": model.metadata.uid, "resourceVersion": self.version(model)},
            "status": {"conditions": conditions},
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let api = self.api(model);
        let patch = Patch::Apply(&body);
        let applied = api.patch_status(name(model), &params, &patch);
        Ok(answer(|| naming("write the conditions of", model), applied)
            .await?
            .metadata)
    }
}

fn condition(verdict: &Verdict, model: &ModelBooster, current: &[Condition]) -> Condition {
    let type_ = verdict.reason.condition().as_str();
    let status = verdict.reason.status().as_str();
    let since = current
        .iter()
        .find(|old| old.type_ == type_ && old.status == status)
        .map_or_else(
            || Time(jiff::Timestamp::now()),
            |old| old.last_transition_time.clone(),
        );
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        // The schema's limit is 32,768 characters; nobody reads that much.
        message: verdict.message.chars().take(4096).collect(),
        observed_generation: model.metadata.generation,
        last_transition_time: since,
    }
}

/// Whether our field manager wrote the condition of this type.
fn owns(model: &ModelBooster, type_: &str) -> bool {
    let item = format!("k:{{\"type\":\"{type_}\"}}");
    model.metadata.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry
                .fields_v1
                .as_ref()
                .is_some_and(|f| f.0["f:status"]["f:conditions"].get(&item).is_some())
    })
}

fn name(model: &ModelBooster) -> &str {
    model.metadata.name.as_deref().unwrap_or_default()
}

fn naming(verb: &str, model: &ModelBooster) -> String {
    let namespace = model.metadata.namespace.as_deref().unwrap_or_default();
    format!("{verb} ModelBooster {namespace}/{}", name(model))
}

#[cfg(test)]
mod tests {
    use kthena_bridge_api::kthena::ModelBoosterSpec;

    use super::*;

    fn condition(message: &str) -> Condition {
        Condition {
            type_: "Accepted".to_owned(),
            status: "True".to_owned(),
            reason: "Accepted".to_owned(),
            message: message.to_owned(),
            observed_generation: None,
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        }
    }

    #[tokio::test]
    async fn a_change_that_is_taken_at_once_is_not_told() {
        let client = Client::new(
            tower::service_fn(async |_| Err::<http::Response<kube::client::Body>, _>("no request")),
            "default",
        );
        let publisher = Publisher::new(client, Arc::default());
        let mut model = ModelBooster::new("demo", ModelBoosterSpec::default());
        let served = Condition {
            type_: "Programmed".to_owned(),
            ..condition("answers")
        };
        model.status.get_or_insert_default().conditions = vec![served];
        let report = || Report {
            accepted: Verdict {
                reason: Reason::Accepted,
                message: String::new(),
            },
            programmed: Verdict {
                reason: Reason::Pending,
                message: "not reported".to_owned(),
            },
            reachable: None,
            again_in: None,
        };
        let begun = Instant::now();
        let after = |milliseconds| {
            let mut report = report();
            let now = begun + Duration::from_millis(milliseconds);
            publisher.settle(&model, &mut report, now);
            (report.programmed.message, report.again_in)
        };
        let left = |ms| Some(Duration::from_millis(ms));
        assert_eq!(after(0), ("answers".to_owned(), left(500)));
        assert_eq!(after(100), ("answers".to_owned(), left(400)));
        assert_eq!(after(500), ("not reported".to_owned(), None));
        let mut taken = report();
        taken.programmed.reason = Reason::Programmed;
        publisher.settle(&model, &mut taken, begun);
        assert_eq!(
            after(700),
            ("answers".to_owned(), left(500)),
            "another change"
        );
    }

    #[test]
    fn every_condition_that_was_written_is_known_again() {
        let mut written = Written::default();
        written.take(vec![condition("path /a")], ObjectMeta::default());
        written.take(vec![condition("path /b")], ObjectMeta::default());
        let mut restored = condition("path /a");
        restored.last_transition_time = Time(jiff::Timestamp::MAX);
        assert!(written.told(&restored), "Kthena had it in its copy");
        assert!(!written.told(&condition("somebody else's")));
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut written = Written::default();
        for n in 0..1_000 {
            written.take(vec![condition(&n.to_string())], ObjectMeta::default());
        }
        assert!(written.told.len() <= REMEMBERED + 1);
        assert!(written.told(&condition("999")));
    }
}
