//! Models on Kthena's own router: it chooses the pod itself, passes the model's name on as it is, and
//! writes no status.

use std::net::SocketAddrV4;

use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use testbed::{Answer, Error, KTHENA_ROUTER_NAMESPACE, Model, TestBed};
use tokio::sync::OnceCell;

use crate::{LIMIT, bed};

/// The pod of the Model `demo`.
const POD: &str = "demo-backend1-0-leader-0-0";
/// The name that its engine serves.
const SERVED: &str = "Qwen2.5-0.5B-Instruct";
/// What the router answers when it has asked a pod and the pod has refused. Whatever the pod said, its
/// own answer is 404.
const REFUSED_BY_POD: &str = "request to all pods failed";

async fn install(bed: &TestBed) {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED
        .get_or_init(async || bed.install_kthena_router().await.map(drop).unwrap())
        .await;
}

/// Asks until a pod answers: nobody says when the router has a route.
async fn wait_for_router(bed: &TestBed, router: SocketAddrV4, path: &str, model: &str) -> Answer {
    let what = format!("the router at {router} answers {model} with 200");
    let looked = bed.wait_for(&what, LIMIT, async || {
        let answer = bed.ask(router, path, model).await?;
        if answer.status == 200 {
            Ok(answer)
        } else {
            Err(format!("{answer:?}"))
        }
    });
    let with_logs = |e| {
        let logs = bed.tails(KTHENA_ROUTER_NAMESPACE, 25);
        Error::Other(format!("{e}\n{logs}"))
    };
    looked.await.map_err(with_logs).unwrap()
}

/// The router serves the served name with the Model's own pod, and does not serve the Model's name.
async fn assert_served_by_router(
    bed: &TestBed,
    router: SocketAddrV4,
    path: &str,
    model: &Model<'_>,
) {
    let answer = wait_for_router(bed, router, path, SERVED).await;
    assert_eq!(answer.served_by(), Some(POD), "{answer:?}");
    let answer = bed.ask(router, path, model.name()).await.unwrap();
    assert_eq!(answer.status, 404, "{answer:?}");
    assert!(
        answer.body.contains(REFUSED_BY_POD),
        "the name is the engine's to refuse: {answer:?}"
    );
    let accepted = model.wait_for_condition("Accepted", "True").await.unwrap();
    let unserved = format!("does not serve {}", model.name());
    assert!(accepted.message.contains(&unserved), "{}", accepted.message);
}

async fn kinds(model: &Model<'_>) -> Vec<ChildKind> {
    let children = model.children().await.unwrap();
    children.into_iter().map(|(kind, _)| kind).collect()
}

async fn gateway_status(bed: &TestBed, namespace: &str, name: &str) -> Value {
    let gvk = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway");
    let resource = ApiResource::from_gvk(&gvk);
    let gateways: Api<DynamicObject> =
        Api::namespaced_with(bed.client().unwrap(), namespace, &resource);
    gateways.get(name).await.unwrap().data["status"].clone()
}

#[tokio::test]
async fn a_model_on_kthenas_router_answers_with_its_own_pod_and_without_an_endpoint_picker() {
    let bed = bed().await;
    install(&bed).await;
    let namespace = bed.namespace("router").await.unwrap();
    let router = namespace
        .kthena_router_gateway("kthenas-gateway")
        .await
        .unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("kthenas-gateway", &[]).await.unwrap();

    assert_served_by_router(&bed, router, "", &model).await;
    assert_eq!(
        kinds(&model).await,
        [ChildKind::InferencePool, ChildKind::HTTPRoute]
    );

    // What Programmed=True did not wait for.
    for kind in [ChildKind::InferencePool, ChildKind::HTTPRoute] {
        let object = model.child(kind, model.name()).await.unwrap().unwrap();
        assert_eq!(object.data["status"], Value::Null, "{kind}");
    }
    let status = gateway_status(&bed, namespace.name(), "kthenas-gateway").await;
    let conditions = status["conditions"].as_array().unwrap();
    assert!(
        conditions.iter().all(|c| c["status"] == "Unknown"),
        "{status:#}"
    );
}

#[tokio::test]
async fn a_model_on_istio_and_on_kthenas_router_answers_on_both() {
    let bed = bed().await;
    install(&bed).await;
    let namespace = bed.namespace("both").await.unwrap();
    let istio = namespace.gateway("inference-gateway").await.unwrap();
    let router = namespace
        .kthena_router_gateway("kthenas-gateway")
        .await
        .unwrap();
    let model = namespace.model("demo").await.unwrap();
    model
        .expose(
            "inference-gateway,kthenas-gateway",
            &[("path", Some("/models/demo"))],
        )
        .await
        .unwrap();

    for name in ["demo", SERVED] {
        let answer = bed
            .wait_for_answer(istio, "/models/demo", name, 200)
            .await
            .unwrap();
        assert_eq!(answer.served_by(), Some(POD), "{answer:?}");
    }
    assert_served_by_router(&bed, router, "/models/demo", &model).await;
    let kinds = kinds(&model).await;
    assert!(
        kinds.contains(&ChildKind::Deployment),
        "Istio needs an endpoint picker: {kinds:?}"
    );
}

/// The router knows its class by the name.
#[tokio::test]
async fn a_gateway_of_another_class_of_the_router_serves_nothing() {
    let bed = bed().await;
    let namespace = bed.namespace("class").await.unwrap();
    let class = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "not-kthena-router"}, "spec": {"controllerName": "volcano.sh/kthena-router"}});
    namespace.apply(&class.to_string()).await.unwrap();
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "nobodys"}, "spec": {"gatewayClassName": "not-kthena-router",
        "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}});
    namespace.apply(&gateway.to_string()).await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.annotate_exposed("nobodys", &[]).await.unwrap();
    let told = model
        .wait_for_reason("Programmed", "GatewayNotProgrammed")
        .await
        .unwrap();
    assert!(
        told.message.contains("not-kthena-router"),
        "{}",
        told.message
    );
}
