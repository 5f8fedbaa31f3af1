//! The condition `Reachable`: what a request through the Gateway gets.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use testbed::TestBed;

use crate::{LIMIT, bed_alone};

/// Starts the operator with another configuration.
async fn configure(bed: &TestBed, config: &str) {
    bed.configure_operator(config).await.unwrap();
    bed.scale_operator(0).await.unwrap();
    bed.scale_operator(1).await.unwrap();
}

#[tokio::test]
async fn a_request_tells_what_no_object_does() {
    let bed = bed_alone().await;
    let namespace = bed.namespace("reachable").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    let usual = bed.operator_configuration().await.unwrap();
    configure(&bed, "reachable: {enabled: true, intervalSeconds: 1}").await;
    model
        .expose("inference-gateway", &[("path", Some("/demo"))])
        .await
        .unwrap();
    let reachable = model.wait_for_condition("Reachable", "True").await.unwrap();
    assert!(
        reachable
            .message
            .contains(&format!("http://{address}:80/demo/v1/models")),
        "{}",
        reachable.message
    );

    // Envoy goes on asking the pod, which has a port that nobody listens on.
    model
        .annotate(&[("target-port", Some("8001"))])
        .await
        .unwrap();
    let failed = model
        .wait_for_reason("Reachable", "RequestFailed")
        .await
        .unwrap();
    assert!(
        failed.message.contains("see Programmed first"),
        "{}",
        failed.message
    );
    model.annotate(&[("target-port", None)]).await.unwrap();
    model.wait_for_condition("Reachable", "True").await.unwrap();
    bed.wait_for_answer(address, "/demo", "demo", 200)
        .await
        .unwrap();

    // One request each second, and not more.
    let pods: Api<Pod> = Api::namespaced(bed.client().unwrap(), namespace.name());
    let engine = pods
        .list(&ListParams::default().labels("modelserving.volcano.sh/name"))
        .await
        .unwrap()
        .items
        .remove(0);
    let sim = format!("http://{}:8000/sim", engine.status.unwrap().pod_ip.unwrap());
    let asked = async || {
        bed.get(&sim).await.unwrap().json()["requests"]["/v1/models"]
            .as_u64()
            .unwrap_or_default()
    };
    let (before, began) = (asked().await, std::time::Instant::now());
    let looked = bed.wait_for("three more requests came", LIMIT, async || {
        let more = asked().await - before;
        if more >= 3 {
            Ok(())
        } else {
            Err(format!("{more}"))
        }
    });
    looked.await.unwrap();
    assert!(
        began.elapsed() > std::time::Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );

    // Without the setting, the condition goes.
    configure(&bed, &usual).await;
    let looked = bed.wait_for("the condition is gone", LIMIT, async || {
        let conditions = model.get().await?.status.unwrap_or_default().conditions;
        if conditions.iter().any(|c| c.type_ == "Reachable") {
            Err(format!("{conditions:#?}"))
        } else {
            Ok(())
        }
    });
    looked.await.unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
}
