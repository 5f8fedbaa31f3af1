//! The chart with `watchNamespaces`: an operator that has rights in these namespaces only. In a test binary of
//! its own, since every request of the bed's operator is looked at.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

mod release;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::Role;
use kthena_bridge_api::child::ChildKind;
use kthena_bridge_core::OwnerKind;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use testbed::audit::Request;
use testbed::{
    Model, Namespace, OPERATOR, OPERATOR_NAMESPACE, Release, TestBed, exposed_by, kthena_bridge,
};

const LIMIT: Duration = Duration::from_secs(40);
const PICKERS_ROLE: &str = "kthena-bridge-endpoint-picker";

/// A Gateway that takes routes of these namespaces.
async fn gateway(bed: &TestBed, of: &Namespace<'_>, name: &str, namespaces: &Value) -> Ipv4Addr {
    let listener = json!({"name": "http", "port": 80, "protocol": "HTTP",
        "allowedRoutes": {"namespaces": namespaces}});
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": name},
        "spec": {"gatewayClassName": "istio", "listeners": [listener]}});
    of.apply(&gateway.to_string()).await.unwrap();
    bed.gateway_address(of.name(), name).await.unwrap()
}

/// The types of a Model's conditions.
async fn conditions(model: &Model<'_>) -> Vec<String> {
    let object = serde_json::to_value(model.get().await.unwrap()).unwrap();
    let conditions = object["status"]["conditions"].as_array();
    let types = conditions.into_iter().flatten().map(|c| &c["type"]);
    types.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What the operators ask for outside of namespaces. Discovery, which everybody may ask, is about no resource.
fn outside(bed: &TestBed, namespaces: &[&str]) -> Vec<Request> {
    let mut requests = bed.audit().unwrap();
    requests.retain(|request| {
        !request.resource.is_empty() && !namespaces.contains(&request.namespace.as_str())
    });
    requests
}

/// The namespaces of the test: two that are watched, and two that are not.
struct Namespaces<'a> {
    team: Namespace<'a>,
    second: Namespace<'a>,
    other: Namespace<'a>,
    infra: Namespace<'a>,
}

impl<'a> Namespaces<'a> {
    async fn new(bed: &'a TestBed) -> Self {
        let [team, second, other, infra] = ["team", "second", "other", "infra"]
            .map(async |name| bed.namespace(name).await.unwrap());
        Self {
            team: team.await,
            second: second.await,
            other: other.await,
            infra: infra.await,
        }
    }

    fn watched(&self) -> [&str; 2] {
        [self.team.name(), self.second.name()]
    }
}

#[tokio::test]
async fn an_operator_of_namespaces_serves_them_and_asks_for_nothing_elsewhere() {
    let bed = TestBed::shared().unwrap();
    // The chart leaves them to whoever owns the cluster.
    bed.install_own_crds().await.unwrap();
    let namespaces = Namespaces::new(bed).await;
    let shared = gateway(bed, &namespaces.infra, "shared", &json!({"from": "All"})).await;
    let of_infra = format!("{}/shared", namespaces.infra.name());

    let values = json!({
        "replicas": 2,
        "watchNamespaces": namespaces.watched(),
        "config": {"gateways": [
            {"namespace": namespaces.infra.name(), "name": "shared", "provider": "istio"},
            {"namespace": namespaces.team.name(), "name": "by-label", "provider": "istio"},
        ]},
    });
    let release = release::install(bed, &values).await;

    // That of the other namespace is asked for first.
    let elsewhere = namespaces.other.model("demo").await.unwrap();
    let exposed = [
        ("expose", Some("true")),
        ("gateway", Some(of_infra.as_str())),
    ];
    elsewhere.annotate(&exposed).await.unwrap();
    elsewhere
        .wait_for_condition("Active", "True")
        .await
        .unwrap();
    let model = namespaces.team.model("demo").await.unwrap();
    a_gateway_of_another_namespace_serves(bed, &model, &of_infra, shared).await;
    what_may_not_be_known_is_told(bed, &namespaces.team, &model).await;
    model
        .annotate(&[("gateway", Some(of_infra.as_str()))])
        .await
        .unwrap();
    model.wait_for_condition("Accepted", "True").await.unwrap();
    bed.wait_for_answer(shared, "", "demo", 200).await.unwrap();

    let another = namespaces.second.model("another").await.unwrap();
    let path = [("path", Some("/another"))];
    another.expose(&of_infra, &path).await.unwrap();
    let found = elsewhere.children().await.unwrap();
    assert!(found.is_empty(), "{found:?}");
    let found = conditions(&elsewhere).await;
    assert!(!found.contains(&"Accepted".to_owned()), "{found:?}");
    only_leases_are_asked_for_elsewhere(bed, &namespaces.watched()).await;

    the_operators_log_is_plain(bed).await;
    the_release_is_checked(bed, &release, &namespaces).await;
    another.annotate(&[("expose", None)]).await.unwrap();
    another.wait_until_withdrawn().await.unwrap();

    release::upgrade_and_uninstall(bed, &release, &model, shared).await;
    release::restart_the_picker(bed, &model).await;
    bed.wait_for_answer(shared, "", "demo", 200).await.unwrap();
    another_service_account_is_checked(bed, values, &namespaces).await;
}

