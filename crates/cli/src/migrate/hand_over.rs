//! The steps of a hand-over, each of which leaves the Model served when it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kthena_bridge_api::annotation as key;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_core::names::Names;
use kthena_bridge_core::{Config, Exposure, Topology, plan};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::by_hand::ByHand;
use super::object::Object;
use super::{Error, keepers, temporary_path};
use crate::annotate::{self, FIELD_MANAGER};
use crate::observe::{Looked, cause, observe};
use crate::output;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// A hand-over of one Model.
pub(super) struct HandOver {
    pub(super) client: Client,
    pub(super) config: Config,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// Whether the Gateways write statuses.
    pub(super) reports: bool,
    pub(super) timeout: Duration,
    pub(super) settle: Duration,
    pub(super) drain: Duration,
}

impl HandOver {
    /// Keeps the hand-made objects in a file that does not exist yet.
    pub(super) fn back_up(&self, file: Option<&Path>, by_hand: &ByHand) -> Result<(), Error> {
        let usual = || PathBuf::from(format!("{}-{}-by-hand.yaml", self.namespace, self.name));
        let file = file.map_or_else(usual, Path::to_owned);
        let mut yaml = String::new();
        for object in by_hand.all() {
            let mut value = object.value.clone();
            if let Some(object) = value.as_object_mut() {
                object.remove("status");
            }
            if let Some(metadata) = value["metadata"].as_object_mut() {
                let kept = ["name", "namespace", "labels", "annotations"];
                metadata.retain(|key, _| kept.contains(&key.as_str()));
            }
            yaml.push_str("---\n");
            yaml.push_str(&serde_yaml::to_string(&value)?);
        }
        let mut options = OpenOptions::new();
        let written = options
            .write(true)
            .create_new(true)
            .open(&file)
            .and_then(|mut file| file.write_all(yaml.as_bytes()));
        written.map_err(|e| Error::Backup(file.display().to_string(), e))?;
        say(&format!(
            "what was made by hand is kept in {}",
            file.display()
        ))
    }

    /// Sends the requests through copies, and deletes the originals. Those that something keeps have to go
    /// before the Model is exposed where their names are needed, which is in `collides` by kind and name.
    pub(super) async fn set_aside(
        &self,
        originals: &ByHand,
        copies: &ByHand,
        collides: &BTreeSet<(String, String)>,
    ) -> Result<(), Error> {
        if let Err(error) = self.copy(copies).await {
            return Err(match self.delete_all(copies.all()).await {
                Ok(()) => Error::TakenBack(Box::new(error)),
                Err(other) => Error::NotTakenBack(Box::new(error), Box::new(other)),
            });
        }
        // Until here the original was the older of two routes for the same requests.
        self.park(&originals.route).await?;
        say(&format!("requests go through the copy {}", copies.route))?;
        self.wait("no request is under way through the originals", self.drain)
            .await?;
        self.delete_all(originals.all().filter(|o| o.keeper().is_none()))
            .await?;
        let needed = keepers(originals.all().filter(|o| o.is_among(collides)));
        if !needed.is_empty() {
            let names: Vec<String> = needed.iter().map(ToString::to_string).collect();
            let releases: Vec<String> = needed.iter().map(|k| k.release(&self.namespace)).collect();
            return Err(Error::Kept(names.join(" and "), releases.join("\n  ")));
        }
        self.tell_kept(originals)
    }

    /// Says what serves nothing any more, and is for others to delete.
    fn tell_kept(&self, by_hand: &ByHand) -> Result<(), Error> {
        for keeper in keepers(by_hand.all()) {
            say(&format!(
                "what {keeper} keeps serves nothing any more: {}",
                keeper.release(&self.namespace)
            ))?;
        }
        Ok(())
    }

    async fn copy(&self, copies: &ByHand) -> Result<(), Error> {
        for copy in copies.others.iter().chain([&copies.pool]) {
            // The endpoint picker ends without its pool.
            if !copy.is("Deployment") {
                self.apply(copy).await?;
            }
        }
        for deployment in copies.of("Deployment") {
            self.apply(deployment).await?;
            self.ready(deployment).await?;
            say(&format!("the copy {deployment} is ready"))?;
        }
        self.apply(&copies.route).await?;
        self.reported(&copies.route).await?;
        self.reported(&copies.pool).await?;
        self.wait("every data plane has the copies", self.settle)
            .await
    }

