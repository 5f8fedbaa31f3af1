//! An object of any kind, as it is in the cluster.

use std::collections::BTreeSet;
use std::fmt;

use kube::api::DynamicObject;
use kube::core::ApiResource;
use kube::{Api, Client};
use serde_json::Value;

/// An object of any kind, as it is in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub(super) resource: ApiResource,
    pub(super) value: Value,
}

impl Object {
    /// `kind` and `apiVersion` are set: in a list, an object does not say them.
    pub(super) fn new(resource: &ApiResource, mut value: Value) -> Self {
        value["apiVersion"] = resource.api_version.as_str().into();
        value["kind"] = resource.kind.as_str().into();
        Self {
            resource: resource.clone(),
            value,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    pub(super) fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    pub(super) fn uid(&self) -> &str {
        self.text("/metadata/uid")
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.resource.kind == kind
    }

    /// A text in it; empty where there is none.
    pub(super) fn text(&self, pointer: &str) -> &str {
        let found = self.value.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_default()
    }

    /// A list in it; empty where there is none.
    pub(super) fn list(&self, pointer: &str) -> &[Value] {
        let found = self.value.pointer(pointer).and_then(Value::as_array);
        found.map_or(&[], Vec::as_slice)
    }

    /// A map of texts in it, such as labels.
    pub(super) fn map(&self, pointer: &str) -> impl Iterator<Item = (&str, &str)> {
        let found = self.value.pointer(pointer).and_then(Value::as_object);
        let pairs = found.into_iter().flatten();
        pairs.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// Whether the object with this uid owns it.
    pub(super) fn is_owned_by(&self, uid: &str) -> bool {
        let owners = self.list("/metadata/ownerReferences");
        owners.iter().any(|owner| owner["uid"] == uid)
    }

    /// Whether it is one of these, by kind and name.
    pub(super) fn is_among(&self, all: &BTreeSet<(String, String)>) -> bool {
        all.contains(&(self.resource.kind.clone(), self.name().to_owned()))
    }

    /// What would make it anew when it is deleted, or delete what has its name.
    pub(super) fn keeper(&self) -> Option<Keeper> {
        let annotation = |key: &str| self.map("/metadata/annotations").find(|(k, _)| *k == key);
        let label = |key: &str| self.map("/metadata/labels").find(|(k, _)| *k == key);
        if let Some((_, release)) = annotation("meta.helm.sh/release-name") {
            return Some(Keeper::Helm(release.to_owned()));
        }
        let argo = annotation("argocd.argoproj.io/tracking-id")
            .or_else(|| label("argocd.argoproj.io/instance"));
        if let Some((_, application)) = argo {
            let application = application.split(':').next().unwrap_or_default();
            return Some(Keeper::Git(format!("Argo CD's application {application}")));
        }
        let flux = label("kustomize.toolkit.fluxcd.io/name");
        flux.map(|(_, name)| Keeper::Git(format!("Flux's Kustomization {name}")))
    }

    pub(super) fn api(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(client.clone(), namespace, &self.resource)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource.kind, self.name())
    }
}

/// What keeps an object as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keeper {
    /// A release; to uninstall it deletes all objects of its names, whoever has made them.
    Helm(String),
    /// A tool that makes the cluster what Git is.
    Git(String),
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Helm(release) => write!(f, "Helm's release {release}"),
            Self::Git(tool) => f.write_str(tool),
        }
    }
}

impl Keeper {
    /// How to have it let go.
    pub(super) fn release(&self, namespace: &str) -> String {
        match self {
            Self::Helm(release) => format!("helm -n {namespace} uninstall {release}"),
            Self::Git(tool) => format!("take them out of Git for {tool}"),
        }
    }
}
