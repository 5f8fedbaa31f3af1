//! The chart's release: install, test, upgrade and uninstall, with a request loop meanwhile.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::Role;
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::Value;
use testbed::{Helm, Model, OPERATOR, OPERATOR_NAMESPACE, TestBed, chart, is_ready};

use crate::{LIMIT, PICKERS_ROLE, ask};

/// The requests that go through the Gateway while the operator is upgraded and uninstalled.
const REQUESTS: usize = 1_000;
const WAIT: [&str; 3] = ["--wait", "--timeout", "60s"];

/// The operator as a release of the chart.
pub(crate) struct Release<'a> {
    bed: &'a TestBed,
    helm: Helm,
}

impl<'a> Release<'a> {
    pub(crate) async fn install(bed: &'a TestBed, values: &Value) -> Self {
        let file = bed.dir().join("namespaced.values.yaml");
        std::fs::write(&file, values.to_string()).unwrap();
        let helm = bed.helm();
        let release = Self { bed, helm };
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (chart, file) = (path(&chart()), path(&file));
        let install = [
            "install",
            OPERATOR,
            &chart,
            "--create-namespace",
            "--values",
            &file,
        ];
        release.run(&[&install[..], &WAIT].concat()).await.unwrap();
        release
    }

    /// Runs `helm test`, and gives what the check has logged.
    pub(crate) async fn test(&self) -> (testbed::Result<String>, String) {
        let said = self.run(&["test", OPERATOR, "--timeout", "60s"]).await;
        // The bed's kubelet serves no logs, for which Helm would ask it.
        let log = self
            .bed
            .container_log(OPERATOR_NAMESPACE, "kthena-bridge-check", "check");
        (said, log)
    }

    async fn run(&self, args: &[&str]) -> testbed::Result<String> {
        let namespace = ["--namespace", OPERATOR_NAMESPACE];
        self.helm.run(&[args, &namespace].concat()).await
    }

    pub(crate) async fn uninstall(&self) {
        self.run(&["uninstall", OPERATOR, "--wait"]).await.unwrap();
    }

    /// Upgrades to another configuration and uninstalls, with a request loop around it.
    pub(crate) async fn upgrade_and_uninstall(&self, model: &Model<'_>, gateway: Ipv4Addr) {
        let bed = self.bed;
        let (done, asked, failed) = (Cell::new(false), Cell::new(0), RefCell::new(Vec::new()));
        let requests = async {
            while !done.get() || asked.get() < REQUESTS {
                asked.set(asked.get() + 1);
                if let Err(error) = ask(bed, gateway).await {
                    failed.borrow_mut().push(error);
                }
            }
        };
        let steps = async {
            let chart = chart();
            let upgrade = [
                "upgrade",
                OPERATOR,
                chart.to_str().unwrap(),
                "--reuse-values",
                "--set",
                "config.failureMode=FailClose",
            ];
            self.run(&[&upgrade[..], &WAIT].concat()).await.unwrap();
            wait_for_failure_mode(bed, model, "FailClose").await;
            let upgraded = asked.get();
            self.uninstall().await;
            let looked = bed.wait_for("the operator is gone", LIMIT, async || {
                let found = pods(bed, OPERATOR_NAMESPACE, OPERATOR).await?;
                let names: Vec<_> = found.iter().map(|pod| &pod.metadata.name).collect();
                if found.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{names:?}"))
                }
            });
            looked.await.unwrap();
            done.set(true);
            (upgraded, asked.get() - upgraded)
        };
        let ((upgrade, uninstall), ()) = tokio::join!(steps, requests);
        let (asked, failed) = (asked.get(), failed.into_inner());
        let seen = format!(
            "{upgrade} of {asked} sent during the upgrade, {uninstall} during the uninstall"
        );
        eprintln!("{seen}; {} failed", failed.len());
        assert_eq!(failed, Vec::<String>::new(), "{seen}");
        assert!(upgrade > 0 && uninstall > 0, "{seen}");
    }
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

/// The pods of a Deployment.
pub(crate) async fn pods(bed: &TestBed, namespace: &str, name: &str) -> Result<Vec<Pod>, String> {
    let client = bed.client().map_err(|e| e.to_string())?;
    let all: Api<Pod> = Api::namespaced(client, namespace);
    let found = all
        .list(&ListParams::default())
        .await
        .map_err(|e| e.to_string())?;
    let label = "pod-template-hash";
    let named = found.items.into_iter().filter(|pod| {
        let pods = pod.metadata.name.as_deref().unwrap_or_default();
        let labels = pod.metadata.labels.as_ref();
        pods.starts_with(&format!("{name}-")) && labels.is_some_and(|l| l.contains_key(label))
    });
    Ok(named.collect())
}

/// Waits until the endpoint picker has this one pod, other than `before`, and it is ready.
async fn wait_for_picker(bed: &TestBed, namespace: &str, before: Option<&str>) -> String {
    let what = format!("the endpoint picker has a ready pod other than {before:?}");
    let looked = bed.wait_for(what, LIMIT, async || {
        let found = pods(bed, namespace, "demo-epp").await?;
        let ready = found.len() == 1 && found.iter().all(is_ready);
        let name = found.first().and_then(|pod| pod.metadata.name.clone());
        name.filter(|name| ready && before != Some(name))
            .ok_or_else(|| format!("{found:?}"))
    });
    looked.await.unwrap()
}

/// Without the operator and its Role, the endpoint picker has all that it needs to start.
pub(crate) async fn restart_the_picker(bed: &TestBed, model: &Model<'_>) {
    let client = bed.client().unwrap();
    let roles: Api<Role> = Api::namespaced(client.clone(), model.namespace());
    assert!(roles.get_opt(OPERATOR).await.unwrap().is_none());
    assert!(roles.get_opt(PICKERS_ROLE).await.unwrap().is_some());
    let picker = wait_for_picker(bed, model.namespace(), None).await;
    Api::<Pod>::namespaced(client, model.namespace())
        .delete(&picker, &DeleteParams::default())
        .await
        .unwrap();
    wait_for_picker(bed, model.namespace(), Some(&picker)).await;
}
