use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace as Object, ServiceAccount};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::{GroupVersionKind, ObjectMeta},
};

use crate::{
    FIELD_MANAGER, TestBed,
    error::{Context as _, Error, Result},
};

/// How long a namespace may take to be usable: the controllers come back only a while after an API server that was
/// away.
const USABLE: Duration = Duration::from_mins(1);

/// A namespace of one test. When it is dropped it is deleted; when it is dropped by a panic, the ends of
/// all logs are printed first.
pub struct Namespace<'a> {
    bed: &'a TestBed,
    name: String,
}

impl TestBed {
    /// Makes a namespace whose name starts with `prefix`, with its service account and CA in place.
    pub async fn namespace(&self, prefix: &str) -> Result<Namespace<'_>> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{prefix}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let client = self.client()?;
        let api: Api<Object> = Api::all(client.clone());
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        };
        api.create(
            &PostParams::default(),
            &Object {
                metadata,
                ..Object::default()
            },
        )
        .await
        .context(|| format!("creating namespace {name}"))?;
        let what = format!("namespace {name} has its service account and CA");
        self.wait_for(&what, USABLE, async || usable(&client, &name).await)
            .await?;
        Ok(Namespace { bed: self, name })
    }

    /// Applies all documents of `yaml`, server-side. Objects of namespaced kinds that name no namespace go
    /// to `namespace`.
    pub async fn apply(&self, namespace: &str, yaml: &str) -> Result<Vec<DynamicObject>> {
        let client = self.client()?;
        let mut applied = Vec::new();
        for value in documents(yaml)? {
            applied.push(apply(&client, namespace, &value).await?);
        }
        Ok(applied)
    }

    /// Has the API server say whether it would take an object, with strict validation. Nothing is written.
    pub async fn dry_run(&self, value: &serde_json::Value) -> Result<DynamicObject> {
        let params = PatchParams::apply(FIELD_MANAGER).dry_run();
        apply_with(&self.client()?, "", value, params).await
    }
}

/// The documents of a text that are not empty.
pub fn documents(yaml: &str) -> Result<Vec<serde_json::Value>> {
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let value = <serde_json::Value as serde::Deserialize>::deserialize(document)
            .map_err(|e| Error::Other(format!("reading YAML: {e}\n{yaml}")))?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

pub(crate) async fn apply(
    client: &Client,
    namespace: &str,
    value: &serde_json::Value,
) -> Result<DynamicObject> {
    apply_with(client, namespace, value, PatchParams::apply(FIELD_MANAGER)).await
}

async fn apply_with(
    client: &Client,
    namespace: &str,
    value: &serde_json::Value,
    params: PatchParams,
) -> Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(value.clone())
        .map_err(|e| Error::Other(format!("not an object: {e}\n{value:#}")))?;
    let name = object.metadata.name.clone().unwrap_or_default();
    let types = object.types.clone().unwrap_or_default();
    let what = || format!("applying {} {namespace}/{name}", types.kind);
    let gvk =
        GroupVersionKind::try_from(&types).map_err(|e| Error::Other(format!("{}: {e}", what())))?;
    let (resource, capabilities) = kube::discovery::pinned_kind(client, &gvk)
        .await
        .context(what)?;
    let api: Api<DynamicObject> = if capabilities.scope == kube::discovery::Scope::Namespaced {
        Api::namespaced_with(
            client.clone(),
            object.metadata.namespace.as_deref().unwrap_or(namespace),
            &resource,
        )
    } else {
        Api::all_with(client.clone(), &resource)
    };
    let params = params.force().validation_strict();
    api.patch(&name, &params, &Patch::Apply(value))
        .await
        .context(what)
}

impl<'a> Namespace<'a> {
    /// The bed that it is on.
    pub fn bed(&self) -> &'a TestBed {
        self.bed
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Applies all documents of `yaml` in this namespace (see [`TestBed::apply`]).
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        self.bed.apply(&self.name, yaml).await
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.bed.tails(&self.name, 25));
        }
        let (config, name) = (self.bed.config().clone(), self.name.clone());
        self.bed.spawn(async move {
            let Ok(client) = Client::try_from(config) else {
                return;
            };
            let api: Api<Object> = Api::all(client);
            if let Err(error) = api.delete(&name, &DeleteParams::default()).await {
                tracing::warn!(%error, name, "deleting a test's namespace");
            }
        });
    }
}

/// Whether pods can be made in a namespace: they need its service account and, in a volume, the CA.
pub(crate) async fn usable(client: &Client, namespace: &str) -> Result<(), String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    accounts.get("default").await.map_err(|e| e.to_string())?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    maps.get("kube-root-ca.crt")
        .await
        .map(drop)
        .map_err(|e| e.to_string())
}
