//! Two that want the same requests.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use kthena_bridge_api::annotation;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_core::OwnerKind;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use testbed::{Model, Namespace, TestBed, exposed_by};

use crate::{LIMIT, bed, bed_alone, versions};

/// A Gateway that takes routes of every namespace.
async fn open_gateway(bed: &TestBed, namespace: &Namespace<'_>) -> Ipv4Addr {
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "open"}, "spec": {"gatewayClassName": "istio", "listeners": [
            {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}]}});
    namespace.apply(&gateway.to_string()).await.unwrap();
    bed.gateway_address(namespace.name(), "open").await.unwrap()
}

/// A hand-made route to the pool of a Model.
fn route(name: &str, path: &str, pool: &str) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name},
    "spec": {"parentRefs": [{"name": "open"}], "rules": [{
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "backendRefs": [{"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": pool}],
    }]}})
}

#[tokio::test]
async fn a_claim_belongs_to_whoever_has_it_until_it_is_free() {
    let bed = bed().await;
    let namespace = bed.namespace("claims").await.unwrap();
    let address = open_gateway(&bed, &namespace).await;
    let older = namespace.model("older").await.unwrap();
    let holder = namespace.model("holder").await.unwrap();
    holder
        .expose("open", &[("path", Some("/shared"))])
        .await
        .unwrap();
    older
        .expose("open", &[("path", Some("/own"))])
        .await
        .unwrap();
    bed.wait_for_answer(address, "/own", "older", 200)
        .await
        .unwrap();
    let before = (versions(&older).await, versions(&holder).await);

    // The older one moves onto what the younger one has: by age alone, its route would win.
    older.annotate(&[("path", Some("/shared/"))]).await.unwrap();
    let conflict = older
        .wait_for_reason("Accepted", "RouteConflict")
        .await
        .unwrap();
    for part in [
        holder.asked_for_by(),
        exposed_by().setting(annotation::PATH),
    ] {
        assert!(conflict.message.contains(&part), "{}", conflict.message);
    }
    let answer = bed.ask(address, "/own", "older").await.unwrap();
    assert_eq!(
        answer.status, 200,
        "what served goes on serving: {answer:?}"
    );
    let answer = bed
        .wait_for_answer(address, "/shared", "holder", 200)
        .await
        .unwrap();
    assert_eq!(answer.served_by(), Some("holder-backend1-0-leader-0-0"));
    assert_eq!(
        (versions(&older).await, versions(&holder).await),
        before,
        "nothing was written"
    );

    holder.annotate(&[("expose", None)]).await.unwrap();
    older.wait_for_condition("Accepted", "True").await.unwrap();
    let answer = bed
        .wait_for_answer(address, "/shared", "older", 200)
        .await
        .unwrap();
    assert_eq!(answer.served_by(), Some("older-backend1-0-leader-0-0"));
}

#[tokio::test]
async fn another_namespace_nests_only_under_what_everybody_shares() {
    let bed = bed().await;
    let here = bed.namespace("nest-a").await.unwrap();
    let there = bed.namespace("nest-b").await.unwrap();
    let address = open_gateway(&bed, &here).await;
    let gateway = format!("{}/open", here.name());
    let model = here.model("demo").await.unwrap();
    model
        .expose(&gateway, &[("path", Some("/team-a"))])
        .await
        .unwrap();
    let root = here.model("root").await.unwrap();
    root.expose(&gateway, &[]).await.unwrap();

    let other = there.model("demo").await.unwrap();
    let inside = [("path", Some("/team-a/demo"))];
    other.annotate_exposed(&gateway, &inside).await.unwrap();
    other
        .wait_for_reason("Accepted", "RouteConflict")
        .await
        .unwrap();
    assert!(
        other.children().await.unwrap().is_empty(),
        "nothing is made for it"
    );
    other.annotate(&[("path", Some("/team-b"))]).await.unwrap();
    other
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    bed.wait_for_answer(address, "/team-b", "demo", 200)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_route_that_comes_to_win_is_named_and_forgotten_when_it_goes() {
    let bed = bed().await;
    let namespace = bed.namespace("outrank").await.unwrap();
    let address = open_gateway(&bed, &namespace).await;
    // Older than the Model's, and elsewhere for now.
    namespace
        .apply(&route("by-hand", "/elsewhere", "nowhere").to_string())
        .await
        .unwrap();
    let model = namespace.model("demo").await.unwrap();
    model
        .expose("open", &[("path", Some("/demo"))])
        .await
        .unwrap();
    bed.wait_for_answer(address, "/demo", "demo", 200)
        .await
        .unwrap();
    for path in ["/demo", "/demo/v1"] {
        namespace
            .apply(&route("by-hand", path, "nowhere").to_string())
            .await
            .unwrap();
        let outranked = model
            .wait_for_reason("Programmed", "RouteOutranked")
            .await
            .unwrap();
        let name = format!("HTTPRoute {}/by-hand", namespace.name());
        assert!(outranked.message.contains(&name), "{}", outranked.message);
        bed.wait_for_answer(address, "/demo", "demo", 500)
            .await
            .unwrap();
        namespace
            .apply(&route("by-hand", "/elsewhere", "nowhere").to_string())
            .await
            .unwrap();
        model
            .wait_for_condition("Programmed", "True")
            .await
            .unwrap();
        bed.wait_for_answer(address, "/demo", "demo", 200)
            .await
            .unwrap();
    }
    let routes = model.children_api(ChildKind::HTTPRoute).unwrap();
    routes
        .delete("by-hand", &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn of_two_that_asked_while_the_operator_was_stopped_the_older_is_served() {
    let bed = bed_alone().await;
    let namespace = bed.namespace("start").await.unwrap();
    open_gateway(&bed, &namespace).await;
    // By name alone, the younger would be first.
    let older = namespace.model("z-older").await.unwrap();
    older.wait_for_condition("Active", "True").await.unwrap();
    let younger = namespace.model("a-younger").await.unwrap();
    younger.wait_for_condition("Active", "True").await.unwrap();
    bed.scale_operator(0).await.unwrap();
    let shared = [("path", Some("/shared"))];
    match exposed_by() {
        // The age is that of the Model, whenever it was annotated.
        OwnerKind::ModelBooster => {
            let created = async |model: &Model<'_>| model.get().await.unwrap().creation_timestamp();
            assert!(
                created(&older).await < created(&younger).await,
                "they are a second apart"
            );
            for model in [&younger, &older] {
                model.annotate_exposed("open", &shared).await.unwrap();
            }
        }
        OwnerKind::ModelExposure => {
            older.annotate_exposed("open", &shared).await.unwrap();
            let exposures = older.exposures().unwrap();
            let first = exposures.get(older.name()).await.unwrap();
            let first = first.creation_timestamp().unwrap().0;
            // A timestamp is in whole seconds.
            let later = bed.wait_for("a second is over", LIMIT, async || {
                let now = Timestamp::now();
                let over = now.as_second() > first.as_second();
                over.then_some(()).ok_or_else(|| now.to_string())
            });
            later.await.unwrap();
            younger.annotate_exposed("open", &shared).await.unwrap();
        }
    }
    bed.scale_operator(1).await.unwrap();
    older
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    let conflict = younger
        .wait_for_reason("Accepted", "RouteConflict")
        .await
        .unwrap();
    assert!(conflict.message.contains("z-older"), "{}", conflict.message);
}
