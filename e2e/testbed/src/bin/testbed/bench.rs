//! How long it takes from the annotation to the HTTPRoute, on the idle bed, for Models that are active.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kthena_bridge_api::child::ChildKind;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde_json::json;
use testbed::kubelet::ImageMap;
use testbed::{Error, Model, Namespace, Options, Result, TestBed};

const LIMIT: Duration = Duration::from_secs(30);

/// Measures `models` Models, each exposed alone, and prints a JSON object.
pub(crate) async fn run(models: usize, operator: PathBuf) -> Result<()> {
    let options = Options {
        images: vec![ImageMap::as_given("*kthena-bridge:*", operator)],
        ..Options::default()
    };
    let bed = TestBed::start(options)?;
    bed.install_operator().await?;
    let namespace = bed.namespace("bench").await?;
    namespace.gateway("inference-gateway").await?;
    eprintln!(
        "the bed is up after {:.1?}; making {models} Models active",
        bed.took()
    );
    let began = Instant::now();
    let models: Vec<Model<'_>> = stream::iter(0..models)
        .map(async |n| active(&bed, &namespace, &format!("model-{n}")).await)
        .buffered(16)
        .try_collect()
        .await?;
    eprintln!("active after {:.1?}; measuring", began.elapsed());

    let mut took = Vec::with_capacity(models.len());
    for model in &models {
        took.push(annotate_to_route(model).await?);
        model.annotate(&[("expose", None)]).await?;
        model.wait_until_withdrawn().await?;
        idle(&bed, model).await?;
    }
    took.sort();
    let millis = |quantile: usize| {
        // The nearest rank.
        let rank = (took.len() * quantile).div_ceil(100).max(1);
        took.get(rank - 1)
            .map(|d| (d.as_secs_f64() * 1e5).round() / 100.0)
    };
    eprintln!(
        "from sending the annotation until a watch brings the HTTPRoute, in ms, {} Models:",
        took.len()
    );
    for quantile in [0, 50, 90, 99, 100] {
        eprintln!(
            "  p{quantile:<3} {:>7.2}",
            millis(quantile).unwrap_or_default()
        );
    }
    let result = json!({
        "models": took.len(),
        "annotate_to_route_ms": {"p50": millis(50), "p99": millis(99)},
    });
    writeln!(std::io::stdout(), "{result}").map_err(|e| Error::Other(format!("printing: {e}")))
}

async fn active<'a>(bed: &TestBed, namespace: &Namespace<'a>, name: &str) -> Result<Model<'a>> {
    let model = namespace.model_from(&bed.example(name)?).await?;
    model
        .annotate(&[
            ("gateway", Some("inference-gateway")),
            ("path", Some(&format!("/{name}"))),
        ])
        .await?;
    model.wait_for_condition("Active", "True").await?;
    Ok(model)
}

async fn annotate_to_route(model: &Model<'_>) -> Result<Duration> {
    let failed = |e: kube::Error| Error::Other(format!("watching HTTPRoutes: {e}"));
    let routes = model.children_api(ChildKind::HTTPRoute)?;
    let now = routes
        .list(&ListParams::default())
        .await
        .map_err(failed)?
        .metadata
        .resource_version;
    let params = WatchParams::default().fields(&format!("metadata.name={}", model.name()));
    let mut events = routes
        .watch(&params, now.as_deref().unwrap_or("0"))
        .await
        .map_err(failed)?
        .boxed();
    // The client's connection may have been closed for idling: making one is not what is measured.
    model.get().await.map_err(Error::Other)?;
    let began = Instant::now();
    let seen = async {
        while let Some(event) = events.try_next().await.map_err(failed)? {
            if matches!(event, WatchEvent::Added(_)) {
                return Ok(began.elapsed());
            }
        }
        Err(Error::Other("the watch ended".to_owned()))
    };
    let (annotated, seen) = futures::join!(
        model.annotate(&[("expose", Some("true"))]),
        tokio::time::timeout(LIMIT, seen)
    );
    annotated?;
    seen.map_err(|_| Error::Other(format!("{} has no HTTPRoute after {LIMIT:?}", model.name())))?
}

/// Waits until the endpoint picker of the last Model is gone, pods included.
async fn idle(bed: &TestBed, model: &Model<'_>) -> Result<()> {
    let client = bed.client()?;
    let pods: Api<Pod> = Api::namespaced(client, model.namespace());
    let pickers = ListParams::default().labels("kthena-bridge.io/endpoint-picker");
    let looked = bed.wait_for("no endpoint picker runs", LIMIT, async || {
        match pods
            .list(&pickers)
            .await
            .map_err(|e| e.to_string())?
            .items
            .len()
        {
            0 => Ok(()),
            n => Err(format!("{n} do")),
        }
    });
    looked.await
}