/// It may not be read, and the configuration names it.
async fn a_gateway_of_another_namespace_serves(
    bed: &TestBed,
    model: &Model<'_>,
    gateway: &str,
    address: Ipv4Addr,
) {
    model.expose(gateway, &[]).await.unwrap();
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    let programmed = model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    let unknown = format!("whether Gateway {gateway} is programmed is not known");
    assert!(programmed.message.contains(&unknown), "{programmed:?}");
    let binding = model.child(ChildKind::RoleBinding, "demo-epp").await;
    let binding = binding.unwrap().unwrap();
    assert_eq!(binding.data["roleRef"]["kind"], "Role");
    assert_eq!(binding.data["roleRef"]["name"], PICKERS_ROLE);
}

/// Of the Gateways of a watched namespace, neither the class may be read nor which namespaces a selector means.
async fn what_may_not_be_known_is_told(bed: &TestBed, team: &Namespace<'_>, model: &Model<'_>) {
    gateway(bed, team, "unnamed", &json!({"from": "Same"})).await;
    let own = json!({"matchLabels": {"kubernetes.io/metadata.name": team.name()}});
    let by_label = json!({"from": "Selector", "selector": own});
    let by_label = gateway(bed, team, "by-label", &by_label).await;

    model
        .annotate(&[("gateway", Some("unnamed"))])
        .await
        .unwrap();
    let forbidden = model
        .wait_for_reason("Accepted", "Forbidden")
        .await
        .unwrap();
    assert_eq!(forbidden.status, "False", "{forbidden:?}");
    let hint = "add the Gateway with its provider to gateways in the operator's configuration";
    assert!(forbidden.message.contains(hint), "{forbidden:?}");

    model
        .annotate(&[("gateway", Some("by-label"))])
        .await
        .unwrap();
    let unknown = model
        .wait_for_reason("Accepted", "NotReadable")
        .await
        .unwrap();
    assert_eq!(unknown.status, "Unknown", "{unknown:?}");
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    bed.wait_for_answer(by_label, "", "demo", 200)
        .await
        .unwrap();
}

