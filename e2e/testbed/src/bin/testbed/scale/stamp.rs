//! Copies of an object as it was written once, under other names.

use serde_json::Value;
use testbed::{Error, Result};

/// What the API server, or a controller, adds to an object that is made.
const ADDED: [&str; 6] = [
    "/metadata/creationTimestamp",
    "/metadata/generation",
    "/metadata/managedFields",
    "/metadata/resourceVersion",
    "/metadata/uid",
    "/status",
];

/// An object as the text that is sent, whose names are replaced in every copy.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    text: String,
}

impl Stamp {
    /// Of an object as it is in the cluster.
    pub(crate) fn of(mut object: Value) -> Self {
        for pointer in ADDED
            .into_iter()
            .chain(["/spec/clusterIP", "/spec/clusterIPs"])
        {
            let Some((parent, key)) = pointer.rsplit_once('/') else {
                continue;
            };
            if let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
                parent.remove(key);
            }
        }
        Self {
            text: object.to_string(),
        }
    }

    /// A copy in which each of the first ones is replaced by the second.
    pub(crate) fn text(&self, replaced: &[(&str, &str)]) -> String {
        replaced
            .iter()
            .fold(self.text.clone(), |text, (from, to)| text.replace(from, to))
    }

    /// The same as JSON.
    pub(crate) fn value(&self, replaced: &[(&str, &str)]) -> Result<Value> {
        let text = self.text(replaced);
        serde_json::from_str(&text).map_err(|e| Error::Other(format!("a copy: {e}: {text}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_copy_has_nothing_of_the_first_one() {
        let first = json!({
            "metadata": {"name": "first-epp", "namespace": "here", "uid": "1", "resourceVersion": "7",
                "ownerReferences": [{"name": "first", "uid": "uid-of-first"}]},
            "spec": {"clusterIP": "10.0.0.1", "ports": []},
            "status": {"a": "b"},
        });
        let stamp = Stamp::of(first);
        let copy = stamp
            .value(&[
                ("uid-of-first", "uid-of-other"),
                ("first", "second"),
                ("here", "there"),
            ])
            .unwrap();
        let wanted = json!({
            "metadata": {"name": "second-epp", "namespace": "there",
                "ownerReferences": [{"name": "second", "uid": "uid-of-other"}]},
            "spec": {"ports": []},
        });
        assert_eq!(copy, wanted);
    }
}
