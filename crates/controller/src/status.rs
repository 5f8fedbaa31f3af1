//! Writes what is told of an exposure: our conditions on a Model, beside Kthena's, and the status of a ModelExposure.
//! Takes our conditions off a Model again.
//!
//! Kthena writes the whole status of a Model back from a copy that may be older than ours, so that it can restore a
//! condition that we changed, or removed, a moment ago. Each write of ours is remembered, and what comes
//! back differently is written again. Ours are told from others' by the field manager.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kthena_bridge_api::FIELD_MANAGER;
use kthena_bridge_api::condition::{ConditionType, READY, Reason, Status};
use kthena_bridge_api::model_exposure::ModelExposureStatus;
use kthena_bridge_core::Source;
use kthena_bridge_core::observe::Metadata;
use kthena_bridge_core::report::{Report, Verdict};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::error::Error;
use crate::metrics::Metrics;
use crate::object_ref::ObjectRef;
use crate::observe::Identity;
use crate::request::{answer, patch_of_version, patch_params};

/// How many conditions of ours on one object are remembered.
const REMEMBERED: usize = 64;

/// How long a Gateway may take to report on a change before a Model that is served says so: most do in less, and
/// what waits for the condition would see it come and go with every edit.
const SETTLING: Duration = Duration::from_millis(500);

/// A write whose answer we have.
#[derive(Debug)]
struct LastWrite {
    /// Our conditions after it.
    conditions: Vec<Condition>,
    /// Stands for what else we wrote.
    details: Option<u64>,
    /// The metadata of the answer: uid and resource version.
    answer: Metadata,
}

impl LastWrite {
    /// Whether the watch has not brought it to this object yet.
    fn is_ahead_of(&self, source: &Source) -> bool {
        Identity::from(source.metadata()).is_older(Identity::from(&self.answer))
    }
}

/// What we wrote on an object.
#[derive(Debug, Default)]
struct Written {
    /// Our last write, until the object is seen with it: it is as large as all else that is known of the object.
    last: Option<Arc<LastWrite>>,
    /// Hashes of every condition that we wrote on a Model: Kthena may restore an old one, in its own name.
    told: Vec<u64>,
    /// Since when a Gateway has not reported on a change, while the Model says that it is served.
    pending: Option<Instant>,
}

impl Written {
    /// Whether this is a condition that we wrote once.
    fn told(&self, condition: &Condition) -> bool {
        self.told.contains(&fingerprint(condition))
    }

    fn remember(&mut self, conditions: &[Condition]) {
        if self.told.len() > REMEMBERED {
            self.told.clear();
        }
        for condition in conditions {
            if !self.told(condition) {
                self.told.push(fingerprint(condition));
            }
        }
    }

    /// Whether it says nothing any more.
    fn is_empty(&self) -> bool {
        self.last.is_none() && self.told.is_empty() && self.pending.is_none()
    }

