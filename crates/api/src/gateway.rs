//! Gateway API's kinds that are read, and the parts of route and pool statuses that are read.
//! <https://gateway-api.sigs.k8s.io/reference/spec/>

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// The API group of Gateway API.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// Spec of a GatewayClass.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "GatewayClass",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayClassSpec {
    /// The controller that implements it.
    pub controller_name: String,
}

/// Spec of a Gateway.
#[derive(CustomResource, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "Gateway",
    namespaced,
    status = "GatewayStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewaySpec {
    /// Its GatewayClass.
    pub gateway_class_name: String,
    /// Its listeners.
    pub listeners: Vec<Listener>,
}

/// A listener of a Gateway.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Listener {
    /// Its name, unique in the Gateway.
    pub name: String,
    /// The port that it listens on.
    pub port: u16,
    /// `HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP`, or one of the implementation's own.
    pub protocol: String,
    /// The hosts that it serves, which may begin with `*.`; all when it is missing or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The routes that may attach.
    pub allowed_routes: AllowedRoutes,
}

/// The routes that may attach to a listener.
/// <https://gateway-api.sigs.k8s.io/reference/spec/#allowedroutes>
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct AllowedRoutes {
    /// The namespaces of the routes.
    pub namespaces: RouteNamespaces,
    /// The kinds of the routes; empty: those that fit the protocol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<RouteGroupKind>,
}

/// The namespaces of the routes that may attach to a listener.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct RouteNamespaces {
    /// `Same` (when it is missing), `All`, `Selector` or `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The labels of the namespaces, with `Selector`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// A kind of route.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct RouteGroupKind {
    /// Its group; Gateway API's when it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind.
    pub kind: String,
}

/// Status of a Gateway.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct GatewayStatus {
    /// Where it listens.
    pub addresses: Vec<GatewayAddress>,
    /// `Accepted`, `Programmed` and others.
    pub conditions: Vec<Condition>,
    /// What it says of each listener.
    pub listeners: Vec<ListenerStatus>,
}

/// An address of a Gateway.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct GatewayAddress {
    /// An IP address or a host name.
    pub value: String,
}

/// Status of a listener.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default)]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: String,
    /// `Accepted`, `Programmed`, `ResolvedRefs` and others.
    pub conditions: Vec<Condition>,
}

/// A reference from a route, or in a status, to a Gateway.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentReference {
    /// API group; Istio writes its own in the status of an InferencePool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind, `Gateway` when it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Namespace, the referring object's when it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// The listener; all of them when it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

impl ParentReference {
    /// Its namespace; `own`, that of the object that it stands in, when it names none.
    pub fn namespace_or<'a>(&'a self, own: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(own)
    }
}

/// What a parent says of a route or of a pool.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentStatus {
    /// The parent.
    pub parent_ref: ParentReference,
    /// `Accepted`, `ResolvedRefs` and others.
    pub conditions: Vec<Condition>,
}
