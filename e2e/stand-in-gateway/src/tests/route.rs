//! The order of routes, and what becomes of requests, seen from Envoy's configuration.

use serde_json::{Value, json};

use super::{cluster, gateway_with, http, pod, pool, route, service, to_pool, xds};
use crate::Snapshot;

fn with_routes(routes: impl IntoIterator<Item = Value>) -> Snapshot {
    let fixed = [
        gateway_with("infra", "gw", json!([http(json!({}))])),
        pool("infra", "p", 8000, "FailOpen"),
        service(
            "infra",
            "p-epp",
            json!({"name": "grpc-ext-proc", "port": 9002}),
        ),
    ];
    cluster(fixed.into_iter().chain(routes))
}

/// A route to the pool with one rule for each of these matches.
fn matching(name: &str, created: &str, matches: &[Value]) -> Value {
    let rules: Vec<_> = matches
        .iter()
        .map(|m| json!({"matches": [m], "backendRefs": to_pool("p")}))
        .collect();
    let mut route = route(
        "infra",
        name,
        json!({"parentRefs": [{"name": "gw"}], "rules": rules}),
    );
    route["metadata"]["creationTimestamp"] = json!(created);
    route
}

fn prefix(path: &str) -> Value {
    json!({"path": {"type": "PathPrefix", "value": path}})
}

fn exact(path: &str) -> Value {
    json!({"path": {"type": "Exact", "value": path}})
}

/// The routes of the only virtual host.
fn routes(snapshot: &Snapshot) -> Vec<Value> {
    let configuration = &xds(snapshot).routes["infra_gw_80"];
    assert_eq!(
        configuration["virtual_hosts"].as_array().unwrap().len(),
        1,
        "{configuration:#}"
    );
    configuration["virtual_hosts"][0]["routes"]
        .as_array()
        .unwrap()
        .clone()
}

