//! The operator's configuration: what holds for every Model that does not say otherwise.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the Gateway does with a request while the endpoint picker does not answer.
/// <https://gateway-api-inference-extension.sigs.k8s.io/reference/spec/>
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailureMode {
    /// It sends it to any ready pod.
    #[default]
    FailOpen,
    /// It refuses it.
    FailClose,
}

impl FailureMode {
    /// As it stands in an InferencePool.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailOpen => "FailOpen",
            Self::FailClose => "FailClose",
        }
    }
}

/// Whether something on the Gateways sets the header `X-Gateway-Model-Name` from the request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelHeader {
    /// Nothing does: a route that matches it would never be chosen.
    #[default]
    None,
    /// Something does, such as the inference extension's body-based routing.
    Provided,
}

/// The operator's configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The Gateways of a Model that names none: `[namespace/]name[:listener]`, comma-separated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_gateway: Option<String>,
    /// The host name of a Model that names none; `{namespace}` and `{name}` are filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname_template: Option<String>,
    /// The path of a Model that names none; `{namespace}` and `{name}` are filled in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_template: Option<String>,
    /// Whether `X-Gateway-Model-Name` can be matched.
    pub model_header: ModelHeader,
    /// The failure mode of a Model that names none.
    pub failure_mode: FailureMode,
    /// The DNS domain of the cluster's Services.
    pub cluster_domain: String,
    /// The endpoint pickers that are run.
    pub endpoint_picker: EndpointPickerConfig,
    /// Requests through the Gateways, for the condition `Reachable`.
    pub reachable: ReachableConfig,
    /// The namespaces whose Models are exposed; none: all. With namespaces, nothing is read that belongs to
    /// none of them: Gateways of others, and the implementation of all, are what `gateways` says.
    pub namespaces: Vec<String>,
    /// Gateways that may not be read, or whose GatewayClass may not.
    pub gateways: Vec<GatewayConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_gateway: None,
            hostname_template: None,
            path_template: None,
            model_header: ModelHeader::default(),
            failure_mode: FailureMode::default(),
            cluster_domain: "cluster.local".to_owned(),
            endpoint_picker: EndpointPickerConfig::default(),
            reachable: ReachableConfig::default(),
            namespaces: Vec::new(),
            gateways: Vec::new(),
        }
    }
}

/// A Gateway that may not be read, or whose GatewayClass may not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayConfig {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its implementation, by its name in the table of providers.
    pub provider: String,
}

/// The endpoint pickers that are run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EndpointPickerConfig {
    /// The image. Its flags and configuration are those of the inference extension v1.1 to v1.5.
    pub image: String,
    /// The ClusterRole that every endpoint picker is bound to, in its Model's namespace.
    pub cluster_role: String,
    /// Requested CPU, a Kubernetes quantity.
    pub cpu: String,
    /// Requested memory, a Kubernetes quantity.
    pub memory: String,
}

impl Default for EndpointPickerConfig {
    fn default() -> Self {
        Self {
            image: "registry.k8s.io/gateway-api-inference-extension/epp:v1.5.0".to_owned(),
            cluster_role: "kthena-bridge-endpoint-picker".to_owned(),
            cpu: "100m".to_owned(),
            memory: "128Mi".to_owned(),
        }
    }
}

/// Requests through the Gateways, for the condition `Reachable`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReachableConfig {
    /// Whether they are sent.
    pub enabled: bool,
    /// Seconds between two requests for a Model, 1 or more.
    #[schemars(range(min = 1))]
    pub interval_seconds: NonZeroU32,
}

impl Default for ReachableConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            interval_seconds: NonZeroU32::MIN.saturating_add(59),
        }
    }
}
