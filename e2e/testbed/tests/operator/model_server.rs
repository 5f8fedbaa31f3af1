//! ModelServers that nobody made a ModelBooster for: over the pods of a ModelServing, over those of a Deployment, and
//! over another engine.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::{LABEL_ENTRY, LABEL_SERVING};
use serde_json::{Value, json};
use testbed::{Namespace, TestBed, documents};

use crate::exposures::{api, message, wait_for};
use crate::{LIMIT, bed};

/// A ModelServer and the ModelExposure of the same name.
fn exposed(name: &str, server: &Value, more: &Value) -> String {
    let mut spec = json!({
        "targetRef": {"kind": "ModelServer", "name": name},
        "gateways": [{"name": "inference-gateway"}],
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let server = json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelServer",
        "metadata": {"name": name}, "spec": server,
    });
    let exposure = json!({
        "apiVersion": "kthena-bridge.io/v1alpha1", "kind": "ModelExposure",
        "metadata": {"name": name}, "spec": spec,
    });
    format!("{server}\n---\n{exposure}\n")
}

/// A Deployment of a simulated engine.
fn deployment(name: &str, image: &str, port: u16, command: &[&str]) -> String {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{
                    "name": "server",
                    "image": image,
                    "command": command,
                    "ports": [{"containerPort": port}],
                    "readinessProbe": {"httpGet": {"path": "/health", "port": port}, "periodSeconds": 1},
                }]},
            },
        },
    })
    .to_string()
}

async fn pool(namespace: &Namespace<'_>, name: &str) -> Value {
    let model = namespace.model_named(name).unwrap();
    let pool = model.child(ChildKind::InferencePool, name).await.unwrap();
    pool.unwrap().data["spec"].clone()
}

#[tokio::test]
async fn the_pods_of_a_model_serving_answer() {
    let bed = bed().await;
    let namespace = bed.namespace("serving").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let serving = json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelServing", "metadata": {"name": "chat"},
        "spec": {
            "replicas": 1,
            "template": {"roles": [{
                "name": "main",
                "replicas": 1,
                "entryTemplate": {"spec": {"containers": [{
                    "name": "server",
                    "image": "vllm/vllm-openai:latest",
                    "command": ["python3", "-m", "vllm.entrypoints.openai.api_server"],
                    "args": ["--model", "/weights", "--served-model-name", "chat-7b", "--port", "8000"],
                    "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1},
                }]}},
                "workerReplicas": 0,
            }]},
        },
    });
    let server = json!({
        "model": "chat-7b", "inferenceEngine": "vLLM", "workloadPort": {"port": 8000},
        "workloadSelector": {"matchLabels": {LABEL_SERVING: "chat"}},
    });
    let exposure = exposed("chat", &server, &json!({}));
    namespace
        .apply(&format!("{serving}\n---\n{exposure}"))
        .await
        .unwrap();
    let served = wait_for(&namespace, "chat", "Programmed", "Programmed").await;
    let answer = bed
        .wait_for_answer(address, "", "chat-7b", 200)
        .await
        .unwrap();
    assert_eq!(answer.served_by(), Some("chat-0-main-0-0"));
    // The name of the target is rewritten.
    bed.wait_for_answer(address, "", "chat", 200).await.unwrap();
    let pool = pool(&namespace, "chat").await;
    assert_eq!(
        pool["selector"]["matchLabels"],
        json!({LABEL_SERVING: "chat", LABEL_ENTRY: "true"})
    );
    let status = served.status.unwrap();
    assert_eq!(status.urls, [format!("http://{address}/v1")]);
    assert_eq!(status.endpoints.map(|e| (e.ready, e.total)), Some((1, 1)));
    assert_eq!(status.observed_generation, served.metadata.generation);
    let kinds: Vec<&str> = status.objects.iter().map(|o| o.kind.as_str()).collect();
    assert!(
        kinds.contains(&"InferencePool") && kinds.contains(&"HTTPRoute"),
        "{kinds:?}"
    );
}

#[tokio::test]
async fn the_pods_of_a_deployment_answer() {
    let bed = bed().await;
    let namespace = bed.namespace("plain").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let command = [
        "python3",
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--served-model-name",
        "plain-7b",
    ];
    let workload = deployment("plain", "vllm/vllm-openai:latest", 8000, &command);
    let server = json!({
        "model": "plain-7b", "inferenceEngine": "vLLM", "workloadPort": {"port": 8000},
        "workloadSelector": {"matchLabels": {"app": "plain"}},
    });
    let route = json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute", "metadata": {"name": "limited"},
        "spec": {"modelName": "plain-for-clients", "rules": [{"targetModels": [{"modelServerName": "plain"}]}],
            "rateLimit": {"unit": "minute", "inputTokensPerUnit": 10}},
    });
    let exposure = exposed("plain", &server, &json!({"path": "/plain"}));
    namespace
        .apply(&[workload, exposure, route.to_string()].join("\n---\n"))
        .await
        .unwrap();
    wait_for(&namespace, "plain", "Ready", "Programmed").await;
    let answer = bed
        .wait_for_answer(address, "/plain", "plain-7b", 200)
        .await
        .unwrap();
    assert!(
        answer
            .served_by()
            .is_some_and(|pod| pod.starts_with("plain-")),
        "{answer:?}"
    );
    let pool = pool(&namespace, "plain").await;
    assert_eq!(pool["selector"]["matchLabels"], json!({"app": "plain"}));
    let told = bed.wait_for("the ModelRoute is told of", LIMIT, async || {
        let exposure = wait_for(&namespace, "plain", "Accepted", "Accepted").await;
        let said = message(&exposure, "Accepted").to_owned();
        let passed = "ModelRoute limited limits no rates and rewrites no plain-for-clients here";
        if said.contains(passed) {
            Ok(())
        } else {
            Err(said)
        }
    });
    told.await.unwrap();
}

