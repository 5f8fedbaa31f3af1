//! `kthena-bridge migrate`: from what was made by hand to what the operator makes, under requests.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::Role;
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use testbed::{Model, Namespace, TestBed};
use tokio::task::{JoinHandle, JoinSet};

use crate::{LIMIT, bed, kthena_bridge};

const BY_HAND: &str = include_str!("../bed/by-hand.yaml");

/// How long the engine takes for an answer, so that many are under way at any time.
const ANSWER: Duration = Duration::from_millis(1200);

/// Requests that are sent at a pace until they are told to end, whether there are answers or not.
struct Requests {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Outcome>,
}

#[derive(Debug, Default)]
struct Outcome {
    sent: usize,
    failed: Vec<String>,
    slowest: Duration,
}

impl Requests {
    fn start(bed: &'static TestBed, gateway: Ipv4Addr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let began = Instant::now();
        let sender = tokio::spawn(async move {
            let mut under_way = JoinSet::new();
            while !stopped.load(Ordering::Relaxed) {
                under_way.spawn(async move {
                    let sent = Instant::now();
                    let answer = ask(bed, gateway).await;
                    (sent.duration_since(began), sent.elapsed(), answer)
                });
                // The pace; nothing is waited for.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let mut outcome = Outcome::default();
            for (sent, took, answer) in under_way.join_all().await {
                outcome.sent += 1;
                outcome.slowest = outcome.slowest.max(took);
                if answer.as_ref().map(|(status, _)| *status) != Ok(200) {
                    outcome
                        .failed
                        .push(format!("sent after {sent:?}, for {took:?}: {answer:?}"));
                }
            }
            outcome
        });
        Self { stop, sender }
    }

    async fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.await.unwrap()
    }
}

/// Asks by the Model's own name, which an endpoint picker has to rewrite.
async fn ask(bed: &TestBed, gateway: Ipv4Addr) -> Result<(u16, Value), String> {
    let url = format!("http://{gateway}/v1/completions");
    let question = json!({"model": "demo", "prompt": "Who are you?"});
    let answer = bed.post(&url, &[], &question).await?;
    Ok((answer.status, answer.json()))
}

/// A Model behind objects made by hand, that answers.
async fn by_hand<'a>(
    bed: &TestBed,
    namespace: &'a Namespace<'_>,
    manifests: &str,
) -> (Model<'a>, Ipv4Addr) {
    let manifests = manifests.replace("NAMESPACE.svc", &format!("{}.svc", namespace.name()));
    let model = namespace.model("demo").await.unwrap();
    namespace.apply(&manifests).await.unwrap();
    let gateway = bed
        .gateway_address(namespace.name(), "inference-gateway")
        .await
        .unwrap();
    model.wait_for_condition("Active", "True").await.unwrap();
    let looked = bed.wait_for("what was made by hand answers", LIMIT, async || {
        let answer = ask(bed, gateway).await?;
        if answer.0 == 200 {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    });
    looked.await.unwrap();
    let pods: Api<Pod> = Api::namespaced(bed.client().unwrap(), namespace.name());
    let engines = ListParams::default().labels("modelserving.volcano.sh/entry=true");
    for pod in pods.list(&engines).await.unwrap() {
        let url = format!("http://{}:8000/sim", pod.status.unwrap().pod_ip.unwrap());
        let slow = json!({"delay_ms": ANSWER.as_millis()});
        assert_eq!(bed.post(&url, &[], &slow).await.unwrap().status, 200);
    }
    (model, gateway)
}

/// Kind, name and owner of what is in the namespace of the kinds that are replaced.
async fn objects(bed: &TestBed, model: &Model<'_>) -> Vec<(String, bool)> {
    let uid = model.get().await.unwrap().metadata.uid.unwrap();
    let mut objects = Vec::new();
    let all = ListParams::default();
    for kind in ChildKind::ALL {
        let Ok(found) = model.children_api(kind).unwrap().list(&all).await else {
            continue;
        };
        for object in found {
            let owners = object.metadata.owner_references.unwrap_or_default();
            let name = object.metadata.name.unwrap();
            let is_default = matches!(name.as_str(), "default" | "kube-root-ca.crt");
            let is_kthenas = !is_default && owners.iter().any(|o| o.kind == "ModelServing");
            if !is_default && !is_kthenas {
                objects.push((
                    format!("{kind} {name}"),
                    owners.iter().any(|o| o.uid == uid),
                ));
            }
        }
    }
    let roles: Api<Role> = Api::namespaced(bed.client().unwrap(), model.namespace());
    for role in roles.list(&all).await.unwrap() {
        objects.push((format!("Role {}", role.metadata.name.unwrap()), false));
    }
    objects
}

fn arguments<'a>(namespace: &'a Namespace<'_>, backup: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let all = [
        "migrate",
        "demo",
        "-n",
        namespace.name(),
        "--backup",
        backup,
    ];
    let pace = ["--settle=1", "--drain=3", "--timeout=60"];
    [&all[..], &pace, flags].concat()
}

