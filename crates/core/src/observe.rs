//! What is looked at: the cluster as the decisions see it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kthena_bridge_api::child::{ANNOTATION_ACTIVATED, ChildKind, LABEL_MODEL};
use kthena_bridge_api::gateway::{Gateway, GatewayClass, ParentReference, ParentStatus};
use kthena_bridge_api::kthena::{ModelServer, ModelServing};
use kube::core::{ApiResource, ObjectMeta};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::ownership::{self, Digest};

/// What is known of the cluster. Reading never waits.
pub trait Cluster {
    /// The ModelServing of this name.
    fn serving(&self, namespace: &str, name: &str) -> Option<Arc<ModelServing>>;
    /// The ModelServer of this name.
    fn server(&self, namespace: &str, name: &str) -> Option<Arc<ModelServer>>;
    /// The pods that carry all of these labels.
    fn pods(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Arc<Pod>>;
    /// The Gateway of this name.
    fn gateway(&self, namespace: &str, name: &str) -> Option<Arc<Gateway>>;
    /// Every Gateway of a namespace.
    fn gateways_in(&self, namespace: &str) -> Vec<Arc<Gateway>>;
    /// The GatewayClass of this name.
    fn gateway_class(&self, name: &str) -> Option<Arc<GatewayClass>>;
    /// An object that we manage.
    fn child(&self, kind: ChildKind, namespace: &str, name: &str) -> Option<Arc<Child>>;
    /// The objects that we manage for the owner with this uid.
    fn children_of(&self, owner: &str) -> Vec<Arc<Child>>;
    /// Whether the API server serves a kind.
    fn serves(&self, kind: ChildKind) -> bool;
    /// The version of Gateway API's inference extension whose InferencePool CRD is installed, such as
    /// `v1.5.0`, when it says so.
    fn inference_extension_version(&self) -> Option<String>;
}

/// A pod, as far as it is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Its metadata, reduced to name, namespace, uid, resource version and labels.
    pub metadata: ObjectMeta,
    /// Whether it is ready and not on its way out.
    pub ready: bool,
}

impl Pod {
    /// Whether it carries all of these labels.
    pub fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        let own = self.metadata.labels.as_ref();
        labels
            .iter()
            .all(|(k, v)| own.and_then(|own| own.get(k)) == Some(v))
    }
}

impl<'de> Deserialize<'de> for Pod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Whole {
            #[serde(default)]
            metadata: ObjectMeta,
            #[serde(default)]
            status: Status,
        }
        #[derive(Deserialize, Default)]
        struct Status {
            #[serde(default)]
            conditions: Vec<Condition>,
        }
        #[derive(Deserialize)]
        struct Condition {
            r#type: String,
            status: String,
        }
        let whole = Whole::deserialize(deserializer)?;
        let ready = whole
            .status
            .conditions
            .iter()
            .any(|c| c.r#type == "Ready" && c.status == "True");
        Ok(Self {
            ready: ready && whole.metadata.deletion_timestamp.is_none(),
            metadata: reduced(whole.metadata),
        })
    }
}

/// Metadata without what nothing here reads, most of its size.
pub fn reduced(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        labels: metadata.labels,
        ..ObjectMeta::default()
    }
}

/// An object that we manage, reduced to what decides whether it is as it should be and how it fares.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: ChildKind,
    /// Its metadata: name, namespace, uid, resource version, generation, creation time, labels, owner
    /// references and the one annotation that is read.
    pub metadata: ObjectMeta,
    /// The fields that we own.
    pub digest: Digest,
    /// Whether we wrote any of its fields.
    pub managed: bool,
    /// What its kind has that is read.
    pub detail: Detail,
}

/// What is read of a kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Detail {
    /// Nothing.
    #[default]
    None,
    /// Of an HTTPRoute.
    Route {
        /// Where it wants to be attached.
        parent_refs: Vec<ParentReference>,
        /// What the parents say.
        parents: Vec<ParentStatus>,
    },
    /// Of an InferencePool.
    Pool {
        /// The labels of its pods.
        selector: BTreeMap<String, String>,
        /// The port that requests are sent to.
        target_port: Option<u16>,
        /// `FailOpen` or `FailClose`.
        failure_mode: String,
        /// What the parents say.
        parents: Vec<ParentStatus>,
    },
    /// Of a Deployment.
    Deployment {
        /// Ready replicas.
        ready: i32,
        /// The generation that the status speaks of.
        observed_generation: i64,
    },
}

impl Child {
    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Its uid.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Its owner references.
    pub fn owners(&self) -> &[OwnerReference] {
        self.metadata
            .owner_references
            .as_deref()
            .unwrap_or_default()
    }

    /// Whether it belongs to the owner: by its owner reference, or, when somebody stripped that, because
    /// it has no other owner, we wrote it, and its label names the owner's objects.
    pub fn belongs_to(&self, owner: &str, label: &str) -> bool {
        self.owners().iter().any(|o| o.uid == owner)
            || (self.owners().is_empty()
                && self.managed
                && self
                    .metadata
                    .labels
                    .as_ref()
                    .and_then(|l| l.get(LABEL_MODEL))
                    .is_some_and(|l| l == label))
    }

    /// Whether its Model was active with a ready endpoint when it was last written.
    pub fn activated(&self) -> bool {
        self.metadata
            .annotations
            .as_ref()
            .is_some_and(|a| a.contains_key(ANNOTATION_ACTIVATED))
    }

