//! What we wrote, as it is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kthena_bridge_api::child::{ANNOTATION_ACTIVATED, ChildKind, LABEL_MODEL};
use kthena_bridge_api::gateway::{ParentReference, ParentStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Metadata, Owner, get};
use crate::ownership::{self, Digest};

/// An object that we manage, reduced to what decides whether it is as it should be and how it fares.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: ChildKind,
    /// Its metadata.
    pub metadata: Metadata,
    /// Its generation.
    pub generation: Option<i64>,
    /// Whether it is being deleted.
    pub ending: bool,
    /// Whether its Model was active with a ready endpoint when it was last written.
    pub activated: bool,
    /// Whose it is by its label, where it has no owner.
    pub label: Option<Box<str>>,
    /// The fields that we own.
    pub digest: Digest,
    /// Whether we wrote any of its fields.
    pub managed: bool,
    /// Where its managed fields have what our create set, while nothing was applied since.
    pub created_entry: Option<usize>,
    /// When we last changed it.
    pub written_at: Option<Timestamp>,
    /// What its kind has that is read.
    pub detail: Detail,
}

/// What is read of a kind.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
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
        /// The Service of its endpoint picker.
        picker: String,
        /// What the parents say.
        parents: Vec<ParentStatus>,
    },
    /// Of a Deployment.
    Deployment {
        /// Ready replicas.
        ready: i32,
        /// Why its pods cannot be made.
        failure: Option<String>,
    },
}

impl Child {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    /// Its uid.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Its owner references.
    pub fn owners(&self) -> &[Owner] {
        &self.metadata.owners
    }

    /// Whether it belongs to the owner: by its owner reference, or, when somebody stripped that, because
    /// it has no other owner, we wrote it, and its label names the owner's objects.
    pub fn belongs_to(&self, owner: &str, label: &str) -> bool {
        self.owners().iter().any(|o| *o.uid == *owner)
            || (self.owners().is_empty() && self.managed && self.label.as_deref() == Some(label))
    }

    /// Reduces an object as the API server sends it. In a list it does not say its own kind.
    pub fn reduce(kind: ChildKind, object: &Value) -> Self {
        let metadata = Metadata::of(object);
        let of = &object["metadata"];
        let label = of["labels"][LABEL_MODEL].as_str();
        Self {
            kind,
            generation: of["generation"].as_i64(),
            ending: !of["deletionTimestamp"].is_null(),
            activated: !of["annotations"][ANNOTATION_ACTIVATED].is_null(),
            label: label.filter(|_| metadata.owners.is_empty()).map(Into::into),
            metadata,
            digest: ownership::live(kind, object),
            managed: ownership::is_managed(object),
            created_entry: ownership::created_entry(object),
            written_at: ownership::written_at(object),
            detail: Detail::of(kind, object),
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
                picker: get(object, "/spec/endpointPickerRef/name"),
                parents: get(object, "/status/parents"),
            },
            ChildKind::Deployment => Self::Deployment {
                ready: get(object, "/status/readyReplicas"),
                failure: replica_failure(object),
            },
            _ => Self::None,
        }
    }
}

/// Why the pods of a Deployment cannot be made. Behind the pod's name, which differs each time.
fn replica_failure(deployment: &Value) -> Option<String> {
    let conditions: Vec<Value> = get(deployment, "/status/conditions");
    let failed = conditions
        .iter()
        .find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True")?;
    let message = failed["message"].as_str().unwrap_or_default();
    let why = message
        .split_once(" is forbidden: ")
        .map_or(message, |(_, why)| why);
    Some(why.to_owned())
}