    /// Exposes the Model, and hands it the requests of the hand-made route.
    pub(super) async fn expose(
        &self,
        by_hand: &ByHand,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let before = self.model().await?.metadata.annotations.unwrap_or_default();
        if let Err(error) = Box::pin(self.take_requests(by_hand, annotations)).await {
            return Err(match self.annotate(&before).await {
                Ok(()) => Error::TakenBack(Box::new(error)),
                Err(other) => Error::NotTakenBack(Box::new(error), Box::new(other)),
            });
        }
        self.park(&by_hand.route).await?;
        say(&format!(
            "the Model's own route has the requests, and {} has none",
            by_hand.route
        ))?;
        self.condition("Programmed", |c| c.status == "True").await?;
        say("the Model is Programmed")
    }

    /// Makes the Model's own route one for the same requests, while the hand-made one has them.
    async fn take_requests(
        &self,
        by_hand: &ByHand,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let names = Names::of(&self.name);
        let temporary = temporary_path(&self.namespace, &self.name);
        let mut first = annotations.clone();
        first.insert(key::PATH.to_owned(), temporary.clone());
        self.annotate(&first).await?;
        self.own(ChildKind::HTTPRoute, &names.model, |route| {
            let path = route.text("/spec/rules/0/matches/0/path/value");
            if path == temporary {
                Ok(())
            } else {
                Err(format!("its path is {path:?}"))
            }
        })
        .await?;
        let deployment = self.object(ChildKind::Deployment, &names.picker).await?;
        if let Some(deployment) = deployment {
            self.ready(&deployment).await?;
        }
        self.condition("Programmed", |c| c.status == "True" || !self.reports)
            .await?;
        say(&format!(
            "the Model's own endpoint picker and route are ready, under {temporary}"
        ))?;

        // What it says of the conflict below must not be of an earlier attempt.
        self.condition("Accepted", |c| c.status == "True").await?;
        self.annotate(annotations).await?;
        // From here on the operator writes nothing: the hand-made route has what is asked for.
        let holder = format!("HTTPRoute {}/{} has ", self.namespace, by_hand.route.name());
        self.condition("Accepted", |c| {
            c.reason == "RouteConflict" && c.message.starts_with(&holder)
        })
        .await?;
        Box::pin(self.give_requests(&names.model, annotations)).await?;
        self.condition("Accepted", |c| c.status == "True").await?;
        if let Some(route) = self.object(ChildKind::HTTPRoute, &names.model).await? {
            self.reported(&route).await?;
        }
        say(&format!(
            "the Model's own route has the same requests as {}",
            by_hand.route
        ))?;
        self.wait("every data plane has both routes", self.settle)
            .await
    }

    /// Writes the route as the operator would, and as it will keep it.
    async fn give_requests(
        &self,
        name: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let looked = Looked {
            children: &ChildKind::ALL,
            decisions: true,
            whole: false,
        };
        let seen = observe(&self.client, Some(&self.namespace), looked).await?;
        let objects = seen.of_operator(&self.config);
        let problem = |problem: String| Error::Write(format!("HTTPRoute {name}"), problem);
        let model = self.model().await?;
        let exposure = Exposure::parse(&self.namespace, &self.name, annotations, &self.config);
        let exposure = exposure.map_err(|e| problem(e.to_string()))?;
        let exposure = exposure.ok_or_else(|| problem("it is not exposed".to_owned()))?;
        let topology = Topology::of_model(&exposure, &model, &objects).map_err(Error::Refused)?;
        let plan = plan::build(&exposure, &topology, &self.config, &objects);
        let wanted = plan.objects.iter().find(|o| o.kind == ChildKind::HTTPRoute);
        let wanted = wanted.ok_or_else(|| problem("the operator would make none".to_owned()))?;
        let rules = &wanted.object["spec"]["rules"];
        self.until(
            &format!("giving the requests to HTTPRoute {name}"),
            async || {
                let route = self.object(ChildKind::HTTPRoute, name).await;
                let route = route.map_err(|e| e.to_string())?;
                let route = route.ok_or_else(|| "it is gone".to_owned())?;
                let patch = json!({
                    "metadata": {"resourceVersion": route.text("/metadata/resourceVersion")},
                    "spec": {"rules": rules},
                });
                let api = route.api(&self.client, &self.namespace);
                answer(api.patch(name, &params(), &Patch::Merge(patch)))
                    .await
                    .map(drop)
            },
        )
        .await
    }

