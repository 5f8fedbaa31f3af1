//! `kthena-bridge check` before and after the installation, with kinds that are missing, as several users
//! and on a large cluster. In a test binary of its own, since its bed begins without some kinds.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_api::kthena::ModelBooster;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use testbed::{Namespace, OPERATOR, OPERATOR_NAMESPACE, Options, TestBed, kthena_bridge};

const SERVED: &str =
    "√ all that is exposed is served: 1 of 1 Models by annotations, and 0 ModelExposures";
const LIMIT: Duration = Duration::from_mins(1);

/// What a run of `check` said: the exit code, and the output.
async fn check(kubeconfig: &Path, arguments: &[&str]) -> (i32, String) {
    let said = kthena_bridge(kubeconfig, &[&["check"], arguments].concat())
        .await
        .unwrap();
    (said.code, said.output + &said.error)
}

/// The outcomes by check, out of `-o json`; of several of one check the worst.
async fn outcomes(kubeconfig: &Path, arguments: &[&str]) -> (i32, Vec<(String, String)>) {
    let (code, text) = check(kubeconfig, &[&["-o", "json"], arguments].concat()).await;
    let report: Result<Value, _> = serde_json::from_str(&text);
    let report = report.map_err(|e| format!("{e}: {text}")).unwrap();
    assert_eq!(report["success"], code == 0, "{text}");
    let mut outcomes: Vec<(String, String)> = Vec::new();
    for category in report["categories"].as_array().unwrap() {
        for check in category["checks"].as_array().unwrap() {
            let result = check["result"].as_str().unwrap().to_owned();
            assert_eq!(check["hint"].is_null(), result == "ok", "{check}");
            assert_eq!(check["url"].is_null(), result == "ok", "{check}");
            outcomes.push((check["check"].as_str().unwrap().to_owned(), result));
        }
    }
    (code, outcomes)
}

/// The checks with this outcome.
fn with(outcomes: &[(String, String)], result: &str) -> Vec<String> {
    let all = outcomes.iter().filter(|(_, r)| r == result);
    all.map(|(check, _)| check.clone()).collect()
}

/// A kubeconfig with the token of a ServiceAccount.
async fn as_account(bed: &TestBed, namespace: &str, name: &str) -> PathBuf {
    let accounts: Api<ServiceAccount> = Api::namespaced(bed.client().unwrap(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec!["https://kubernetes.default.svc".to_owned()],
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let token = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await
        .unwrap();
    let text = std::fs::read_to_string(bed.kubeconfig()).unwrap();
    let mut kubeconfig: Value = serde_yaml::from_str(&text).unwrap();
    kubeconfig["users"][0]["user"] = json!({"token": token.status.unwrap().token});
    let path = bed.dir().join(format!("kubeconfig-{namespace}-{name}"));
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}

/// A Deployment without pods.
fn deployment(
    namespace: &str,
    name: &str,
    labels: &Value,
    image: &str,
    environment: &Value,
) -> String {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"of": name}}, "template": {
            "metadata": {"labels": {"of": name}},
            "spec": {"containers": [{"name": "it", "image": image, "env": environment}]}}}})
    .to_string()
}

#[tokio::test]
async fn a_cluster_is_checked_from_nothing_to_a_served_model() {
    let crds =
        [ChildKind::InferencePool, ChildKind::InferenceModelRewrite].map(|k| k.crd().unwrap());
    let options = Options {
        leave_out_crds: crds.to_vec(),
        ..Options::default()
    };
    let bed = TestBed::start(options).unwrap();
    let admin = bed.kubeconfig().to_owned();
    let namespace = bed.namespace("check").await.unwrap();

    kinds_that_are_missing_are_named(&bed, &admin, &crds).await;
    let (code, now) = outcomes(&admin, &[]).await;
    assert_eq!(
        (code, with(&now, "failed")),
        (1, vec!["operator".to_owned()]),
        "{now:?}"
    );

    bed.install_operator().await.unwrap();
    a_served_model_has_nothing_that_failed(&bed, &namespace, &admin).await;
    istiod_is_looked_at(&namespace, &admin).await;
    those_without_rights_get_warnings(&bed, &namespace).await;
    the_operator_checks_itself(&bed).await;
    a_role_that_was_cut_down_is_told(&bed, &admin).await;
    nobody_is_asked_for_an_unreachable_cluster(&bed).await;
    a_thousand_models_take_less_than_two_seconds(&bed, &namespace, &admin).await;
}

