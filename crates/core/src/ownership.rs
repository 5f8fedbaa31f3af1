//! Which fields of an object are ours, and whether they are as they should be.
//!
//! The API server records in `metadata.managedFields` which manager last set each field. What we own of a
//! live object, compared with what we want, answers in one step whether every wanted field is there and
//! whether something is left that is no longer wanted. Both sides become a digest, so that a cache need
//! not keep the objects. <https://kubernetes.io/docs/reference/using-api/server-side-apply/>

use std::io;

use jiff::Timestamp;
use kthena_bridge_api::FIELD_MANAGER;
use kthena_bridge_api::child::ChildKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// A digest of the fields that we own of an object, or want to.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub struct Digest(u64);

/// Fields of `spec` that are ours alone: what another manager adds there changes which requests come, or
/// which pods get them, so it is drift although it touches no field of ours.
pub fn exclusive(kind: ChildKind) -> &'static [&'static str] {
    match kind {
        ChildKind::InferencePool => &["selector", "appProtocol"],
        ChildKind::Service => &["selector"],
        ChildKind::HTTPRoute => &["hostnames"],
        ChildKind::NetworkPolicy => &["podSelector"],
        _ => &[],
    }
}

/// The digest of what is wanted. `object` is a whole object as it is sent.
pub fn desired(object: &Value) -> Digest {
    digest(&wanted(object))
}

/// The digest of what we own of a live object.
pub fn live(kind: ChildKind, object: &Value) -> Digest {
    digest(&owned(kind, object))
}

/// What is wanted, as it compares with [`owned`]. `object` is a whole object as it is sent.
pub fn wanted(object: &Value) -> Value {
    let mut fields = Map::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" | "status" => {}
            // Name and namespace have no owner.
            "metadata" => {
                let owned = ["annotations", "labels", "ownerReferences"];
                let metadata = owned
                    .iter()
                    .filter_map(|k| Some(((*k).to_owned(), value.get(k)?.clone())));
                fields.insert(key.clone(), Value::Object(metadata.collect()));
            }
            _ => {
                fields.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(fields)
}

/// What we own of a live object.
pub fn owned(kind: ChildKind, object: &Value) -> Value {
    let mut fields = Value::Object(Map::new());
    for entry in managed_fields(object).filter(|entry| is_ours(entry)) {
        unite(&mut fields, &entry["fieldsV1"]);
    }
    let mut owned = project(object, &fields).unwrap_or_default();
    for field in exclusive(kind) {
        if let (Some(owned), Some(live)) = (
            owned.get_mut("spec"),
            object.pointer(&format!("/spec/{field}")),
        ) {
            owned[*field] = live.clone();
        }
    }
    if let Some(spec) = owned.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|field, value| !is_default(kind, field, value));
    }
    owned
}

/// Whether a field of `spec` has the value that it also has when it is not given. That is so of what only some
/// versions of a kind have: a pool's `appProtocol` came with v1.4.0 of the inference extension.
/// <https://github.com/kubernetes-sigs/gateway-api-inference-extension/blob/v1.5.0/api/v1/inferencepool_types.go>
pub fn is_default(kind: ChildKind, field: &str, value: &Value) -> bool {
    kind == ChildKind::InferencePool && field == "appProtocol" && value == "http"
}

/// Whether we wrote any field of the object, by whichever operation.
pub fn is_managed(object: &Value) -> bool {
    managed_fields(object).any(is_ours)
}

/// When we last changed the object, as the API server recorded it, by whichever operation.
pub fn written_at(object: &Value) -> Option<Timestamp> {
    let times = managed_fields(object).filter(|entry| is_ours(entry));
    times
        .filter_map(|entry| entry.get("time")?.as_str()?.parse().ok())
        .max()
}

