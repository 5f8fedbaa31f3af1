use kthena_bridge_api::gateway::{Gateway, GatewaySpec};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::observe::Objects;

/// A cluster with the Gateway `infra/gateway`.
fn cluster(listeners: &Value) -> Objects {
    let spec = GatewaySpec {
        gateway_class_name: "istio".to_owned(),
        listeners: serde_json::from_value(listeners.clone()).unwrap(),
    };
    let mut gateway = Gateway::new("gateway", spec);
    gateway.metadata.namespace = Some("infra".to_owned());
    Objects {
        gateways: vec![Arc::new(gateway)],
        ..Objects::default()
    }
}

fn one_listener() -> Objects {
    cluster(&json!([{"name": "http", "port": 80, "protocol": "HTTP"}]))
}

/// A route `namespace/name` of this year's month that does not exist yet.
fn route(name: &str, month: u8, hosts: &[&str], path: &str) -> Route {
    let (namespace, name) = name.split_once('/').unwrap();
    Route::reduce(&json!({
        "metadata": {"namespace": namespace, "name": name, "creationTimestamp": format!("2026-{month:02}-01T00:00:00Z")},
        "spec": {
            "parentRefs": [{"namespace": "infra", "name": "gateway"}],
            "hostnames": hosts,
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": path}}]}],
        },
    }))
}

fn live(mut route: Route) -> Route {
    route.live = true;
    route
}

fn with(mut cluster: Objects, routes: &[Route]) -> Objects {
    cluster.routes = routes.iter().cloned().map(Arc::new).collect();
    cluster
}

fn conflict(wanted: &Route, own: Option<&Route>, cluster: &Objects) -> Option<String> {
    check(wanted, own, cluster, |_| false)
        .err()
        .map(|c| format!("{}/{}", c.holder.namespace(), c.holder.name()))
}

#[test]
fn a_claim_belongs_to_the_route_that_has_it_whatever_the_ages() {
    let held = live(route("a/held", 6, &[], "/m"));
    let cluster = with(one_listener(), std::slice::from_ref(&held));
    assert_eq!(
        conflict(&route("a/older", 1, &[], "/m"), None, &cluster).as_deref(),
        Some("a/held")
    );
    assert_eq!(
        conflict(&route("a/younger", 9, &[], "/m/"), None, &cluster).as_deref(),
        Some("a/held")
    );
    assert_eq!(
        conflict(&route("b/other", 9, &[], "/n"), None, &cluster),
        None
    );
    assert_eq!(
        conflict(&route("a/held", 6, &[], "/m"), Some(&held), &cluster),
        None,
        "its own"
    );
}

#[test]
fn what_a_route_has_it_keeps() {
    let first = live(route("a/first", 6, &[], "/m"));
    let intruder = live(route("b/intruder", 1, &[], "/m"));
    let cluster = with(one_listener(), &[first.clone(), intruder.clone()]);
    assert_eq!(conflict(&first, Some(&first), &cluster), None);
    assert_eq!(
        outranked(&first, &cluster).unwrap().holder.name(),
        "intruder",
        "the Gateway goes by age"
    );
    assert!(outranked(&intruder, &cluster).is_none());
}

#[test]
fn of_those_that_wait_the_older_goes_first() {
    let waiting = route("b/waiting", 6, &[], "/m");
    let cluster = with(one_listener(), std::slice::from_ref(&waiting));
    assert_eq!(
        conflict(&route("a/older", 1, &[], "/m"), None, &cluster),
        None
    );
    assert_eq!(
        conflict(&route("a/younger", 9, &[], "/m"), None, &cluster).as_deref(),
        Some("b/waiting")
    );
    assert_eq!(
        conflict(&route("a/same", 6, &[], "/m"), None, &cluster),
        None,
        "then by namespace and name"
    );
    assert_eq!(
        conflict(&route("c/same", 6, &[], "/m"), None, &cluster).as_deref(),
        Some("b/waiting")
    );
    let older = route("a/older", 1, &[], "/m");
    let is_waiting = |rival: &Route| rival.name() == "waiting";
    assert!(
        check(&older, None, &cluster, is_waiting).is_err(),
        "both would write"
    );
}

