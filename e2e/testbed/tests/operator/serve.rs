//! What a client of the Gateway gets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use testbed::{Model, TestBed, is_ready};

use crate::{LIMIT, bed, kthenas_conditions};

#[tokio::test]
async fn an_annotated_model_answers_with_its_own_pod() {
    let bed = bed().await;
    let namespace = bed.namespace("answer").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.wait_for_condition("Active", "True").await.unwrap();
    let before = kthenas_conditions(&model).await;
    model.expose("inference-gateway", &[]).await.unwrap();

    let answer = bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    assert_eq!(answer.served_by(), Some("demo-backend1-0-leader-0-0"));
    assert_eq!(
        answer.json()["model"],
        "demo",
        "the name that was asked for comes back"
    );
    let answer = bed.ask(address, "", "Qwen2.5-0.5B-Instruct").await.unwrap();
    assert_eq!(
        answer.status, 200,
        "the served name answers as well: {answer:?}"
    );
    let answer = bed.ask(address, "", "another").await.unwrap();
    assert_eq!(
        answer.status, 404,
        "another name is the engine's to refuse: {answer:?}"
    );

    let accepted = model.wait_for_condition("Accepted", "True").await.unwrap();
    assert!(
        accepted.message.contains("inference-gateway"),
        "{}",
        accepted.message
    );
    assert_eq!(
        accepted.observed_generation,
        model.get().await.unwrap().metadata.generation
    );
    assert_eq!(kthenas_conditions(&model).await, before);
    assert!(before.contains(&"Initialized".to_owned()), "{before:?}");
}

#[tokio::test]
async fn two_models_on_one_gateway_each_answer_with_their_own_pods() {
    let bed = bed().await;
    let namespace = bed.namespace("paths").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    for name in ["one", "two"] {
        namespace.model(name).await.unwrap();
    }
    for name in ["one", "two"] {
        let model = namespace.model(name).await.unwrap();
        model
            .expose(
                "inference-gateway",
                &[("path", Some(&format!("/models/{name}")))],
            )
            .await
            .unwrap();
    }
    for name in ["one", "two"] {
        let path = format!("/models/{name}");
        let pod = format!("{name}-backend1-0-leader-0-0");
        let answer = bed
            .wait_for_answer(address, &path, name, 200)
            .await
            .unwrap();
        assert_eq!(answer.served_by(), Some(pod.as_str()));

        let question = json!({"model": name, "prompt": "Who are you?"});
        let url = format!("http://{address}{path}/v1/completions?api-version=1&a=b%20c");
        let answer = bed.post(&url, &[], &question).await.unwrap();
        assert_eq!(
            (answer.status, answer.served_by()),
            (200, Some(pod.as_str())),
            "{answer:?}"
        );
    }
    let answer = bed.ask(address, "", "one").await.unwrap();
    assert_eq!(answer.status, 404, "no Model is at the root: {answer:?}");
}

/// Asks different questions until the answers came from as many pods: equal ones stay with the pod that
/// has them in its cache.
async fn pods_that_answer(
    bed: &TestBed,
    address: Ipv4Addr,
    model: &str,
    questions: u32,
) -> BTreeSet<String> {
    let url = format!("http://{address}/v1/completions");
    let mut pods = BTreeSet::new();
    for n in 0..questions {
        let question =
            json!({"model": model, "prompt": format!("{n} is a number; what of it? {n}")});
        let answer = bed.post(&url, &[], &question).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        pods.extend(answer.served_by().map(str::to_owned));
    }
    pods
}

async fn wait_for_pods(bed: &TestBed, model: &Model<'_>, wanted: usize) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(bed.client().unwrap(), model.namespace());
    let labels = format!("workload.serving.volcano.sh/model-name={}", model.name());
    let looked = bed.wait_for(format!("{wanted} pods are ready"), LIMIT, async || {
        let found = pods
            .list(&ListParams::default().labels(&labels))
            .await
            .map_err(|e| e.to_string())?
            .items;
        let ready = found.iter().filter(|pod| is_ready(pod)).count();
        if ready == wanted && found.len() == wanted {
            Ok(found)
        } else {
            Err(format!("{ready} of {}", found.len()))
        }
    });
    looked.await.unwrap()
}