/// The Lease is created and renewed, and that is all that is asked for elsewhere.
async fn only_leases_are_asked_for_elsewhere(bed: &TestBed, watched: &[&str]) {
    let leases: BTreeSet<String> = ["create", "get", "update"].map(str::to_owned).into();
    let looked = bed.wait_for("the Lease is renewed", LIMIT, async || {
        let outside = outside(bed, watched);
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
}

/// A container's log is no terminal.
async fn the_operators_log_is_plain(bed: &TestBed) {
    for pod in release::operators(bed).await.unwrap() {
        let name = pod.metadata.name.unwrap();
        let log = bed.container_log(OPERATOR_NAMESPACE, &name, OPERATOR);
        assert!(log.contains("INFO"), "{log}");
        assert!(!log.contains('\u{1b}'), "{log}");
    }
}

/// The operator may not read its Deployment, which says what its ServiceAccount is called.
async fn another_service_account_is_checked(
    bed: &TestBed,
    mut values: Value,
    namespaces: &Namespaces<'_>,
) {
    values["serviceAccount"] = json!({"name": "ours"});
    let release = release::install(bed, &values).await;
    let (passed, log) = release::test(bed, &release).await;
    let (code, text) = check(bed, &[]).await;
    release::uninstall(&release).await;
    passed.map_err(|e| format!("{e}\n{log}")).unwrap();
    assert_eq!(code, 0, "{text}");
    let mut watched = namespaces.watched();
    watched.sort_unstable();
    let said = format!(
        "√ the operator has all rights that it needs in {}",
        watched.join(", ")
    );
    assert!(log.contains(&said), "{log}");
    assert!(text.contains(&said), "{text}");
}

/// What `check` says to somebody with all rights: the exit code, and the output.
async fn check(bed: &TestBed, arguments: &[&str]) -> (i32, String) {
    let args = [&["check"], arguments].concat();
    let run = kthena_bridge(bed.kubeconfig(), &args);
    let said = tokio::time::timeout(LIMIT, run).await.unwrap().unwrap();
    (said.code, said.output + &said.error)
}

/// `helm test` passes, and fails while the Role of one namespace lacks a right.
async fn the_release_is_checked(bed: &TestBed, release: &Release, namespaces: &Namespaces<'_>) {
    let mut watched = namespaces.watched();
    watched.sort_unstable();
    let watched = watched.join(", ");
    let (passed, log) = release::test(bed, release).await;
    passed.map_err(|e| format!("{e}\n{log}")).unwrap();
    let infra = namespaces.infra.name();
    let served = match exposed_by() {
        OwnerKind::ModelBooster => {
            "√ all that is exposed is served: 2 of 2 Models by annotations, and 0 ModelExposures"
        }
        OwnerKind::ModelExposure => {
            "√ all that is exposed is served: 0 of 2 Models by annotations, and 2 ModelExposures"
        }
    };
    for said in [
        "√ its configuration is understood",
        &format!("√ the operator has all rights that it needs in {watched}"),
        &format!("‼ Role {PICKERS_ROLE} in {watched}: you may not read this"),
        &format!(
            "‼ Gateway {}/unnamed is not among gateways",
            namespaces.team.name()
        ),
        &format!("‼ whether Gateways of istio are programmed: {infra}/shared: you may not read"),
        "√ all 2 endpoint pickers are ready",
        served,
        "√ nothing failed",
    ] {
        assert!(log.contains(said), "{said}:\n{log}");
    }

    let (code, text) = check(bed, &[]).await;
    assert_eq!(code, 0, "{text}");
    for said in [
        "√ the operator is ready",
        &format!("√ the operator has all rights that it needs in {watched}"),
        &format!("√ endpoint pickers get all rights by Role {PICKERS_ROLE} in {watched}"),
        &format!("{infra}/shared"),
        "provider: istio}]",
    ] {
        assert!(text.contains(said), "{said}:\n{text}");
    }
    let config = json!({"namespaces": namespaces.watched()}).to_string();
    let file = bed.dir().join("namespaced.config.yaml");
    std::fs::write(&file, config).unwrap();
    let pre = ["--pre", "--config", file.to_str().unwrap()];
    let (code, text) = check(bed, &pre).await;
    assert_eq!(code, 0, "{text}");
    let may = "√ you may create what an installation creates";
    assert!(text.contains(may), "{text}");

    let second = namespaces.second.name();
    let roles: Api<Role> = Api::namespaced(bed.client().unwrap(), second);
    let whole = roles.get(OPERATOR).await.unwrap();
    let mut cut = whole.clone();
    for rule in cut.rules.iter_mut().flatten() {
        if rule.resources.iter().flatten().any(|r| r == "httproutes") {
            rule.verbs.retain(|verb| verb != "delete");
        }
    }
    let params = PostParams::default();
    let cut = roles.replace(OPERATOR, &params, &cut).await.unwrap();
    let said =
        format!("× the operator may not delete httproutes.gateway.networking.k8s.io in {second}");
    // The API server's authorizer follows the role by a watch.
    let told = bed.wait_for("helm test fails for the right", LIMIT, async || {
        let (passed, log) = release::test(bed, release).await;
        if passed.is_err() && log.contains(&said) {
            Ok(log)
        } else {
            Err(format!("{passed:?}\n{log}"))
        }
    });
    let (told, (code, text)) = (told.await, check(bed, &[]).await);
    let mut restored = whole;
    restored.metadata.resource_version = cut.metadata.resource_version;
    roles.replace(OPERATOR, &params, &restored).await.unwrap();
    let log = told.unwrap();
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&said), "{text}");
    let of_team = format!(
        "√ the operator has all rights that it needs in {}\n",
        namespaces.team.name()
    );
    assert!(log.contains(&of_team), "{log}");
    assert!(log.contains("× 1 failed"), "{log}");
}
