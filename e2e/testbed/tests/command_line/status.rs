//! `kthena-bridge status`.

use std::net::Ipv4Addr;
use std::time::Instant;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kthena_bridge_api::child::ChildKind;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Api, Client};
use serde_json::{Value, json};
use testbed::{Model, Namespace, TestBed};

use crate::{bed, bed_alone, columns, kthena_bridge, rows};

/// A Model that is served at a path, one that is not understood, one without ready pods, and one that is not
/// exposed.
async fn four_models<'a>(bed: &TestBed, namespace: &Namespace<'a>) -> (Ipv4Addr, Vec<Model<'a>>) {
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let mut models = Vec::new();
    for name in ["demo", "mistaken", "sick", "hidden"] {
        models.push(namespace.model(name).await.unwrap());
    }
    let [demo, mistaken, sick, _] = models.as_slice() else {
        unreachable!("there are four")
    };
    for model in [demo, sick] {
        let path = format!("/{}", model.name());
        model
            .expose("inference-gateway", &[("path", Some(&path))])
            .await
            .unwrap();
    }
    let wrong = [("path", Some("no-slash"))];
    mistaken
        .annotate_exposed("inference-gateway", &wrong)
        .await
        .unwrap();
    mistaken
        .wait_for_reason("Accepted", "InvalidAnnotation")
        .await
        .unwrap();
    set_health(bed, sick, false).await;
    sick.wait_for_reason("Programmed", "NoReadyEndpoints")
        .await
        .unwrap();
    (address, models)
}

/// Makes the engines of a Model well or unwell.
async fn set_health(bed: &TestBed, model: &Model<'_>, healthy: bool) {
    let pods: Api<Pod> = Api::namespaced(bed.client().unwrap(), model.namespace());
    let labels = format!("workload.serving.volcano.sh/model-name={}", model.name());
    let found = pods.list(&ListParams::default().labels(&labels)).await;
    for pod in found.unwrap().items {
        let url = format!("http://{}:8000/sim", pod.status.unwrap().pod_ip.unwrap());
        let answer = bed.post(&url, &[], &json!({"healthy": healthy})).await;
        assert_eq!(answer.unwrap().status, 200);
    }
}

#[tokio::test]
async fn each_model_is_shown_with_where_it_answers_and_what_stands_in_the_way() {
    let bed = bed().await;
    let namespace = bed.namespace("status").await.unwrap();
    let (address, models) = four_models(&bed, &namespace).await;
    let here = ["-n", namespace.name()];

    let (code, table, error) = kthena_bridge(&bed, &["status", here[0], here[1]]).await;
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(
        columns(table.lines().next().unwrap()),
        [
            "NAME",
            "GATEWAY",
            "ADDRESS",
            "READY",
            "ACCEPTED",
            "PROGRAMMED",
            "AGE"
        ]
    );
    let demo = format!("http://{address}/demo/v1");
    let sick = format!("http://{address}/sick/v1");
    let gateway = "inference-gateway";
    let served = ["demo", gateway, &demo, "1/1", "True", "True", "AGE"];
    let unready = "False (NoReadyEndpoints)";
    let unserved = ["sick", gateway, &sick, "0/1", "True", unready, "AGE"];
    assert_eq!(
        rows(&table),
        [
            served.to_vec(),
            vec![
                "mistaken",
                "<none>",
                "<none>",
                "<none>",
                "False (InvalidAnnotation)",
                "False (WaitingForModel)",
                "AGE"
            ],
            unserved.to_vec(),
        ]
    );
    // The address is where it answers.
    let answer = bed.get(&format!("{demo}/models")).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");

    // With the namespace, and others beside.
    let (code, table, error) = kthena_bridge(&bed, &["status", "-A"]).await;
    assert_eq!((code, error.as_str()), (0, ""));
    let with_namespace = [&[namespace.name()], served.as_slice()].concat();
    assert!(
        rows(&table).iter().any(|row| *row == with_namespace),
        "{table}"
    );

    // Those that are named, in that order.
    let args = ["status", here[0], here[1], "sick", "demo", "-o", "wide"];
    let (code, table, error) = kthena_bridge(&bed, &args).await;
    assert_eq!((code, error.as_str()), (0, ""));
    let names = "Qwen2.5-0.5B-Instruct";
    let message = |model: &str| {
        format!(
            "the pods in namespace {} with the labels modelserving.volcano.sh/entry=true,modelserving.volcano.sh/name={model}-backend1,modelserving.volcano.sh/role=leader are not ready",
            namespace.name()
        )
    };
    assert_eq!(
        rows(&table),
        [
            [
                unserved.as_slice(),
                &[&format!("{names},sick"), "sick-epp", &message("sick")]
            ]
            .concat(),
            [
                served.as_slice(),
                &[
                    &format!("{names},demo"),
                    "demo-epp",
                    "a request sent now reaches a ready pod"
                ]
            ]
            .concat(),
        ]
    );

    let args = ["status", here[0], here[1], "hidden", "demo", "absent"];
    let (code, table, error) = kthena_bridge(&bed, &args).await;
    assert_eq!(code, 1);
    assert_eq!(rows(&table), [served]);
    let namespace = namespace.name();
    assert_eq!(
        error,
        format!(
            "error: ModelBooster {namespace}/hidden is not exposed; annotate it with kthena-bridge.io/expose=true, or \
             see kubectl get modelexposures\n\
             error: ModelBooster {namespace}/absent does not exist; see kubectl get modelboosters,modelexposures \
             --namespace {namespace}\n"
        )
    );
    drop(models);
}