#[tokio::test]
async fn requests_reach_all_pods_after_a_scale_up() {
    let bed = bed().await;
    let namespace = bed.namespace("scale").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    model
        .patch(&json!({"spec": {"backend": {"replicas": 3}}}))
        .await
        .unwrap();
    wait_for_pods(&bed, &model, 3).await;
    let looked = bed.wait_for("all three pods answer", LIMIT, async || {
        let pods = pods_that_answer(&bed, address, "demo", 30).await;
        if pods.len() == 3 {
            Ok(())
        } else {
            Err(format!("{pods:?}"))
        }
    });
    looked.await.unwrap();
    assert!(
        kthenas_conditions(&model)
            .await
            .contains(&"Initialized".to_owned())
    );
}

#[tokio::test]
async fn the_worker_of_a_group_of_two_pods_is_never_asked() {
    let bed = bed().await;
    let namespace = bed.namespace("group").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let mut manifest = bed.example("demo").unwrap();
    manifest["spec"]["backend"]["workers"][0]["pods"] = 2.into();
    let model = namespace.model_from(&manifest).await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    wait_for_pods(&bed, &model, 2).await;
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    let pods = pods_that_answer(&bed, address, "demo", 40).await;
    assert_eq!(
        pods.into_iter().collect::<Vec<_>>(),
        ["demo-backend1-0-leader-0-0"]
    );
}

#[tokio::test]
async fn a_model_without_a_served_name_is_served() {
    let bed = bed().await;
    let namespace = bed.namespace("unnamed").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let mut manifest = bed.example("demo").unwrap();
    manifest["spec"]["backend"]["workers"][0]["config"]
        .as_object_mut()
        .unwrap()
        .remove("served-model-name");
    let model = namespace.model_from(&manifest).await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    let answer = bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    assert_eq!(answer.json()["model"], "demo");
    // The engine goes by the folder of its weights then.
    let rewrite = model
        .child(ChildKind::InferenceModelRewrite, "demo")
        .await
        .unwrap()
        .unwrap();
    let target = &rewrite.data["spec"]["rules"][0]["targets"][0]["modelRewrite"];
    let target = target.as_str().unwrap();
    assert!(target.starts_with('/'), "{target}");
}

/// Sets the load that the simulated engine reports.
async fn set_load(bed: &TestBed, pods: &[Pod], load: &Value) {
    for pod in pods {
        let ip = pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap();
        let answer = bed
            .post(&format!("http://{ip}:8000/sim"), &[], load)
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn requests_of_a_negative_priority_are_shed_under_load() {
    let bed = bed().await;
    let namespace = bed.namespace("shed").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model
        .expose("inference-gateway", &[("priority", Some("-1"))])
        .await
        .unwrap();
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    let accepted = model.wait_for_condition("Accepted", "True").await.unwrap();
    assert!(
        accepted
            .message
            .contains("x-gateway-inference-objective: demo"),
        "{}",
        accepted.message
    );

    let sheddable = [("x-gateway-inference-objective", "demo")];
    let answer = bed.ask_with(address, "", "demo", &sheddable).await.unwrap();
    assert_eq!(answer.status, 200, "there is no load yet: {answer:?}");
    let pods = wait_for_pods(&bed, &model, 1).await;
    set_load(
        &bed,
        &pods,
        &json!({"waiting": 200, "kv_cache_usage": 0.99}),
    )
    .await;
    let looked = bed.wait_for("a request of priority -1 is shed", LIMIT, async || {
        let answer = bed.ask_with(address, "", "demo", &sheddable).await?;
        if answer.status == 429 {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
    looked.await.unwrap();
    let answer = bed.ask(address, "", "demo").await.unwrap();
    assert_eq!(
        answer.status, 200,
        "a request without a priority passes: {answer:?}"
    );
    let answer = bed.ask_with(address, "", "demo", &sheddable).await.unwrap();
    assert_eq!(
        answer.status, 429,
        "and one of priority -1 still does not: {answer:?}"
    );
}