fn order(snapshot: &Snapshot) -> Vec<String> {
    routes(snapshot)
        .iter()
        .map(|route| route["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_most_specific_match_comes_first() {
    let header = |path: &str, count: usize| {
        let mut m = prefix(path);
        m["headers"] = (0..count)
            .map(|at| json!({"name": format!("h{at}"), "value": "x"}))
            .collect();
        m
    };
    let mut post = prefix("/v1");
    post["method"] = json!("POST");
    let all = [
        prefix("/"),
        header("/", 1),
        header("/", 2),
        prefix("/v1"),
        post,
        prefix("/v1/chat"),
        exact("/v1"),
    ];
    let snapshot = with_routes([matching("r", "2026-01-01T00:00:00Z", &all)]);
    let expected = [6, 5, 4, 3, 2, 1, 0].map(|at| format!("infra/r/{at}"));
    assert_eq!(order(&snapshot), expected);
}

#[test]
fn of_equal_matches_the_oldest_route_wins_and_then_the_first_by_name() {
    let all = [prefix("/")];
    let snapshot = with_routes([
        matching("c", "2026-01-01T00:00:00Z", &all),
        matching("b", "2026-01-02T00:00:00Z", &all),
        matching("a", "2026-01-02T00:00:00Z", &all),
    ]);
    assert_eq!(order(&snapshot), ["infra/c/0", "infra/a/0", "infra/b/0"]);
}

#[test]
fn each_hostname_has_its_own_routes() {
    let with = |name: &str, hostnames: Value| {
        let mut route = matching(name, "2026-01-01T00:00:00Z", &[prefix("/")]);
        route["spec"]["hostnames"] = hostnames;
        route
    };
    let snapshot = with_routes([
        with("any", json!([])),
        with("a", json!(["a.example.com", "b.example.com"])),
        with("wild", json!(["*.example.com"])),
    ]);
    let configuration = &xds(&snapshot).routes["infra_gw_80"];
    let hosts: Vec<_> = configuration["virtual_hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|host| {
            (
                host["domains"][0].as_str().unwrap(),
                host["routes"][0]["name"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("*", "infra/any/0"),
        ("*.example.com", "infra/wild/0"),
        ("a.example.com", "infra/a/0"),
        ("b.example.com", "infra/a/0"),
    ];
    assert_eq!(hosts, expected);
}

#[test]
fn a_pool_is_its_ready_pods_and_goes_through_its_picker() {
    let mut deleted = pod("infra", "p", "10.0.0.3");
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut unready = pod("infra", "p", "10.0.0.4");
    unready["status"]["conditions"][0]["status"] = json!("False");
    let slice = json!({
        "kind": "EndpointSlice",
        "metadata": {"namespace": "infra", "name": "s", "labels": {"kubernetes.io/service-name": "p-epp"}},
        "addressType": "IPv4",
        "ports": [{"name": "metrics", "port": 9090}, {"name": "grpc-ext-proc", "port": 9002}],
        "endpoints": [
            {"addresses": ["10.0.1.1"], "conditions": {"ready": true}},
            {"addresses": ["10.0.1.2"], "conditions": {"ready": false}},
        ],
    });
    let mut snapshot = with_routes([
        matching("r", "2026-01-01T00:00:00Z", &[prefix("/")]),
        pod("infra", "p", "10.0.0.1"),
        pod("infra", "other", "10.0.0.2"),
        pod("elsewhere", "p", "10.0.0.5"),
        deleted,
        unready,
        slice,
    ]);
    let addresses = |snapshot: &Snapshot, cluster: &str| -> Vec<String> {
        let assignment = &xds(snapshot).endpoints[cluster];
        let endpoints = assignment["endpoints"][0]["lb_endpoints"]
            .as_array()
            .unwrap();
        let address = |e: &Value| e["endpoint"]["address"]["socket_address"].clone();
        endpoints
            .iter()
            .map(address)
            .map(|a| format!("{}:{}", a["address"].as_str().unwrap(), a["port_value"]))
            .collect()
    };
    assert_eq!(addresses(&snapshot, "pool_infra_p"), ["10.0.0.1:8000"]);
    assert_eq!(
        addresses(&snapshot, "picker_infra_p-epp_9002"),
        ["10.0.1.1:9002"]
    );
    let overrides = |snapshot: &Snapshot| {
        routes(snapshot)[0]["typed_per_filter_config"]["envoy.filters.http.ext_proc"]["overrides"]
            .clone()
    };
    assert_eq!(
        overrides(&snapshot)["grpc_service"]["envoy_grpc"]["cluster_name"],
        "picker_infra_p-epp_9002"
    );
    assert_eq!(overrides(&snapshot)["failure_mode_allow"], true);

    // Without a rule the connection is plaintext.
    assert_eq!(
        xds(&snapshot).clusters["picker_infra_p-epp_9002"].get("transport_socket"),
        None
    );
    for host in ["p-epp", "p-epp.infra.svc.cluster.local"] {
        for skip in [true, false] {
            let tls = json!({"mode": "SIMPLE", "insecureSkipVerify": skip});
            let rule = json!({
                "kind": "DestinationRule",
                "metadata": {"namespace": "infra", "name": "p-epp"},
                "spec": {"host": host, "trafficPolicy": {"tls": tls}},
            });
            snapshot.destination_rules = cluster([rule]).destination_rules;
            let socket = &xds(&snapshot).clusters["picker_infra_p-epp_9002"]["transport_socket"];
            assert_eq!(socket["name"], "envoy.transport_sockets.tls");
            let validates = socket
                .pointer("/typed_config/common_tls_context/validation_context")
                .is_some();
            assert_eq!(validates, !skip);
        }
    }
}

#[test]
fn the_picker_is_spoken_to_in_http2_only_when_its_service_says_so() {
    let speaks_http2 = |port: Value| {
        let mut snapshot = with_routes([matching("r", "2026-01-01T00:00:00Z", &[prefix("/")])]);
        snapshot.services = cluster([service("infra", "p-epp", port)]).services;
        xds(&snapshot).clusters["picker_infra_p-epp_9002"]
            .get("typed_extension_protocol_options")
            .is_some()
    };
    assert!(speaks_http2(
        json!({"port": 9002, "appProtocol": "kubernetes.io/h2c"})
    ));
    assert!(speaks_http2(json!({"port": 9002, "name": "grpc-ext-proc"})));
    assert!(speaks_http2(json!({"port": 9002, "name": "grpc"})));
    assert!(!speaks_http2(json!({"port": 9002, "name": "ext-proc"})));
    assert!(!speaks_http2(
        json!({"port": 9002, "name": "grpc", "appProtocol": "http"})
    ));
}

#[test]
fn nothing_to_send_a_request_to_is_an_error() {
    let to = |backends: Value| {
        let spec = json!({"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": backends}]});
        routes(&with_routes([route("infra", "r", spec)]))[0].clone()
    };
    assert_eq!(to(to_pool("missing"))["direct_response"]["status"], 500);
    assert_eq!(to(json!([]))["direct_response"]["status"], 500);
    let mut elsewhere = to_pool("p");
    elsewhere[0]["namespace"] = json!("elsewhere");
    assert_eq!(to(elsewhere)["direct_response"]["status"], 500);

    let pool = &to_pool("p")[0];
    let missing = &to_pool("missing")[0];
    let action = to(json!([pool, missing]))["route"].clone();
    let clusters = action["weighted_clusters"]["clusters"].as_array().unwrap();
    assert_eq!(
        [&clusters[0]["name"], &clusters[1]["name"]],
        ["pool_infra_p", "unresolved"]
    );
    assert_eq!(
        action["cluster_not_found_response_code"],
        "INTERNAL_SERVER_ERROR"
    );
}
