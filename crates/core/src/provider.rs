//! What each implementation of Gateway API needs and refuses, as a table.

use kthena_bridge_api::child::ChildKind;

/// An implementation of Gateway API.
#[derive(Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a row of a table, and each is a column"
)]
pub struct Provider {
    /// Its name, as `--provider` takes it.
    pub name: &'static str,
    /// The `spec.controllerName` of its GatewayClasses; none for the one that stands for all others.
    pub controller_names: &'static [&'static str],
    /// What it needs beside what all need.
    pub objects: &'static [ChildKind],
    /// It asks an endpoint picker.
    pub asks_picker: bool,
    /// It accepts `rules[].timeouts` in an HTTPRoute.
    pub timeouts: bool,
    /// It matches headers.
    pub headers: bool,
    /// What it takes as the replacement that cuts a path prefix off.
    pub no_prefix: &'static str,
    /// The only GatewayClass that it serves, where its name matters.
    pub class: Option<&'static str>,
    /// It writes statuses.
    pub reports: bool,
    /// What its users should know, as part of a condition's message.
    pub note: Option<&'static str>,
}

/// What most are like.
const USUAL: Provider = Provider {
    name: "",
    controller_names: &[],
    objects: &[],
    asks_picker: true,
    timeouts: true,
    headers: true,
    no_prefix: "/",
    class: None,
    reports: true,
    note: None,
};

/// Istio with Envoy as its data plane, and OpenShift's gateway, which is one. It speaks plaintext to the
/// endpoint picker, which speaks TLS, unless a DestinationRule says so.
pub const ISTIO: Provider = Provider {
    name: "istio",
    controller_names: &[
        "istio.io/gateway-controller",
        "openshift.io/gateway-controller/v1",
    ],
    objects: &[ChildKind::DestinationRule],
    ..USUAL
};

/// Istio with agentgateway as its data plane, which speaks TLS to the endpoint picker by itself.
pub const ISTIO_AGENTGATEWAY: Provider = Provider {
    name: "istio-agentgateway",
    controller_names: &["istio.io/agentgateway-controller"],
    ..USUAL
};

/// GKE, which probes the pods and limits requests by policies of its own.
pub const GKE: Provider = Provider {
    name: "gke",
    controller_names: &["networking.gke.io/gateway"],
    objects: &[ChildKind::HealthCheckPolicy, ChildKind::GCPBackendPolicy],
    timeouts: false,
    ..USUAL
};

/// agentgateway.
pub const AGENTGATEWAY: Provider = Provider {
    name: "agentgateway",
    controller_names: &["agentgateway.dev/agentgateway", "kgateway.dev/agentgateway"],
    ..USUAL
};

/// kgateway with Envoy as its data plane.
pub const KGATEWAY: Provider = Provider {
    name: "kgateway",
    controller_names: &["kgateway.dev/kgateway"],
    note: Some(
        "kgateway routes to InferencePools up to version 2.2 only; its successor for them is agentgateway",
    ),
    ..USUAL
};

/// Envoy Gateway with Envoy AI Gateway.
pub const ENVOY_GATEWAY: Provider = Provider {
    name: "envoy-gateway",
    controller_names: &["gateway.envoyproxy.io/gatewayclass-controller"],
    ..USUAL
};

/// NGINX Gateway Fabric.
pub const NGINX: Provider = Provider {
    name: "nginx",
    controller_names: &["gateway.nginx.org/nginx-gateway-controller"],
    timeouts: false,
    ..USUAL
};

/// Kthena's own router. It chooses among the pods by itself, and writes no status at all. What it does
/// with a route was seen on v1.0.0: it joins the replacement of a prefix and the rest of the path as they
/// are, skips matches with headers, and knows its class by the name.
pub const KTHENA_ROUTER: Provider = Provider {
    name: "kthena-router",
    controller_names: &["volcano.sh/kthena-router"],
    asks_picker: false,
    headers: false,
    no_prefix: "",
    class: Some("kthena-router"),
    reports: false,
    note: Some(
        "kthena-router has no request timeout, and of routes with nested paths it takes any",
    ),
    ..USUAL
};

/// Every other one: what the inference extension's conformance tests ask of all.
pub const GENERIC: Provider = Provider {
    name: "generic",
    ..USUAL
};

/// All of them.
pub const ALL: [&Provider; 9] = [
    &ISTIO,
    &ISTIO_AGENTGATEWAY,
    &GKE,
    &AGENTGATEWAY,
    &KGATEWAY,
    &ENVOY_GATEWAY,
    &NGINX,
    &KTHENA_ROUTER,
    &GENERIC,
];

impl Provider {
    /// The one that implements a GatewayClass with this `spec.controllerName`.
    pub fn of_controller(controller_name: &str) -> &'static Self {
        ALL.into_iter()
            .find(|p| p.controller_names.contains(&controller_name))
            .unwrap_or(&GENERIC)
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|p| p.name == name)
    }
}