    /// Takes a route's requests away, so that another one for the same requests has them. It goes on leading
    /// to its pool: a Gateway that forgets the pool in the same moment would fail requests that are under way.
    async fn park(&self, route: &Object) -> Result<(), Error> {
        let path = format!(
            "{}/{}",
            temporary_path(&self.namespace, &self.name),
            route.name()
        );
        self.until(&format!("taking the requests from {route}"), async || {
            let now = self.again(route).await?;
            let mut rule = now.pointer("/spec/rules/0").cloned().unwrap_or_default();
            rule["matches"] = json!([{"path": {"type": "PathPrefix", "value": path}}]);
            let patch = json!({
                "metadata": {"resourceVersion": now["metadata"]["resourceVersion"]},
                "spec": {"rules": [rule]},
            });
            let api = route.api(&self.client, &self.namespace);
            answer(api.patch(route.name(), &params(), &Patch::Merge(patch)))
                .await
                .map(drop)
        })
        .await?;
        self.reported(route).await
    }

    /// Deletes what serves nothing any more.
    pub(super) async fn clean_up(&self, by_hand: &ByHand, keep: bool) -> Result<(), Error> {
        let is_kept = |o: &&Object| o.keeper().is_some() || (keep && *o != &by_hand.route);
        let (kept, free): (Vec<&Object>, Vec<&Object>) = by_hand.all().partition(is_kept);
        if !free.is_empty() {
            let what = "no request is under way through what was made by hand";
            self.wait(what, self.drain).await?;
        }
        for object in free {
            self.delete(object).await?;
            say(&format!("{object} is deleted"))?;
        }
        if keep {
            for object in kept {
                say(&format!("{object} serves nothing any more"))?;
            }
        }
        self.tell_kept(by_hand)
    }

    async fn model(&self) -> Result<ModelBooster, Error> {
        let api: Api<ModelBooster> = Api::namespaced(self.client.clone(), &self.namespace);
        let model = answer(api.get(&self.name)).await;
        model.map_err(|e| Error::Read(format!("ModelBooster {}/{}", self.namespace, self.name), e))
    }

    /// Makes the Model's annotations of ours these.
    async fn annotate(&self, wanted: &BTreeMap<String, String>) -> Result<(), Error> {
        let api: Api<ModelBooster> = Api::namespaced(self.client.clone(), &self.namespace);
        let called = format!("ModelBooster {}/{}", self.namespace, self.name);
        self.until(&format!("annotating {called}"), async || {
            let model = self.model().await.map_err(|e| e.to_string())?;
            let ours = |all: &BTreeMap<String, String>| -> BTreeMap<String, String> {
                let ours = all.iter().filter(|(key, _)| key::is_ours(key));
                ours.map(|(key, value)| (key.clone(), value.clone()))
                    .collect()
            };
            let before = ours(&model.metadata.annotations.clone().unwrap_or_default());
            let changes = annotate::changes(&before, &ours(wanted));
            if changes.is_empty() {
                return Ok(());
            }
            annotate::write(&api, &model, &changes)
                .await
                .map_err(|e| cause(&e))
        })
        .await
    }