async fn kinds_that_are_missing_are_named(bed: &TestBed, admin: &Path, crds: &[String]) {
    let (code, text) = check(admin, &["--pre"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("× InferencePool: not served"), "{text}");
    assert!(text.contains("checks.md#inference-pool"), "{text}");
    assert!(!text.contains("\noperator\n"), "{text}");
    let all: Vec<&str> = crds.iter().map(String::as_str).collect();
    bed.install_crds(&all).await.unwrap();
    let (code, now) = outcomes(admin, &["--pre"]).await;
    let warnings = with(&now, "warning");
    assert_eq!((code, with(&now, "failed")), (0, Vec::new()), "{now:?}");
    // The bed runs Kthena's controller as a process.
    assert_eq!(warnings, ["kthena-controller", "gateways"], "{now:?}");
}

async fn a_served_model_has_nothing_that_failed(
    bed: &TestBed,
    namespace: &Namespace<'_>,
    admin: &Path,
) {
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    let looked = bed.wait_for(
        "the endpoint picker is seen to be ready",
        LIMIT,
        async || {
            let (code, text) = check(admin, &[]).await;
            if code == 0 && text.contains("√ all 1 endpoint pickers are ready") {
                Ok(text)
            } else {
                Err(format!("exit code {code}\n{text}"))
            }
        },
    );
    let text = looked.await.unwrap();
    for said in [
        "√ the operator is v0.1.0, as this command",
        "√ ModelExposure is installed, in this command's version",
        "√ the operator has all rights that it needs",
        "√ endpoint pickers get all rights by ClusterRole kthena-bridge-endpoint-picker",
        SERVED,
        "‼ there is no Deployment with the label app=istiod",
        "√ nothing failed; ‼ 2 to look at",
    ] {
        assert!(text.contains(said), "{said}:\n{text}");
    }
}

async fn istiod_is_looked_at(namespace: &Namespace<'_>, admin: &Path) {
    let istiod = |environment: Value| {
        let labels = json!({"app": "istiod"});
        let image = "docker.io/istio/pilot:1.31.0";
        deployment(namespace.name(), "istiod", &labels, image, &environment)
    };
    namespace.apply(&istiod(json!([]))).await.unwrap();
    let (code, now) = outcomes(admin, &[]).await;
    assert_eq!(
        (code, with(&now, "failed")),
        (1, vec!["istio-inference".to_owned()]),
        "{now:?}"
    );
    let flag = json!([{"name": "ENABLE_GATEWAY_API_INFERENCE_EXTENSION", "value": "true"}]);
    namespace.apply(&istiod(flag)).await.unwrap();
    let (code, now) = outcomes(admin, &[]).await;
    assert_eq!(
        (code, with(&now, "warning")),
        (0, vec!["kthena-controller".to_owned()]),
        "{now:?}"
    );
}

async fn those_without_rights_get_warnings(bed: &TestBed, namespace: &Namespace<'_>) {
    let nobody = as_account(bed, namespace.name(), "default").await;
    let (code, now) = outcomes(&nobody, &[]).await;
    assert_eq!((code, with(&now, "failed")), (0, Vec::new()), "{now:?}");
    // Everybody may ask what is served.
    let fine = with(&now, "ok");
    for check in [
        "kubernetes-version",
        "gateway-api",
        "inference-pool",
        "kthena",
    ] {
        assert!(fine.contains(&check.to_owned()), "{check}: {now:?}");
    }
    let (_, text) = check(&nobody, &[]).await;
    assert!(text.contains("you may not read this"), "{text}");
    assert!(text.contains("system:serviceaccount:"), "{text}");
    let (code, now) = outcomes(&nobody, &["--pre"]).await;
    assert_eq!(
        (code, with(&now, "failed")),
        (1, vec!["install-rights".to_owned()]),
        "{now:?}"
    );
}

/// In a Pod under the operator's ServiceAccount, as `helm test` does it.
async fn the_operator_checks_itself(bed: &TestBed) {
    let pods: Api<Pod> = Api::namespaced(bed.client().unwrap(), OPERATOR_NAMESPACE);
    let operators = ListParams::default().labels("app.kubernetes.io/name=kthena-bridge");
    let operator = pods.list(&operators).await.unwrap().items.remove(0);
    let mut spec = operator.spec.unwrap();
    spec.node_name = None;
    spec.restart_policy = Some("Never".to_owned());
    spec.volumes = None;
    let container = &mut spec.containers[0];
    container.args = Some(vec!["check".to_owned()]);
    container.liveness_probe = None;
    container.readiness_probe = None;
    container.ports = None;
    container.volume_mounts = None;
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "check"}, "spec": spec});
    bed.apply(OPERATOR_NAMESPACE, &pod.to_string())
        .await
        .unwrap();
    let looked = bed.wait_for("the Pod check has ended", LIMIT, async || {
        let status = pods.get("check").await.map_err(|e| e.to_string())?.status;
        let phase = status
            .as_ref()
            .and_then(|s| s.phase.clone())
            .unwrap_or_default();
        if matches!(phase.as_str(), "Succeeded" | "Failed") {
            Ok(phase)
        } else {
            Err(format!("{status:?}"))
        }
    });
    let phase = looked.await.unwrap();
    let log = bed.container_log(OPERATOR_NAMESPACE, "check", "kthena-bridge");
    pods.delete("check", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(phase, "Succeeded", "{log}");
    for said in [
        "√ ModelExposure is installed, in this command's version",
        "√ the operator has all rights that it needs",
    ] {
        assert!(log.contains(said), "{said}:\n{log}");
    }
    assert!(log.contains("√ its configuration is understood"), "{log}");
    assert!(log.contains(SERVED), "{log}");
    assert!(
        log.contains("‼ ClusterRole kthena-bridge-endpoint-picker: you may not read this"),
        "{log}"
    );
}

