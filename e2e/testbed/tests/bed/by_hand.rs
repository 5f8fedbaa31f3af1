//! Kthena's example Model behind a Gateway with objects written by hand, all with the real
//! components. What the bridge is to do by itself is what this test does here.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::json;
use testbed::TestBed;

use crate::LIMIT;

fn modelboosters() -> ApiResource {
    let gvk = GroupVersionKind::gvk("workload.serving.volcano.sh", "v1alpha1", "ModelBooster");
    ApiResource::from_gvk(&gvk)
}

async fn wait_until_active(bed: &TestBed, namespace: &str) {
    let client = bed.client().unwrap();
    let models: Api<DynamicObject> = Api::namespaced_with(client, namespace, &modelboosters());
    bed.wait_for("the Model is active", LIMIT, async || {
        let model = models.get("demo").await.map_err(|e| e.to_string())?;
        let conditions = &model.data["status"]["conditions"];
        let active = conditions
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Active" && c["status"] == "True");
        if active {
            Ok(())
        } else {
            Err(format!("{conditions:#}"))
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_model_answers_through_the_gateway() {
    let bed = TestBed::shared().unwrap();
    let client = bed.client().unwrap();
    let namespace = bed.namespace("by-hand").await.unwrap();
    let example =
        std::fs::read_to_string(bed.parts().join("examples/Qwen2.5-0.5B-Instruct.yaml")).unwrap();
    namespace.apply(&example).await.unwrap();
    let manifests =
        include_str!("by-hand.yaml").replace("NAMESPACE.svc", &format!("{}.svc", namespace.name()));
    namespace.apply(&manifests).await.unwrap();

    wait_until_active(bed, namespace.name()).await;

    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.name());
    bed.wait_for("the endpoint picker is ready", LIMIT, async || {
        let found = pods
            .list(&ListParams::default().labels("app=demo-epp"))
            .await
            .map_err(|e| e.to_string())?;
        let statuses: Vec<_> = found
            .items
            .into_iter()
            .filter_map(|pod| pod.status)
            .collect();
        let ready = statuses
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if ready {
            Ok(())
        } else {
            Err(format!("{statuses:#?}"))
        }
    })
    .await
    .unwrap();

    let address = bed
        .gateway_address(namespace.name(), "inference-gateway")
        .await
        .unwrap();
    let url = format!("http://{address}/v1/chat/completions");
    let question =
        json!({"model": "demo", "messages": [{"role": "user", "content": "Who are you?"}]});
    let answer = bed
        .wait_for("the Gateway answers", LIMIT, async || {
            let answer = bed.post(&url, &[], &question).await?;
            if answer.status == 200 {
                Ok(answer)
            } else {
                Err(format!("{answer:#?}"))
            }
        })
        .await
        .unwrap();
    assert_eq!(answer.json()["model"], "demo");
    assert_eq!(answer.served_by(), Some("demo-backend1-0-leader-0-0"));
}

#[tokio::test]
async fn a_model_of_two_pods_has_a_ray_worker() {
    let bed = TestBed::shared().unwrap();
    let namespace = bed.namespace("ray").await.unwrap();
    let example = std::fs::read_to_string(bed.parts().join("examples/Qwen2.5-0.5B-Instruct.yaml"));
    let two_pods = example
        .unwrap()
        .replace("        pods: 1\n", "        pods: 2\n");
    namespace.apply(&two_pods).await.unwrap();
    wait_until_active(bed, namespace.name()).await;
    let pods: Api<Pod> = Api::namespaced(bed.client().unwrap(), namespace.name());
    let mut names: Vec<String> = pods
        .list(&ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["demo-backend1-0-leader-0-0", "demo-backend1-0-leader-0-1"]
    );
}
