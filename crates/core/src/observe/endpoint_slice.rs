//! The endpoints of Services: whether there is one that is ready.

use k8s_openapi::api::discovery::v1::EndpointSlice as Whole;
use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::reduced;

/// The label that names the Service.
const LABEL_SERVICE: &str = "kubernetes.io/service-name";

/// An EndpointSlice, as far as it is looked at.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct EndpointSlice {
    /// Its metadata, reduced.
    pub metadata: ObjectMeta,
    /// Whether an endpoint in it is ready.
    pub ready: bool,
}

impl EndpointSlice {
    /// The Service that it is of.
    pub fn service(&self) -> &str {
        let labels = self.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(LABEL_SERVICE))
            .map_or("", String::as_str)
    }
}

impl From<Whole> for EndpointSlice {
    fn from(whole: Whole) -> Self {
        // No word on readiness means ready.
        let ready = |conditions: &k8s_openapi::api::discovery::v1::EndpointConditions| {
            conditions.ready != Some(false)
        };
        let is_ready = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
            endpoint.conditions.as_ref().is_none_or(ready)
        };
        Self {
            ready: whole.endpoints.iter().any(is_ready),
            metadata: reduced(whole.metadata),
        }
    }
}