/// Asks for a model until nobody but this pod has answered a while.
async fn asked(bed: &TestBed, address: Ipv4Addr, questions: u32) -> Vec<String> {
    let mut pods = Vec::new();
    for n in 0..questions {
        let question = json!({"model": "sg-7b", "prompt": format!("{n}: what of it?")});
        let url = format!("http://{address}/v1/completions");
        let answer = bed.post(&url, &[], &question).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        pods.extend(answer.served_by().map(str::to_owned));
    }
    pods.sort();
    pods.dedup();
    pods
}

#[tokio::test]
async fn the_picker_sees_the_load_of_sglang() {
    let bed = bed().await;
    let namespace = bed.namespace("sglang").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let command = [
        "python3",
        "-m",
        "sglang.launch_server",
        "--model-path",
        "/weights",
        "--served-model-name",
        "sg-7b",
        "--enable-metrics",
    ];
    let mut workload =
        documents(&deployment("sg", "lmsysorg/sglang:latest", 30000, &command)).unwrap();
    workload[0]["spec"]["replicas"] = 2.into();
    let server = json!({
        "model": "sg-7b", "inferenceEngine": "SGLang", "workloadPort": {"port": 30000},
        "workloadSelector": {"matchLabels": {"app": "sg"}},
    });
    let exposure = exposed("sg", &server, &json!({}));
    namespace
        .apply(&format!("{}\n---\n{exposure}", workload[0]))
        .await
        .unwrap();
    wait_for(&namespace, "sg", "Programmed", "Programmed").await;
    bed.wait_for_answer(address, "", "sg-7b", 200)
        .await
        .unwrap();
    let both = bed.wait_for("both pods are ready", LIMIT, async || {
        let mut pods = bed.pods_of(namespace.name(), "sg").await?;
        let is_picker = |pod: &Pod| {
            pod.metadata
                .name
                .as_ref()
                .is_some_and(|n| n.starts_with("sg-epp"))
        };
        pods.retain(|pod| !is_picker(pod));
        let ready = pods.iter().filter(|pod| testbed::is_ready(pod)).count();
        if ready == 2 {
            Ok(pods)
        } else {
            Err(format!("{ready} of {}", pods.len()))
        }
    });
    let pods = both.await.unwrap();
    let busy = &pods[0];
    let ip = busy.status.as_ref().unwrap().pod_ip.as_ref().unwrap();
    let load = json!({"waiting": 100, "kv_cache_usage": 0.95});
    let set = bed
        .post(&format!("http://{ip}:30000/sim"), &[], &load)
        .await
        .unwrap();
    assert_eq!(set.status, 200, "{set:?}");
    let idle = pods[1].metadata.name.clone().unwrap();
    let looked = bed.wait_for("only the pod without load is asked", LIMIT, async || {
        let pods = asked(&bed, address, 20).await;
        if pods == [idle.clone()] {
            Ok(())
        } else {
            Err(format!("{pods:?}"))
        }
    });
    looked.await.unwrap();
}

#[tokio::test]
async fn what_a_gateway_cannot_serve_is_told() {
    let bed = bed().await;
    let namespace = bed.namespace("unsupported").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let labels = json!({"app": "none"});
    let tls = json!({"inferenceEngine": "vLLM", "workloadPort": {"port": 8443, "protocol": "https"},
        "workloadSelector": {"matchLabels": labels}});
    let pd = json!({"inferenceEngine": "vLLM", "workloadPort": {"port": 8000},
        "workloadSelector": {"matchLabels": labels, "pdGroup": {"groupKey": "group",
            "prefillLabels": {"role": "prefill"}, "decodeLabels": {"role": "decode"}}}});
    for (name, server, says) in [
        ("tls", tls, "is https"),
        ("pd", pd, "disaggregates prefill and decode"),
    ] {
        namespace
            .apply(&exposed(name, &server, &json!({})))
            .await
            .unwrap();
        let refused = wait_for(&namespace, name, "Accepted", "UnsupportedTopology").await;
        assert!(
            message(&refused, "Accepted").contains(says),
            "{:?}",
            refused.status
        );
    }
    let decode = json!({"spec": {"selector": {"matchLabels": {"role": "decode"}}}});
    let patch = kube::api::Patch::Merge(&decode);
    api(&namespace)
        .patch("pd", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    wait_for(&namespace, "pd", "Accepted", "Accepted").await;
}
