//! Kinds that are installed after the operator was started, and removed while it runs. In a test binary
//! of its own, since its bed begins without them.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use testbed::{Options, TestBed};

const LIMIT: Duration = Duration::from_secs(40);

async fn wait_for_answer(bed: &TestBed, address: Ipv4Addr, model: &str, status: u16) {
    let url = format!("http://{address}/v1/completions");
    let question = json!({"model": model, "prompt": "Who are you?"});
    let looked = bed.wait_for(
        format!("{model} is answered with {status}"),
        LIMIT,
        async || {
            let answer = bed.post(&url, &[], &question).await?;
            if answer.status == status {
                Ok(())
            } else {
                Err(format!("{answer:?}"))
            }
        },
    );
    looked.await.unwrap();
}

#[tokio::test]
async fn kinds_that_come_late_are_picked_up_and_kinds_that_go_are_named() {
    let crds = [
        ChildKind::InferencePool,
        ChildKind::DestinationRule,
        ChildKind::HTTPRoute,
        ChildKind::InferenceObjective,
        ChildKind::InferenceModelRewrite,
    ]
    .map(|kind| kind.crd().unwrap());
    let options = Options {
        leave_out_crds: crds.to_vec(),
        ..Options::default()
    };
    let bed = TestBed::start(options).unwrap();
    bed.install_operator().await.unwrap();
    let namespace = bed.namespace("late").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model
        .annotate(&[
            ("expose", Some("true")),
            ("gateway", Some("inference-gateway")),
        ])
        .await
        .unwrap();
    let missing = model
        .wait_for_reason("Accepted", "MissingKind")
        .await
        .unwrap();
    assert!(
        missing.message.contains(crds[0].as_str()),
        "{}",
        missing.message
    );

    // The engine's own name needs no rewrite; ours does.
    bed.install_crds(&[&crds[0], &crds[1], &crds[2]])
        .await
        .unwrap();
    wait_for_answer(&bed, address, "Qwen2.5-0.5B-Instruct", 200).await;
    wait_for_answer(&bed, address, "demo", 404).await;
    let missing = model
        .wait_for_reason("Accepted", "MissingKind")
        .await
        .unwrap();
    assert!(
        missing.message.contains(crds[4].as_str()),
        "{}",
        missing.message
    );

    // The endpoint picker looks which kinds there are only when it starts.
    bed.install_crds(&[&crds[3], &crds[4]]).await.unwrap();
    wait_for_answer(&bed, address, "demo", 200).await;
    model.wait_for_condition("Accepted", "True").await.unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();

    let definitions: Api<CustomResourceDefinition> = Api::all(bed.client().unwrap());
    definitions
        .delete(&crds[4], &DeleteParams::default())
        .await
        .unwrap();
    model
        .wait_for_reason("Accepted", "MissingKind")
        .await
        .unwrap();
    wait_for_answer(&bed, address, "Qwen2.5-0.5B-Instruct", 200).await;
}