/// The place in `managedFields` of the entry that our create left, while nothing was applied since.
///
/// A created object is recorded as updated, and an apply removes only what an apply has set: unless the entry
/// is made one of an apply before, a field that we stop sending stays. client-go's csaupgrade does the same.
/// <https://github.com/kubernetes/client-go/blob/v0.36.3/util/csaupgrade/upgrade.go>
pub fn created_entry(object: &Value) -> Option<usize> {
    let mut ours = managed_fields(object)
        .enumerate()
        .filter(|(_, e)| is_ours(e));
    let (at, entry) = ours.next()?;
    let updated = entry.get("operation").is_some_and(|o| o == "Update");
    (updated && ours.next().is_none()).then_some(at)
}

fn managed_fields(object: &Value) -> impl Iterator<Item = &Value> {
    object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn is_ours(entry: &Value) -> bool {
    entry.get("manager").is_some_and(|m| m == FIELD_MANAGER)
        && entry.get("subresource").is_none_or(|s| s == "")
}

/// The part of `value` that `fields` (a FieldsV1) names; nothing when it names nothing that is there.
///
/// `f:` is a field, `k:`, `v:` and `i:` an item of a list by its keys, value or index, `.` the field or
/// item itself without what is in it, and `{}` a leaf.
/// <https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#fieldsv1-v1-meta>
fn project(value: &Value, fields: &Value) -> Option<Value> {
    let fields = fields.as_object()?;
    if fields.is_empty() {
        return Some(value.clone());
    }
    match value {
        Value::Object(map) => Some(Value::Object(
            fields
                .iter()
                .filter_map(|(key, fields)| {
                    let name = key.strip_prefix("f:")?;
                    Some((name.to_owned(), project(map.get(name)?, fields)?))
                })
                .collect(),
        )),
        Value::Array(items) => Some(Value::Array(
            items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| {
                    let (_, fields) = fields.iter().find(|(key, _)| selects(key, index, item))?;
                    project(item, fields)
                })
                .collect(),
        )),
        scalar => Some(scalar.clone()),
    }
}

/// Whether a FieldsV1 key means this item of a list.
fn selects(key: &str, index: usize, item: &Value) -> bool {
    match key.split_once(':') {
        Some(("k", keys)) => serde_json::from_str::<Map<String, Value>>(keys)
            .is_ok_and(|keys| keys.iter().all(|(k, v)| item.get(k) == Some(v))),
        Some(("v", value)) => serde_json::from_str::<Value>(value).is_ok_and(|v| v == *item),
        Some(("i", at)) => at.parse() == Ok(index),
        _ => false,
    }
}

/// Adds the fields of one FieldsV1 to another.
fn unite(into: &mut Value, from: &Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        for (key, fields) in from {
            unite(
                into.entry(key).or_insert_with(|| Value::Object(Map::new())),
                fields,
            );
        }
    }
}

/// Hashes in a canonical form: keys sorted, nothing for what is empty (`{}` and an absent field are one).
fn digest(value: &Value) -> Digest {
    let mut hasher = Sha256::new();
    feed(&mut hasher, value);
    let bytes = hasher.finalize();
    Digest(
        bytes
            .iter()
            .take(8)
            .fold(0, |n, byte| n << 8 | u64::from(*byte)),
    )
}

/// Whether nothing is in it: that and an absent field are one.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().filter(|(_, v)| !is_empty(v)).collect();
            entries.sort_unstable_by_key(|(k, _)| *k);
            hasher.update(b"{");
            for (key, value) in entries {
                write(hasher, key);
                feed(hasher, value);
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            for item in items {
                feed(hasher, item);
                hasher.update(b",");
            }
            hasher.update(b"]");
        }
        scalar => write(hasher, scalar),
    }
}

/// Hashes it as JSON.
fn write(hasher: &mut Sha256, value: &impl Serialize) {
    struct Into<'a>(&'a mut Sha256);
    impl io::Write for Into<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    // A hasher takes everything, and a scalar can always be written.
    let _ = serde_json::to_writer(Into(hasher), value);
}
