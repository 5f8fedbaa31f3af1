//! Listeners: one for each port of a Gateway, on the Gateway's own address.

use std::{collections::BTreeSet, net::Ipv4Addr};

use serde_json::{Value, json};

use super::{Options, Xds, config_source, path, route};
use crate::{
    attach::{AttachedRoute, is_supported},
    snapshot::{Key, Snapshot},
};

pub(super) const EXT_PROC: &str = "envoy.filters.http.ext_proc";
/// The cluster of a filter that is never on without an override; it does not exist.
const NO_PICKER: &str = "none";

pub(super) fn add(
    xds: &mut Xds,
    snapshot: &Snapshot,
    routes: &[AttachedRoute<'_>],
    options: &Options,
) {
    for (key, gateway) in snapshot.served_gateways() {
        let Some(address) = snapshot.addresses.get(key) else {
            continue;
        };
        let listeners = gateway
            .spec
            .listeners
            .iter()
            .filter(|listener| is_supported(listener));
        let ports: BTreeSet<_> = listeners.map(|listener| listener.port).collect();
        for port in ports {
            let name = format!("{}_{}_{port}", key.namespace, key.name);
            xds.listeners
                .insert(name.clone(), listener(&name, *address, port, options));
            let configuration =
                route::configuration(xds, snapshot, &name, (key, port), routes, options);
            xds.routes.insert(name, configuration);
        }
    }
}

/// What is on one port of a Gateway.
pub(super) type GatewayPort<'a> = (&'a Key, u16);

fn listener(name: &str, address: Ipv4Addr, port: u16, options: &Options) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "rds": {
            "route_config_name": name,
            "config_source": config_source(&path(&options.dir, "rds", name)),
        },
        "http_filters": [ext_proc(), {
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
        "use_remote_address": true,
        "normalize_path": true,
        // The route's timeout is the only limit of a request, also of one that streams.
        "stream_idle_timeout": "0s",
        "access_log": [{
            "name": "envoy.access_loggers.stdout",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"},
        }],
    });
    json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": address.to_string(), "port_value": port}},
        "filter_chains": [{
            "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
        }],
    })
}

/// Off until a route to a pool overrides it, so that a first pool does not change the listener.
fn ext_proc() -> Value {
    json!({
        "name": EXT_PROC,
        "disabled": true,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": NO_PICKER}},
            "processing_mode": {
                "request_header_mode": "SKIP", "response_header_mode": "SKIP",
                "request_body_mode": "NONE", "response_body_mode": "NONE",
                "request_trailer_mode": "SKIP", "response_trailer_mode": "SKIP",
            },
            "failure_mode_allow": true,
            // Istio's: a picker may hold a request until a server has room for it.
            "message_timeout": "1000s",
        },
    })
}
