//! The annotations on a Model by which it is exposed.

/// `true` exposes the Model; every other annotation counts only with it.
pub const EXPOSE: &str = "kthena-bridge.io/expose";
/// Gateways to attach to: `[namespace/]name[:listener]`, comma-separated.
pub const GATEWAY: &str = "kthena-bridge.io/gateway";
/// Host names of the route, comma-separated.
pub const HOSTNAMES: &str = "kthena-bridge.io/hostnames";
/// Path prefix of the route; a prefix other than `/` is cut off before the request reaches the engine.
pub const PATH: &str = "kthena-bridge.io/path";
/// `true` also matches the header that carries the body's model name.
pub const MATCH_MODEL: &str = "kthena-bridge.io/match-model";
/// The model names that a client may send, comma-separated.
pub const MODEL_NAMES: &str = "kthena-bridge.io/model-names";
/// Priority of the InferenceObjective, a 32-bit integer; negative requests are shed first.
pub const PRIORITY: &str = "kthena-bridge.io/priority";
/// A Gateway API duration for the whole request.
pub const REQUEST_TIMEOUT: &str = "kthena-bridge.io/request-timeout";
/// `FailOpen` or `FailClose`: what the Gateway does while the endpoint picker does not answer.
pub const FAILURE_MODE: &str = "kthena-bridge.io/failure-mode";
/// `managed`, or `service[:port]` of an endpoint picker that somebody else runs.
pub const ENDPOINT_PICKER: &str = "kthena-bridge.io/endpoint-picker";
/// The port that the engine serves on, 1 to 65535.
pub const TARGET_PORT: &str = "kthena-bridge.io/target-port";
/// The labels of the pods to send requests to: `key=value`, comma-separated.
pub const POD_SELECTOR: &str = "kthena-bridge.io/pod-selector";
/// `true` leaves every object as it is.
pub const PAUSED: &str = "kthena-bridge.io/paused";

/// Every annotation that is understood.
pub const ALL: [&str; 13] = [
    EXPOSE,
    GATEWAY,
    HOSTNAMES,
    PATH,
    MATCH_MODEL,
    MODEL_NAMES,
    PRIORITY,
    REQUEST_TIMEOUT,
    FAILURE_MODE,
    ENDPOINT_PICKER,
    TARGET_PORT,
    POD_SELECTOR,
    PAUSED,
];

/// Whether the key is under our prefix, understood or not.
pub fn is_ours(key: &str) -> bool {
    key.strip_prefix(crate::DOMAIN)
        .is_some_and(|rest| rest.starts_with('/'))
}
