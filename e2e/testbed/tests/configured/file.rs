//! A file that changes.

use std::time::Instant;

use kthena_bridge_api::child::LABEL_PICKER;
use serde_json::json;
use testbed::is_ready;

use super::*;

/// The operator's pod: its name and address, and how often it was started.
async fn operator(bed: &TestBed) -> (String, String, i32) {
    let label = "app.kubernetes.io/name=kthena-bridge";
    let pod = pods(bed, OPERATOR_NAMESPACE, label)
        .await
        .unwrap()
        .remove(0);
    assert!(is_ready(&pod), "{:?}", pod.status);
    let status = pod.status.unwrap();
    let restarts = status.container_statuses.unwrap()[0].restart_count;
    (pod.metadata.name.unwrap(), status.pod_ip.unwrap(), restarts)
}

/// A metric of the operator.
async fn metric(bed: &TestBed, name: &str) -> Result<String, String> {
    let (_, address, _) = operator(bed).await;
    let metrics = bed.get(&format!("http://{address}:8080/metrics")).await?;
    let value = |line: &str| Some(line.strip_prefix(name)?.trim().to_owned());
    let found = metrics.body.lines().find_map(value);
    Ok(found.unwrap_or_else(|| "0".to_owned()))
}

async fn wait_for_metric(bed: &TestBed, name: &str, value: &str) {
    let looked = bed.wait_for(format!("{name} is {value}"), LIMIT, async || {
        let is = metric(bed, name).await?;
        if is == value { Ok(()) } else { Err(is) }
    });
    looked.await.unwrap();
}

/// What starts the picker anew, with the plugins that the document has as its example.
const MENDED: &str = "
failureMode: FailOpen
pathTemplate: /m/{name}
endpointPicker:
  resources: {requests: {cpu: 0.2}, limits: {memory: 1024Mi}}
  args: [--v=2]
  env: [{name: GOMAXPROCS, value: '2'}]
  networkPolicy: {enabled: true}
  pluginsConfig:
    plugins:
    - type: queue-scorer
    - type: prefix-cache-scorer
      parameters: {lruCapacityPerServer: 50000}
    schedulingProfiles:
    - name: default
      plugins:
      - {pluginRef: queue-scorer, weight: 1}
      - {pluginRef: prefix-cache-scorer, weight: 3}
";
const VALID: &str = "kthena_bridge_config_last_reload_successful";

#[tokio::test]
async fn a_change_is_taken_over_and_one_that_cannot_be_used_is_told() {
    let bed = bed("{}").await;
    let namespace = bed.namespace("file").await.unwrap();
    let gateway = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    bed.wait_for_answer(gateway, "", "demo", 200).await.unwrap();
    let before = operator(&bed).await;

    // What does not start the picker anew interrupts nothing.
    let requests = bed.requests(gateway);
    let steps = async {
        let began = Instant::now();
        bed.configure_operator("{failureMode: FailClose, concurrency: 3}")
            .await
            .unwrap();
        wait_for_child(&bed, &model, ChildKind::InferencePool, "demo", |pool| {
            pool["spec"]["endpointPickerRef"]["failureMode"] == "FailClose"
        })
        .await;
        began.elapsed()
    };
    let took = requests.during(0, steps).await;
    let (asked, failed) = (requests.sent(), requests.failed());
    assert_eq!(failed, Vec::<String>::new(), "of {asked}");
    assert!(asked > 0);
    eprintln!("the pool followed the ConfigMap after {took:?}, and {asked} requests were answered");
    let log = || bed.container_log(OPERATOR_NAMESPACE, &before.0, OPERATOR);
    assert!(
        log().contains("stay as they are until it is restarted") && log().contains("concurrency"),
        "{}",
        log()
    );

    // One that cannot be used changes nothing, and can be seen.
    bed.configure_operator("{failureMode: FailOpen, endpointPicker: {replicas: none}}")
        .await
        .unwrap();
    wait_for_metric(&bed, VALID, "0").await;
    wait_for_metric(
        &bed,
        "kthena_bridge_config_reloads_total{result=\"invalid\"}",
        "1",
    )
    .await;
    assert!(log().contains("field endpointPicker.replicas"), "{}", log());
    wait_for_child(&bed, &model, ChildKind::InferencePool, "demo", |pool| {
        pool["spec"]["endpointPickerRef"]["failureMode"] == "FailClose"
    })
    .await;
    assert_eq!(
        operator(&bed).await,
        before,
        "it is ready, and was not restarted"
    );
    bed.wait_for_answer(gateway, "", "demo", 200).await.unwrap();

    // Mended, it is taken over as a whole.
    bed.configure_operator(MENDED).await.unwrap();
    wait_for_metric(&bed, VALID, "1").await;
    let looked = bed.wait_for(
        "the picker that is configured is ready",
        LIMIT,
        async || {
            let found = pods(&bed, namespace.name(), &format!("{LABEL_PICKER}=demo-epp")).await?;
            let [pod] = found.as_slice() else {
                return Err(format!("{} pods", found.len()));
            };
            let container = &pod.spec.as_ref().ok_or("no spec")?.containers[0];
            let argument = |wanted: &str| container.args.iter().flatten().any(|a| a == wanted);
            if is_ready(pod) && argument("--v=2") && !argument("--v=1") {
                return serde_json::to_value(&container.resources).map_err(|e| e.to_string());
            }
            Err(format!("{:?}: {:?}", container.args, pod.status))
        },
    );
    // Of a pod, what is only limited is requested as well.
    let requests = json!({"cpu": "200m", "memory": "1Gi"});
    let resources = json!({"requests": requests, "limits": {"memory": "1Gi"}});
    assert_eq!(looked.await.unwrap(), resources);
    let deployment = model.child(ChildKind::Deployment, "demo-epp").await;
    assert_eq!(
        deployment.unwrap().unwrap().metadata.generation,
        Some(2),
        "it is never started with half of what was configured before"
    );
    wait_for_child(
        &bed,
        &model,
        ChildKind::NetworkPolicy,
        "demo-epp",
        |policy| policy["metadata"]["ownerReferences"][0]["name"] == "demo",
    )
    .await;
    bed.wait_for_answer(gateway, "/m/demo", "demo", 200)
        .await
        .unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();

    // What is no longer configured goes.
    bed.configure_operator("allowedGateways: [elsewhere/*]")
        .await
        .unwrap();
    let refused = model
        .wait_for_reason("Accepted", "GatewayNotAllowed")
        .await
        .unwrap();
    assert!(
        refused.message.contains("elsewhere/*"),
        "{}",
        refused.message
    );
    bed.wait_for_answer(gateway, "/m/demo", "demo", 200)
        .await
        .unwrap();
    bed.configure_operator("{}").await.unwrap();
    bed.wait_for_answer(gateway, "", "demo", 200).await.unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    let looked = bed.wait_for("the NetworkPolicy is gone", LIMIT, async || {
        match model.child(ChildKind::NetworkPolicy, "demo-epp").await? {
            None => Ok(()),
            Some(policy) => Err(format!("{policy:#?}")),
        }
    });
    looked.await.unwrap();
    assert_eq!(operator(&bed).await, before, "it was not restarted");
}