#[test]
fn another_namespace_nests_only_under_what_everybody_shares() {
    let root = live(route("a/root", 1, &[], "/"));
    let prefix = live(route("a/prefix", 1, &[], "/team-a"));
    let host = live(route("a/host", 1, &["a.example.com"], "/"));
    let wildcard = live(route("a/wildcard", 1, &["*.b.example.com"], "/"));
    let cluster = with(one_listener(), &[root, prefix, host, wildcard]);
    for (namespace, inside) in [("a", false), ("b", true)] {
        let nests = |hosts: &[&str], path: &str| {
            conflict(
                &route(&format!("{namespace}/new"), 9, hosts, path),
                None,
                &cluster,
            )
        };
        assert_eq!(nests(&[], "/m"), None);
        assert_eq!(nests(&["new.example.org"], "/"), None);
        assert_eq!(nests(&[], "/team-ab"), None, "not below /team-a");
        assert_eq!(nests(&[], "/team-a/m").is_some(), inside);
        assert_eq!(nests(&["a.example.com"], "/m").is_some(), inside);
        assert_eq!(nests(&["x.b.example.com"], "/m").is_some(), inside);
    }
}

#[test]
fn a_narrower_listener_is_shared_by_all_that_attach_to_it() {
    let listeners =
        json!([{"name": "http", "port": 80, "protocol": "HTTP", "hostname": "models.example.com"}]);
    let root = live(route("a/root", 1, &[], "/"));
    let cluster = with(cluster(&listeners), &[root]);
    assert_eq!(
        conflict(&route("b/new", 2, &[], "/m"), None, &cluster),
        None
    );
    assert_eq!(
        conflict(
            &route("b/new", 2, &["models.example.com"], "/m"),
            None,
            &cluster
        ),
        None
    );
    let same = route("b/new", 2, &["Models.example.com"], "/");
    assert_eq!(
        conflict(&same, None, &cluster).as_deref(),
        Some("a/root"),
        "the same host in other words"
    );
}

#[test]
fn other_listeners_gateways_and_headers_do_not_compete() {
    let listeners = json!([
        {"name": "one", "port": 80, "protocol": "HTTP"},
        {"name": "two", "port": 81, "protocol": "HTTP"},
    ]);
    let on = |listener: &str, name: &str| {
        let mut route = route(name, 1, &[], "/m");
        route.parent_refs[0].section_name = Some(listener.to_owned());
        route
    };
    let cluster = with(cluster(&listeners), &[live(on("one", "a/one"))]);
    assert_eq!(conflict(&on("two", "b/two"), None, &cluster), None);
    assert_eq!(
        conflict(&on("one", "b/two"), None, &cluster).as_deref(),
        Some("a/one")
    );
    assert_eq!(
        conflict(&route("b/all", 1, &[], "/m"), None, &cluster).as_deref(),
        Some("a/one")
    );

    let by_name = |name: &str, model: &str| {
        let mut route = route(name, 1, &[], "/");
        route.matches[0].headers = [("x-gateway-model-name".to_owned(), model.to_owned())].into();
        route
    };
    let cluster = with(
        one_listener(),
        &[
            live(by_name("a/one", "one")),
            live(route("a/rest", 1, &[], "/")),
        ],
    );
    assert_eq!(conflict(&by_name("b/two", "two"), None, &cluster), None);
    assert_eq!(
        conflict(&by_name("b/two", "one"), None, &cluster).as_deref(),
        Some("a/one")
    );
}

#[test]
fn a_route_that_its_gateway_refuses_has_nothing() {
    let mut refused = live(route("b/refused", 1, &[], "/m"));
    refused.refused_by = refused.parent_refs.clone();
    let own = live(route("a/own", 6, &[], "/m"));
    let cluster = with(one_listener(), &[refused, own.clone()]);
    assert_eq!(
        conflict(&route("c/new", 9, &[], "/m"), None, &cluster).as_deref(),
        Some("a/own")
    );
    assert!(outranked(&own, &cluster).is_none());
}

