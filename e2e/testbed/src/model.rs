//! A Kthena Model of a test.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kthena_bridge_api::DOMAIN;
use kthena_bridge_api::child::{ChildKind, LABEL_MANAGED_BY, MANAGED_BY};
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_core::{Config, Exposure, OwnerKind};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Map, Value, json};

use crate::error::{Context as _, Error, Result};
use crate::{Namespace, TestBed, is_ready};

/// How long a Model may take to be served, from nothing.
const LIMIT: Duration = Duration::from_secs(40);

/// Names the kind that asks for exposures in tests: each test of what is served holds for both.
const EXPOSED_BY: &str = "KTHENA_BRIDGE_EXPOSED_BY";

/// Who asks for the exposure of a test's Model: the Model by its annotations, or a ModelExposure of the same name that
/// says what they would.
///
/// # Errors
/// `KTHENA_BRIDGE_EXPOSED_BY` names neither.
pub(crate) fn read_exposed_by() -> Result<OwnerKind> {
    let Ok(name) = std::env::var(EXPOSED_BY) else {
        return Ok(OwnerKind::ModelBooster);
    };
    OwnerKind::named(&name).ok_or_else(|| {
        let known = OwnerKind::ALL.map(OwnerKind::as_str).join(" or ");
        Error::Other(format!("{EXPOSED_BY} is {name:?}, and has to be {known}"))
    })
}

/// The same, of which a bed has made sure when it was started.
pub fn exposed_by() -> OwnerKind {
    read_exposed_by().unwrap_or_default()
}

/// What ModelExposures say, as annotations, by the namespace and name of their Model.
type Said = HashMap<(String, String), BTreeMap<String, String>>;
static SAID: LazyLock<Mutex<Said>> = LazyLock::new(Mutex::default);

/// A Kthena Model of a test.
pub struct Model<'a> {
    bed: &'a TestBed,
    namespace: String,
    name: String,
    api: Api<ModelBooster>,
}

impl TestBed {
    /// Kthena's own example, under a name of the test's.
    pub fn example(&self, name: &str) -> Result<Value> {
        let path = self.parts().join("examples/Qwen2.5-0.5B-Instruct.yaml");
        let text =
            std::fs::read_to_string(&path).context(|| format!("reading {}", path.display()))?;
        let mut model: Value = serde_yaml::from_str(&text)
            .map_err(|e| Error::Other(format!("{}: {e}", path.display())))?;
        model["metadata"]["name"] = name.into();
        Ok(model)
    }
}

impl<'a> Namespace<'a> {
    /// A Model like Kthena's example.
    pub async fn model(&self, name: &str) -> Result<Model<'a>> {
        let example = self.bed().example(name)?;
        self.model_from(&example).await
    }

    /// A Model from a manifest.
    pub async fn model_from(&self, manifest: &Value) -> Result<Model<'a>> {
        self.apply(&manifest.to_string()).await?;
        self.model_named(manifest["metadata"]["name"].as_str().unwrap_or_default())
    }

    /// A Model that somebody else applies.
    pub fn model_named(&self, name: &str) -> Result<Model<'a>> {
        Ok(Model {
            bed: self.bed(),
            namespace: self.name().to_owned(),
            name: name.to_owned(),
            api: Api::namespaced(self.bed().client()?, self.name()),
        })
    }
}