#[tokio::test]
async fn the_document_has_the_structure_that_the_help_describes() {
    let bed = bed().await;
    let namespace = bed.namespace("document").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    let hosts = [("hostnames", Some("demo.example.com"))];
    model.expose("inference-gateway", &hosts).await.unwrap();
    let mut args = vec!["status", "-n", namespace.name(), "-o", "json"];
    let (code, json, error) = kthena_bridge(&bed, &args).await;
    assert_eq!((code, error.as_str()), (0, ""));
    let document: Value = serde_json::from_str(&json).unwrap();
    let live = model.get().await.unwrap();
    let conditions = live.status.unwrap().conditions;
    let ours = |type_: &str| conditions.iter().find(|c| c.type_ == type_).unwrap();
    assert_eq!(
        document,
        json!({"models": [{
            "kind": "ModelBooster",
            "namespace": namespace.name(),
            "name": "demo",
            "created": live.metadata.creation_timestamp.unwrap(),
            "gateways": [format!("{}/inference-gateway", namespace.name())],
            "addresses": [{"url": "http://demo.example.com/v1", "address": address, "port": 80}],
            "endpoints": {"ready": 1, "total": 1},
            "modelNames": ["Qwen2.5-0.5B-Instruct", "demo"],
            "endpointPicker": {"service": "demo-epp", "managed": true, "ready": true},
            "conditions": [ours("Accepted"), ours("Programmed")],
        }]})
    );
    args[4] = "yaml";
    let (code, yaml, error) = kthena_bridge(&bed, &args).await;
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(serde_yaml::from_str::<Value>(&yaml).unwrap(), document);
}

#[tokio::test]
async fn waiting_ends_when_the_model_is_served_or_says_why_it_is_not() {
    let bed = bed().await;
    let namespace = bed.namespace("wait").await.unwrap();
    let here = namespace.name();
    let model = namespace.model("demo").await.unwrap();
    let wait = ["status", "-n", here, "demo", "--wait"];

    // It helps nothing to wait for what is not exposed.
    let began = Instant::now();
    let (code, table, error) = kthena_bridge(&bed, &wait).await;
    assert_eq!((code, table.as_str()), (1, ""));
    assert!(
        error.contains("annotate it with kthena-bridge.io/expose=true"),
        "{error}"
    );
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());

    model
        .annotate_exposed("inference-gateway", &[])
        .await
        .unwrap();
    model
        .wait_for_reason("Accepted", "GatewayNotFound")
        .await
        .unwrap();
    let args = [&wait[..4], &["--wait=accepted", "--timeout=1s"]].concat();
    let (code, table, error) = kthena_bridge(&bed, &args).await;
    assert_eq!(code, 1, "{error}");
    assert_eq!(
        rows(&table),
        [[
            "demo",
            "inference-gateway",
            "<none>",
            "<none>",
            "False (GatewayNotFound)",
            "False (WaitingForModel)",
            "AGE"
        ]]
    );
    assert_eq!(
        error,
        format!(
            "error: ModelBooster {here}/demo: Accepted=False (GatewayNotFound): Gateway {here}/inference-gateway does not \
             exist; create it, or set kthena-bridge.io/gateway to one that does\n"
        )
    );

    // While it waits, the Gateway comes.
    let (waited, address) = tokio::join!(
        kthena_bridge(&bed, &wait),
        namespace.gateway("inference-gateway")
    );
    let (code, table, error) = waited;
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(
        rows(&table)[0][2],
        format!("http://{}/v1", address.unwrap())
    );
    assert_eq!(rows(&table)[0][5], "True");
}