    /// Reduces an object as the API server sends it. In a list it does not say its own kind.
    pub fn reduce(kind: ChildKind, object: &Value) -> Self {
        let metadata: ObjectMeta = get(object, "/metadata");
        let annotations = metadata.annotations.as_ref().and_then(|a| {
            let value = a.get(ANNOTATION_ACTIVATED)?;
            Some(BTreeMap::from([(
                ANNOTATION_ACTIVATED.to_owned(),
                value.clone(),
            )]))
        });
        Self {
            kind,
            digest: ownership::live(kind, object),
            managed: ownership::is_managed(object),
            detail: Detail::of(kind, object),
            metadata: ObjectMeta {
                generation: metadata.generation,
                creation_timestamp: metadata.creation_timestamp.clone(),
                deletion_timestamp: metadata.deletion_timestamp.clone(),
                owner_references: metadata.owner_references.clone(),
                annotations,
                ..reduced(metadata)
            },
        }
    }
}

impl Detail {
    fn of(kind: ChildKind, object: &Value) -> Self {
        match kind {
            ChildKind::HTTPRoute => Self::Route {
                parent_refs: get(object, "/spec/parentRefs"),
                parents: get(object, "/status/parents"),
            },
            ChildKind::InferencePool => Self::Pool {
                selector: get(object, "/spec/selector/matchLabels"),
                target_port: get(object, "/spec/targetPorts/0/number"),
                failure_mode: get(object, "/spec/endpointPickerRef/failureMode"),
                parents: get(object, "/status/parents"),
            },
            ChildKind::Deployment => Self::Deployment {
                ready: get(object, "/status/readyReplicas"),
                observed_generation: get(object, "/status/observedGeneration"),
            },
            _ => Self::None,
        }
    }
}

/// A part of an object; its default when it is missing or of another form.
fn get<T: serde::de::DeserializeOwned + Default>(object: &Value, pointer: &str) -> T {
    object
        .pointer(pointer)
        .and_then(|value| T::deserialize(value).ok())
        .unwrap_or_default()
}

impl kube::Resource for Pod {
    type DynamicType = ApiResource;
    type Scope = kube::core::NamespaceResourceScope;
    fn kind(dt: &ApiResource) -> Cow<'_, str> {
        dt.kind.as_str().into()
    }
    fn group(dt: &ApiResource) -> Cow<'_, str> {
        dt.group.as_str().into()
    }
    fn version(dt: &ApiResource) -> Cow<'_, str> {
        dt.version.as_str().into()
    }
    fn plural(dt: &ApiResource) -> Cow<'_, str> {
        dt.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A cluster made of objects at hand: what `render` sees, and tests.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// ModelServings.
    pub servings: Vec<Arc<ModelServing>>,
    /// ModelServers.
    pub servers: Vec<Arc<ModelServer>>,
    /// Pods.
    pub pods: Vec<Arc<Pod>>,
    /// Gateways.
    pub gateways: Vec<Arc<Gateway>>,
    /// GatewayClasses.
    pub gateway_classes: Vec<Arc<GatewayClass>>,
    /// Objects that we manage.
    pub children: HashMap<(ChildKind, String, String), Arc<Child>>,
    /// Kinds that are not served.
    pub missing: Vec<ChildKind>,
    /// The version that the InferencePool CRD says.
    pub inference_extension: Option<String>,
}

fn is_called(metadata: &ObjectMeta, namespace: &str, name: &str) -> bool {
    metadata.name.as_deref() == Some(name)
        && metadata.namespace.as_deref().unwrap_or_default() == namespace
}

impl Cluster for Objects {
    fn serving(&self, namespace: &str, name: &str) -> Option<Arc<ModelServing>> {
        self.servings
            .iter()
            .find(|o| is_called(&o.metadata, namespace, name))
            .cloned()
    }
    fn server(&self, namespace: &str, name: &str) -> Option<Arc<ModelServer>> {
        self.servers
            .iter()
            .find(|o| is_called(&o.metadata, namespace, name))
            .cloned()
    }
    fn pods(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Arc<Pod>> {
        let here =
            |p: &&Arc<Pod>| p.metadata.namespace.as_deref() == Some(namespace) && p.has(labels);
        self.pods.iter().filter(here).cloned().collect()
    }
    fn gateway(&self, namespace: &str, name: &str) -> Option<Arc<Gateway>> {
        self.gateways
            .iter()
            .find(|o| is_called(&o.metadata, namespace, name))
            .cloned()
    }
    fn gateways_in(&self, namespace: &str) -> Vec<Arc<Gateway>> {
        let here = |g: &&Arc<Gateway>| g.metadata.namespace.as_deref() == Some(namespace);
        self.gateways.iter().filter(here).cloned().collect()
    }
    fn gateway_class(&self, name: &str) -> Option<Arc<GatewayClass>> {
        self.gateway_classes
            .iter()
            .find(|o| is_called(&o.metadata, "", name))
            .cloned()
    }
    fn child(&self, kind: ChildKind, namespace: &str, name: &str) -> Option<Arc<Child>> {
        self.children
            .get(&(kind, namespace.to_owned(), name.to_owned()))
            .cloned()
    }
    fn children_of(&self, owner: &str) -> Vec<Arc<Child>> {
        let owned = |c: &&Arc<Child>| c.owners().iter().any(|o| o.uid == owner);
        self.children.values().filter(owned).cloned().collect()
    }
    fn serves(&self, kind: ChildKind) -> bool {
        !self.missing.contains(&kind)
    }
    fn inference_extension_version(&self) -> Option<String> {
        self.inference_extension.clone()
    }
}