impl Model<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Who asks for its exposure, as messages name it.
    pub fn asked_for_by(&self) -> String {
        format!("{} {}/{}", exposed_by().as_str(), self.namespace, self.name)
    }

    /// It, as it is now.
    pub async fn get(&self) -> Result<ModelBooster, String> {
        self.api.get(&self.name).await.map_err(|e| e.to_string())
    }

    /// It, as it is now, where it is.
    pub async fn get_opt(&self) -> Result<Option<ModelBooster>, String> {
        let found = self.api.get_opt(&self.name).await;
        found.map_err(|e| e.to_string())
    }

    /// Sets annotations of ours, and takes off those without a value, or has its ModelExposure say so. Keys are without
    /// the prefix.
    pub async fn annotate(&self, annotations: &[(&str, Option<&str>)]) -> Result<()> {
        if exposed_by() == OwnerKind::ModelExposure {
            return self.say(annotations).await;
        }
        let annotations: Map<String, Value> = annotations
            .iter()
            .map(|(key, value)| (format!("{DOMAIN}/{key}"), json!(value)))
            .collect();
        self.patch(&json!({"metadata": {"annotations": annotations}}))
            .await
    }

    /// Has its ModelExposure say what these annotations would, beside what it says.
    async fn say(&self, annotations: &[(&str, Option<&str>)]) -> Result<()> {
        let said = {
            let mut all = SAID.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (self.namespace.clone(), self.name.clone());
            let said = all.entry(key).or_default();
            for (key, value) in annotations {
                let key = format!("{DOMAIN}/{key}");
                match value {
                    Some(value) => said.insert(key, (*value).to_owned()),
                    None => said.remove(&key),
                };
            }
            said.clone()
        };
        let what = || format!("ModelExposure {}/{}", self.namespace, self.name);
        let config = Config::parse("modelHeader: provided")
            .map_err(|e| Error::Other(format!("{}: {e}", what())))?;
        let spec = Exposure::as_object(&self.namespace, &self.name, &said, &config)
            .map_err(|e| Error::Other(format!("{}: {e}", what())))?;
        let api = self.exposures()?;
        let Some(spec) = spec else {
            return match api.delete(&self.name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                deleted => deleted.context(|| format!("deleting {}", what())).map(drop),
            };
        };
        let body = ModelExposure::new(&self.name, spec);
        let params = PatchParams::apply("test").force();
        let applied = api.patch(&self.name, &params, &Patch::Apply(&body)).await;
        applied.context(|| format!("applying {}", what())).map(drop)
    }

    /// What it asks for: the keys of its annotations without the prefix, or of those whose like its ModelExposure says.
    pub async fn asks_for(&self) -> Result<Vec<String>, String> {
        let said = match exposed_by() {
            OwnerKind::ModelBooster => self.get().await?.metadata.annotations,
            OwnerKind::ModelExposure => {
                let all = SAID.lock().unwrap_or_else(PoisonError::into_inner);
                all.get(&(self.namespace.clone(), self.name.clone()))
                    .cloned()
            }
        };
        let keys = said.unwrap_or_default().into_keys();
        let own =
            keys.filter_map(|key| Some(key.strip_prefix(DOMAIN)?.strip_prefix('/')?.to_owned()));
        Ok(own.collect())
    }

    /// The client of what asks for its exposure.
    pub fn asking(&self) -> Result<Api<DynamicObject>> {
        Ok(Api::namespaced_with(
            self.bed.client()?,
            &self.namespace,
            &exposed_by().api_resource(),
        ))
    }

    /// The client of ModelExposures in its namespace.
    pub fn exposures(&self) -> Result<Api<ModelExposure>> {
        Ok(Api::namespaced(self.bed.client()?, &self.namespace))
    }

    /// The conditions by which it is told how it is exposed: its own, or those of its ModelExposure.
    pub async fn conditions(&self) -> Result<Vec<Condition>, String> {
        if exposed_by() == OwnerKind::ModelBooster {
            return Ok(self.get().await?.status.unwrap_or_default().conditions);
        }
        let api = self.exposures().map_err(|e| e.to_string())?;
        let exposure = api.get_opt(&self.name).await.map_err(|e| e.to_string())?;
        let status = exposure.and_then(|exposure| exposure.status);
        let mut conditions = status.unwrap_or_default().conditions;
        // Kthena's are on the Model only.
        let of_model = self.get_opt().await?.and_then(|model| model.status);
        let of_model = of_model.unwrap_or_default().conditions;
        let known = |c: &Condition| conditions.iter().any(|own| own.type_ == c.type_);
        let others: Vec<_> = of_model.into_iter().filter(|c| !known(c)).collect();
        conditions.extend(others);
        Ok(conditions)
    }

    /// Sets the annotations that expose it on a Gateway, and waits for nothing.
    pub async fn annotate_exposed(
        &self,
        gateway: &str,
        annotations: &[(&str, Option<&str>)],
    ) -> Result<()> {
        let both = [("expose", Some("true")), ("gateway", Some(gateway))];
        self.annotate(&[&both, annotations].concat()).await
    }

    /// Merges a patch.
    pub async fn patch(&self, patch: &Value) -> Result<()> {
        self.api
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .context(|| {
                format!(
                    "patching ModelBooster {}/{} with {patch}",
                    self.namespace, self.name
                )
            })
            .map(drop)
    }

    /// Exposes it on a Gateway and waits until it is served.
    pub async fn expose(&self, gateway: &str, annotations: &[(&str, Option<&str>)]) -> Result<()> {
        self.annotate_exposed(gateway, annotations).await?;
        self.wait_for_condition("Programmed", "True")
            .await
            .map(drop)
    }

    /// Deletes it.
    pub async fn delete(&self) -> Result<()> {
        let deleted = self.api.delete(&self.name, &DeleteParams::default()).await;
        deleted
            .context(|| format!("deleting ModelBooster {}/{}", self.namespace, self.name))
            .map(drop)
    }

    /// A condition, once it has a status.
    pub async fn wait_for_condition(&self, type_: &str, status: &str) -> Result<Condition> {
        self.wait_for(&format!("{type_}={status}"), |c| {
            c.type_ == type_ && c.status == status
        })
        .await
    }

    /// A condition, once it has a reason.
    pub async fn wait_for_reason(&self, type_: &str, reason: &str) -> Result<Condition> {
        self.wait_for(&format!("{type_} with reason {reason}"), |c| {
            c.type_ == type_ && c.reason == reason
        })
        .await
    }

    /// A condition, once its message has this text.
    pub async fn wait_for_message(&self, type_: &str, text: &str) -> Result<Condition> {
        self.wait_for(&format!("{type_} that tells of {text:?}"), |c| {
            c.type_ == type_ && c.message.contains(text)
        })
        .await
    }

    async fn wait_for(&self, what: &str, fits: impl Fn(&Condition) -> bool) -> Result<Condition> {
        let what = format!("{what} on ModelBooster {}/{}", self.namespace, self.name);
        let looked = self.bed.wait_for(&what, LIMIT, async || {
            let conditions = self.conditions().await?;
            let found = conditions.iter().find(|c| fits(c)).cloned();
            found.ok_or_else(|| format!("{conditions:#?}"))
        });
        looked.await
    }

    /// The object of a kind that is called `name`.
    pub async fn child(
        &self,
        kind: ChildKind,
        name: &str,
    ) -> Result<Option<DynamicObject>, String> {
        let api = self.children_api(kind).map_err(|e| e.to_string())?;
        api.get_opt(name)
            .await
            .map_err(|e| format!("getting {kind} {name}: {e}"))
    }

    /// Edits the object of a kind that is called `name` by the operations of a JSON Patch.
    pub async fn edit_child(&self, kind: ChildKind, name: &str, operations: Value) -> Result<()> {
        let what = || format!("editing {kind} {name} by {operations}");
        let patch: json_patch::Patch = serde_json::from_value(operations.clone())
            .map_err(|e| Error::Other(format!("{}: {e}", what())))?;
        let patch = Patch::<()>::Json(patch);
        let api = self.children_api(kind)?;
        let edited = api.patch(name, &PatchParams::default(), &patch).await;
        edited.context(what).map(drop)
    }

    /// Takes the label off its objects by which they are watched.
    pub async fn unlabel_children(&self) -> Result<()> {
        let label = LABEL_MANAGED_BY.replace('/', "~1");
        let remove = json!([{"op": "remove", "path": format!("/metadata/labels/{label}")}]);
        for (kind, object) in self.children().await.map_err(Error::Other)? {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            self.edit_child(kind, name, remove.clone()).await?;
        }
        Ok(())
    }

    /// The client of a kind that the bridge writes, in the Model's namespace.
    pub fn children_api(&self, kind: ChildKind) -> Result<Api<DynamicObject>> {
        Ok(Api::namespaced_with(
            self.bed.client()?,
            &self.namespace,
            &kind.api_resource(),
        ))
    }

    /// Everything in the namespace that the bridge wrote for this Model, in the order of the kinds.
    pub async fn children(&self) -> Result<Vec<(ChildKind, DynamicObject)>, String> {
        let mut children = Vec::new();
        for kind in ChildKind::ALL {
            let api = self.children_api(kind).map_err(|e| e.to_string())?;
            let ours = ListParams::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));
            let found = match api.list(&ours).await {
                Ok(found) => found,
                // The kind is not installed.
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                Err(error) => return Err(format!("listing {kind}: {error}")),
            };
            let of_model = found.items.into_iter().filter(|object| {
                object
                    .metadata
                    .owner_references
                    .iter()
                    .flatten()
                    .any(|owner| owner.name == self.name)
            });
            children.extend(of_model.map(|object| (kind, object)));
        }
        Ok(children)
    }

    /// Deletes the pod of its endpoint picker, and waits until another one is ready.
    pub async fn restart_picker(&self) -> Result<()> {
        let before = self.wait_for_picker(None).await?;
        let pods: Api<Pod> = Api::namespaced(self.bed.client()?, &self.namespace);
        pods.delete(&before, &DeleteParams::default())
            .await
            .context(|| format!("deleting pod {before}"))?;
        self.wait_for_picker(Some(&before)).await.map(drop)
    }

    /// Waits until its endpoint picker has one pod, other than `before`, and it is ready; tells its name.
    async fn wait_for_picker(&self, before: Option<&str>) -> Result<String> {
        let what = format!("the endpoint picker has a ready pod other than {before:?}");
        let picker = format!("{}-epp", self.name);
        let looked = self.bed.wait_for(what, LIMIT, async || {
            let found = self.bed.pods_of(&self.namespace, &picker).await?;
            let ready = found.len() == 1 && found.iter().all(is_ready);
            let name = found.first().and_then(|pod| pod.metadata.name.clone());
            name.filter(|name| ready && before != Some(name))
                .ok_or_else(|| format!("{found:?}"))
        });
        looked.await
    }

    /// Waits until the bridge has left nothing: no object and no condition.
    pub async fn wait_until_withdrawn(&self) -> Result<()> {
        let what = format!(
            "nothing is left on ModelBooster {}/{}",
            self.namespace, self.name
        );
        let looked = self.bed.wait_for(&what, LIMIT, async || {
            let model = self.get().await?;
            let conditions = model.status.unwrap_or_default().conditions;
            let ours = conditions
                .iter()
                .filter(|c| matches!(c.type_.as_str(), "Accepted" | "Programmed" | "Reachable"))
                .count();
            let children = self.children().await?;
            if ours == 0 && children.is_empty() {
                return Ok(());
            }
            let names = children
                .iter()
                .map(|(kind, _)| kind.as_str())
                .collect::<Vec<_>>();
            Err(format!("{names:?}; {conditions:#?}"))
        });
        looked.await
    }
}
