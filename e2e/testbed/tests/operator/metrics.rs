//! What the operator counts, while Models are exposed, taken back and deleted.

use std::collections::BTreeMap;

use kthena_bridge_core::OwnerKind;
use testbed::{OPERATOR, OPERATOR_NAMESPACE, TestBed, exposed_by};

use crate::stopped::wait_for_quiet;
use crate::{LIMIT, bed_alone};

/// The operator's samples, by name and labels.
pub(crate) async fn samples(bed: &TestBed) -> Result<BTreeMap<String, f64>, String> {
    let pods = bed.pods_of(OPERATOR_NAMESPACE, OPERATOR).await?;
    let address = pods
        .first()
        .and_then(|pod| pod.status.as_ref()?.pod_ip.clone());
    let address = address.ok_or("the operator has no address")?;
    let url = format!("http://{address}:8080/metrics");
    let text = bed.get(&url).await?.body;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Ok(samples.collect())
}

const PROGRAMMED: &str =
    "kthena_bridge_models{condition=\"Programmed\",status=\"True\",reason=\"Programmed\"}";
const ACCEPTED: &str =
    "kthena_bridge_models{condition=\"Accepted\",status=\"True\",reason=\"Accepted\"}";
const TIMED: &str = "kthena_bridge_annotate_to_programmed_seconds_count";
const CREATED: &str = "kthena_bridge_applies_total{kind=\"HTTPRoute\",result=\"created\"}";
const DELETED: &str = "kthena_bridge_applies_total{kind=\"HTTPRoute\",result=\"deleted\"}";

/// Waits until these have grown by so much.
async fn wait_for_growth(
    bed: &TestBed,
    before: &BTreeMap<String, f64>,
    growth: [(&str, f64); 5],
) -> BTreeMap<String, f64> {
    let of = |samples: &BTreeMap<String, f64>, name| samples.get(name).copied().unwrap_or(0.0);
    let looked = bed.wait_for(format!("{growth:?}"), LIMIT, async || {
        let now = samples(bed).await?;
        let is = growth.map(|(name, _)| (name, of(&now, name) - of(before, name)));
        if is == growth {
            Ok(now)
        } else {
            Err(format!("{is:?}"))
        }
    });
    looked.await.unwrap()
}

#[tokio::test]
async fn metrics_follow_what_is_exposed_and_name_no_model() {
    let bed = bed_alone().await;
    wait_for_quiet(&bed).await;
    let namespace = bed.namespace("counted").await.unwrap();
    namespace.gateway("inference-gateway").await.unwrap();
    let model = namespace.model("told-by-no-label").await.unwrap();
    model.wait_for_condition("Active", "True").await.unwrap();
    let before = samples(&bed).await.unwrap();

    model.expose("inference-gateway", &[]).await.unwrap();
    model
        .wait_for_condition("Programmed", "True")
        .await
        .unwrap();
    let growth = |programmed, timed, created, deleted| {
        [
            (ACCEPTED, programmed),
            (PROGRAMMED, programmed),
            (TIMED, timed),
            (CREATED, created),
            (DELETED, deleted),
        ]
    };
    let exposed = wait_for_growth(&bed, &before, growth(1.0, 1.0, 1.0, 0.0)).await;
    for counter in [
        "controller_runtime_reconcile_total{controller=\"modelbooster\",result=\"success\"}",
        "workqueue_adds_total{controller=\"modelbooster\",name=\"modelbooster\"}",
        "workqueue_queue_duration_seconds_count{controller=\"modelbooster\",name=\"modelbooster\"}",
        "process_cpu_seconds_total",
    ] {
        assert!(exposed[counter] > before[counter], "{counter}");
    }
    let created = |samples: &BTreeMap<String, f64>| -> f64 {
        let request = "rest_client_requests_total{code=\"201\",method=\"POST\"";
        let of = |(name, value): (&String, &f64)| name.starts_with(request).then_some(*value);
        samples.iter().filter_map(of).sum()
    };
    assert!(created(&exposed) > created(&before));
    for (name, value) in &exposed {
        assert!(
            !name.contains("told-by-no-label") && !name.contains(namespace.name()),
            "{name}"
        );
        if name.starts_with("kthena_bridge_watch_listed{") {
            assert_eq!(value.to_bits(), 1.0_f64.to_bits(), "{name}");
        }
    }

    model.annotate(&[("expose", None)]).await.unwrap();
    model.wait_until_withdrawn().await.unwrap();
    // What belongs to an object that is gone goes by itself: with the ModelExposure here, with the Model below.
    let deleted = match exposed_by() {
        OwnerKind::ModelBooster => 1.0,
        OwnerKind::ModelExposure => 0.0,
    };
    wait_for_growth(&bed, &before, growth(0.0, 1.0, 1.0, deleted)).await;

    // What is deleted counts no longer, and what is exposed anew is timed anew.
    model.expose("inference-gateway", &[]).await.unwrap();
    wait_for_growth(&bed, &before, growth(1.0, 2.0, 2.0, deleted)).await;
    model.delete().await.unwrap();
    wait_for_growth(&bed, &before, growth(0.0, 2.0, 2.0, 1.0)).await;
}

#[tokio::test]
async fn an_operator_whose_watches_go_on_is_alive() {
    let bed = bed_alone().await;
    let pods = bed.pods_of(OPERATOR_NAMESPACE, OPERATOR).await.unwrap();
    let address = pods[0].status.as_ref().unwrap().pod_ip.clone().unwrap();
    let alive = bed.get(&format!("http://{address}:8080/livez")).await;
    let alive = alive.unwrap();
    assert_eq!((alive.status, alive.body.as_str()), (200, "ok\n"));
    let samples = samples(&bed).await.unwrap();
    let heard: Vec<(&String, &f64)> = samples
        .iter()
        .filter(|(name, _)| name.starts_with("kthena_bridge_watch_last_heard_timestamp_seconds{"))
        .collect();
    assert!(heard.len() > 15, "{heard:?}");
    let started = samples["process_start_time_seconds"];
    for (name, at) in heard {
        assert!(*at >= started, "{name}");
    }
}