    /// Waits until a condition of the Model is as it should be.
    async fn condition(&self, type_: &str, fits: impl Fn(&Condition) -> bool) -> Result<(), Error> {
        let what = format!(
            "the condition {type_} of ModelBooster {}/{}",
            self.namespace, self.name
        );
        self.until(&what, async || {
            let model = self.model().await.map_err(|e| e.to_string())?;
            let conditions = model.status.unwrap_or_default().conditions;
            let Some(condition) = conditions.iter().find(|c| c.type_ == type_) else {
                return Err("it is not there; does the operator run?".to_owned());
            };
            if fits(condition) {
                return Ok(());
            }
            let others: Vec<String> = conditions
                .iter()
                .filter(|c| matches!(c.type_.as_str(), "Accepted" | "Programmed"))
                .map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message))
                .collect();
            Err(others.join("; "))
        })
        .await
    }

    /// Waits until an object of the Model's own is as it should be.
    async fn own(
        &self,
        kind: ChildKind,
        name: &str,
        fits: impl Fn(&Object) -> Result<(), String>,
    ) -> Result<(), Error> {
        self.until(&format!("the Model's own {kind} {name}"), async || {
            let object = self.object(kind, name).await.map_err(|e| e.to_string())?;
            let Some(object) = object.filter(|object| object.is_owned_by(&self.uid)) else {
                let model = self.model().await.map_err(|e| e.to_string())?;
                let conditions = model.status.unwrap_or_default().conditions;
                let accepted = conditions.iter().find(|c| c.type_ == "Accepted");
                let accepted = accepted.map(|c| format!("{}: {}", c.reason, c.message));
                return Err(
                    accepted.unwrap_or_else(|| "no condition; does the operator run?".to_owned())
                );
            };
            fits(&object)
        })
        .await
    }

    /// Waits until a Deployment has a ready pod.
    async fn ready(&self, deployment: &Object) -> Result<(), Error> {
        self.until(&format!("{deployment} is ready"), async || {
            let now = self.again(deployment).await?;
            let ready = now.pointer("/status/readyReplicas").and_then(Value::as_i64);
            if ready.unwrap_or_default() > 0 {
                Ok(())
            } else {
                Err(now["status"].to_string())
            }
        })
        .await
    }

    /// Waits until all Gateways have said that they take a route or a pool as it is.
    async fn reported(&self, object: &Object) -> Result<(), Error> {
        if !self.reports {
            return Ok(());
        }
        self.until(&format!("the Gateways take {object}"), async || {
            let now = self.again(object).await?;
            if is_taken(&now) {
                Ok(())
            } else {
                Err(now["status"].to_string())
            }
        })
        .await
    }

    async fn again(&self, object: &Object) -> Result<Value, String> {
        let api = object.api(&self.client, &self.namespace);
        let now = answer(api.get(object.name())).await?;
        serde_json::to_value(now).map_err(|e| e.to_string())
    }

    async fn object(&self, kind: ChildKind, name: &str) -> Result<Option<Object>, Error> {
        let resource = kind.api_resource();
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let found = answer(api.get_opt(name)).await;
        let found = found.map_err(|e| Error::Read(format!("{kind} {name}"), e))?;
        let Some(found) = found else { return Ok(None) };
        Ok(Some(Object::new(&resource, serde_json::to_value(found)?)))
    }

    async fn apply(&self, object: &Object) -> Result<(), Error> {
        let api = object.api(&self.client, &self.namespace);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&object.value);
        let applied = answer(api.patch(object.name(), &params, &patch)).await;
        applied
            .map(drop)
            .map_err(|e| Error::Write(format!("making {object}"), e))
    }

    async fn delete_all(&self, objects: impl Iterator<Item = &Object>) -> Result<(), Error> {
        for object in objects {
            self.delete(object).await?;
        }
        Ok(())
    }

    /// Deletes an object, if it is still the one that was seen.
    async fn delete(&self, object: &Object) -> Result<(), Error> {
        let uid = Some(object.uid().to_owned()).filter(|uid| !uid.is_empty());
        let params = DeleteParams {
            preconditions: uid.map(|uid| Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        let api = object.api(&self.client, &self.namespace);
        let deleted = async {
            match api.delete(object.name(), &params).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                deleted => deleted.map(drop),
            }
        };
        let deleted = answer(deleted).await;
        deleted.map_err(|e| Error::Write(format!("deleting {object}"), e))
    }

    async fn wait(&self, what: &str, time: Duration) -> Result<(), Error> {
        if !time.is_zero() {
            say(&format!("waiting {} s, so that {what}", time.as_secs()))?;
            tokio::time::sleep(time).await;
        }
        Ok(())
    }

    /// Looks until it is so. What `look` gives as an error is what was seen.
    async fn until(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<(), String>,
    ) -> Result<(), Error> {
        let end = Instant::now() + self.timeout;
        loop {
            match look().await {
                Ok(()) => return Ok(()),
                Err(_) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
                Err(seen) => {
                    return Err(Error::TimedOut {
                        what: what.to_owned(),
                        after: self.timeout,
                        seen,
                    });
                }
            }
        }
    }
}

/// Whether every parent says that it takes the object as it is. A pool has no parentRefs to compare with;
/// some gateways write a parent of the kind Status, which is nobody, while none refers to it.
fn is_taken(object: &Value) -> bool {
    let list = |pointer: &str| object.pointer(pointer).and_then(Value::as_array);
    let parents = list("/status/parents").into_iter().flatten();
    let parents: Vec<&Value> = parents
        .filter(|p| p["parentRef"]["kind"] != "Status")
        .collect();
    let wanted = list("/spec/parentRefs").map_or(1, Vec::len);
    let generation = object["metadata"]["generation"].as_i64();
    let says = |parent: &Value, type_: &str| {
        let conditions = parent["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|c| {
            let observed = c["observedGeneration"].as_i64();
            c["type"] == type_
                && c["status"] == "True"
                && (observed.is_none() || observed >= generation)
        })
    };
    parents.len() >= wanted
        && parents
            .iter()
            .all(|p| says(p, "Accepted") && says(p, "ResolvedRefs"))
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// Waits for the answer to a request; the error is the API server's words.
async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(answer) => answer.map_err(|e| cause(&e)),
        Err(_) => Err(format!("there was no answer in {} s", ANSWER.as_secs())),
    }
}

fn say(text: &str) -> Result<(), Error> {
    Ok(output::print(&format!("{text}\n"))?)
}
