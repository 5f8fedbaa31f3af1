//! Clusters: of pools, of endpoint pickers and of Services.

use k8s_openapi::api::core::v1::ServicePort;
use serde_json::{Value, json};

use super::{
    Options, Xds, config_source, endpoint, path, picker_cluster, pool_cluster, service_cluster,
};
use crate::{
    api::{ClientTls, InferencePool},
    backend::port_of,
    snapshot::{Key, Snapshot},
};

/// Where an endpoint picker says which endpoint it has picked.
/// <https://github.com/kubernetes-sigs/gateway-api-inference-extension/tree/main/docs/proposals/004-endpoint-picker-protocol>
const PICKED: &str = "x-gateway-destination-endpoint";

/// Adds the cluster of a pool and that of its picker, and returns the first one's name.
pub(super) fn add_pool(
    xds: &mut Xds,
    snapshot: &Snapshot,
    key: &Key,
    pool: &InferencePool,
    options: &Options,
) -> String {
    let name = pool_cluster(key);
    if xds.clusters.contains_key(&name) {
        return name;
    }
    let mut cluster = eds_cluster(&name, options);
    cluster["load_balancing_policy"] = override_host();
    if pool.spec.app_protocol.as_deref() == Some("kubernetes.io/h2c") {
        speak_http2(&mut cluster);
    }
    let endpoints = endpoint::of_pool(snapshot, key, pool);
    xds.endpoints
        .insert(name.clone(), endpoint::assignment(&name, &endpoints));
    xds.clusters.insert(name.clone(), cluster);
    add_picker(xds, snapshot, key, pool, options);
    name
}

fn add_picker(
    xds: &mut Xds,
    snapshot: &Snapshot,
    pool_key: &Key,
    pool: &InferencePool,
    options: &Options,
) {
    let (Some(name), Some(picker)) = (
        picker_cluster(pool_key, pool),
        &pool.spec.endpoint_picker_ref,
    ) else {
        return;
    };
    let key = Key::new(&pool_key.namespace, &picker.name);
    let port = snapshot
        .services
        .get(&key)
        .and_then(|service| port_of(service, picker.port.number));
    let mut cluster = eds_cluster(&name, options);
    if port.is_some_and(is_http2) {
        speak_http2(&mut cluster);
    }
    if let Some(tls) = client_tls(snapshot, &key) {
        cluster["transport_socket"] = tls_socket(tls, options);
    }
    let endpoints = port
        .map(|port| endpoint::of_service(snapshot, &key, port))
        .unwrap_or_default();
    xds.endpoints
        .insert(name.clone(), endpoint::assignment(&name, &endpoints));
    xds.clusters.insert(name, cluster);
}

/// Adds the cluster of a Service's port and returns its name.
pub(super) fn add_service(
    xds: &mut Xds,
    snapshot: &Snapshot,
    key: &Key,
    port: &ServicePort,
    options: &Options,
) -> String {
    let name = service_cluster(key, port);
    let mut cluster = eds_cluster(&name, options);
    if is_http2(port) {
        speak_http2(&mut cluster);
    }
    xds.endpoints.insert(
        name.clone(),
        endpoint::assignment(&name, &endpoint::of_service(snapshot, key, port)),
    );
    xds.clusters.insert(name.clone(), cluster);
    name
}

fn eds_cluster(name: &str, options: &Options) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": config_source(&path(&options.dir, "eds", name))},
        "connect_timeout": "10s",
    })
}

/// The picked endpoint, or round-robin when none is picked or it is not one of the pool's: what makes
/// failing open real.
fn override_host() -> Value {
    let policy = |name: &str, config: Value| {
        json!({"policies": [{"typed_extension_config": {
            "name": format!("envoy.load_balancing_policies.{name}"), "typed_config": config,
        }}]})
    };
    let fallback = policy(
        "round_robin",
        json!({"@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"}),
    );
    policy(
        "override_host",
        json!({
            "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
            "override_host_sources": [
                {"header": PICKED},
                {"metadata": {"key": "envoy.lb", "path": [{"key": PICKED}]}},
            ],
            "fallback_policy": fallback,
        }),
    )
}

/// Istio takes the protocol from `appProtocol` or else from the part of the name before the first dash.
/// <https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/>
fn is_http2(port: &ServicePort) -> bool {
    let name = port.name.as_deref().and_then(|name| name.split('-').next());
    let protocol = port.app_protocol.as_deref().or(name);
    matches!(protocol, Some("kubernetes.io/h2c" | "grpc" | "http2"))
}

fn speak_http2(cluster: &mut Value) {
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        },
    });
}

/// The TLS of the DestinationRule for this Service. Without one the connection is plaintext, whatever the
/// picker speaks.
fn client_tls<'a>(snapshot: &'a Snapshot, service: &Key) -> Option<&'a ClientTls> {
    let rules = snapshot
        .destination_rules
        .iter()
        .filter(|(key, _)| key.namespace == service.namespace);
    let (_, rule) = rules.into_iter().find(|(_, rule)| {
        let host = &rule.spec.host;
        *host == service.name
            || *host == service.host()
            || *host == format!("{}.{}", service.name, service.namespace)
            || *host == format!("{}.{}.svc", service.name, service.namespace)
    })?;
    rule.spec
        .traffic_policy
        .tls
        .as_ref()
        .filter(|tls| tls.mode == "SIMPLE")
}

fn tls_socket(tls: &ClientTls, options: &Options) -> Value {
    let mut common = json!({"alpn_protocols": ["h2"]});
    if !tls.insecure_skip_verify {
        common["validation_context"] = json!({"trusted_ca": {"filename": options.system_ca}});
    }
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": common,
        },
    })
}
