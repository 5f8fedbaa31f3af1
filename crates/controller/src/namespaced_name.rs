//! The namespace and name of an object.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The namespace and name of an object, as `namespace/name`; the namespace is empty where there is none. Small, and
/// cheap to clone: each is kept in many places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NamespacedName(Arc<str>);

impl NamespacedName {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    pub(crate) fn namespace(&self) -> &str {
        self.parts().0
    }

    pub(crate) fn name(&self) -> &str {
        self.parts().1
    }

    /// A slash cannot be in a namespace's name.
    fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or(("", &self.0))
    }
}

/// What is kept by such a name is found by its text.
impl Borrow<str> for NamespacedName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_both_parts() {
        for (namespace, name) in [("default", "demo"), ("", "istio"), ("a", "b/c")] {
            let both = NamespacedName::new(namespace, name);
            assert_eq!((both.namespace(), both.name()), (namespace, name));
            assert_eq!(both.to_string(), format!("{namespace}/{name}"));
        }
    }
}
