//! Objects as they are kept: as JSON, compressed. There are very many, and those of a kind are much alike: what an
//! object has in common with a sample of its kind is kept once.

use std::sync::Arc;

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How many samples of a kind are kept: objects grow a status after they are made, and not all have the same fields.
const SAMPLES: usize = 8;
/// An object of which more than this part remains is unlike the sample.
const UNLIKE: usize = 3;

/// An object as it is kept.
#[derive(Debug)]
pub(super) enum Packed<K> {
    /// As it is.
    Whole(Arc<K>),
    /// The number of the sample, in one byte, and what has to be added to it.
    Compressed(Box<[u8]>),
}

/// Samples of a kind.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Vec<u8>>);

impl Samples {
    /// Packs an object. One that would not come back as it is stays as it is.
    pub(super) fn pack<K>(&mut self, object: &Arc<K>) -> Packed<K>
    where
        K: Serialize + DeserializeOwned + PartialEq,
    {
        let Ok(json) = serde_json::to_vec(&**object) else {
            return Packed::Whole(Arc::clone(object));
        };
        let mut compressed = self.compress(&json);
        let is_unlike = compressed.len() * UNLIKE > json.len();
        if self.0.is_empty() || is_unlike && self.0.len() < SAMPLES {
            self.0.push(json);
            compressed = self.compress(&self.0[self.0.len() - 1]);
        }
        let packed = Packed::Compressed(compressed);
        match self.unpack(&packed) {
            Some(back) if *back == **object => packed,
            _ => Packed::Whole(Arc::clone(object)),
        }
    }

    /// The object.
    pub(super) fn unpack<K: DeserializeOwned>(&self, packed: &Packed<K>) -> Option<Arc<K>> {
        match packed {
            Packed::Whole(object) => Some(Arc::clone(object)),
            Packed::Compressed(bytes) => {
                let (number, rest) = bytes.split_first()?;
                let sample = self.0.get(usize::from(*number))?;
                let json = decompress_size_prepended_with_dict(rest, sample).ok()?;
                serde_json::from_slice(&json).ok().map(Arc::new)
            }
        }
    }

    /// By the last sample, which is most like what comes now.
    fn compress(&self, json: &[u8]) -> Box<[u8]> {
        let last = self.0.len().saturating_sub(1);
        let sample = self.0.last().map(Vec::as_slice).unwrap_or_default();
        let number = u8::try_from(last).unwrap_or_default();
        let mut bytes = vec![number];
        bytes.extend(compress_prepend_size_with_dict(json, sample));
        bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn size<K>(packed: &Packed<K>) -> Option<usize> {
        match packed {
            Packed::Whole(_) => None,
            Packed::Compressed(bytes) => Some(bytes.len()),
        }
    }

    #[test]
    fn what_objects_have_in_common_is_kept_once() {
        let mut samples = Samples::default();
        let condition =
            |type_: &str| json!({"type": type_, "status": "True", "message": "it is well"});
        let conditions = ["Accepted", "Programmed", "Reachable"].map(condition);
        let object = |n: usize| {
            let metadata = json!({"name": format!("demo-{n}"), "labels": {"app": "demo"}});
            Arc::new(json!({"metadata": metadata, "status": {"conditions": conditions}}))
        };
        let packed: Vec<_> = (0..100).map(|n| samples.pack(&object(n))).collect();
        for (n, packed) in packed.iter().enumerate() {
            assert_eq!(samples.unpack(packed), Some(object(n)));
            assert!(size(packed).unwrap() < 40, "{:?}", size(packed));
        }
        assert_eq!(samples.0.len(), 1);
    }

    #[test]
    fn objects_unlike_the_others_are_samples_too_up_to_a_limit() {
        let mut samples = Samples::default();
        let object = |n: u64| {
            let noise = (0..20).map(|i| (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ i << 20));
            Arc::new(json!(noise.collect::<Vec<_>>()))
        };
        let packed: Vec<_> = (0..30).map(|n| samples.pack(&object(n))).collect();
        assert_eq!(samples.0.len(), SAMPLES);
        for (n, packed) in (0..).zip(&packed) {
            assert_eq!(samples.unpack(packed), Some(object(n)));
        }
    }

    #[test]
    fn what_would_not_come_back_stays_as_it_is() {
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        struct Forgetful {
            #[serde(skip)]
            forgotten: u8,
        }
        let mut samples = Samples::default();
        let object = Arc::new(Forgetful { forgotten: 1 });
        let packed = samples.pack(&object);
        assert_eq!(size(&packed), None);
        assert_eq!(samples.unpack(&packed), Some(object));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,6}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn everything_comes_back(objects in prop::collection::vec(any_json(), 1..20)) {
            let mut samples = Samples::default();
            let packed: Vec<_> = objects
                .iter()
                .map(|object| samples.pack(&Arc::new(object.clone())))
                .collect();
            for (packed, object) in packed.iter().zip(&objects) {
                let back = samples.unpack(packed);
                prop_assert_eq!(back.as_deref(), Some(object));
            }
        }
    }
}
