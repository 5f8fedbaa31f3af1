//! A release whose values change: every form of it can become every other.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use testbed::{OPERATOR, TestBed};

use crate::chart;
use crate::template::values_file;

#[tokio::test]
async fn leader_election_is_turned_on_and_off() {
    let bed = TestBed::shared().unwrap();
    let namespace = bed.namespace("changed").await.unwrap();
    let (helm, name) = (bed.helm(), namespace.name());
    let client = bed.client().unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), name);
    let roles: Api<Role> = Api::namespaced(client.clone(), name);
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client, name);
    // It is confined to its namespace, so that it is in nobody's way.
    let release = format!("{{watchNamespaces: [{name}]");
    for (command, values, strategy, elects, budget) in [
        ("install", "}", "Recreate", false, false),
        ("upgrade", ", replicas: 2}", "RollingUpdate", true, true),
        ("upgrade", "}", "Recreate", false, false),
        (
            "upgrade",
            ", leaderElection: {enabled: true}}",
            "RollingUpdate",
            true,
            false,
        ),
        ("upgrade", ", replicas: 1}", "Recreate", false, false),
    ] {
        let file = values_file("changed", &format!("{release}{values}"));
        let args = [
            command,
            OPERATOR,
            &chart(),
            "--namespace",
            name,
            "--values",
            file.to_str().unwrap(),
        ];
        helm.run(&args).await.unwrap();
        let spec = deployments.get(OPERATOR).await.unwrap().spec.unwrap();
        let found = spec.strategy.unwrap().type_;
        assert_eq!(found.as_deref(), Some(strategy), "{values}");
        let leader = roles
            .get_opt("kthena-bridge-leader-election")
            .await
            .unwrap();
        assert_eq!(leader.is_some(), elects, "{values}");
        let found = budgets.get_opt(OPERATOR).await.unwrap();
        assert_eq!(found.is_some(), budget, "{values}");
    }
    helm.run(&["uninstall", OPERATOR, "--namespace", name])
        .await
        .unwrap();
    let kept: Vec<String> = roles
        .list(&kube::api::ListParams::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .filter_map(|role| role.metadata.name)
        .collect();
    assert_eq!(kept, ["kthena-bridge-endpoint-picker"]);
}