#[test]
fn a_route_for_just_what_clients_ask_for_wins() {
    let own = live(route("a/own", 1, &[], "/m"));
    for (path, wins) in [
        ("/m/v1/chat", true),
        ("/m/v1/completions", true),
        ("/m/metrics", false),
        ("/", false),
    ] {
        let cluster = with(
            one_listener(),
            &[own.clone(), live(route("a/other", 6, &[], path))],
        );
        assert_eq!(outranked(&own, &cluster).is_some(), wins, "{path}");
    }
    let mut regex = live(route("a/other", 1, &[], "/m"));
    regex.matches[0].more = true;
    assert!(outranked(&own, &with(one_listener(), &[own.clone(), regex])).is_none());
}

#[test]
fn the_holder_and_the_ways_out_are_named() {
    let mut held = live(route("a/held", 1, &["h.example.com"], "/m"));
    let told = |held: &Route| {
        let cluster = with(one_listener(), std::slice::from_ref(held));
        let wanted = route("b/new", 2, &["h.example.com"], "/m/n");
        let conflict = check(&wanted, None, &cluster, |_| false).unwrap_err();
        conflict.refusal(&Owner::default())
    };
    let by_hand = told(&held);
    assert_eq!(by_hand.reason, Reason::RouteConflict);
    insta::assert_snapshot!(by_hand.message, @"HTTPRoute a/held has h.example.com, path /m on Gateway infra/gateway, and h.example.com, path /m/n on Gateway infra/gateway is inside of it; choose another kthena-bridge.io/hostnames or kthena-bridge.io/path");
    let owner = crate::observe::Owner {
        kind: "ModelBooster".into(),
        name: "llama".into(),
        uid: "u".into(),
    };
    held.metadata.owners = [owner].into();
    assert!(told(&held).message.starts_with("ModelBooster a/llama has "));
}

/// Hosts and paths that often meet.
fn routes() -> impl Strategy<Value = Vec<Route>> {
    let host = prop::sample::select(vec!["", "a.x.y", "*.x.y", "b.x.y", "*.y"]);
    let path = prop::sample::select(vec!["/", "/m", "/m/n", "/mn", "/m/n/o"]);
    let namespace = prop::sample::select(vec!["a", "b"]);
    let one = (namespace, 1_u8..=4, host, path).prop_map(|(namespace, month, host, path)| {
        let hosts: Vec<&str> = Some(host).filter(|h| !h.is_empty()).into_iter().collect();
        (namespace, month, hosts, path)
    });
    prop::collection::vec(one, 1..8).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(n, (ns, month, hosts, path))| route(&format!("{ns}/r{n}"), month, &hosts, path))
            .collect()
    })
}

proptest! {
    /// Written one after the other in any order, nobody's requests go to another namespace's route.
    #[test]
    fn nobody_takes_requests_from_another_namespace(wanted in routes()) {
        let mut cluster = one_listener();
        for route in wanted {
            if check(&route, None, &cluster, |_| false).is_ok() {
                cluster.routes.push(Arc::new(live(route)));
            }
        }
        for (n, a) in cluster.routes.iter().enumerate() {
            for (m, b) in cluster.routes.iter().enumerate() {
                for (a, b) in of(a, &cluster).iter().flat_map(|x| of(b, &cluster).into_iter().map(move |y| (x.clone(), y))) {
                    prop_assert!(n == m || !a.is(&b), "two have {a}");
                    // The later one is inside of the earlier one.
                    let shared = a.path == "/" && a.whole_listener;
                    let foreign = cluster.routes[n].namespace() != cluster.routes[m].namespace();
                    prop_assert!(!(n < m && foreign && a.covers(&b) && !shared), "{b} is inside of {a}");
                }
            }
        }
    }
}