#[tokio::test]
async fn what_may_not_be_read_is_a_note_and_without_models_an_error() {
    let bed = bed().await;
    let namespace = bed.namespace("rights").await.unwrap();
    let here = namespace.name();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    let kubeconfig = bed.dir().join("no-rights.yaml");
    let admin = std::fs::read_to_string(bed.kubeconfig()).unwrap();
    let mut config: Value = serde_yaml::from_str(&admin).unwrap();
    config["users"][0]["user"]["as"] = "somebody".into();
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let args = ["status", "-n", here, "--kubeconfig", kubeconfig];

    let (code, table, error) = kthena_bridge(&bed, &args).await;
    assert_eq!((code, table.as_str()), (2, ""));
    assert!(
        error.starts_with(&format!(
            "error: ModelBoosters in namespace {here} may not be listed: modelboosters.workload.serving.volcano.sh is forbidden"
        )),
        "{error}"
    );

    let models = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: models}
rules: [{apiGroups: [workload.serving.volcano.sh], resources: [modelboosters], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: models}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: models}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: somebody}]
";
    namespace.apply(models).await.unwrap();
    let looked = bed.wait_for(
        "the right is granted",
        crate::LIMIT,
        async || match kthena_bridge(&bed, &args).await {
            (0, table, error) => Ok((table, error)),
            other => Err(format!("{other:?}")),
        },
    );
    let (table, error) = looked.await.unwrap();
    assert_eq!(
        rows(&table),
        [[
            "demo",
            "inference-gateway",
            "<none>",
            "<none>",
            "True",
            "True",
            "AGE"
        ]]
    );
    for kind in ["Gateway", "Pod", "InferencePool", "HTTPRoute"] {
        let note = format!("note: {kind} is not known: ");
        assert_eq!(error.matches(&note).count(), 1, "{error}");
    }

    let (code, table, error) =
        kthena_bridge(&bed, &["status", "--kubeconfig", "/nowhere/kubeconfig"]).await;
    assert_eq!((code, table.as_str()), (2, ""));
    assert!(error.contains("/nowhere/kubeconfig"), "{error}");
}

/// How many Models a big cluster has.
const MANY: usize = 1_000;
/// How often it is asked.
const RUNS: usize = 5;
/// How long the answer may take then.
const SOON: std::time::Duration = std::time::Duration::from_secs(2);

/// Without the operator and Kthena: what they would have written is written here.
#[tokio::test]
async fn a_thousand_models_are_shown_in_two_seconds() {
    let bed = bed_alone().await;
    bed.scale_operator(0).await.unwrap();
    bed.stop_kthena().await.unwrap();
    let namespace = bed.namespace("many").await.unwrap();
    let address = nobodys_gateway(&bed, &namespace).await;
    let (client, example) = (bed.client().unwrap(), bed.example("").unwrap());
    let writes = (0..MANY).map(|n| write_model(&client, &example, namespace.name(), n));
    let mut writes = futures::stream::iter(writes).buffer_unordered(32);
    while writes.next().await.is_some() {}

    let here = ["status", "-n", namespace.name()];
    let mut shown = Vec::new();
    for (what, args) in [
        ("a table", here.to_vec()),
        ("a wide table", [&here[..], &["-o", "wide"]].concat()),
    ] {
        for _ in 0..RUNS {
            let began = Instant::now();
            let printed = kthena_bridge(&bed, &args).await;
            shown.push((what, began.elapsed(), printed));
        }
    }
    // Before anything can fail: the tests that come need Kthena without these Models, and the operator.
    remove_models(&bed, namespace.name()).await;
    bed.start_kthena().await.unwrap();
    bed.scale_operator(1).await.unwrap();
    for (what, took, (code, table, error)) in &shown {
        assert_eq!((*code, error.as_str()), (0, ""));
        let rows = rows(table);
        assert_eq!(rows.len(), MANY);
        for (n, row) in rows.iter().enumerate() {
            let name = format!("m{n:04}");
            let url = format!("http://{address}/{name}/v1");
            let wanted = [
                &name,
                "inference-gateway",
                &url,
                "1/1",
                "True",
                "True",
                "AGE",
            ];
            assert_eq!(row[..7], wanted);
        }
        eprintln!("{MANY} Models in {what} ({} build): {took:?}", profile());
    }
    // The quickest counts: other things go on on the same machine.
    for runs in shown.chunks(RUNS) {
        let took = runs.iter().map(|(_, took, _)| *took).min().unwrap();
        assert!(took < SOON, "{} took {took:?}", runs[0].0);
    }
}

