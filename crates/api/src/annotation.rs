//! The annotations on a Model by which it is exposed.

/// An annotation that is understood.
#[derive(Clone, Copy, Debug)]
pub struct Annotation {
    /// Its whole key.
    pub key: &'static str,
    /// The field of a ModelExposure's `spec` that says the same; empty where there is none.
    pub field: &'static str,
    /// The form of its value, in Markdown.
    pub form: &'static str,
    /// What holds without it, in Markdown.
    pub default: &'static str,
    /// What it does: a sentence or more, without Markdown, since a terminal shows it, too.
    pub effect: &'static str,
}

macro_rules! annotations {
    ($( $(#[doc = $effect:literal])+ $name:ident = $key:literal | $field:literal, $form:literal, $default:literal; )*) => {
        $( $(#[doc = $effect])+ pub const $name: &str = concat!("kthena-bridge.io/", $key); )*

        /// Every annotation that is understood.
        pub const ALL: &[Annotation] = &[$( Annotation {
            key: $name,
            field: $field,
            form: $form,
            default: $default,
            effect: concat!($( $effect ),+).trim_ascii(),
        }, )*];
    };
}

annotations! {
    /// Exposes the Model. Every other annotation counts only with it.
    EXPOSE = "expose" | "", "`true`, `false`", "not exposed";
    /// The Gateways that the Model is attached to, or one listener of them.
    GATEWAY = "gateway" | "gateways", "`[namespace/]name[:listener]`, comma-separated, 32 at most",
        "`defaultGateway`, else the only Gateway of the Model's namespace";
    /// The hosts that the Model is served under.
    HOSTNAMES = "hostnames" | "hostnames", "host names, comma-separated, 16 at most",
        "`hostnameTemplate`, else every host of the listeners";
    /// The path prefix that the Model is served under. It is cut off before the engine sees the request.
    PATH = "path" | "path", "a path prefix", "`pathTemplate`, else `/`";
    /// Matches the header X-Gateway-Model-Name, too. Something on the Gateway has to set it from the body.
    MATCH_MODEL = "match-model" | "matchModel", "`true`, `false`", "`false`";
    /// The names that clients may send as the model. Those that the engine does not serve are rewritten.
    MODEL_NAMES = "model-names" | "modelNames", "names, comma-separated, 64 at most",
        "the Model's name and the name that the engine serves";
    /// The priority of requests with the header x-gateway-inference-objective: MODEL. Where the pods are
    /// saturated, negative ones are refused first.
    PRIORITY = "priority" | "objectives", "a whole number of 32 bits", "no InferenceObjective";
    /// How long a whole request may take, such as 30s; 0s is without limit.
    REQUEST_TIMEOUT = "request-timeout" | "requestTimeout",
        "a [Gateway API duration](https://gateway-api.sigs.k8s.io/geps/gep-2257/)", "`300s`";
    /// What the Gateway does without its endpoint picker: choose a pod itself, or refuse the request.
    FAILURE_MODE = "failure-mode" | "failureMode", "`FailOpen`, `FailClose`", "`failureMode`, which is `FailOpen`";
    /// Who picks endpoints: managed, or the Service of an endpoint picker that somebody else runs.
    ENDPOINT_PICKER = "endpoint-picker" | "endpointPicker", "`managed`, or `service[:port]` in the Model's namespace",
        "`managed`; the port is 9002";
    /// The port that the engine serves on.
    TARGET_PORT = "target-port" | "targetPort", "1 to 65535", "the ModelServer's, else 8000";
    /// The labels of the pods that get requests.
    POD_SELECTOR = "pod-selector" | "selector", "`key=value`, comma-separated, 64 at most",
        "the pods of the Model that serve HTTP";
    /// Leaves every object as it is. The conditions are still kept.
    PAUSED = "paused" | "paused", "`true`, `false`", "`false`";
}

/// The annotation with this key.
pub fn of(key: &str) -> Option<&'static Annotation> {
    ALL.iter().find(|annotation| annotation.key == key)
}

/// Whether the key is under our prefix, understood or not.
pub fn is_ours(key: &str) -> bool {
    key.strip_prefix(crate::DOMAIN)
        .is_some_and(|rest| rest.starts_with('/'))
}
