//! A release whose values change: each form of it can become each other one.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use testbed::{OPERATOR, Release, TestBed, chart};

use crate::RELEASE;
use crate::template::values_file;

const WITHOUT: &str = ", leaderElection: {enabled: false}}";
const LIMIT: Duration = Duration::from_secs(40);

/// The operator that has the Lease, once it is another one than `before`, and a pod that there is: where leader
/// election was turned off, the Lease stays as it was.
async fn wait_for_leader(
    bed: &TestBed,
    client: &Client,
    namespace: &str,
    before: Option<&str>,
) -> String {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let what = format!("an operator other than {before:?} has the Lease");
    let looked = bed.wait_for(what, LIMIT, async || {
        let lease = leases.get(OPERATOR).await.map_err(|e| e.to_string())?;
        let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.clone());
        let holder = holder
            .filter(|holder| !holder.is_empty() && before != Some(holder))
            .ok_or_else(|| format!("{:?}", lease.spec))?;
        pods.get(&holder).await.map_err(|e| e.to_string())?;
        Ok(holder)
    });
    looked.await.unwrap()
}

#[tokio::test]
async fn one_operator_becomes_two_and_one_again() {
    let _release = RELEASE.lock().await;
    let bed = TestBed::shared().unwrap();
    let namespace = bed.namespace("changed").await.unwrap();
    let name = namespace.name();
    let release = bed.release(&chart(), name);
    let client = bed.client().unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), name);
    let roles: Api<Role> = Api::namespaced(client.clone(), name);
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), name);
    let pods: Api<Pod> = Api::namespaced(client.clone(), name);
    for (installed, values, strategy, elects, budget) in [
        (false, WITHOUT, "Recreate", false, false),
        (true, ", replicas: 2}", "RollingUpdate", true, true),
        (true, WITHOUT, "Recreate", false, false),
        (true, "}", "RollingUpdate", true, false),
        (true, WITHOUT, "Recreate", false, false),
    ] {
        // It is confined to its namespace, and so in nobody's way.
        let file = values_file("changed", &format!("{{watchNamespaces: [{name}]{values}"));
        let more = ["--values", file.to_str().unwrap()];
        let more = [&more[..], &Release::WAIT].concat();
        if installed {
            release.upgrade(&more).await.unwrap();
        } else {
            release.install(&more).await.unwrap();
        }
        let spec = deployments.get(OPERATOR).await.unwrap().spec.unwrap();
        let found = spec.strategy.unwrap().type_;
        assert_eq!(found.as_deref(), Some(strategy), "{values}");
        let leader = roles.get_opt("kthena-bridge-leader-election").await;
        assert_eq!(leader.unwrap().is_some(), elects, "{values}");
        let found = budgets.get_opt(OPERATOR).await.unwrap();
        assert_eq!(found.is_some(), budget, "{values}");
        if elects {
            let leader = wait_for_leader(bed, &client, name, None).await;
            pods.delete(&leader, &DeleteParams::default())
                .await
                .unwrap();
            wait_for_leader(bed, &client, name, Some(&leader)).await;
        }
    }
    release.uninstall(&[]).await.unwrap();
    let kept = roles.list(&ListParams::default()).await.unwrap().items;
    let kept: Vec<_> = kept.into_iter().map(|role| role.metadata.name).collect();
    assert_eq!(kept, [Some("kthena-bridge-endpoint-picker".to_owned())]);
}
