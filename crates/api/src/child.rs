//! The kinds that are written: what an exposed Model is made of.

use std::fmt;

use kube::core::ApiResource;
use serde::{Deserialize, Serialize};

/// Label on every object that we write, with the value [`MANAGED_BY`]. The watches select by it.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`LABEL_MANAGED_BY`].
pub const MANAGED_BY: &str = "kthena-bridge";
/// Label on every object that we write: the Model's name, shortened as the object names are.
pub const LABEL_MODEL: &str = "kthena-bridge.io/model";
/// Label on the pods of an endpoint picker: its name.
pub const LABEL_PICKER: &str = "kthena-bridge.io/endpoint-picker";
/// Annotation on an InferencePool once its Model was active with a ready endpoint: from then on the
/// route exists, also while Kthena says that the Model is not active.
pub const ANNOTATION_ACTIVATED: &str = "kthena-bridge.io/activated";

/// A kind that is written for an exposed Model.
///
/// The order is the one in which plans list them.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChildKind {
    /// Who the endpoint picker is.
    ServiceAccount,
    /// What the endpoint picker may read.
    RoleBinding,
    /// The endpoint picker's configuration.
    ConfigMap,
    /// Where the Gateway finds the endpoint picker.
    Service,
    /// Who may connect to the endpoint picker, and to whom it may.
    NetworkPolicy,
    /// The pods and the endpoint picker that chooses among them.
    InferencePool,
    /// The endpoint picker.
    Deployment,
    /// Tells Istio to speak TLS to the endpoint picker.
    DestinationRule,
    /// Tells GKE how to find out whether a pod is well.
    HealthCheckPolicy,
    /// Tells GKE how long a request may take.
    GCPBackendPolicy,
    /// The priority of requests that ask for it.
    InferenceObjective,
    /// Model names that the engine does not serve, to the one that it serves.
    InferenceModelRewrite,
    /// [`InferenceObjective`](Self::InferenceObjective) in the group that llm-d's endpoint picker reads.
    LlmDInferenceObjective,
    /// [`InferenceModelRewrite`](Self::InferenceModelRewrite) in the group that llm-d's endpoint picker reads.
    LlmDInferenceModelRewrite,
    /// From the Gateway to the pool.
    HTTPRoute,
}

impl ChildKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::ServiceAccount,
        Self::RoleBinding,
        Self::ConfigMap,
        Self::Service,
        Self::NetworkPolicy,
        Self::InferencePool,
        Self::Deployment,
        Self::DestinationRule,
        Self::HealthCheckPolicy,
        Self::GCPBackendPolicy,
        Self::InferenceObjective,
        Self::InferenceModelRewrite,
        Self::LlmDInferenceObjective,
        Self::LlmDInferenceModelRewrite,
        Self::HTTPRoute,
    ];

    /// Group, version, kind and plural.
    fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::RoleBinding => (
                "rbac.authorization.k8s.io",
                "v1",
                "RoleBinding",
                "rolebindings",
            ),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::NetworkPolicy => (
                "networking.k8s.io",
                "v1",
                "NetworkPolicy",
                "networkpolicies",
            ),
            Self::InferencePool => (
                "inference.networking.k8s.io",
                "v1",
                "InferencePool",
                "inferencepools",
            ),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::DestinationRule => (
                "networking.istio.io",
                "v1",
                "DestinationRule",
                "destinationrules",
            ),
            Self::HealthCheckPolicy => (
                "networking.gke.io",
                "v1",
                "HealthCheckPolicy",
                "healthcheckpolicies",
            ),
            Self::GCPBackendPolicy => (
                "networking.gke.io",
                "v1",
                "GCPBackendPolicy",
                "gcpbackendpolicies",
            ),
            Self::InferenceObjective => (
                "inference.networking.x-k8s.io",
                "v1alpha2",
                "InferenceObjective",
                "inferenceobjectives",
            ),
            Self::InferenceModelRewrite => (
                "inference.networking.x-k8s.io",
                "v1alpha2",
                "InferenceModelRewrite",
                "inferencemodelrewrites",
            ),
            Self::LlmDInferenceObjective => (
                "llm-d.ai",
                "v1alpha2",
                "InferenceObjective",
                "inferenceobjectives",
            ),
            Self::LlmDInferenceModelRewrite => (
                "llm-d.ai",
                "v1alpha2",
                "InferenceModelRewrite",
                "inferencemodelrewrites",
            ),
            Self::HTTPRoute => (crate::gateway::GROUP, "v1", "HTTPRoute", "httproutes"),
        }
    }

    /// The API group, `""` for the core one.
    pub fn group(self) -> &'static str {
        self.names().0
    }

    /// `group/version`, or `v1`.
    pub fn api_version(self) -> String {
        match self.names() {
            ("", version, ..) => version.to_owned(),
            (group, version, ..) => format!("{group}/{version}"),
        }
    }

    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        self.names().2
    }

    /// Whether it rewrites model names, for whichever endpoint picker.
    pub fn rewrites_models(self) -> bool {
        matches!(
            self,
            Self::InferenceModelRewrite | Self::LlmDInferenceModelRewrite
        )
    }

    /// Whether it is of the endpoint picker, and called like it.
    pub fn is_pickers(self) -> bool {
        matches!(
            self,
            Self::ServiceAccount
                | Self::RoleBinding
                | Self::ConfigMap
                | Self::Service
                | Self::NetworkPolicy
                | Self::Deployment
                | Self::DestinationRule
        )
    }

    /// The kind as a client addresses it.
    pub fn api_resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: self.api_version(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    /// The name of the CRD that serves it; nothing for a kind that every API server has.
    pub fn crd(self) -> Option<String> {
        let (group, _, _, plural) = self.names();
        group
            .contains('.')
            .then(|| format!("{plural}.{group}"))
            .filter(|_| !matches!(self, Self::RoleBinding | Self::NetworkPolicy))
    }
}

impl fmt::Display for ChildKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
