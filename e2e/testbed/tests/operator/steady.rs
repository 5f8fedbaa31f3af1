//! What goes on while others work: conditions that do not flap, and requests that go on being answered.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kthena_bridge_api::kthena::ModelBooster;
use kube::Api;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;
use testbed::{Model, TestBed, is_ready};

use crate::{LIMIT, bed};

/// Kthena reconciles a Model whenever its ModelServing changes, and says Active=False each time.
async fn have_kthena_reconcile(bed: &TestBed, model: &Model<'_>, times: u32) {
    let gvk = GroupVersionKind::gvk("workload.serving.volcano.sh", "v1alpha1", "ModelServing");
    let resource = ApiResource::from_gvk(&gvk);
    let servings: Api<DynamicObject> =
        Api::namespaced_with(bed.client().unwrap(), model.namespace(), &resource);
    let name = format!("{}-backend1", model.name());
    for n in 0..times {
        let before = model.get().await.unwrap().metadata.resource_version;
        let touch = json!({"metadata": {"annotations": {"touched": n.to_string()}}});
        servings
            .patch(&name, &PatchParams::default(), &Patch::Merge(touch))
            .await
            .unwrap();
        let looked = bed.wait_for("Kthena has reconciled the Model", LIMIT, async || {
            let now = model.get().await?;
            let conditions = now.status.unwrap_or_default().conditions;
            let active = conditions
                .iter()
                .any(|c| c.type_ == "Active" && c.status == "True");
            if active && now.metadata.resource_version != before {
                Ok(())
            } else {
                Err(format!("{conditions:#?}"))
            }
        });
        looked.await.unwrap();
    }
}

#[tokio::test]
async fn a_healthy_model_sees_no_condition_change_while_kthena_reconciles_it_100_times() {
    let bed = bed().await;
    let namespace = bed.namespace("steady").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();

    let models: Api<ModelBooster> = Api::namespaced(bed.client().unwrap(), namespace.name());
    let version = models
        .get("demo")
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    let events = models
        .watch(&WatchParams::default().timeout(290), &version)
        .await
        .unwrap();
    let mut events = Box::pin(events);
    let mut ours = BTreeSet::new();
    let mut kthenas = 0;
    let mut watching = async || {
        while let Some(event) = events.next().await {
            let WatchEvent::Modified(model) = event.unwrap() else {
                continue;
            };
            let conditions = model.status.unwrap_or_default().conditions;
            kthenas += u32::from(
                conditions
                    .iter()
                    .any(|c| c.type_ == "Active" && c.status == "False"),
            );
            let seen = conditions
                .into_iter()
                .filter(|c| matches!(c.type_.as_str(), "Accepted" | "Programmed"));
            ours.insert(format!("{:?}", seen.collect::<Vec<_>>()));
        }
    };
    tokio::select! {
        () = watching() => panic!("the watch ended"),
        () = have_kthena_reconcile(&bed, &model, 100) => {}
    }
    assert!(
        kthenas >= 90,
        "Kthena was to say Active=False each time, and did {kthenas} times"
    );
    assert_eq!(ours.len(), 1, "{ours:#?}");
}

#[tokio::test]
async fn a_change_of_the_gateway_leaves_no_gap() {
    let bed = bed().await;
    let namespace = bed.namespace("move").await.unwrap();
    let first = namespace.gateway("first").await.unwrap();
    let second = namespace.gateway("second").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("first", &[]).await.unwrap();
    bed.wait_for_answer(first, "", "demo", 200).await.unwrap();
    let answers = async |address: Ipv4Addr| {
        bed.ask(address, "", "demo")
            .await
            .is_ok_and(|a| a.status == 200)
    };
    let mut unanswered = Vec::new();
    let began = Instant::now();
    let mut moved = None;
    model
        .annotate(&[("gateway", Some("second"))])
        .await
        .unwrap();
    while moved.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(1)) {
        assert!(
            began.elapsed() < LIMIT,
            "the second Gateway does not answer"
        );
        // In this order: whoever asks the new one first and then the old one is answered.
        if answers(second).await {
            moved.get_or_insert_with(Instant::now);
        } else if !answers(first).await {
            unanswered.push(began.elapsed());
        }
    }
    // Envoy takes the listeners of the two one after the other.
    let gap = unanswered
        .last()
        .zip(unanswered.first())
        .map(|(last, first)| last.saturating_sub(*first));
    assert!(
        gap.unwrap_or_default() < Duration::from_millis(250),
        "neither answered at {unanswered:?}"
    );
    bed.wait_for_answer(first, "", "demo", 404).await.unwrap();
}

/// Kthena deletes the old pods as soon as it has made the new ones, so there is a gap; but it is Kthena's:
/// requests fail only while no pod is ready.
#[tokio::test]
async fn a_renamed_backend_is_served_whenever_a_pod_of_it_is_ready() {
    let bed = bed().await;
    let namespace = bed.namespace("rename").await.unwrap();
    let address = namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("demo").await.unwrap();
    model.expose("inference-gateway", &[]).await.unwrap();
    bed.wait_for_answer(address, "", "demo", 200).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(bed.client().unwrap(), namespace.name());
    let ready = async || {
        let engines = ListParams::default().labels("modelserving.volcano.sh/entry=true");
        let found = pods.list(&engines).await.unwrap().items;
        found
            .iter()
            .any(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod))
    };
    model
        .patch(&json!({"spec": {"backend": {"name": "backend2"}}}))
        .await
        .unwrap();
    let began = Instant::now();
    let mut failed_while_ready = Vec::new();
    let mut renamed = None;
    // How long a pod has been ready without a break.
    let mut since: Option<Instant> = Some(began);
    while renamed.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(1)) {
        assert!(
            began.elapsed() < LIMIT,
            "the renamed backend does not answer; failed: {failed_while_ready:?}"
        );
        let before = since.map(|since| since.elapsed());
        let answer = bed.ask(address, "", "demo").await;
        since = if ready().await {
            since.or_else(|| Some(Instant::now()))
        } else {
            None
        };
        match answer {
            Ok(answer) if answer.status == 200 => {
                if answer
                    .served_by()
                    .is_some_and(|pod| pod.contains("backend2"))
                {
                    renamed.get_or_insert_with(Instant::now);
                }
            }
            other => {
                // The Gateway and the endpoint picker need a moment to hear of a pod.
                if before.is_some_and(|ready| ready > Duration::from_secs(1)) && since.is_some() {
                    failed_while_ready.push((began.elapsed(), format!("{other:?}")));
                }
            }
        }
    }
    assert!(failed_while_ready.is_empty(), "{failed_while_ready:#?}");
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
}