/// A Gateway of a class that nobody implements, since no Envoy of the bed takes so many routes.
async fn nobodys_gateway(bed: &TestBed, namespace: &Namespace<'_>) -> &'static str {
    const ADDRESS: &str = "192.0.2.1";
    let manifests = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: nobodys}
spec: {controllerName: example.com/nobody}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: inference-gateway}
spec:
  gatewayClassName: nobodys
  listeners: [{name: http, port: 80, protocol: HTTP}]
";
    namespace.apply(manifests).await.unwrap();
    let resource = ApiResource::erase::<kthena_bridge_api::gateway::Gateway>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(bed.client().unwrap(), namespace.name(), &resource);
    let status = json!({"status": {"addresses": [{"type": "IPAddress", "value": ADDRESS}]}});
    let status = Patch::Merge(&status);
    api.patch_status("inference-gateway", &PatchParams::default(), &status)
        .await
        .unwrap();
    ADDRESS
}

async fn remove_models(bed: &TestBed, namespace: &str) {
    let resource = ApiResource::erase::<kthena_bridge_api::kthena::ModelBooster>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(bed.client().unwrap(), namespace, &resource);
    let looked = bed.wait_for("all Models are deleted", crate::LIMIT, async || {
        let all = ListParams::default();
        api.delete_collection(&DeleteParams::background(), &all)
            .await
            .map_err(|e| e.to_string())?;
        match api.list(&all).await.map_err(|e| e.to_string())?.items.len() {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        }
    });
    looked.await.unwrap();
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    }
}

/// A Model with its conditions, pod, pool and route.
async fn write_model(client: &Client, example: &Value, namespace: &str, n: usize) {
    let name = format!("m{n:04}");
    let create = async |resource: &ApiResource, object: Value| {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let params = PostParams {
            field_manager: Some("kthena-bridge".to_owned()),
            ..PostParams::default()
        };
        api.create(&params, &object).await.unwrap()
    };
    let mut model = example.clone();
    model["metadata"]["name"] = name.as_str().into();
    model["metadata"]["annotations"] = json!({
        "kthena-bridge.io/expose": "true",
        "kthena-bridge.io/gateway": "inference-gateway",
        "kthena-bridge.io/path": format!("/{name}"),
    });
    let boosters = ApiResource::erase::<kthena_bridge_api::kthena::ModelBooster>(&());
    let created = create(&boosters, model).await;
    let conditions = ["Accepted", "Programmed", "Active", "Initialized"].map(|type_| {
        json!({"type": type_, "status": "True", "reason": type_, "message": "m", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    });
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &boosters);
    let status = json!({"status": {"conditions": conditions}});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
    let metadata = json!({
        "name": name,
        "labels": {"app.kubernetes.io/managed-by": "kthena-bridge", "kthena-bridge.io/model": name},
        "ownerReferences": [{"apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelBooster",
            "name": name, "uid": created.metadata.uid, "controller": true}],
    });
    let selector = json!({
        "modelserving.volcano.sh/name": format!("{name}-backend1"),
        "modelserving.volcano.sh/entry": "true",
        "modelserving.volcano.sh/role": "leader",
    });
    let head = |kind: ChildKind| json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": metadata});
    let mut pool = head(ChildKind::InferencePool);
    pool["spec"] = json!({
        "selector": {"matchLabels": selector},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": format!("{name}-epp"), "port": {"number": 9002}},
    });
    create(&ChildKind::InferencePool.api_resource(), pool).await;
    let mut route = head(ChildKind::HTTPRoute);
    route["spec"] = json!({
        "parentRefs": [{"name": "inference-gateway"}],
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": format!("/{name}")}}],
            "backendRefs": [{"group": ChildKind::InferencePool.group(), "kind": "InferencePool", "name": name}],
        }],
    });
    create(&ChildKind::HTTPRoute.api_resource(), route).await;
    // The gate keeps the kubelet from taking it.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{name}-backend1-0-leader-0-0"), "labels": selector},
        "spec": {"schedulingGates": [{"name": "testbed/never"}], "containers": [
            {"name": "engine", "image": "vllm", "ports": [{"containerPort": 8000}]}
        ]},
    });
    let pods = ApiResource::erase::<Pod>(&());
    let pod = create(&pods, pod).await;
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &pods);
    let name = pod.metadata.name.unwrap();
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&ready))
        .await
        .unwrap();
}
