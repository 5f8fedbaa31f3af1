//! Objects without what nothing reads.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kthena_bridge_api::kthena::ModelBooster;
use kthena_bridge_api::model_exposure::ModelExposure;
use kthena_bridge_api::{DOMAIN, FIELD_MANAGER};
use kthena_bridge_core::observe::reduced;
use kube::Resource;
use kube::core::ObjectMeta;
use serde_json::{Map, Value, json};

/// A Model: what tells whether it is exposed, and which conditions are ours.
pub(super) fn model(mut model: ModelBooster) -> ModelBooster {
    let mut metadata = std::mem::take(&mut model.metadata);
    let mut annotations = metadata.annotations.take().unwrap_or_default();
    annotations.retain(|key, _| key.starts_with(DOMAIN));
    model.metadata = ObjectMeta {
        annotations: (!annotations.is_empty()).then_some(annotations),
        managed_fields: metadata.managed_fields.take().map(our_conditions),
        ..life(metadata)
    };
    model
}

/// A ModelExposure, all of which is read but its metadata.
pub(super) fn model_exposure(mut exposure: ModelExposure) -> ModelExposure {
    exposure.metadata = life(std::mem::take(&mut exposure.metadata));
    exposure
}

/// Which object it is, since when, and until when.
fn life(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        generation: metadata.generation,
        creation_timestamp: metadata.creation_timestamp.clone(),
        deletion_timestamp: metadata.deletion_timestamp.clone(),
        finalizers: metadata.finalizers.clone(),
        labels: None,
        ..reduced(metadata)
    }
}

/// What tells which conditions are ours, of what tells of every field whose it is.
fn our_conditions(entries: Vec<ManagedFieldsEntry>) -> Vec<ManagedFieldsEntry> {
    let ours = entries
        .into_iter()
        .filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    let reduced = ours.filter_map(|entry| {
        let fields = entry.fields_v1?.0;
        let conditions = fields["f:status"]["f:conditions"].as_object()?;
        let conditions: Map<String, Value> = conditions
            .keys()
            .map(|key| (key.clone(), Value::Null))
            .collect();
        Some(ManagedFieldsEntry {
            manager: entry.manager,
            fields_v1: Some(FieldsV1(json!({"f:status": {"f:conditions": conditions}}))),
            ..ManagedFieldsEntry::default()
        })
    });
    reduced.collect()
}

/// An object of a type of ours, without the metadata that nothing reads.
pub(super) fn typed<K: Resource>(mut object: K) -> K {
    let metadata = std::mem::take(object.meta_mut());
    *object.meta_mut() = ObjectMeta {
        generation: metadata.generation,
        owner_references: metadata.owner_references.clone(),
        labels: None,
        ..reduced(metadata)
    };
    object
}
