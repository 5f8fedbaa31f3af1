//! Kinds that are installed after the operator was started, and removed while it runs. In a test binary
//! of its own, since its bed begins without them.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::DeleteParams;
use testbed::{Options, TestBed};

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
        .annotate_exposed("inference-gateway", &[])
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
    bed.wait_for_answer(address, "", "Qwen2.5-0.5B-Instruct", 200)
        .await
        .unwrap();
    bed.wait_for_answer(address, "", "demo", 404).await.unwrap();
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
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
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
    bed.wait_for_answer(address, "", "Qwen2.5-0.5B-Instruct", 200)
        .await
        .unwrap();
    bed.install_crds(&[&crds[4]]).await.unwrap();
    annotations_do_without_the_definition_of_model_exposure(&bed).await;
}

/// On the same bed one after the other, since it is the whole cluster's.
async fn annotations_do_without_the_definition_of_model_exposure(bed: &TestBed) {
    let name = "modelexposures.kthena-bridge.io";
    let definitions: Api<CustomResourceDefinition> = Api::all(bed.client().unwrap());
    let deleted = definitions.delete(name, &DeleteParams::default()).await;
    deleted.unwrap();
    let namespace = bed.namespace("without").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();

    bed.install_own_crds().await.unwrap();
    namespace.model("other").await.unwrap();
    let exposure = "{apiVersion: kthena-bridge.io/v1alpha1, kind: ModelExposure, metadata: {name: other}, spec: {\
        targetRef: {kind: ModelBooster, name: other}, gateways: [{name: inference-gateway}], path: /other}}";
    namespace.apply(exposure).await.unwrap();
    let answer = bed.wait_for_answer(address, "/other", "other", 200).await;
    answer.unwrap();
    // It goes, and what annotations have made stays. What it owned does, too, until the garbage collector knows its
    // kind again.
    let deleted = definitions.delete(name, &DeleteParams::default()).await;
    deleted.unwrap();
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
}
