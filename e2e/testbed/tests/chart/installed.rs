//! The packed chart on a cluster: install, upgrade, uninstall, and a request loop meanwhile.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use testbed::{Model, OPERATOR, OPERATOR_NAMESPACE, Release, TestBed};

use crate::metrics::asked_for;
use crate::{RELEASE, chart};

const LIMIT: Duration = Duration::from_secs(40);
/// The requests that go through the Gateway while the operator is upgraded and uninstalled.
const REQUESTS: usize = 1_000;
const PICKERS_ROLE: &str = "kthena-bridge-endpoint-picker";

/// The chart as it is published.
async fn packed(bed: &TestBed) -> PathBuf {
    let folder = bed.dir().join("packed");
    let args = [
        "package",
        &chart(),
        "--destination",
        folder.to_str().unwrap(),
    ];
    bed.helm().run(&args).await.unwrap();
    folder.join("kthena-bridge-0.1.0.tgz")
}

async fn wait_until_the_operator_is_gone(bed: &TestBed) {
    let looked = bed.wait_for("the operator is gone", LIMIT, async || {
        let found = bed.pods_of(OPERATOR_NAMESPACE, OPERATOR).await?;
        if found.is_empty() {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    });
    looked.await.unwrap();
}

/// The operator that runs gives what alerts and dashboard ask for, but for what has not happened.
async fn compare_metrics(bed: &TestBed) {
    let found = bed.pods_of(OPERATOR_NAMESPACE, OPERATOR).await.unwrap();
    let address = found[0].status.as_ref().and_then(|s| s.pod_ip.as_deref());
    let url = format!("http://{}:8080/metrics", address.unwrap());
    let text = bed.get(&url).await.unwrap().body;
    for metric in asked_for().await {
        let sample = text.lines().any(|line| {
            line.starts_with(&format!("{metric}{{")) || line.starts_with(&format!("{metric} "))
        });
        assert!(
            sample || metric == "kthena_bridge_watch_errors_total",
            "{metric}: {text}"
        );
    }
}

/// What the operator itself can tell of the cluster, by a Pod that is as restricted as its own.
async fn check(bed: &TestBed, release: &Release) {
    let said = release.test(&["--timeout", "60s"]).await.unwrap();
    assert!(said.contains("Phase:          Succeeded"), "{said}");
    // The bed's kubelet serves no logs, for which Helm would ask it.
    let log = bed.container_log(OPERATOR_NAMESPACE, "kthena-bridge-check", "check");
    assert!(log.contains("√ the operator is ready"), "{log}");
}

/// Has the namespace take only pods that fit the Pod Security Standard.
async fn restrict(bed: &TestBed, namespace: &str) {
    let label = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let patch = Patch::Merge(json!({"metadata": {"labels": label}}));
    Api::<Namespace>::all(bed.client().unwrap())
        .patch(namespace, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Who may edit a namespace may write ModelExposures there, and who may look at it may read them and no more.
async fn edit_and_view_are_widened(bed: &TestBed) {
    let roles: Api<ClusterRole> = Api::all(bed.client().unwrap());
    for (name, reads, writes) in [("edit", true, true), ("view", true, false)] {
        let looked = bed.wait_for(format!("the role {name} is widened"), LIMIT, async || {
            let rules = roles.get(name).await.map_err(|e| e.to_string())?.rules;
            let rules = rules.unwrap_or_default();
            let of_exposures = rules.iter().filter(|rule| {
                let resources = rule.resources.iter().flatten();
                resources.into_iter().any(|r| r == "modelexposures")
            });
            let verbs: Vec<&String> = of_exposures.flat_map(|rule| &rule.verbs).collect();
            let may = |wanted: &str| verbs.iter().any(|verb| *verb == wanted);
            let fits = (may("list"), may("create")) == (reads, writes);
            fits.then_some(()).ok_or_else(|| format!("{verbs:?}"))
        });
        looked.await.unwrap();
    }
}

/// Upgrades to another configuration and uninstalls, with a request loop around it.
async fn upgrade_and_uninstall(
    bed: &TestBed,
    release: &Release,
    model: &Model<'_>,
    gateway: Ipv4Addr,
) {
    let requests = bed.requests(gateway);
    let steps = async {
        let changed = [
            "--set",
            "config.reachable.enabled=true,config.reachable.intervalSeconds=1",
        ];
        let args = [&changed[..], &Release::WAIT].concat();
        release.upgrade(&args).await.unwrap();
        // The new configuration is in effect.
        model.wait_for_condition("Reachable", "True").await.unwrap();
        let upgraded = requests.sent();
        release.uninstall(&[]).await.unwrap();
        wait_until_the_operator_is_gone(bed).await;
        (upgraded, requests.sent() - upgraded)
    };
    let (upgrade, uninstall) = requests.during(REQUESTS, steps).await;
    let (asked, failed) = (requests.sent(), requests.failed());
    let seen =
        format!("{upgrade} of {asked} sent during the upgrade, {uninstall} during the uninstall");
    assert_eq!(failed, Vec::<String>::new(), "{seen}");
    assert!(upgrade > 0 && uninstall > 0, "{seen}");
}

/// Without the operator, the endpoint picker has all that it needs to start.
async fn restart_the_picker(bed: &TestBed, model: &Model<'_>, gateway: Ipv4Addr) {
    let client = bed.client().unwrap();
    let roles: Api<ClusterRole> = Api::all(client.clone());
    assert!(roles.get_opt(OPERATOR).await.unwrap().is_none());
    assert!(roles.get_opt(PICKERS_ROLE).await.unwrap().is_some());
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    assert!(bindings.get_opt(OPERATOR).await.unwrap().is_none());
    for kind in [ChildKind::RoleBinding, ChildKind::Deployment] {
        let kept = model.child(kind, "demo-epp").await.unwrap();
        assert!(kept.is_some(), "{kind}");
    }
    model.restart_picker().await.unwrap();
    bed.wait_for_answer(gateway, "", "demo", 200).await.unwrap();
}

/// The definition and the role that were kept, and what was installed without Helm, are in nobody's way who means it.
async fn install_again(bed: &TestBed, chart: &Path, release: &Release) {
    release.install(&Release::WAIT).await.unwrap();
    release.uninstall(&[]).await.unwrap();

    let elsewhere = bed.release(chart, "elsewhere");
    let refused = elsewhere.install(&[]).await.unwrap_err();
    let refused = refused.to_string();
    // Helm names the first of them only.
    assert!(
        refused.contains("modelexposures.kthena-bridge.io")
            && refused.contains("invalid ownership metadata"),
        "{refused}"
    );
    elsewhere.install(&["--take-ownership"]).await.unwrap();
    elsewhere.uninstall(&[]).await.unwrap();

    bed.install_operator().await.unwrap();
    let take = ["--take-ownership", "--force-conflicts"];
    release
        .install(&[&take[..], &Release::WAIT].concat())
        .await
        .unwrap();
}

#[tokio::test]
async fn install_upgrade_and_uninstall_interrupt_nothing() {
    let _release = RELEASE.lock().await;
    let bed = TestBed::shared().unwrap();
    let chart = packed(bed).await;
    let release = bed.release(&chart, OPERATOR_NAMESPACE);
    release.install(&Release::WAIT).await.unwrap();
    // The pod of the upgrade has to fit.
    restrict(bed, OPERATOR_NAMESPACE).await;

    let namespace = bed.namespace("chart").await.unwrap();
    let gateway = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    bed.wait_for_answer(gateway, "", "demo", 200).await.unwrap();
    compare_metrics(bed).await;
    check(bed, &release).await;
    edit_and_view_are_widened(bed).await;

    upgrade_and_uninstall(bed, &release, &model, gateway).await;
    restart_the_picker(bed, &model, gateway).await;
    install_again(bed, &chart, &release).await;
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    bed.wait_for_answer(gateway, "", "demo", 200).await.unwrap();
}
