//! Two operators, one of which works. In a test binary of its own, since it ends them.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use testbed::{Model, OPERATOR, OPERATOR_NAMESPACE, TestBed, chart, is_ready};

const LIMIT: Duration = Duration::from_secs(40);
/// How long an operator may be silent that holds the Lease.
const LEASE: Duration = Duration::from_secs(15);

/// Who holds the Lease.
async fn leader(bed: &TestBed) -> Result<String, String> {
    let client = bed.client().map_err(|e| e.to_string())?;
    let leases: Api<Lease> = Api::namespaced(client, OPERATOR_NAMESPACE);
    let lease = leases.get(OPERATOR).await.map_err(|e| e.to_string())?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity);
    holder
        .filter(|holder| !holder.is_empty())
        .ok_or_else(|| "nobody".to_owned())
}

/// Waits until two operators are ready, one of which works.
async fn wait_for_two(bed: &TestBed) -> (String, String) {
    let pods: Api<Pod> = Api::namespaced(bed.client().unwrap(), OPERATOR_NAMESPACE);
    let looked = bed.wait_for("one operator works and one waits", LIMIT, async || {
        let params = ListParams::default().labels("app.kubernetes.io/name=kthena-bridge");
        let found = pods.list(&params).await.map_err(|e| e.to_string())?.items;
        let mut working = Vec::new();
        for pod in found.iter().filter(|pod| is_ready(pod)) {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let address = pod.status.as_ref().and_then(|s| s.pod_ip.clone());
            let url = format!("http://{}:8080/metrics", address.unwrap_or_default());
            let metrics = bed.get(&url).await?.body;
            let line = "leader_election_master_status{name=\"kthena-bridge\"} 1";
            working.push((name, metrics.contains(line)));
        }
        let holder = leader(bed).await?;
        match working.as_slice() {
            [(a, true), (b, false)] | [(b, false), (a, true)]
                if *a == holder && found.len() == 2 =>
            {
                Ok((a.clone(), b.clone()))
            }
            other => Err(format!("{other:?}, and {holder} has the Lease")),
        }
    });
    looked.await.unwrap()
}

/// Ends an operator, and tells how long it takes until another answers to an annotation.
async fn failover(bed: &TestBed, model: &Model<'_>, path: &str, how: &DeleteParams) -> Duration {
    let (working, _) = wait_for_two(bed).await;
    let pods: Api<Pod> = Api::namespaced(bed.client().unwrap(), OPERATOR_NAMESPACE);
    pods.delete(&working, how).await.unwrap();
    let since = Instant::now();
    // One that was told to stop would answer to an annotation while it ends. Who takes over is the one that
    // waited, or the one that is made in its place.
    let what = format!("another one than {working} has the Lease");
    let looked = bed.wait_for(&what, LIMIT, async || {
        let holder = leader(bed).await?;
        (holder != working).then_some(()).ok_or(holder)
    });
    looked.await.unwrap();
    model.annotate(&[("path", Some(path))]).await.unwrap();
    let what = format!("Accepted of {} speaks of {path}", model.name());
    let looked = bed.wait_for(&what, LIMIT, async || {
        let conditions = model.get().await?.status.unwrap_or_default().conditions;
        let accepted = conditions.iter().find(|c| c.type_ == "Accepted");
        let told = accepted.is_some_and(|c| c.message.contains(&format!("path {path}")));
        told.then_some(()).ok_or_else(|| format!("{accepted:?}"))
    });
    looked.await.unwrap();
    since.elapsed()
}

#[tokio::test]
async fn one_works_and_another_goes_on_when_it_ends() {
    let bed = TestBed::shared().unwrap();
    let install = [
        "install",
        OPERATOR,
        chart().to_str().unwrap(),
        "--create-namespace",
        "--namespace",
        OPERATOR_NAMESPACE,
        "--set",
        "replicas=2",
    ]
    .map(str::to_owned);
    let install: Vec<&str> = install.iter().map(String::as_str).collect();
    bed.helm().run(&install).await.unwrap();
    let namespace = bed.namespace("two").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();

    // Told to stop, it gives the Lease back.
    let told = failover(bed, &model, "/told", &DeleteParams::default()).await;
    assert!(told < LEASE / 2, "{told:?}");
    let at_once = DeleteParams::default().grace_period(0);
    let killed = failover(bed, &model, "/killed", &at_once).await;
    assert!(killed < LEASE + Duration::from_secs(2), "{killed:?}");
    println!("told to stop: {told:?}, killed: {killed:?}");

    let refused = bed.audit().unwrap().into_iter().filter(|r| r.code == 403);
    assert_eq!(refused.collect::<Vec<_>>(), []);
    let (working, _) = wait_for_two(bed).await;
    assert_eq!(leader(bed).await.unwrap(), working);
}
