//! The chart with `watchNamespaces`: an operator that has rights in these namespaces only. In a test binary of
//! its own, since every request of the bed's operator is looked at.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use kthena_bridge_api::child::ChildKind;
use serde_json::{Value, json};
use testbed::audit::Request;
use testbed::{Model, Namespace, OPERATOR_NAMESPACE, Release, TestBed, chart, kthena_bridge};

const LIMIT: Duration = Duration::from_secs(40);
const PICKERS_ROLE: &str = "kthena-bridge-endpoint-picker";

/// The types of a Model's conditions.
async fn conditions(model: &Model<'_>) -> Vec<String> {
    let object = serde_json::to_value(model.get().await.unwrap()).unwrap();
    let conditions = object["status"]["conditions"].as_array();
    let types = conditions.into_iter().flatten().map(|c| &c["type"]);
    types.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What the operators ask for outside of a namespace. Discovery, which everybody may ask, is about no resource.
fn outside(bed: &TestBed, namespace: &str) -> Vec<Request> {
    let mut requests = bed.audit().unwrap();
    requests.retain(|request| !request.resource.is_empty() && request.namespace != namespace);
    requests
}

#[tokio::test]
async fn an_operator_of_one_namespace_asks_for_nothing_elsewhere() {
    let bed = TestBed::shared().unwrap();
    let team = bed.namespace("team").await.unwrap();
    let other = bed.namespace("other").await.unwrap();
    let address = team.gateway("inference-gateway").await.unwrap();
    other.gateway("inference-gateway").await.unwrap();

    let values = json!({
        "replicas": 2,
        "watchNamespaces": [team.name()],
        "config": {"gateways": [
            {"namespace": team.name(), "name": "inference-gateway", "provider": "istio"},
        ]},
    });
    let file = bed.dir().join("namespaced.values.yaml");
    std::fs::write(&file, values.to_string()).unwrap();
    let release = bed.release(&chart(), OPERATOR_NAMESPACE);
    let values = ["--values", file.to_str().unwrap()];
    release
        .install(&[&values[..], &Release::WAIT].concat())
        .await
        .unwrap();

    // That of the other namespace is asked for first.
    let elsewhere = other.model("demo").await.unwrap();
    elsewhere
        .annotate_exposed("inference-gateway", &[])
        .await
        .unwrap();
    elsewhere
        .wait_for_condition("Active", "True")
        .await
        .unwrap();
    let model = team.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    // The engine does not serve this name: only the endpoint picker makes it one that it does.
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    let binding = model.child(ChildKind::RoleBinding, "demo-epp").await;
    let binding = binding.unwrap().unwrap();
    assert_eq!(binding.data["roleRef"]["kind"], "Role");
    assert_eq!(binding.data["roleRef"]["name"], PICKERS_ROLE);

    let found = elsewhere.children().await.unwrap();
    assert!(found.is_empty(), "{found:?}");
    let found = conditions(&elsewhere).await;
    assert!(!found.contains(&"Accepted".to_owned()), "{found:?}");
    // The Lease is created and renewed, and that is all that is asked for elsewhere.
    let leases: BTreeSet<String> = ["create", "get", "update"].map(str::to_owned).into();
    let looked = bed.wait_for("the Lease is renewed", LIMIT, async || {
        let outside = outside(bed, team.name());
        let verbs: BTreeSet<String> = outside.iter().map(|r| r.verb.clone()).collect();
        if verbs == leases {
            Ok(outside)
        } else {
            Err(format!("{outside:?}"))
        }
    });
    for request in looked.await.unwrap() {
        assert_eq!(request.group, "coordination.k8s.io", "{request:?}");
        assert_eq!(request.resource, "leases", "{request:?}");
        assert_eq!(request.namespace, OPERATOR_NAMESPACE, "{request:?}");
    }
    let requests = bed.audit().unwrap();
    let refused: Vec<_> = requests.iter().filter(|r| r.code == 403).collect();
    assert!(refused.is_empty(), "{refused:?}");

    commands_decide_as_it_does(bed, &team, &other).await;

    // What serves does not need the operator.
    release.uninstall(&["--wait"]).await.unwrap();
    let answer = bed.ask(address, "", "demo").await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The commands, with all rights, see more than the operator does.
async fn commands_decide_as_it_does(bed: &TestBed, team: &Namespace<'_>, other: &Namespace<'_>) {
    let run = async |args: &[&str]| {
        let said = kthena_bridge(bed.kubeconfig(), args).await.unwrap();
        (said.code, said.output + &said.error)
    };
    let (code, text) = run(&["diff", "demo", "--namespace", team.name()]).await;
    assert_eq!(code, 0, "{text}");
    let (code, text) = run(&["diff", "demo", "--namespace", other.name()]).await;
    assert_eq!(code, 0, "{text}");
    let said = format!("the operator does not watch namespace {}", other.name());
    assert!(text.contains(&said), "{text}");
    let (code, text) = run(&["tree", "demo", "--namespace", other.name()]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&said), "{text}");

    let (_, text) = run(&["check"]).await;
    let role = format!("Role {}/{PICKERS_ROLE}", team.name());
    for said in [
        "√ the operator has all rights that it needs",
        &format!("√ endpoint pickers get all rights by {role}"),
        "√ 1 of 1 Models are exposed, and served",
    ] {
        assert!(text.contains(said), "{said}:\n{text}");
    }
}
