//! What is kept of an object's metadata.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::get;

/// What is kept of the metadata of objects of which there are very many: an [`ObjectMeta`] of them would be
/// larger than all else that is kept.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Metadata {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its uid; nothing while it is not written.
    pub uid: Option<Box<str>>,
    /// Its version; nothing while it is not written.
    pub resource_version: Option<Box<str>>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Who it belongs to.
    pub owners: Box<[Owner]>,
}

/// An owner reference.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct Owner {
    /// The owner's kind.
    pub kind: Box<str>,
    /// The owner's name.
    pub name: Box<str>,
    /// The owner's uid.
    pub uid: Box<str>,
}

impl Metadata {
    /// That of an object as the API server sends it, or as it is planned.
    pub(super) fn of(object: &Value) -> Self {
        Self {
            namespace: get(object, "/metadata/namespace"),
            name: get(object, "/metadata/name"),
            uid: get(object, "/metadata/uid"),
            resource_version: get(object, "/metadata/resourceVersion"),
            created: get(object, "/metadata/creationTimestamp"),
            owners: get(object, "/metadata/ownerReferences"),
        }
    }
}

impl From<ObjectMeta> for Metadata {
    fn from(metadata: ObjectMeta) -> Self {
        let owners = metadata.owner_references.unwrap_or_default();
        Self {
            namespace: metadata.namespace.unwrap_or_default().into(),
            name: metadata.name.unwrap_or_default().into(),
            uid: metadata.uid.map(Into::into),
            resource_version: metadata.resource_version.map(Into::into),
            created: metadata.creation_timestamp.map(|time| time.0),
            owners: owners.into_iter().map(Owner::from).collect(),
        }
    }
}

impl From<OwnerReference> for Owner {
    fn from(owner: OwnerReference) -> Self {
        Self {
            kind: owner.kind.into(),
            name: owner.name.into(),
            uid: owner.uid.into(),
        }
    }
}