    fn take(&mut self, conditions: Vec<Condition>, details: Option<u64>, answer: ObjectMeta) {
        // Nobody else writes the status of a ModelExposure, which has details.
        if details.is_none() {
            self.remember(&conditions);
        }
        let answer = Metadata {
            uid: answer.uid.map(Into::into),
            resource_version: answer.resource_version.map(Into::into),
            ..Metadata::default()
        };
        self.last = Some(Arc::new(LastWrite {
            conditions,
            details,
            answer,
        }));
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

/// Stands for what a ModelExposure's status says beside its conditions.
fn digest(details: &ModelExposureStatus) -> u64 {
    let mut hasher = DefaultHasher::new();
    let endpoints = details.endpoints.map(|e| (e.ready, e.total));
    (details.observed_generation, &details.urls, endpoints).hash(&mut hasher);
    for object in &details.objects {
        (&object.group, &object.kind, &object.name).hash(&mut hasher);
    }
    hasher.finish()
}

/// Writes what is told.
pub(crate) struct Publisher {
    client: Client,
    metrics: Arc<Metrics>,
    written: Mutex<HashMap<ObjectRef, Written>>,
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
    pub(crate) fn settle(&self, source: &Source, report: &mut Report, now: Instant) {
        let current = self.current(source);
        let mut written = self.lock();
        let object = ObjectRef::of(source);
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

    /// Writes what differs, and tells which conditions changed. With `details` it is a whole status, which is ours
    /// alone; else conditions among others.
    pub(crate) async fn publish(
        &self,
        source: &Source,
        report: &Report,
        details: Option<ModelExposureStatus>,
    ) -> Result<Vec<Transition>, Error> {
        let current = self.current(source);
        let generation = source.metadata().generation;
        let verdicts: Vec<&Verdict> = report.verdicts().collect();
        let mut wanted: Vec<Condition> = verdicts
            .iter()
            .map(|verdict| condition(verdict, generation, &current))
            .collect();
        let details = details.map(|details| ModelExposureStatus {
            observed_generation: generation,
            ..details
        });
        if details.is_some() {
            wanted.extend(ready(&wanted, &current));
        }
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
        let is_ours = |old: &Condition| details.is_some() || owns(source, &old.type_);
        let is_surplus =
            |old: &Condition| is_ours(old) && wanted.iter().all(|new| new.type_ != old.type_);
        let is_there = |new: &Condition| current.iter().any(|old| is(old, new));
        let is_so = wanted.iter().all(is_there) && !current.iter().any(is_surplus);
        let digest = details.as_ref().map(digest);
        if is_so && digest == self.details(source) {
            return Ok(Vec::new());
        }
        let mut status = details.map_or_else(|| json!({}), |details| json!(details));
        status["conditions"] = json!(wanted);
        let answer = self.apply(source, status).await?;
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
        self.remember(source, wanted, digest, answer);
        Ok(transitions)
    }

    /// Takes our conditions off.
    pub(crate) async fn withdraw(&self, source: &Source) -> Result<(), Error> {
        if self.ahead_of(source).is_some() {
            // The watch has not brought our last write yet; it will come.
            return Ok(());
        }
        let told = |c: &Condition| {
            let written = self.lock();
            let written = written.get(&ObjectRef::of(source));
            written.is_some_and(|written| written.told(c))
        };
        let was_ours = |c: &Condition| owns(source, &c.type_) || told(c);
        let conditions = source.conditions();
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
        let what = || naming("remove our conditions from", source);
        let version = source.metadata().resource_version.as_deref();
        let version = version.unwrap_or_default();
        let patch = Patch::<()>::Json(patch_of_version(what, version, operations)?);
        let api = self.api(source);
        let params = patch_params();
        let patched = answer(what, api.patch_status(name(source), &params, &patch)).await?;
        self.remember(source, Vec::new(), None, patched.metadata);
        Ok(())
    }

    /// Forgets an object that is gone.
    pub(crate) fn forget(&self, object: &ObjectRef) {
        self.lock().remove(object);
    }

    fn remember(
        &self,
        source: &Source,
        conditions: Vec<Condition>,
        details: Option<u64>,
        answer: ObjectMeta,
    ) {
        self.metrics.status_written();
        let mut written = self.lock();
        let written = written.entry(ObjectRef::of(source)).or_default();
        written.take(conditions, details, answer);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef, Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Our last write, while the watch has not brought it to this object. It is forgotten once that has.
    fn ahead_of(&self, source: &Source) -> Option<Arc<LastWrite>> {
        let mut written = self.lock();
        let object = ObjectRef::of(source);
        let of = written.get_mut(&object)?;
        of.last.take_if(|last| !last.is_ahead_of(source));
        let last = of.last.clone();
        if of.is_empty() {
            written.remove(&object);
        }
        last
    }

    /// Our conditions as they are: those of the last write while the watch has not brought it.
    fn current(&self, source: &Source) -> Vec<Condition> {
        match self.ahead_of(source) {
            Some(last) => last.conditions.clone(),
            None => source.conditions().to_vec(),
        }
    }

    /// What else is told of a ModelExposure, as it is.
    fn details(&self, source: &Source) -> Option<u64> {
        let Source::Object(exposure) = source else {
            return None;
        };
        match self.ahead_of(source) {
            Some(last) => last.details,
            None => exposure.status.as_ref().map(digest),
        }
    }

    /// The version that is looked at: that of the last write while the watch has not brought it.
    fn version(&self, source: &Source) -> Option<String> {
        match self.ahead_of(source) {
            Some(last) => last.answer.resource_version.as_deref().map(str::to_owned),
            None => source.metadata().resource_version.clone(),
        }
    }

    fn api(&self, source: &Source) -> Api<DynamicObject> {
        let namespace = source.metadata().namespace.as_deref().unwrap_or_default();
        let resource = source.kind().api_resource();
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// Server-side apply, so that only our entries of the list are touched. It takes them over by force:
    /// where Kthena wrote one back, it is recorded as Kthena's. Only over the version that was looked at: the
    /// API server ignores the uid in a write of the status, and an object of the same name that was made
    /// meanwhile would be told what was so of the one before.
    async fn apply(&self, source: &Source, status: Value) -> Result<ObjectMeta, Error> {
        let kind = source.kind();
        let body = json!({
            "apiVersion": kind.api_version(),
            "kind": kind.as_str(),
            "metadata": {
                "name": name(source),
                "uid": source.metadata().uid,
                "resourceVersion": self.version(source),
            },
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let api = self.api(source);
        let patch = Patch::Apply(&body);
        let applied = api.patch_status(name(source), &params, &patch);
        let what = || naming("write the conditions of", source);
        Ok(answer(what, applied).await?.metadata)
    }
}

/// `Ready`, for tools that know no other: the first of the others that does not hold, else `Programmed`.
fn ready(conditions: &[Condition], current: &[Condition]) -> Option<Condition> {
    let of = |type_: ConditionType| conditions.iter().find(|c| c.type_ == type_.as_str());
    let both = [ConditionType::Accepted, ConditionType::Programmed];
    let says = both
        .into_iter()
        .filter_map(of)
        .find(|c| c.status != Status::True.as_str())
        .or_else(|| of(ConditionType::Programmed))?;
    let since = since(READY, &says.status, current);
    Some(Condition {
        type_: READY.to_owned(),
        last_transition_time: since,
        ..says.clone()
    })
}

/// Since when a condition has this status.
fn since(type_: &str, status: &str, current: &[Condition]) -> Time {
    current
        .iter()
        .find(|old| old.type_ == type_ && old.status == status)
        .map_or_else(
            || Time(jiff::Timestamp::now()),
            |old| old.last_transition_time.clone(),
        )
}

fn condition(verdict: &Verdict, generation: Option<i64>, current: &[Condition]) -> Condition {
    let type_ = verdict.reason.condition().as_str();
    let status = verdict.reason.status().as_str();
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        // The schema's limit is 32,768 characters; nobody reads that much.
        message: verdict.message.chars().take(4096).collect(),
        observed_generation: generation,
        last_transition_time: since(type_, status, current),
    }
}

/// Whether our field manager wrote the condition of this type.
fn owns(source: &Source, type_: &str) -> bool {
    let item = format!("k:{{\"type\":\"{type_}\"}}");
    let mut entries = source.metadata().managed_fields.iter().flatten();
    entries.any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry
                .fields_v1
                .as_ref()
                .is_some_and(|f| f.0["f:status"]["f:conditions"].get(&item).is_some())
    })
}

fn name(source: &Source) -> &str {
    source.metadata().name.as_deref().unwrap_or_default()
}

fn naming(verb: &str, source: &Source) -> String {
    format!("{verb} {}", ObjectRef::of(source))
}

#[cfg(test)]
mod tests {
    use kthena_bridge_api::kthena::{ModelBooster, ModelBoosterSpec};

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

    /// One that can send nothing.
    fn publisher() -> Publisher {
        let client = Client::new(
            tower::service_fn(async |_| Err::<http::Response<kube::client::Body>, _>("no request")),
            "default",
        );
        Publisher::new(client, Arc::default())
    }

    #[tokio::test]
    async fn a_change_that_is_taken_at_once_is_not_told() {
        let publisher = publisher();
        let mut model = ModelBooster::new("demo", ModelBoosterSpec::default());
        let served = Condition {
            type_: "Programmed".to_owned(),
            ..condition("answers")
        };
        model.status.get_or_insert_default().conditions = vec![served];
        let source = Source::Model(Arc::new(model));
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
            publisher.settle(&source, &mut report, now);
            (report.programmed.message, report.again_in)
        };
        let left = |ms| Some(Duration::from_millis(ms));
        assert_eq!(after(0), ("answers".to_owned(), left(500)));
        assert_eq!(after(100), ("answers".to_owned(), left(400)));
        assert_eq!(after(500), ("not reported".to_owned(), None));
        let mut taken = report();
        taken.programmed.reason = Reason::Programmed;
        publisher.settle(&source, &mut taken, begun);
        assert_eq!(
            after(700),
            ("answers".to_owned(), left(500)),
            "another change"
        );
    }

    #[tokio::test]
    async fn a_write_is_kept_until_the_watch_has_brought_it() {
        let publisher = publisher();
        let of_version = |version: &str| {
            let mut model = ModelBooster::new("demo", ModelBoosterSpec::default());
            model.metadata.uid = Some("uid".to_owned());
            model.metadata.resource_version = Some(version.to_owned());
            Source::from(model)
        };
        let before = of_version("7");
        let answer = ObjectMeta {
            uid: Some("uid".to_owned()),
            resource_version: Some("9".to_owned()),
            ..ObjectMeta::default()
        };
        let written = condition("written");
        publisher.remember(&before, vec![written.clone()], None, answer);
        assert_eq!(publisher.current(&before), [written]);
        assert_eq!(publisher.version(&before).as_deref(), Some("9"));
        let brought = of_version("9");
        assert_eq!(publisher.current(&brought), []);
        assert_eq!(publisher.version(&brought).as_deref(), Some("9"));
        let is_kept = |publisher: &Publisher| {
            let written = publisher.lock();
            let written = written.get(&ObjectRef::of(&before)).unwrap();
            (written.last.is_some(), written.told(&condition("written")))
        };
        assert_eq!(is_kept(&publisher), (false, true));
    }

    #[test]
    fn every_condition_that_was_written_is_known_again() {
        let mut written = Written::default();
        written.take(vec![condition("path /a")], None, ObjectMeta::default());
        written.take(vec![condition("path /b")], None, ObjectMeta::default());
        let mut restored = condition("path /a");
        restored.last_transition_time = Time(jiff::Timestamp::MAX);
        assert!(written.told(&restored), "Kthena had it in its copy");
        assert!(!written.told(&condition("somebody else's")));
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut written = Written::default();
        for n in 0..1_000 {
            written.take(vec![condition(&n.to_string())], None, ObjectMeta::default());
        }
        assert!(written.told.len() <= REMEMBERED + 1);
        assert!(written.told(&condition("999")));
    }
}