async fn a_role_that_was_cut_down_is_told(bed: &TestBed, admin: &Path) {
    let roles: Api<ClusterRole> = Api::all(bed.client().unwrap());
    let whole = roles.get(OPERATOR).await.unwrap();
    let mut cut = whole.clone();
    cut.rules.as_mut().unwrap().retain(|rule| {
        !rule
            .resources
            .iter()
            .flatten()
            .any(|r| r == "destinationrules")
    });
    let params = PostParams::default();
    let cut = roles.replace(OPERATOR, &params, &cut).await.unwrap();
    let operator = as_account(bed, OPERATOR_NAMESPACE, OPERATOR).await;
    let mut told = Vec::new();
    for user in [admin, operator.as_path()] {
        // The API server's authorizer follows the role by a watch.
        let looked = bed.wait_for("the missing right is told", LIMIT, async || {
            let (code, text) = check(user, &[]).await;
            let said = "× the operator may not get destinationrules.networking.istio.io";
            if code == 1 && text.contains(said) {
                Ok(())
            } else {
                Err(text)
            }
        });
        told.push(looked.await);
    }
    let mut restored = whole;
    restored.metadata.resource_version = cut.metadata.resource_version;
    roles.replace(OPERATOR, &params, &restored).await.unwrap();
    for told in told {
        told.unwrap();
    }
}

async fn nobody_is_asked_for_an_unreachable_cluster(bed: &TestBed) {
    let text = std::fs::read_to_string(bed.kubeconfig()).unwrap();
    let path = bed.dir().join("kubeconfig-unreachable");
    std::fs::write(&path, text.replace(":6443", ":1")).unwrap();
    let (code, text) = check(&path, &[]).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("the API server does not answer"), "{text}");
    let (code, text) = check(Path::new("/nowhere"), &[]).await;
    assert_eq!(code, 2, "{text}");
}

async fn a_thousand_models_take_less_than_two_seconds(
    bed: &TestBed,
    namespace: &Namespace<'_>,
    admin: &Path,
) {
    // Their pods would be too many for one machine.
    bed.stop_kthena().await.unwrap();
    let client = bed.client().unwrap();
    let models: Api<ModelBooster> = Api::namespaced(client, namespace.name());
    let example = bed.example("demo").unwrap();
    stream::iter(0..1000)
        .map(|number| {
            let (models, mut model) = (models.clone(), example.clone());
            async move {
                let name = format!("many-{number}");
                model["metadata"] =
                    json!({"name": name, "annotations": {"kthena-bridge.io/expose": "true"}});
                let model: ModelBooster = serde_json::from_value(model).unwrap();
                models.create(&PostParams::default(), &model).await?;
                let labels = json!({"app.kubernetes.io/managed-by": "kthena-bridge"});
                let image = "registry.k8s.io/gateway-api-inference-extension/epp:v1.5.0";
                let picker = deployment(
                    namespace.name(),
                    &format!("{name}-epp"),
                    &labels,
                    image,
                    &json!([]),
                );
                namespace.apply(&picker).await.unwrap();
                Ok::<_, kube::Error>(())
            }
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
        .unwrap();
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        let (code, text) = check(admin, &[]).await;
        fastest = fastest.min(began.elapsed());
        assert_eq!(code, 0, "{text}");
        assert!(
            text.contains("1000 of 1001 exposed Models are not served"),
            "{text}"
        );
        assert!(text.contains("√ 1001 endpoint pickers run "), "{text}");
    }
    eprintln!("check with 1,001 Models and endpoint pickers: {fastest:?}");
    assert!(fastest < Duration::from_secs(2), "{fastest:?}");
}
