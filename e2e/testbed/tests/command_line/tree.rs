//! `kthena-bridge tree`.

use k8s_openapi::api::core::v1::Pod;
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::Value;
use testbed::TestBed;

use crate::{bed, bed_alone, kthena_bridge};

/// A drawn tree with two spaces before what is told, and without what differs between runs.
async fn drawn(bed: &TestBed, namespace: &str, model: &str) -> Vec<String> {
    let (code, mut tree, error) = kthena_bridge(bed, &["tree", model, "-n", namespace]).await;
    assert_eq!((code, error.as_str()), (0, ""), "{tree}");
    let pods: Api<Pod> = Api::namespaced(bed.client().unwrap(), namespace);
    let pickers = ListParams::default().labels("kthena-bridge.io/endpoint-picker");
    for pod in pods.list(&pickers).await.unwrap().items {
        tree = tree.replace(pod.metadata.name.as_deref().unwrap(), "PICKER");
    }
    let without_padding = |line: &str| {
        let at = line.find(|c: char| !"│├└─ ".contains(c)).unwrap_or(0);
        let (branches, rest) = line.split_at(at);
        let parts = rest.split("  ").map(str::trim).filter(|p| !p.is_empty());
        format!("{branches}{}", parts.collect::<Vec<_>>().join("  "))
    };
    tree.lines().map(without_padding).collect()
}

#[tokio::test]
async fn everything_of_a_model_is_shown_with_what_the_cluster_says_of_it() {
    let bed = bed().await;
    let namespace = bed.namespace("tree").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    let priority = [("priority", Some("1"))];
    model.expose("inference-gateway", &priority).await.unwrap();
    let gateway = format!(
        "│   └── Gateway inference-gateway  says Accepted=True ResolvedRefs=True; is Accepted=True Programmed=True \
         ResolvedRefs=True; class istio (istio.io/gateway-controller), address {address}"
    );
    assert_eq!(
        drawn(&bed, namespace.name(), "demo").await,
        [
            "ModelBooster demo  Accepted=True Programmed=True Initialized=True Active=True",
            "├── HTTPRoute demo",
            &gateway,
            "├── InferencePool demo  port 8000, FailOpen",
            "│   ├── Gateway inference-gateway  says Accepted=True ResolvedRefs=True",
            "│   ├── ServiceAccount demo-epp",
            "│   ├── RoleBinding demo-epp",
            "│   ├── ConfigMap demo-epp",
            "│   ├── Service demo-epp",
            "│   ├── Deployment demo-epp  Available=True Progressing=True",
            "│   │   └── Pod PICKER  Ready=True",
            "│   └── Pod demo-backend1-0-leader-0-0  Ready=True",
            "├── DestinationRule demo-epp",
            "├── InferenceObjective demo",
            "└── InferenceModelRewrite demo",
        ]
    );
    let args = ["tree", "demo", "-n", namespace.name(), "-o", "json"];
    let (code, json, error) = kthena_bridge(&bed, &args).await;
    assert_eq!((code, error.as_str()), (0, ""));
    let tree: Value = serde_json::from_str(&json).unwrap();
    let kinds = tree["children"].as_array().unwrap().iter();
    let kinds: Vec<&str> = kinds.map(|n| n["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "HTTPRoute",
            "InferencePool",
            "DestinationRule",
            "InferenceObjective",
            "InferenceModelRewrite"
        ]
    );
    assert_eq!(
        tree["children"][0]["children"][0]["says"][0]["type"],
        "Accepted"
    );

    let args = ["tree", "absent", "-n", namespace.name()];
    let (code, tree, error) = kthena_bridge(&bed, &args).await;
    assert_eq!((code, tree.as_str()), (1, ""));
    assert!(error.contains("/absent does not exist"), "{error}");
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_below_the_model() {
    let bed = bed().await;
    let namespace = bed.namespace("young").await.unwrap();
    let here = namespace.name();
    let model = namespace.model("demo").await.unwrap();
    model.annotate_exposed("absent", &[]).await.unwrap();
    model
        .wait_for_reason("Accepted", "GatewayNotFound")
        .await
        .unwrap();
    model.wait_for_condition("Active", "True").await.unwrap();
    assert_eq!(
        drawn(&bed, here, "demo").await,
        [
            "ModelBooster demo  Accepted=False (GatewayNotFound) Programmed=False (WaitingForModel) Initialized=True \
             Active=True",
            &format!(
                "    Accepted: Gateway {here}/absent does not exist; create it, or set kthena-bridge.io/gateway to one \
                 that does"
            ),
            "    Programmed: nothing is served; see the condition Accepted",
        ]
    );
}

#[tokio::test]
async fn what_is_missing_or_no_longer_wanted_is_told() {
    let bed = bed_alone().await;
    let namespace = bed.namespace("gone").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    let priority = [("priority", Some("1"))];
    model.expose("inference-gateway", &priority).await.unwrap();
    bed.scale_operator(0).await.unwrap();
    for (kind, name) in [
        (ChildKind::HTTPRoute, "demo"),
        (ChildKind::DestinationRule, "demo-epp"),
    ] {
        let api = model.children_api(kind).unwrap();
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }
    model.annotate(&[("priority", None)]).await.unwrap();
    let lines = drawn(&bed, namespace.name(), "demo").await;
    bed.scale_operator(1).await.unwrap();
    for line in [
        "├── HTTPRoute demo  missing",
        "├── DestinationRule demo-epp  missing",
        "├── InferenceObjective demo  surplus: no longer wanted",
        "└── InferenceModelRewrite demo",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line}\n{lines:#?}");
    }
}
