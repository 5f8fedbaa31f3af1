//! What asks for an exposure, by its kind and name.

use std::fmt;

use kthena_bridge_core::{OwnerKind, Source};

use crate::namespaced_name::NamespacedName;

/// What asks for an exposure, by its kind and name: a Model of itself, or a ModelExposure. What is to be done, and what
/// is known of it, is kept by this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectRef {
    kind: OwnerKind,
    name: NamespacedName,
}

impl ObjectRef {
    pub(crate) fn new(kind: OwnerKind, name: NamespacedName) -> Self {
        Self { kind, name }
    }

    /// The Model of this name.
    pub(crate) fn model(namespace: &str, name: &str) -> Self {
        Self::new(
            OwnerKind::ModelBooster,
            NamespacedName::new(namespace, name),
        )
    }

    pub(crate) fn of(source: &Source) -> Self {
        let metadata = source.metadata();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        Self::new(source.kind(), NamespacedName::new(namespace, name))
    }

    /// What an owner reference of an object in `namespace` means; nothing when that asks for no exposure.
    pub(crate) fn of_owner(namespace: &str, (kind, name): (&str, &str)) -> Option<Self> {
        let kind = OwnerKind::named(kind)?;
        Some(Self::new(kind, NamespacedName::new(namespace, name)))
    }

    pub(crate) fn kind(&self) -> OwnerKind {
        self.kind
    }

    pub(crate) fn full_name(&self) -> &NamespacedName {
        &self.name
    }

    pub(crate) fn namespace(&self) -> &str {
        self.name.namespace()
    }

    pub(crate) fn name(&self) -> &str {
        self.name.name()
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}
