//! The kinds that are read, with only the fields that are used.
//!
//! Fields that the API server defaults are taken as they come: an absent one means what the API's
//! default means.

use std::collections::BTreeMap;

use kube::core::{ApiResource, GroupVersionKind, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A cluster-scoped `gateway.networking.k8s.io/v1` GatewayClass.
pub type GatewayClass = Object<GatewayClassSpec, Value>;
/// A `gateway.networking.k8s.io/v1` Gateway.
pub type Gateway = Object<GatewaySpec, Value>;
/// A `gateway.networking.k8s.io/v1` HTTPRoute.
pub type HttpRoute = Object<HttpRouteSpec, Value>;
/// An `inference.networking.k8s.io/v1` InferencePool.
pub type InferencePool = Object<InferencePoolSpec, Value>;
/// A `networking.istio.io/v1` DestinationRule.
pub type DestinationRule = Object<DestinationRuleSpec, Value>;

/// The group of Gateway, GatewayClass and HTTPRoute.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The group of InferencePool.
pub const INFERENCE_GROUP: &str = "inference.networking.k8s.io";
/// The group of DestinationRule, and the one by which Istio names a pool's parents.
pub const ISTIO_GROUP: &str = "networking.istio.io";

/// A kind whose status the stand-in writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// GatewayClass
    GatewayClass,
    /// Gateway
    Gateway,
    /// HTTPRoute
    HttpRoute,
    /// InferencePool
    InferencePool,
}

impl Kind {
    /// Its place in the API.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::GatewayClass => resource(GATEWAY_GROUP, "GatewayClass", "gatewayclasses"),
            Self::Gateway => resource(GATEWAY_GROUP, "Gateway", "gateways"),
            Self::HttpRoute => resource(GATEWAY_GROUP, "HTTPRoute", "httproutes"),
            Self::InferencePool => resource(INFERENCE_GROUP, "InferencePool", "inferencepools"),
        }
    }
}

/// The place of DestinationRule in the API.
pub fn destination_rules() -> ApiResource {
    resource(ISTIO_GROUP, "DestinationRule", "destinationrules")
}

fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural)
}

#[allow(missing_docs, reason = "the API's own names")]
mod spec {
    use super::{BTreeMap, Deserialize, Serialize, Value};

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct GatewayClassSpec {
        pub controller_name: String,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct GatewaySpec {
        pub gateway_class_name: String,
        pub addresses: Vec<GatewayAddress>,
        pub listeners: Vec<Listener>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct GatewayAddress {
        pub r#type: Option<String>,
        pub value: String,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct Listener {
        pub name: String,
        pub hostname: Option<String>,
        pub port: u16,
        pub protocol: String,
        pub allowed_routes: AllowedRoutes,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct AllowedRoutes {
        pub namespaces: RouteNamespaces,
        pub kinds: Vec<RouteGroupKind>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct RouteNamespaces {
        pub from: Option<String>,
        pub selector: LabelSelector,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct LabelSelector {
        pub match_labels: BTreeMap<String, String>,
        pub match_expressions: Vec<LabelRequirement>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct LabelRequirement {
        pub key: String,
        pub operator: String,
        pub values: Vec<String>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct RouteGroupKind {
        pub group: Option<String>,
        pub kind: String,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct HttpRouteSpec {
        pub parent_refs: Vec<ParentReference>,
        pub hostnames: Vec<String>,
        pub rules: Vec<HttpRouteRule>,
    }

    /// Also written: a status repeats the reference as the route has it.
    #[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
    #[serde(rename_all = "camelCase", default)]
    pub struct ParentReference {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub group: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub kind: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub namespace: Option<String>,
        pub name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub section_name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub port: Option<u16>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct HttpRouteRule {
        pub matches: Vec<HttpRouteMatch>,
        pub filters: Vec<HttpRouteFilter>,
        pub backend_refs: Vec<BackendRef>,
        pub timeouts: Timeouts,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct HttpRouteMatch {
        pub path: Option<ValueMatch>,
        pub headers: Vec<NamedMatch>,
        pub query_params: Vec<NamedMatch>,
        pub method: Option<String>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct ValueMatch {
        pub r#type: Option<String>,
        pub value: Option<String>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct NamedMatch {
        pub r#type: Option<String>,
        pub name: String,
        pub value: String,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct HttpRouteFilter {
        pub r#type: String,
        pub url_rewrite: Option<UrlRewrite>,
        pub request_header_modifier: Option<HeaderModifier>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct UrlRewrite {
        pub hostname: Option<String>,
        pub path: Option<PathModifier>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct PathModifier {
        pub replace_full_path: Option<String>,
        pub replace_prefix_match: Option<String>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct HeaderModifier {
        pub set: Vec<Header>,
        pub add: Vec<Header>,
        pub remove: Vec<String>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct Header {
        pub name: String,
        pub value: String,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct Timeouts {
        pub request: Option<String>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct BackendRef {
        pub group: Option<String>,
        pub kind: Option<String>,
        pub namespace: Option<String>,
        pub name: String,
        pub port: Option<u16>,
        pub weight: Option<u32>,
        pub filters: Vec<Value>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct InferencePoolSpec {
        pub selector: LabelSelector,
        pub target_ports: Vec<Port>,
        pub app_protocol: Option<String>,
        pub endpoint_picker_ref: Option<EndpointPickerRef>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct Port {
        pub number: u16,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct EndpointPickerRef {
        pub kind: Option<String>,
        pub name: String,
        pub port: Port,
        pub failure_mode: Option<String>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct DestinationRuleSpec {
        pub host: String,
        pub traffic_policy: TrafficPolicy,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    pub struct TrafficPolicy {
        pub tls: Option<ClientTls>,
    }

    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub struct ClientTls {
        pub mode: String,
        pub insecure_skip_verify: bool,
    }
}

pub use spec::*;

impl LabelSelector {
    /// Whether an object with these labels is selected.
    pub fn selects(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let get = |key: &String| labels.and_then(|labels| labels.get(key));
        let has_all = self
            .match_labels
            .iter()
            .all(|(key, value)| get(key) == Some(value));
        has_all
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.holds(get(&requirement.key)))
    }
}

impl LabelRequirement {
    fn holds(&self, value: Option<&String>) -> bool {
        match self.operator.as_str() {
            "In" => value.is_some_and(|value| self.values.contains(value)),
            "NotIn" => value.is_none_or(|value| !self.values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}
