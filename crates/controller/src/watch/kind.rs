//! The kinds that are watched.

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_api::kthena::{ModelBooster, ModelServer, ModelServing};
use kube::Resource;
use kube::core::ApiResource;

/// A kind that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    ModelBooster,
    ModelServing,
    ModelServer,
    Gateway,
    GatewayClass,
    Namespace,
    Pod,
    EndpointSlice,
    /// What we write.
    Child(ChildKind),
}

impl Kind {
    /// Every kind.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let read = [
            Self::ModelBooster,
            Self::ModelServing,
            Self::ModelServer,
            Self::Gateway,
            Self::GatewayClass,
            Self::Namespace,
            Self::Pod,
            Self::EndpointSlice,
        ];
        read.into_iter().chain(ChildKind::ALL.map(Self::Child))
    }

    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ModelBooster => "ModelBooster",
            Self::ModelServing => "ModelServing",
            Self::ModelServer => "ModelServer",
            Self::Gateway => "Gateway",
            Self::GatewayClass => "GatewayClass",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::EndpointSlice => "EndpointSlice",
            // There are others of these names.
            Self::Child(ChildKind::LlmDInferenceObjective) => "InferenceObjective.llm-d.ai",
            Self::Child(ChildKind::LlmDInferenceModelRewrite) => "InferenceModelRewrite.llm-d.ai",
            Self::Child(kind) => kind.as_str(),
        }
    }

    /// The name of the CRD that serves it; nothing for a kind that every API server has.
    pub(crate) fn crd(self) -> Option<String> {
        match self {
            Self::ModelBooster => Some(crd::<ModelBooster>()),
            Self::ModelServing => Some(crd::<ModelServing>()),
            Self::ModelServer => Some(crd::<ModelServer>()),
            Self::Gateway => Some(crd::<Gateway>()),
            Self::GatewayClass => Some(crd::<GatewayClass>()),
            Self::Namespace | Self::Pod | Self::EndpointSlice => None,
            Self::Child(kind) => kind.crd(),
        }
    }
}

fn crd<K: Resource<DynamicType = ()>>() -> String {
    format!("{}.{}", K::plural(&()), K::group(&()))
}

/// Pods, as a client addresses them.
pub(super) fn pods() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&())
}
