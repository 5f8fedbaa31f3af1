//! Writes the objects of a plan: only what differs, and never what is not ours.
//!
//! The first write of an object is a create, so that an object that exists already is found and not taken
//! over. Later ones are server-side applies of the version that was compared. What is no longer wanted is
//! deleted in the version that was seen.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use kthena_bridge_api::FIELD_MANAGER;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_core::holder;
use kthena_bridge_core::observe::{Child, Cluster, Route};
use kthena_bridge_core::ownership;
use kthena_bridge_core::plan::{Desired, Plan};
use kthena_bridge_core::report::{Cause, Failure};
use kthena_bridge_core::topology::Topology;
use kube::api::{
    DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, ValidationDirective,
};
use kube::core::{Request, Status};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};

use crate::claims::Claims;
use crate::contention::{Contention, Written};
use crate::error::{Class, Error};
use crate::metrics::{ApplyResult, Metrics};
use crate::observe::Caches;
use crate::request::{answer, patch_of_version, patch_params, to_value};
use crate::settled::Settled;

/// Writes objects.
pub(crate) struct Writer {
    client: Client,
    caches: Arc<Caches>,
    claims: Arc<Claims>,
    metrics: Arc<Metrics>,
    /// What the API server makes of what we want, where that is not the same.
    settled: Settled,
    /// What was written a moment ago.
    contention: Contention,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// What could not be written, for the conditions.
    pub failures: Vec<Failure>,
    /// The error of each, for the retry.
    pub errors: Vec<Error>,
}

