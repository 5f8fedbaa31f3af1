//! Endpoint pickers of several replicas.

use std::net::Ipv4Addr;
use std::time::Instant;

use kthena_bridge_api::child::LABEL_PICKER;
use kube::api::DeleteParams;
use testbed::is_ready;

use super::*;

/// The endpoint picker's pods: the one that leads, and those that wait.
async fn leader(bed: &TestBed, namespace: &str) -> Result<(String, Vec<String>), String> {
    let all = pods(bed, namespace, &format!("{LABEL_PICKER}=demo-epp")).await?;
    let told = format!(
        "{:#?}",
        all.iter()
            .map(|pod| (&pod.metadata.name, &pod.status))
            .collect::<Vec<_>>()
    );
    let running = |pod: &&Pod| {
        let statuses = pod
            .status
            .iter()
            .flat_map(|s| s.container_statuses.iter().flatten());
        let mut started = statuses.map(|status| status.started == Some(true));
        pod.metadata.deletion_timestamp.is_none() && started.next() == Some(true)
    };
    let (ready, waiting): (Vec<_>, Vec<_>) =
        all.iter().filter(running).partition(|pod| is_ready(pod));
    let names = |pods: Vec<&Pod>| {
        pods.iter()
            .filter_map(|pod| pod.metadata.name.clone())
            .collect()
    };
    let (ready, waiting): (Vec<String>, Vec<String>) = (names(ready), names(waiting));
    match (ready.as_slice(), waiting.len()) {
        ([leader], 1) => Ok((leader.clone(), waiting)),
        _ => Err(told),
    }
}

pub(crate) async fn wait_for_leader(
    bed: &TestBed,
    namespace: &str,
    other_than: Option<&str>,
) -> String {
    let what = format!("of two endpoint pickers one leads, other than {other_than:?}");
    let looked = bed.wait_for(&what, LIMIT, async || {
        let (leader, waiting) = leader(bed, namespace).await?;
        if other_than == Some(&leader) {
            return Err(format!("{leader} leads, {waiting:?} wait"));
        }
        Ok(leader)
    });
    looked.await.unwrap()
}

/// Ends the leader, and tells for how long requests failed.
async fn outage(
    bed: &TestBed,
    model: &Model<'_>,
    gateway: Ipv4Addr,
    how: &DeleteParams,
) -> Duration {
    let leader = wait_for_leader(bed, model.namespace(), None).await;
    let api: Api<Pod> = Api::namespaced(bed.client().unwrap(), model.namespace());
    let (mut first, mut last) = (None, Instant::now());
    api.delete(&leader, how).await.unwrap();
    let began = Instant::now();
    // Until a good while after the last failure, with another leader.
    loop {
        let answer = bed.ask(gateway, "", "demo").await;
        let answered = answer.as_ref().is_ok_and(|answer| answer.status == 200);
        if !answered {
            first.get_or_insert_with(Instant::now);
            last = Instant::now();
        }
        let other = self::leader(bed, model.namespace())
            .await
            .is_ok_and(|(name, _)| name != leader);
        if other && answered && last.elapsed() > Duration::from_secs(2) {
            break;
        }
        assert!(
            began.elapsed() < LIMIT,
            "no other leader, or no answer: {answer:?}"
        );
    }
    first.map_or(Duration::ZERO, |first| last - first)
}

#[tokio::test]
async fn of_two_endpoint_pickers_one_answers_and_the_other_follows_it() {
    let bed = bed("endpointPicker: {replicas: 2}").await;
    let namespace = bed.namespace("several").await.unwrap();
    let gateway = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    wait_for_leader(&bed, namespace.name(), None).await;
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    bed.wait_for_answer(gateway, "", "demo", 200).await.unwrap();

    let released = outage(&bed, &model, gateway, &DeleteParams::default()).await;
    eprintln!("the leader ended in good order: requests failed for {released:?}");
    let died = outage(
        &bed,
        &model,
        gateway,
        &DeleteParams::default().grace_period(0),
    )
    .await;
    eprintln!("the leader died: requests failed for {died:?}");
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
}
