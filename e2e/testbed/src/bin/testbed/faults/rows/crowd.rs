//! One of many Models that share a Gateway, all others of which change again and again.

use std::time::{Duration, Instant};

use futures::future::{Either, select};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kthena_bridge_api::child::{ChildKind, LABEL_MANAGED_BY, MANAGED_BY};
use kube::api::ListParams;
use serde_json::json;

use super::super::case::{Case, MODEL, make_active};
use super::super::recorded::Settled;
use super::{PATIENCE, api, text};

/// How many Models there are beside the one.
const OTHERS: usize = 199;
/// How many of them are written at a time.
const WRITERS: usize = 8;
/// How many edits have to be answered, each within this: about two rounds through all of them, on two slow cores that
/// the whole bed shares. Whoever is passed over waits for as long as the others flap.
const EDITS: usize = 20;
const ANSWER: Duration = Duration::from_secs(10);
/// How long it may take until all are active, and have a route.
const READY: Duration = Duration::from_mins(5);
/// A Gateway that nobody implements: the Envoy of the bed cannot watch as many files as it would need.
const CROWDED: &str = "crowded";

/// Edits one Model while the others flap.
pub(super) async fn flaps(case: &mut Case<'_>) -> Result<Settled, String> {
    let listener = json!({"name": "http", "port": 80, "protocol": "HTTP"});
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": CROWDED}, "spec": {"gatewayClassName": CROWDED, "listeners": [listener]}});
    let applied = case.namespace.apply(&gateway.to_string()).await;
    applied.map_err(text)?;
    let known = json!({"namespace": case.namespace.name(), "name": CROWDED, "provider": "istio"});
    let configured = case.operator.upgrade(json!({"gateways": [known]})).await;
    configured.map_err(text)?;
    let others: Vec<String> = (0..OTHERS).map(|n| format!("other-{n}")).collect();
    let this: &Case<'_> = case;
    stream::iter(&others)
        .map(|name| make_active(this.bed, &this.namespace, name, READY))
        .buffer_unordered(WRITERS)
        .try_collect::<()>()
        .await
        .map_err(text)?;
    case.models.extend(others.iter().cloned());
    let case: &Case<'_> = case;
    let since = case.begin(Vec::new());
    for name in &case.models {
        expose(case, name, &format!("/{name}")).await?;
    }
    let routes = api(case, ChildKind::HTTPRoute)?;
    let written = case.bed.wait_for("all have a route", READY, async || {
        let ours = ListParams::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));
        let written = routes.list(&ours).await.map_err(text)?.items.len();
        let all = written == case.models.len();
        all.then_some(()).ok_or_else(|| format!("{written} have"))
    });
    written.await.map_err(text)?;
    let edits = async {
        let mut slowest = Duration::ZERO;
        for edit in 0..EDITS {
            let path = format!("/edited-{edit}");
            let began = Instant::now();
            expose(case, MODEL, &path).await?;
            let answered = case
                .bed
                .wait_for("the route has the path", ANSWER, async || {
                    let route = routes.get(MODEL).await.map_err(text)?;
                    let route = route.data.to_string();
                    route.contains(&path).then_some(()).ok_or(route)
                });
            answered.await.map_err(text)?;
            slowest = slowest.max(began.elapsed());
        }
        Ok::<_, String>(slowest)
    };
    let flapping = stream::iter((0..).flat_map(|round: usize| {
        let others = others.iter();
        others.map(move |name| (name, format!("/{name}-{}", round % 2)))
    }))
    .map(async |(name, path)| expose(case, name, &path).await)
    .buffer_unordered(WRITERS)
    .try_for_each(async |()| Ok(()));
    let slowest = match select(Box::pin(edits), Box::pin(flapping)).await {
        Either::Left((edited, _)) => edited?,
        Either::Right((flapped, _)) => {
            flapped?;
            return Err("the others do not flap any more".to_owned());
        }
    };
    let settled = case.settle(&since, PATIENCE, |_| Ok(())).await?;
    Ok(Settled {
        took: slowest,
        ..settled
    })
}

async fn expose(case: &Case<'_>, name: &str, path: &str) -> Result<(), String> {
    let model = case.namespace.model_named(name).map_err(text)?;
    let exposed = model
        .annotate_exposed(CROWDED, &[("path", Some(path))])
        .await;
    exposed.map_err(text)
}
