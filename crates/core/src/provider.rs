//! What each implementation of Gateway API needs and refuses, as a table.

/// An implementation of Gateway API.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its name, as `--provider` takes it.
    pub name: &'static str,
    /// The `spec.controllerName` of its GatewayClasses; none for the one that stands for all others.
    pub controller_names: &'static [&'static str],
    /// It speaks plaintext to the endpoint picker, which speaks TLS, unless a DestinationRule says so.
    pub destination_rule: bool,
    /// It asks an endpoint picker.
    pub asks_picker: bool,
    /// It accepts `rules[].timeouts` in an HTTPRoute.
    pub timeouts: bool,
    /// It writes the status of HTTPRoutes and Gateways.
    pub reports_route: Reports,
    /// It writes the status of InferencePools.
    pub reports_pool: Reports,
}

/// Whether an implementation writes a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// It does.
    Yes,
    /// It never does.
    Never,
    /// It is not known.
    Maybe,
}

/// Istio with Envoy as its data plane, and OpenShift's gateway, which is one.
pub const ISTIO: Provider = Provider {
    name: "istio",
    controller_names: &[
        "istio.io/gateway-controller",
        "openshift.io/gateway-controller/v1",
    ],
    destination_rule: true,
    asks_picker: true,
    timeouts: true,
    reports_route: Reports::Yes,
    reports_pool: Reports::Yes,
};

/// Kthena's own router. It schedules by itself and writes no status at all.
pub const KTHENA_ROUTER: Provider = Provider {
    name: "kthena-router",
    controller_names: &["volcano.sh/kthena-router"],
    destination_rule: false,
    asks_picker: false,
    timeouts: true,
    reports_route: Reports::Never,
    reports_pool: Reports::Never,
};

/// Every other one: what the inference extension's conformance tests ask of all.
pub const GENERIC: Provider = Provider {
    name: "generic",
    controller_names: &[],
    destination_rule: false,
    asks_picker: true,
    timeouts: true,
    reports_route: Reports::Maybe,
    reports_pool: Reports::Maybe,
};

/// All of them.
pub const ALL: [&Provider; 3] = [&ISTIO, &KTHENA_ROUTER, &GENERIC];

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