impl Writer {
    pub(crate) fn new(
        client: Client,
        caches: Arc<Caches>,
        claims: Arc<Claims>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            client,
            caches,
            claims,
            metrics,
            settled: Settled::default(),
            contention: Contention::default(),
        }
    }

    /// Makes the pool as the plan says, and what else the route needs. It comes before all: a route to it
    /// might be one to somebody else's, and the endpoint picker ends without it.
    pub(crate) async fn converge_pool(&self, plan: &Plan, topology: &Topology) -> Applied {
        self.write_step(plan, topology, 0).await
    }

    /// Makes the cluster as the plan says, in steps; a step that fails ends it.
    ///
    /// After the pool comes the route, alone, since a client waits for it; the picker's Deployment is last,
    /// since its pod needs what comes before.
    pub(crate) async fn converge(&self, plan: &Plan, topology: &Topology) -> Applied {
        for step in 0..=3 {
            let applied = self.write_step(plan, topology, step).await;
            if !applied.errors.is_empty() {
                return applied;
            }
        }
        self.remove(&topology.owner.uid, Some(plan)).await
    }

    async fn write_step(&self, plan: &Plan, topology: &Topology, now: u8) -> Applied {
        let step = |kind: ChildKind| match kind {
            ChildKind::InferencePool | ChildKind::DestinationRule => 0,
            ChildKind::HTTPRoute => 1,
            ChildKind::Deployment => 3,
            _ => 2,
        };
        let objects: Vec<&Desired> = plan
            .objects
            .iter()
            .filter(|o| step(o.kind) == now)
            .collect();
        self.write_all(&objects, topology).await
    }

    /// Removes the objects of an owner, the route first: those that no plan wants, or all.
    pub(crate) async fn remove(&self, owner: &str, plan: Option<&Plan>) -> Applied {
        let wanted = |child: &Child| plan.is_some_and(|plan| plan.keeps(child));
        let mut surplus = self.caches.children_of(owner);
        surplus.retain(|child| !child.ending && !wanted(child));
        let (routes, others): (Vec<_>, Vec<_>) = surplus
            .into_iter()
            .partition(|child| child.kind == ChildKind::HTTPRoute);
        let mut applied = Applied::default();
        for children in [routes, others] {
            let deletes = join_all(children.iter().map(|child| self.delete(child))).await;
            for (child, deleted) in children.iter().zip(deletes) {
                if let Err(error) = deleted {
                    let result = ApplyResult::Failed(error.class());
                    self.metrics.applied(child.kind, result);
                    applied.push(child.kind, child.name(), error);
                }
            }
        }
        applied
    }

    /// Writes objects side by side.
    async fn write_all(&self, objects: &[&Desired], topology: &Topology) -> Applied {
        let writes = join_all(objects.iter().map(|desired| self.write(desired, topology))).await;
        let mut applied = Applied::default();
        for (desired, write) in objects.iter().zip(writes) {
            if let Err(error) = write {
                let result = ApplyResult::Failed(error.class());
                self.metrics.applied(desired.kind, result);
                applied.push(desired.kind, &desired.name, error);
            }
        }
        applied
    }

    async fn write(&self, desired: &Desired, topology: &Topology) -> Result<(), Error> {
        let (kind, owner) = (desired.kind, &topology.owner);
        let write = |to| Written {
            owner: owner.uid.clone(),
            kind,
            name: desired.name.clone(),
            to,
        };
        let contended = |write: &Written, how| {
            let waits = self.contention.has_to_wait(write, Instant::now());
            waits.then(|| Error::Contended {
                kind,
                namespace: owner.namespace.clone(),
                name: desired.name.clone(),
                how,
            })
        };
        let known = self.caches.child(kind, &owner.namespace, &desired.name);
        let live = if let Some(live) = known {
            live
        } else {
            let made = write(None);
            contended(&made, "removed").map_or(Ok(()), Err)?;
            match self.create(desired, &owner.namespace).await {
                Ok(()) => {
                    self.contention.written(made, Instant::now());
                    self.metrics.applied(kind, ApplyResult::Created);
                    return Ok(());
                }
                Err(error) if error.status().is_some_and(Status::is_already_exists) => {
                    self.look(desired, &owner.namespace).await?.into()
                }
                Err(error) => return Err(error),
            }
        };
        let is_ours = live.belongs_to(&owner.uid, &topology.names.model)
            || holder::is_given_up(&live, owner, &topology.model, &*self.caches);
        if !is_ours {
            return Err(Error::NotOurs {
                kind,
                namespace: owner.namespace.clone(),
                name: desired.name.clone(),
            });
        }
        let settled = || {
            let (wanted, is) = (desired.digest, live.digest);
            self.settled.is(live.uid(), wanted, is, Instant::now())
        };
        if live.digest == desired.digest || settled() {
            return Ok(());
        }
        let changed = write(Some(desired.digest));
        contended(&changed, "changed").map_or(Ok(()), Err)?;
        self.apply(desired, &live, changed).await?;
        self.metrics.applied(kind, ApplyResult::Changed);
        Ok(())
    }

    fn api(&self, kind: ChildKind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.api_resource())
    }

    /// Reads an object that the cache does not have: it lost its label, or it was never ours.
    async fn look(&self, desired: &Desired, namespace: &str) -> Result<Child, Error> {
        let api = self.api(desired.kind, namespace);
        let what = || naming("get", desired.kind, namespace, &desired.name);
        let object = answer(what, api.get(&desired.name)).await?;
        Ok(Child::reduce(desired.kind, &to_value(object)))
    }

    async fn create(&self, desired: &Desired, namespace: &str) -> Result<(), Error> {
        let what = || naming("create", desired.kind, namespace, &desired.name);
        let invalid = |source: kube::Error| Error::Request {
            what: what(),
            source: Box::new(source),
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let path = DynamicObject::url_path(&desired.kind.api_resource(), Some(namespace));
        let body =
            serde_json::to_vec(&desired.object).map_err(|e| invalid(kube::Error::SerdeError(e)))?;
        let mut request = Request::new(path)
            .create(&params, body)
            .map_err(|e| invalid(kube::Error::BuildRequest(e)))?;
        // PostParams cannot say it, and the API server would only warn of a field that it drops.
        if let Ok(strict) = format!("{}&fieldValidation=Strict", request.uri()).parse() {
            *request.uri_mut() = strict;
        }
        let created: Value = match answer(what, self.client.request(request)).await {
            // The object cannot be what was not found.
            Err(error) if error.is_not_found() => {
                return Err(Error::Prerequisite {
                    what: what(),
                    message: error.cause(),
                });
            }
            created => created?,
        };
        self.written(desired.kind, &created);
        Ok(())
    }

    /// Applies over the version that was compared. Once, as a rule; more only after the create, or where
    /// another manager added to what is ours alone.
    async fn apply(&self, desired: &Desired, live: &Child, changed: Written) -> Result<(), Error> {
        let mut version = live
            .metadata
            .resource_version
            .as_deref()
            .unwrap_or_default()
            .to_owned();
        // Otherwise what is no longer wanted stays beside what is new until it is removed: an endpoint picker
        // starts with half of two configurations, and a pool looks for the labels of both.
        if let Some(entry) = live.created_entry {
            let path = format!("/metadata/managedFields/{entry}/operation");
            let as_applied = vec![json!({"op": "replace", "path": path, "value": "Apply"})];
            let object = self.patch(desired, live, &version, as_applied).await?;
            version_of(&object).clone_into(&mut version);
        }
        let mut object = match self.apply_over(desired, live, &version).await {
            // A binding's role cannot be changed, only replaced.
            Err(error)
                if desired.kind == ChildKind::RoleBinding
                    && error.status().is_some_and(Status::is_invalid) =>
            {
                self.delete(live).await?;
                self.contention.written(changed, Instant::now());
                return self.create(desired, live.namespace()).await;
            }
            object => object?,
        };
        // Also where what follows fails: a rival that writes just then would never have us wait.
        self.contention.written(changed, Instant::now());
        if differs(desired, &object) {
            let foreign: Vec<Value> = ownership::exclusive(desired.kind)
                .iter()
                .filter_map(|field| {
                    let path = format!("/spec/{field}");
                    let (live, wanted) = (object.pointer(&path), desired.object.pointer(&path));
                    let stays = wanted.is_none()
                        && live.is_none_or(|l| ownership::is_default(desired.kind, field, l));
                    (live != wanted && !stays).then(|| match wanted {
                        Some(wanted) => json!({"op": "add", "path": path, "value": wanted}),
                        None => json!({"op": "remove", "path": path}),
                    })
                })
                .collect();
            if !foreign.is_empty() {
                object = self
                    .patch(desired, live, version_of(&object), foreign)
                    .await?;
            }
        }
        let child = Child::reduce(desired.kind, &object);
        if child.digest != desired.digest {
            tracing::warn!(
                kind = desired.kind.as_str(),
                namespace = live.namespace(),
                name = live.name(),
                "the API server keeps another version than was written; a webhook may change it"
            );
            let (wanted, is) = (desired.digest, child.digest);
            self.settled.note(child.uid(), wanted, is, Instant::now());
        }
        self.written(desired.kind, &object);
        Ok(())
    }

    async fn apply_over(
        &self,
        desired: &Desired,
        live: &Child,
        version: &str,
    ) -> Result<Value, Error> {
        let mut body = desired.object.clone();
        body["metadata"]["uid"] = live.uid().into();
        body["metadata"]["resourceVersion"] = version.into();
        let params = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(FIELD_MANAGER).force()
        };
        let api = self.api(desired.kind, live.namespace());
        let what = || naming("apply", desired.kind, live.namespace(), &desired.name);
        let applied = answer(
            what,
            api.patch(&desired.name, &params, &Patch::Apply(&body)),
        )
        .await;
        self.forget_if_gone(&applied, live);
        applied.map(to_value)
    }

    async fn patch(
        &self,
        desired: &Desired,
        live: &Child,
        version: &str,
        operations: Vec<Value>,
    ) -> Result<Value, Error> {
        let what = || naming("patch", desired.kind, live.namespace(), &desired.name);
        let patch = patch_of_version(what, version, operations)?;
        let api = self.api(desired.kind, live.namespace());
        let patch = Patch::<()>::Json(patch);
        let patched = answer(what, api.patch(&desired.name, &patch_params(), &patch)).await;
        self.forget_if_gone(&patched, live);
        patched.map(to_value)
    }

    async fn delete(&self, child: &Child) -> Result<(), Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: child.metadata.uid.as_deref().map(str::to_owned),
                resource_version: child
                    .metadata
                    .resource_version
                    .as_deref()
                    .map(str::to_owned),
            }),
            ..DeleteParams::background()
        };
        let api = self.api(child.kind, child.namespace());
        let what = || naming("delete", child.kind, child.namespace(), child.name());
        let deleted = answer(what, api.delete(child.name(), &params)).await;
        self.forget_if_gone(&deleted, child);
        match deleted {
            Ok(_) => {
                for owner in child.owners() {
                    self.contention.removed(&Written {
                        owner: owner.uid.to_string(),
                        kind: child.kind,
                        name: child.name().to_owned(),
                        to: None,
                    });
                }
                self.metrics.applied(child.kind, ApplyResult::Deleted);
                self.gone(child);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn written(&self, kind: ChildKind, object: &Value) {
        self.caches
            .children(kind)
            .written(Child::reduce(kind, object));
        if kind == ChildKind::HTTPRoute {
            let change = self.caches.routes.written(Route::reduce(object));
            self.claims.changed(change.as_ref());
        }
    }

    fn gone(&self, child: &Child) {
        self.caches
            .children(child.kind)
            .gone(child.namespace(), child.name());
        if child.kind == ChildKind::HTTPRoute {
            let change = self.caches.routes.gone(child.namespace(), child.name());
            self.claims.changed(change.as_ref());
        }
    }

    fn forget_if_gone<T>(&self, result: &Result<T, Error>, child: &Child) {
        if result.as_ref().is_err_and(Error::is_not_found) {
            self.gone(child);
        }
    }
}

impl Applied {
    fn push(&mut self, kind: ChildKind, name: &str, error: Error) {
        self.failures.push(Failure {
            kind,
            name: name.to_owned(),
            cause: match error.class() {
                Class::NotOurs => Cause::NameConflict,
                Class::Forbidden => Cause::Forbidden,
                Class::Conflict | Class::Transient => Cause::Other,
            },
            message: error.cause(),
        });
        self.errors.push(error);
    }

    /// What failed in an attempt before, which is not repeated yet.
    pub(crate) fn as_before(failures: &[Failure]) -> Self {
        Self {
            failures: failures.to_vec(),
            errors: Vec::new(),
        }
    }

    /// Whether nothing failed but that somebody else wrote at the same time.
    pub(crate) fn only_conflicts(&self) -> bool {
        !self.errors.is_empty() && self.errors.iter().all(|e| e.class() == Class::Conflict)
    }

    /// The errors as one.
    pub(crate) fn into_result(self) -> Result<(), Error> {
        let more = self.errors.len().saturating_sub(1);
        match self.errors.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(Error::Apply {
                first: Box::new(first),
                more,
            }),
        }
    }
}

fn naming(verb: &str, kind: ChildKind, namespace: &str, name: &str) -> String {
    format!("{verb} {kind} {namespace}/{name}")
}

fn version_of(object: &Value) -> &str {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
}

/// Whether what we own of a live object is not what is wanted.
fn differs(desired: &Desired, object: &Value) -> bool {
    ownership::live(desired.kind, object) != desired.digest
}
