//! The names of the objects that are written for a Model.

use kthena_bridge_api::child::ChildKind;
use sha2::{Digest, Sha256};

/// A Service's name, and a label's value, have at most 63 characters; `-epp` is put behind ours.
const LONGEST: usize = 63 - PICKER_SUFFIX.len();
const PICKER_SUFFIX: &str = "-epp";
/// Length of the hash behind a name that had to be changed, with its hyphen.
const HASH: usize = 9;

/// The names of one Model's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// InferencePool, HTTPRoute, InferenceObjective and InferenceModelRewrite, and the label's value.
    pub model: String,
    /// Everything of the endpoint picker.
    pub picker: String,
}

impl Names {
    /// The names for the Model called `model`: its own where that is a valid name for a Service too.
    ///
    /// Model names are DNS subdomains of up to 253 characters; a Service's name is a DNS-1035 label (it
    /// starts with a letter). A name that had to be changed gets a hash of the whole name behind it, and
    /// so does one that looks as if it had such a hash, so that two Models never get the same names.
    pub fn of(model: &str) -> Self {
        let plain = model.len() <= LONGEST
            && !model.contains('.')
            && model.starts_with(|c: char| c.is_ascii_lowercase())
            && !ends_in_hash(model);
        let model = if plain {
            model.to_owned()
        } else {
            hashed(model)
        };
        let picker = format!("{model}{PICKER_SUFFIX}");
        Self { model, picker }
    }

    /// The name of the object of a kind of which there is one.
    pub fn of_kind(&self, kind: ChildKind) -> &str {
        if kind.is_pickers() {
            &self.picker
        } else {
            &self.model
        }
    }
}

fn ends_in_hash(name: &str) -> bool {
    let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let bytes = name.as_bytes();
    bytes.len() >= HASH
        && bytes[bytes.len() - HASH] == b'-'
        && bytes[bytes.len() - HASH + 1..].iter().all(|c| is_hex(*c))
}

fn hashed(name: &str) -> String {
    let mut stem: String = name.replace('.', "-");
    if !stem.starts_with(|c: char| c.is_ascii_lowercase()) {
        stem.insert_str(0, "m-");
    }
    stem.truncate(LONGEST - HASH);
    format!(
        "{}-{}",
        stem.trim_end_matches('-'),
        short_hash(name.as_bytes())
    )
}

/// Eight hexadecimal digits of a SHA-256, the same in every version of the operator.
pub fn short_hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..4])
}

/// Bytes in lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_usual_name_stays() {
        let names = Names::of("demo");
        assert_eq!(
            (names.model.as_str(), names.picker.as_str()),
            ("demo", "demo-epp")
        );
    }

    #[test]
    fn what_a_service_cannot_be_called_is_changed() {
        for name in ["a.b", "7b-chat", &"x".repeat(60), "demo-12ab34cd"] {
            let names = Names::of(name);
            assert_ne!(names.model, name);
            assert!(ends_in_hash(&names.model), "{}", names.model);
        }
        assert_eq!(Names::of(&"x".repeat(59)).model, "x".repeat(59));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn names_are_valid_and_stable(name in "[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?") {
            let names = Names::of(&name);
            for name in [&names.model, &names.picker] {
                prop_assert!(name.len() <= 63);
                prop_assert!(name.starts_with(|c: char| c.is_ascii_lowercase()));
                prop_assert!(!name.ends_with('-'));
                prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            }
            prop_assert_eq!(&names, &Names::of(&name));
        }

        #[test]
        fn two_models_never_share_a_name(names in proptest::collection::hash_set("(a|b)[-a.0-9]{0,12}[ab]|[ab]-[0-9a-f]{8}", 2..40)) {
            let mut taken: HashMap<String, String> = HashMap::new();
            for name in names {
                if let Some(other) = taken.insert(Names::of(&name).model, name.clone()) {
                    prop_assert!(false, "{} and {} are both called {}", name, other, Names::of(&name).model);
                }
            }
        }
    }
}