/// Hands over under requests, and looks at what is left.
async fn hand_over(bed: &'static TestBed, prefix: &str, manifests: &str) -> String {
    let namespace = bed.namespace(prefix).await.unwrap();
    let (model, gateway) = by_hand(bed, &namespace, manifests).await;
    let backup = bed
        .dir()
        .join(format!("{prefix}.yaml"))
        .display()
        .to_string();
    let before = objects(bed, &model).await;

    let (code, plan, error) = kthena_bridge(bed, &arguments(&namespace, &backup, &[])).await;
    assert_eq!(code, 0, "{plan}{error}");
    assert!(plan.contains("Nothing was written"), "{plan}");
    assert_eq!(objects(bed, &model).await, before);
    assert!(!std::path::Path::new(&backup).exists());

    let requests = Requests::start(bed, gateway);
    let (code, out, error) = kthena_bridge(bed, &arguments(&namespace, &backup, &["--yes"])).await;
    let after = ask(bed, gateway).await;
    let outcome = requests.stop().await;
    eprintln!(
        "{prefix}: {} requests, the slowest {:?}, failed: {:?}",
        outcome.sent, outcome.slowest, outcome.failed
    );
    assert_eq!(code, 0, "{out}{error}");
    assert_eq!(after.unwrap().0, 200);
    assert!(outcome.failed.is_empty(), "{:?}\n{out}", outcome.failed);
    assert!(outcome.sent > 100, "too few to tell: {}", outcome.sent);
    assert!(
        outcome.slowest > ANSWER,
        "they take their time: {:?}",
        outcome.slowest
    );

    // Everything is the operator's, and nothing by hand is left.
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    let left = objects(bed, &model).await;
    assert!(left.iter().all(|(_, owned)| *owned), "{left:?}");
    for kind in [
        "InferencePool demo",
        "HTTPRoute demo",
        "Deployment demo-epp",
        "DestinationRule demo-epp",
    ] {
        assert!(
            left.iter().any(|(name, _)| name == kind),
            "{kind}: {left:?}"
        );
    }
    // Not even a field of the route.
    let route = model
        .child(ChildKind::HTTPRoute, "demo")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(route.data["spec"]["rules"].as_array().unwrap().len(), 1);
    let rule = &route.data["spec"]["rules"][0];
    assert_eq!(rule["matches"][0]["path"]["value"], "/", "{rule}");
    let kept = std::fs::read_to_string(&backup).unwrap();
    assert_eq!(testbed::documents(&kept).unwrap().len(), before.len());

    let (code, out, error) = kthena_bridge(bed, &arguments(&namespace, &backup, &["--yes"])).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("nothing was made by hand for it"), "{out}");
    plan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_other_names_are_replaced_without_a_failed_request() {
    let bed = bed().await;
    let manifests = BY_HAND
        .replace("demo-epp", "kthena-demo-epp")
        .replace("name: demo}", "name: kthena-demo}")
        .replace("--pool-name=demo", "--pool-name=kthena-demo");
    let plan = hand_over(bed.bed, "migrate", &manifests).await;
    assert!(plan.contains("has the requests (RouteConflict)"), "{plan}");
    assert!(!plan.contains("NameConflict"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_the_names_that_are_needed_are_replaced_without_a_failed_request() {
    let bed = bed().await;
    let plan = hand_over(bed.bed, "migrate-names", BY_HAND).await;
    assert!(plan.contains("its name is needed (NameConflict)"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_handed_over_is_left_as_it_is() {
    let bed = bed().await;
    let namespace = bed.namespace("migrate-not").await.unwrap();
    let (model, gateway) = by_hand(bed.bed, &namespace, BY_HAND).await;
    let backup = bed.dir().join("migrate-not.yaml").display().to_string();
    let before = objects(bed.bed, &model).await;

    // A filter that no annotation asks for.
    let routes = model.children_api(ChildKind::HTTPRoute).unwrap();
    let route = |filters: Value| {
        let patch = json!({"spec": {"rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "filters": filters,
            "backendRefs": [{"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "demo"}]}]}});
        let routes = routes.clone();
        async move {
            let params = kube::api::PatchParams::default();
            let patched = routes
                .patch("demo", &params, &kube::api::Patch::Merge(patch))
                .await;
            patched.map(drop).unwrap();
        }
    };
    route(json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]}}])).await;
    let (code, _, error) = kthena_bridge(&bed, &arguments(&namespace, &backup, &["--yes"])).await;
    assert_eq!(code, 1, "{error}");
    assert!(
        error.contains("HTTPRoute demo has a filter RequestHeaderModifier"),
        "{error}"
    );
    route(json!([])).await;

    // An endpoint picker that cannot be copied gets ready never: an image that nobody has.
    let deployments: Api<Deployment> = Api::namespaced(bed.client().unwrap(), namespace.name());
    let accounts: Api<ServiceAccount> = Api::namespaced(bed.client().unwrap(), namespace.name());
    let pause = json!({"spec": {"paused": true, "template": {"spec": {"containers": [{"name": "epp", "image": "nobody/has:v1"}]}}}});
    let params = kube::api::PatchParams::default();
    deployments
        .patch("demo-epp", &params, &kube::api::Patch::Strategic(pause))
        .await
        .unwrap();
    let requests = Requests::start(bed.bed, gateway);
    let mut flags = arguments(&namespace, &backup, &["--yes"]);
    flags.retain(|flag| !flag.starts_with("--timeout"));
    flags.push("--timeout=3");
    let (code, out, error) = kthena_bridge(&bed, &flags).await;
    let outcome = requests.stop().await;
    assert_eq!(code, 1, "{out}{error}");
    assert!(
        error.contains("Deployment demo-epp-by-hand is ready: not after 3 s"),
        "{error}"
    );
    assert!(error.contains("The Model is as it was before"), "{error}");
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
    assert_eq!(objects(bed.bed, &model).await, before);
    assert!(
        accounts
            .get_opt("demo-epp-by-hand")
            .await
            .unwrap()
            .is_none()
    );
    let annotations = model
        .get()
        .await
        .unwrap()
        .metadata
        .annotations
        .unwrap_or_default();
    assert!(
        !annotations
            .keys()
            .any(|key| key.starts_with("kthena-bridge.io/")),
        "{annotations:?}"
    );
    // The file of an earlier run is not written over.
    let (code, _, error) = kthena_bridge(&bed, &flags).await;
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("name another file with --backup"), "{error}");
}

/// With a release called as the Model, to uninstall it later would delete what the operator has made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_helm_keeps_is_let_go_by_helm_without_a_failed_request() {
    let bed = bed().await;
    let namespace = bed.namespace("migrate-helm").await.unwrap();
    let chart = bed.dir().join("by-hand-chart");
    std::fs::create_dir_all(chart.join("templates")).unwrap();
    let about = "apiVersion: v2\nname: by-hand\nversion: 0.1.0\n";
    std::fs::write(chart.join("Chart.yaml"), about).unwrap();
    let (gateway, release): (Vec<&str>, Vec<&str>) = BY_HAND
        .split("\n---\n")
        .partition(|document| document.contains("kind: Gateway\n"));
    let release = release.join("\n---\n");
    let release = release.replace("NAMESPACE.svc", &format!("{}.svc", namespace.name()));
    std::fs::write(chart.join("templates/all.yaml"), release).unwrap();
    let helm = bed.helm();
    let chart = chart.display().to_string();
    helm.run(&["install", "demo", &chart, "--namespace", namespace.name()])
        .await
        .unwrap();
    let (model, gateway) = by_hand(bed.bed, &namespace, &gateway.join("\n---\n")).await;

    let requests = Requests::start(bed.bed, gateway);
    let file = |name: &str| bed.dir().join(name).display().to_string();
    let first = file("migrate-helm-1.yaml");
    let (code, out, error) = kthena_bridge(&bed, &arguments(&namespace, &first, &["--yes"])).await;
    let uninstall = format!("helm -n {} uninstall demo", namespace.name());
    let kept = (code, error.contains(&uninstall));
    let uninstalled = helm
        .run(&[
            "uninstall",
            "demo",
            "--namespace",
            namespace.name(),
            "--wait",
        ])
        .await;
    let second = file("migrate-helm-2.yaml");
    let again = kthena_bridge(&bed, &arguments(&namespace, &second, &["--yes"])).await;
    let outcome = requests.stop().await;
    eprintln!(
        "helm: {} requests, the slowest {:?}, failed: {:?}",
        outcome.sent, outcome.slowest, outcome.failed
    );
    assert_eq!(kept, (1, true), "{out}{error}");
    uninstalled.unwrap();
    assert_eq!(again.0, 0, "{}{}", again.1, again.2);
    assert!(
        outcome.failed.is_empty(),
        "{:?}\n{out}{}",
        outcome.failed,
        again.1
    );
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    let left = objects(bed.bed, &model).await;
    assert!(left.iter().all(|(_, owned)| *owned), "{left:?}");
}
