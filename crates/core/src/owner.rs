//! The object that asks for an exposure, and that owns what is written for it.

use std::sync::Arc;

use jiff::Timestamp;
use kthena_bridge_api::annotation;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::condition::Reason;
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;
use kube::Resource as _;
use kube::core::{ApiResource, ObjectMeta};

use crate::names::Names;
use crate::observe::{Child, Cluster, Route};

/// A kind whose objects may ask for an exposure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerKind {
    /// Of itself, by its annotations.
    #[default]
    ModelBooster,
    /// Of its target, by its spec.
    ModelExposure,
}

impl OwnerKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::ModelBooster, Self::ModelExposure];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ModelBooster => "ModelBooster",
            Self::ModelExposure => "ModelExposure",
        }
    }

    /// What one is called in a message to whoever wrote it.
    pub fn called(self) -> &'static str {
        match self {
            Self::ModelBooster => "Model",
            Self::ModelExposure => "ModelExposure",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// `group/version`.
    pub fn api_version(self) -> String {
        match self {
            Self::ModelBooster => ModelBooster::api_version(&()).into_owned(),
            Self::ModelExposure => ModelExposure::api_version(&()).into_owned(),
        }
    }

    /// How a client addresses it.
    pub fn api_resource(self) -> ApiResource {
        match self {
            Self::ModelBooster => ApiResource::erase::<ModelBooster>(&()),
            Self::ModelExposure => ApiResource::erase::<ModelExposure>(&()),
        }
    }

    /// The reason where what it says is not understood.
    pub fn invalid(self) -> Reason {
        match self {
            Self::ModelBooster => Reason::InvalidAnnotation,
            Self::ModelExposure => Reason::InvalidSpec,
        }
    }

    /// What to change for what the annotation of this key says: the annotation itself, or a field.
    pub fn setting(self, key: &str) -> String {
        match (self, annotation::of(key)) {
            (Self::ModelExposure, Some(annotation)) => format!("spec.{}", annotation.field),
            _ => key.to_owned(),
        }
    }
}

/// The object that asks for an exposure, and that owns what is written for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Its kind.
    pub kind: OwnerKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid; empty only offline.
    pub uid: String,
    /// When it was made; nothing only offline.
    pub created: Option<Timestamp>,
}

impl Owner {
    /// The owner of this kind with this metadata.
    pub fn of(kind: OwnerKind, metadata: &ObjectMeta) -> Self {
        Self {
            kind,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
        }
    }

    /// What to change for what the annotation of this key says.
    pub fn setting(&self, key: &str) -> String {
        self.kind.setting(key)
    }

    /// The names of its objects.
    pub fn names(&self) -> Names {
        Names::of(&self.name)
    }

    /// Its object of a kind of which it has one, where that exists and is its own.
    pub fn child(&self, kind: ChildKind, cluster: &impl Cluster) -> Option<Arc<Child>> {
        let names = self.names();
        let child = cluster.child(kind, &self.namespace, names.of_kind(kind))?;
        child.belongs_to(&self.uid, &names.model).then_some(child)
    }

    /// Its HTTPRoute as it competes for requests, where that exists and is its own.
    pub fn route(&self, cluster: &impl Cluster) -> Option<Arc<Route>> {
        let child = self.child(ChildKind::HTTPRoute, cluster)?;
        cluster.route(child.namespace(), child.name())
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}
