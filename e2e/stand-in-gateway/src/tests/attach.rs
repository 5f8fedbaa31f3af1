//! Which routes attach, seen from the statuses.

use serde_json::{Value, json};

use super::{
    cluster, gateway_with, http, namespace, pool, route, service, status_of, statuses, to_pool,
};
use crate::{
    api::{GATEWAY_GROUP, Kind},
    snapshot::Key,
};

/// The reason and message of the route's condition Accepted on its first parent.
fn accepted(listeners: Value, fields: Value) -> (String, String) {
    let mut spec = json!({"parentRefs": [{"name": "gw", "namespace": "infra"}]});
    spec.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let snapshot = cluster([
        gateway_with("infra", "gw", listeners),
        namespace("apps", json!({"team": "ml"})),
        route("apps", "r", spec),
    ]);
    let status = status_of(&snapshot, Kind::HttpRoute, "apps", "r").unwrap();
    let condition = &status["parents"][0]["conditions"][0];
    assert_eq!(condition["type"], "Accepted");
    ["reason", "message"]
        .map(|field| condition[field].as_str().unwrap().to_owned())
        .into()
}

fn from(from: &str) -> Value {
    json!({"namespaces": {"from": from}})
}

#[test]
fn allowed_routes_decide_by_namespace() {
    let selector =
        |selector: Value| json!({"namespaces": {"from": "Selector", "selector": selector}});
    for (allowed, reason) in [
        (from("All"), "Accepted"),
        (from("Same"), "NotAllowedByListeners"),
        (json!({}), "NotAllowedByListeners"),
        (from("None"), "NotAllowedByListeners"),
        (selector(json!({"matchLabels": {"team": "ml"}})), "Accepted"),
        (
            selector(json!({"matchLabels": {"team": "web"}})),
            "NotAllowedByListeners",
        ),
        (
            selector(
                json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["ml"]}]}),
            ),
            "Accepted",
        ),
        (
            selector(json!({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]})),
            "NotAllowedByListeners",
        ),
    ] {
        let (found, message) =
            accepted(json!([http(json!({"allowedRoutes": allowed}))]), json!({}));
        assert_eq!(found, reason, "{allowed}: {message}");
    }
}

#[test]
fn a_route_attaches_to_every_listener_that_takes_it() {
    let listeners = json!([
        http(json!({"allowedRoutes": from("All")})),
        http(json!({"name": "other", "port": 81, "allowedRoutes": from("All")})),
        http(json!({"name": "closed", "port": 82})),
    ]);
    let to = |fields: Value| {
        let mut parent = json!({"name": "gw", "namespace": "infra"});
        parent
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        accepted(listeners.clone(), json!({"parentRefs": [parent]}))
    };
    let is = |reason: &str, message: &str| (reason.to_owned(), message.to_owned());
    assert_eq!(
        to(json!({})),
        is("Accepted", "Route was valid, bound to 2 parents")
    );
    assert_eq!(to(json!({"port": 81})), is("Accepted", "Route was valid"));
    assert_eq!(
        to(json!({"port": 90})),
        is("NoMatchingParent", "port 90 not found")
    );
    assert_eq!(
        to(json!({"sectionName": "x"})),
        is("NoMatchingParent", "sectionName \"x\" not found")
    );
    assert_eq!(
        to(json!({"sectionName": "closed"})).0,
        "NotAllowedByListeners"
    );
}

#[test]
fn hostnames_must_meet() {
    let listeners = json!([http(
        json!({"hostname": "*.example.com", "allowedRoutes": from("All")})
    )]);
    let with = |hostname: &str| accepted(listeners.clone(), json!({"hostnames": [hostname]}));
    assert_eq!(with("a.example.com").0, "Accepted");
    let (reason, message) = with("a.example.org");
    assert_eq!(reason, "NoMatchingListenerHostname");
    assert_eq!(
        message,
        "no hostnames matched parent hostname \"*.example.com\""
    );
}

#[test]
fn other_kinds_may_be_all_that_a_listener_takes() {
    let allowed = json!({"namespaces": {"from": "All"}, "kinds": [{"group": GATEWAY_GROUP, "kind": "GRPCRoute"}]});
    assert_eq!(
        accepted(json!([http(json!({"allowedRoutes": allowed}))]), json!({})).0,
        "NotAllowedByListeners"
    );
}

