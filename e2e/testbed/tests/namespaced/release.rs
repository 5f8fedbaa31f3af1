//! What the chart's release is put through with `watchNamespaces`.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::Role;
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use serde_json::Value;
use testbed::{Model, OPERATOR, OPERATOR_NAMESPACE, Release, TestBed, chart};

use crate::{LIMIT, PICKERS_ROLE};

/// The requests that go through the Gateway while the operator is upgraded and uninstalled.
const REQUESTS: usize = 1_000;

/// Installs the operator with these values.
pub(crate) async fn install(bed: &TestBed, values: &Value) -> Release {
    let file = bed.dir().join("namespaced.values.yaml");
    std::fs::write(&file, values.to_string()).unwrap();
    let release = bed.release(&chart(), OPERATOR_NAMESPACE);
    let values = ["--values", file.to_str().unwrap()];
    let args = [&values[..], &Release::WAIT].concat();
    release.install(&args).await.unwrap();
    release
}

/// Runs `helm test`, and gives what the check has logged.
pub(crate) async fn test(bed: &TestBed, release: &Release) -> (testbed::Result<String>, String) {
    let said = release.test(&["--timeout", "60s"]).await;
    // The bed's kubelet serves no logs, for which Helm would ask it.
    let log = bed.container_log(OPERATOR_NAMESPACE, "kthena-bridge-check", "check");
    (said, log)
}

pub(crate) async fn uninstall(release: &Release) {
    release.uninstall(&["--wait"]).await.unwrap();
}

/// The operators' pods; that of a `helm test` that failed stays beside them.
pub(crate) async fn operators(bed: &TestBed) -> Result<Vec<Pod>, String> {
    let mut found = bed.pods_of(OPERATOR_NAMESPACE, OPERATOR).await?;
    found.retain(|pod| {
        let labels = pod.metadata.labels.as_ref();
        labels.is_some_and(|labels| labels.contains_key("pod-template-hash"))
    });
    Ok(found)
}

/// Upgrades to another configuration and uninstalls, with a request loop around it.
pub(crate) async fn upgrade_and_uninstall(
    bed: &TestBed,
    release: &Release,
    model: &Model<'_>,
    gateway: Ipv4Addr,
) {
    let requests = bed.requests(gateway);
    let steps = async {
        let changed = ["--reuse-values", "--set", "config.failureMode=FailClose"];
        let args = [&changed[..], &Release::WAIT].concat();
        release.upgrade(&args).await.unwrap();
        wait_for_failure_mode(bed, model, "FailClose").await;
        let upgraded = requests.sent();
        uninstall(release).await;
        let looked = bed.wait_for("the operator is gone", LIMIT, async || {
            let found = operators(bed).await?;
            let names: Vec<_> = found.iter().map(|pod| &pod.metadata.name).collect();
            if found.is_empty() {
                Ok(())
            } else {
                Err(format!("{names:?}"))
            }
        });
        looked.await.unwrap();
        (upgraded, requests.sent() - upgraded)
    };
    let (upgrade, uninstall) = requests.during(REQUESTS, steps).await;
    let (asked, failed) = (requests.sent(), requests.failed());
    let seen =
        format!("{upgrade} of {asked} sent during the upgrade, {uninstall} during the uninstall");
    eprintln!("{seen}; {} failed", failed.len());
    assert_eq!(failed, Vec::<String>::new(), "{seen}");
    assert!(upgrade > 0 && uninstall > 0, "{seen}");
}

/// Waits until the operator has written what its configuration says.
async fn wait_for_failure_mode(bed: &TestBed, model: &Model<'_>, mode: &str) {
    let what = format!("the InferencePool's failure mode is {mode}");
    let looked = bed.wait_for(what, LIMIT, async || {
        let pool = model.child(ChildKind::InferencePool, "demo").await?;
        let reference = pool.map(|pool| pool.data["spec"]["endpointPickerRef"].clone());
        if reference.as_ref().is_some_and(|r| r["failureMode"] == mode) {
            Ok(())
        } else {
            Err(format!("{reference:?}"))
        }
    });
    looked.await.unwrap();
}

/// Without the operator and its Role, the endpoint picker has all that it needs to start.
pub(crate) async fn restart_the_picker(bed: &TestBed, model: &Model<'_>) {
    let roles: Api<Role> = Api::namespaced(bed.client().unwrap(), model.namespace());
    assert!(roles.get_opt(OPERATOR).await.unwrap().is_none());
    assert!(roles.get_opt(PICKERS_ROLE).await.unwrap().is_some());
    model.restart_picker().await.unwrap();
}
