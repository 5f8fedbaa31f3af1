//! What somebody else does to our objects is undone.

use kthena_bridge_api::child::ChildKind;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};

use crate::{bed, essences, wait_until_as_before};

/// An edit of what matters most in a kind.
fn edit(kind: ChildKind, object: &DynamicObject) -> Value {
    match kind {
        ChildKind::ServiceAccount => json!([{"op": "remove", "path": "/metadata/labels"}]),
        ChildKind::RoleBinding => json!([{"op": "remove", "path": "/subjects"}]),
        ChildKind::ConfigMap => {
            let file = object.data["data"]
                .as_object()
                .unwrap()
                .keys()
                .next()
                .unwrap();
            json!([{"op": "replace", "path": format!("/data/{file}"), "value": "broken"}])
        }
        ChildKind::Service => {
            json!([{"op": "add", "path": "/spec/selector/another", "value": "label"}])
        }
        ChildKind::NetworkPolicy => {
            json!([{"op": "add", "path": "/spec/podSelector/matchLabels/another", "value": "label"}])
        }
        ChildKind::InferencePool => {
            json!([{"op": "add", "path": "/spec/selector/matchLabels/another", "value": "label"}])
        }
        ChildKind::Deployment => {
            json!([{"op": "replace", "path": "/spec/template/spec/containers/0/args/0", "value": "--pool-name=x"}])
        }
        ChildKind::HealthCheckPolicy | ChildKind::GCPBackendPolicy => json!([]),
        ChildKind::DestinationRule => {
            json!([{"op": "replace", "path": "/spec/host", "value": "elsewhere"}])
        }
        ChildKind::InferenceObjective | ChildKind::LlmDInferenceObjective => {
            json!([{"op": "replace", "path": "/spec/priority", "value": 9}])
        }
        ChildKind::InferenceModelRewrite | ChildKind::LlmDInferenceModelRewrite => {
            json!([{"op": "replace", "path": "/spec/rules/0/targets/0/modelRewrite", "value": "x"}])
        }
        ChildKind::HTTPRoute => {
            json!([{"op": "replace", "path": "/spec/rules/0/matches", "value": [
                {"path": {"type": "PathPrefix", "value": "/elsewhere"}}
            ]}])
        }
    }
}

#[tokio::test]
async fn every_object_that_is_edited_stripped_or_deleted_is_repaired() {
    let bed = bed().await;
    let namespace = bed.namespace("drift").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model
        .expose("inference-gateway", &[("priority", Some("1"))])
        .await
        .unwrap();
    let before = essences(&model).await.unwrap();
    let kinds: Vec<ChildKind> = before.iter().map(|(kind, _)| *kind).collect();
    let elsewhere = |kind: &ChildKind| {
        ["networking.gke.io", "llm-d.ai", "networking.k8s.io"].contains(&kind.group())
    };
    let all: Vec<ChildKind> = ChildKind::ALL
        .into_iter()
        .filter(|kind| !elsewhere(kind))
        .collect();
    assert_eq!(
        kinds, all,
        "a Model on Istio with a priority has every kind but GKE's, llm-d's and the NetworkPolicy"
    );

    let children = model.children().await.unwrap();
    for (kind, object) in &children {
        let name = object.metadata.name.as_deref().unwrap();
        model
            .edit_child(*kind, name, edit(*kind, object))
            .await
            .unwrap();
    }
    wait_until_as_before(&bed, &model, &before, "what was edited is repaired").await;

    // Without the label, the watches no longer see it.
    model.unlabel_children().await.unwrap();
    wait_until_as_before(&bed, &model, &before, "the labels are back").await;

    for (kind, object) in &children {
        let name = object.metadata.name.as_deref().unwrap();
        let disown = json!([{"op": "remove", "path": "/metadata/ownerReferences"}]);
        model.edit_child(*kind, name, disown).await.unwrap();
    }
    wait_until_as_before(&bed, &model, &before, "the owner references are back").await;
    let same = |(_, object): &(ChildKind, DynamicObject)| object.metadata.uid.clone();
    let after = model.children().await.unwrap();
    assert!(
        after.iter().map(same).eq(children.iter().map(same)),
        "nothing was made anew so far"
    );

    for (kind, object) in &children {
        let name = object.metadata.name.as_deref().unwrap();
        model
            .children_api(*kind)
            .unwrap()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    wait_until_as_before(&bed, &model, &before, "what was deleted is made anew").await;
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
}

/// A role cannot be changed in a binding, only the binding be replaced.
#[tokio::test]
async fn a_binding_to_another_role_is_replaced() {
    let bed = bed().await;
    let namespace = bed.namespace("role").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    let before = essences(&model).await.unwrap();
    let api = model.children_api(ChildKind::RoleBinding).unwrap();
    let mut binding = api.get("demo-epp").await.unwrap();
    api.delete("demo-epp", &DeleteParams::default())
        .await
        .unwrap();
    binding.metadata.resource_version = None;
    binding.metadata.managed_fields = None;
    binding.data["roleRef"]["name"] = "view".into();
    let created = api
        .create(&kube::api::PostParams::default(), &binding)
        .await;
    // The bridge may have been quicker, and then there is nothing to replace.
    if let Err(error) = created {
        assert!(error.to_string().contains("exists"), "{error}");
    }
    wait_until_as_before(&bed, &model, &before, "the binding is to the right role").await;
}
