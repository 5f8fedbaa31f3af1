//! The kinds that are watched.

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::gateway::{Gateway, GatewayClass};
use kthena_bridge_api::kthena::{ModelBooster, ModelRoute, ModelServer, ModelServing};
use kthena_bridge_api::model_exposure::ModelExposure;
use kube::core::ApiResource;

/// A kind that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    ModelBooster,
    ModelExposure,
    ModelServing,
    ModelServer,
    ModelRoute,
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
            Self::ModelExposure,
            Self::ModelServing,
            Self::ModelServer,
            Self::ModelRoute,
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
            Self::ModelExposure => "ModelExposure",
            Self::ModelServing => "ModelServing",
            Self::ModelServer => "ModelServer",
            Self::ModelRoute => "ModelRoute",
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

    /// How a client addresses it, where a CRD serves it; nothing for a kind that every API server has.
    pub(super) fn custom(self) -> Option<ApiResource> {
        match self {
            Self::ModelBooster => Some(ApiResource::erase::<ModelBooster>(&())),
            Self::ModelServing => Some(ApiResource::erase::<ModelServing>(&())),
            Self::ModelExposure => Some(ApiResource::erase::<ModelExposure>(&())),
            Self::ModelServer => Some(ApiResource::erase::<ModelServer>(&())),
            Self::ModelRoute => Some(ApiResource::erase::<ModelRoute>(&())),
            Self::Gateway => Some(ApiResource::erase::<Gateway>(&())),
            Self::GatewayClass => Some(ApiResource::erase::<GatewayClass>(&())),
            Self::Namespace | Self::Pod | Self::EndpointSlice => None,
            Self::Child(kind) => kind.crd().map(|_| kind.api_resource()),
        }
    }

    /// The name of the CRD that serves it; nothing for a kind that every API server has.
    pub(crate) fn crd(self) -> Option<String> {
        let custom = self.custom()?;
        Some(format!("{}.{}", custom.plural, custom.group))
    }

    /// Whether its objects belong to no namespace.
    pub(super) fn is_cluster_scoped(self) -> bool {
        matches!(self, Self::GatewayClass | Self::Namespace)
    }
}