#[test]
fn a_listener_of_tcp_takes_no_http_routes() {
    let listener = http(json!({"protocol": "TCP"}));
    let (reason, message) = accepted(json!([listener]), json!({}));
    assert_eq!(reason, "NotAllowedByListeners", "{message}");
    let snapshot = cluster([gateway_with("infra", "gw", json!([listener]))]);
    let status = status_of(&snapshot, Kind::Gateway, "infra", "gw").unwrap();
    let listener = &status["listeners"][0];
    assert_eq!(
        listener["supportedKinds"],
        json!([{"group": GATEWAY_GROUP, "kind": "TCPRoute"}])
    );
    assert_eq!(listener["conditions"][0]["status"], "True");
}

#[test]
fn gateways_of_other_classes_are_left_alone() {
    let mut other = gateway_with("infra", "other", json!([http(json!({}))]));
    other["spec"]["gatewayClassName"] = json!("kthena-router");
    let snapshot = cluster([
        other,
        pool("infra", "p", 8000, "FailOpen"),
        route(
            "infra",
            "r",
            json!({"parentRefs": [{"name": "other"}], "rules": [{"backendRefs": to_pool("p")}]}),
        ),
    ]);
    let written: Vec<_> = statuses(&snapshot)
        .into_iter()
        .map(|write| (write.kind, write.key))
        .collect();
    assert_eq!(written, [(Kind::GatewayClass, Key::new("", "istio"))]);
}

#[test]
fn a_gateway_without_addresses_gets_one_and_is_programmed() {
    let snapshot = cluster([gateway_with(
        "infra",
        "gw",
        json!([http(json!({})), http(json!({"name": "b", "port": 81}))]),
    )]);
    let status = status_of(&snapshot, Kind::Gateway, "infra", "gw").unwrap();
    assert_eq!(
        status["addresses"],
        json!([{"type": "IPAddress", "value": "10.77.3.1"}])
    );
    let programmed = &status["conditions"][1];
    assert_eq!(
        [&programmed["type"], &programmed["status"]],
        ["Programmed", "True"]
    );
    assert_eq!(
        programmed["message"],
        "Resource programmed, assigned to service(s) gw-istio.infra.svc.cluster.local:80 and \
         gw-istio.infra.svc.cluster.local:81"
    );
}

#[test]
fn what_a_pool_needs_is_reported_on_it() {
    let resolved = |picker: Value| {
        let mut pool = pool("infra", "p", 8000, "FailOpen");
        pool["spec"]["endpointPickerRef"] = picker;
        let snapshot = cluster([
            gateway_with("infra", "gw", json!([http(json!({}))])),
            service("infra", "there", json!({"port": 9002})),
            route(
                "infra",
                "r",
                json!({"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": to_pool("p")}]}),
            ),
            pool,
        ]);
        let status = status_of(&snapshot, Kind::InferencePool, "infra", "p").unwrap();
        let condition = &status["parents"][0]["conditions"][1];
        ["reason", "message"].map(|field| condition[field].as_str().unwrap().to_owned())
    };
    assert_eq!(
        resolved(json!({"name": "there", "port": {"number": 9002}}))[0],
        "ResolvedRefs"
    );
    assert_eq!(
        resolved(json!({"name": "x"})),
        ["InvalidExtensionRef", "Referenced ExtensionRef not found x"]
    );
    assert_eq!(
        resolved(json!({"name": "x", "kind": "Y"})),
        ["InvalidExtensionRef", "Unsupported ExtensionRef kind Y"]
    );
    assert_eq!(
        resolved(json!(null)),
        ["InvalidExtensionRef", "ExtensionRef not defined"]
    );
}

#[test]
fn one_route_that_is_accepted_is_enough_for_a_pool() {
    let to = |section: &str| json!({"parentRefs": [{"name": "gw", "sectionName": section}], "rules": [{"backendRefs": to_pool("p")}]});
    let snapshot = cluster([
        gateway_with("infra", "gw", json!([http(json!({}))])),
        pool("infra", "p", 8000, "FailOpen"),
        route("infra", "a", to("nope")),
        route("infra", "b", to("http")),
        route("infra", "c", to("nope")),
    ]);
    let status = status_of(&snapshot, Kind::InferencePool, "infra", "p").unwrap();
    assert_eq!(status["parents"].as_array().unwrap().len(), 1);
    assert_eq!(status["parents"][0]["conditions"][0]["status"], "True");
}
